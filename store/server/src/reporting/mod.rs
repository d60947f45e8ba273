//! What the store tells placement, and what placement tells back.
//!
//! [`store`] sends a heartbeat of the store every second, [`regions`] one for each region that is
//! led here: at once when its leader, epoch or peers changed, soon while something about it is
//! under way or it is busy, otherwise now and then; with what was read and written meanwhile
//! ([`flows`]). Orders come back on the same stream and are carried out by
//! the region's leader ([`order`]); placement sees their outcome in later heartbeats. Peers
//! without a leader ask placement whether they still belong to their region ([`orphans`]).

pub mod flows;
mod news;
pub mod order;
pub mod orphans;
pub mod regions;
mod rhythm;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tinykv_env::Env;
use tinykv_node::handle::NodeHandle;
use tinykv_node::process::Stop;
use tinykv_node::spawn::{Fatal, Tasks};

use crate::clock::PlacementClock;
use crate::machine::RawMachine;
use crate::placement::Placement;
use crate::splitting::Splitter;
use crate::splitting::sizes::Sizes;

pub use flows::Flows;
pub use news::News;

/// What reporting works with.
#[derive(Clone)]
pub struct Reporting {
    /// The regions, and who carries out orders.
    pub node: NodeHandle<RawMachine>,
    /// The disk and the clocks.
    pub env: Arc<dyn Env>,
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// To whom is reported.
    pub placement: Arc<Placement>,
    /// Set by what placement tells.
    pub clock: Arc<PlacementClock>,
    /// What happened to regions since they were last reported.
    pub news: Arc<News>,
    /// What placement told.
    pub told: Arc<Told>,
    /// Who splits regions.
    pub splitter: Arc<Splitter>,
    /// How large the regions led here are.
    pub sizes: Arc<Sizes>,
    /// What is read and written here.
    pub flows: Arc<Flows>,
    /// Where orders are carried out.
    pub tasks: Tasks,
    /// Ends reporting.
    pub stop: Stop,
    /// What happens when placement belongs to another cluster.
    pub fatal: Fatal,
}

/// What placement told this store last.
#[derive(Debug, Default)]
pub struct Told {
    wanted_replicas: AtomicU32,
    hears: AtomicBool,
}

impl Told {
    /// How many voters a region needs to acknowledge its first write; `None` while placement has
    /// not said.
    pub fn wanted_replicas(&self) -> Option<u32> {
        match self.wanted_replicas.load(Ordering::Relaxed) {
            0 => None,
            wanted => Some(wanted),
        }
    }

    /// Whether placement answered the last heartbeat.
    pub fn placement_hears(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    fn set_wanted_replicas(&self, wanted: u32) {
        self.wanted_replicas.store(wanted, Ordering::Relaxed);
    }

    fn set_placement_hears(&self, hears: bool) {
        self.hears.store(hears, Ordering::Relaxed);
    }
}
