//! The simulator: whole clusters of production code, one thread, virtual time, one seed.
//!
//! A seed draws everything: the weather of the network, the speed of the clocks, the sizes of
//! memtables and log segments, which kinds of faults occur, and what clients ask for. Stores run
//! the production `Shard`, `Engine` and state machine over [`tinykv_env::SimEnv`]; only threads,
//! sockets and gRPC are left out, and clusters of real processes cover those.
//!
//! In three seeds of five there is a placement group, of one member or of three: production state
//! machine, coordinator, operators, ids and timestamps, each member on a machine of its own that
//! fails like those of the stores. There stores report and obey, clients find regions by routes,
//! and whoever moves leaders and peers or splits regions does so by wishes. In the other seeds the
//! world does all that itself, more ruthlessly than any operator, and clients know by themselves
//! who holds what.
//!
//! Clients run the cores of `tinykv-client`, and stores answer them in the messages of the wire.
//! What clients want comes from one of two generators that share nothing.
//!
//! A run has two phases. In the safety phase everything may fail, and after each event the
//! invariants hold. Then all is mended, and within bounded time every key accepts a write and can
//! be read and scanned, the newest regions tile the key space, placement knows them as they are,
//! all replicas of a region are equal, and nobody is left who is no member. At the end the
//! histories of the clients go through the linearizability checker, key by key, and what scans saw
//! of each region must have been there at one instant.
//!
//! The same seed gives the same trace on every machine: nothing here reads a clock or draws a
//! number but from the seed, and no order depends on addresses or hashes.
//!
//! # Map
//!
//! `world` is the run itself, with its faults; `host` is a machine with a process on it, `store` and
//! `placement` are the two kinds of processes, `client` is a client, `workload` what clients want; `invariants` is what must hold,
//! `judge` whether a batch was real work.

mod client;
mod faults;
mod happening;
mod host;
mod invariants;
mod judge;
mod network;
mod placement;
mod process;
mod report;
mod schedule;
mod store;
mod trace;
mod watched;
mod workload;
mod world;

use std::time::Duration;

pub use judge::{BATCH_MIN, judge_batch};
pub use network::{Address, Network, Weather};
pub use report::Report;
pub use schedule::Schedule;
pub use trace::Trace;

/// How much work a seed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Six simulated seconds of faults: thousands of seeds fit into a test run.
    #[default]
    Quick,
    /// Thirty simulated seconds of faults, more clients.
    Long,
}

impl Profile {
    /// As typed on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Long => "long",
        }
    }

    fn safety_phase(self) -> Duration {
        match self {
            Profile::Quick => Duration::from_secs(6),
            Profile::Long => Duration::from_secs(30),
        }
    }

    fn clients(self) -> u64 {
        match self {
            Profile::Quick => 5,
            Profile::Long => 8,
        }
    }
}

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// What must never happen and did.
    pub violation: Option<String>,
    /// Every line of the trace, if asked for.
    pub trace: Option<String>,
}

/// Runs one seed. A failed assertion of the code under test is a violation, too.
pub fn run(seed: u64, profile: Profile, keep_trace: bool) -> Outcome {
    let world = std::panic::AssertUnwindSafe(|| world::World::new(seed, profile, keep_trace).run());
    std::panic::catch_unwind(world).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without text");
        Outcome {
            report: Report {
                seeds: 1,
                ..Report::default()
            },
            violation: Some(format!("assertion: {text}")),
            trace: None,
        }
    })
}

#[cfg(test)]
mod tests;
