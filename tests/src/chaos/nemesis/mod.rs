//! What strikes the cluster. A strike ends with everything repaired that the nemesis broke.

mod clock;
mod full;
mod partition;
mod power;
mod process;
mod sync;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use tinykv_env::Prng;
use tokio::time::sleep;

use super::disk::Kind;
use super::fleet::{Fleet, Wants};
use super::load::{DISK_FULL, History};
use super::network::Network;
use super::tool::{faketime, find};
use partition::Shape;

/// A kind of bad luck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nemesis {
    /// `kill -9` of one process, sometimes of several, sometimes of all.
    Kill,
    /// SIGSTOP for half a second to ten seconds.
    Pause,
    /// One process is cut off from the others.
    Isolate,
    /// The processes fall into two halves.
    Halves,
    /// Every store reaches its two neighbours alone.
    Ring,
    /// Two halves that one store in the middle reaches.
    Bridge,
    /// A process is heard by nobody, and hears everybody.
    OneWay,
    /// The leaders of placement and of a region are cut off from their peers, not from clients.
    Leaders,
    /// The power of one store, all stores or everything fails, on ext4.
    PowerExt4,
    /// The same on xfs.
    PowerXfs,
    /// An fsync fails.
    Fsync,
    /// Disks fill up.
    DiskFull,
    /// Wall clocks jump, and processes start again under other monotonic clocks.
    Clock,
}

/// What fired, and how often.
pub(super) type Fired = BTreeMap<&'static str, u64>;

/// What a strike works on.
pub(super) struct Scene<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) network: &'a mut Network,
    pub(super) random: &'a mut Prng,
    pub(super) fired: &'a mut Fired,
    pub(super) history: &'a History,
    /// No strike lasts longer where it can choose.
    pub(super) patience: Duration,
}

impl Scene<'_> {
    fn count(&mut self, what: &'static str, times: u64) {
        *self.fired.entry(what).or_default() += times;
    }

    /// Keeps the fault up for a time drawn between bounds in milliseconds. How long a fault lasts
    /// is the schedule of the strike, as how hard it strikes is; no condition is waited for so.
    async fn hold(&mut self, least: u64, most: u64) {
        let drawn = Duration::from_millis(self.random.between(least, most));
        sleep(drawn.min(self.patience)).await;
    }
}

impl Nemesis {
    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What this machine lacks for it.
    pub(super) fn lacks(self) -> Option<String> {
        let package = |program: &str, package: &str| match find(program) {
            Some(_) => None,
            None => Some(format!("`{program}` is not installed (Debian: {package})")),
        };
        match self {
            Nemesis::PowerExt4 | Nemesis::DiskFull => Kind::Ext4.lacks(),
            Nemesis::PowerXfs => Kind::Xfs.lacks(),
            Nemesis::Fsync => package("strace", "strace"),
            Nemesis::Clock => match faketime() {
                Some(_) => None,
                None => Some("libfaketime is not installed (Debian: libfaketime)".to_owned()),
            },
            _ => None,
        }
    }

    /// The places it needs.
    pub(super) fn wants(self) -> Wants {
        let disks = match self {
            Nemesis::PowerExt4 | Nemesis::DiskFull => vec![Kind::Ext4],
            Nemesis::PowerXfs => vec![Kind::Xfs],
            _ => Vec::new(),
        };
        let faketime = match self {
            Nemesis::Clock => faketime().map(|library| library.to_string_lossy().into_owned()),
            _ => None,
        };
        Wants { disks, faketime }
    }

    /// What must have been counted for the run to have shown anything.
    pub(super) fn must_fire(self) -> &'static [&'static str] {
        match self {
            Nemesis::Kill => &["killed"],
            Nemesis::Pause => &["paused"],
            Nemesis::Isolate
            | Nemesis::Halves
            | Nemesis::Ring
            | Nemesis::Bridge
            | Nemesis::OneWay
            | Nemesis::Leaders => &["partitions", "packets_dropped"],
            Nemesis::PowerExt4 | Nemesis::PowerXfs => &["power_lost"],
            Nemesis::Fsync => &["ended_with_74", "replicas_replaced"],
            Nemesis::DiskFull => &["disks_filled", DISK_FULL, "served_while_full"],
            Nemesis::Clock => &["clocks_set", "timestamps_ahead"],
        }
    }

    /// Strikes once.
    ///
    /// # Errors
    /// Something is not as promised, or the machine did not do as told.
    pub(super) async fn strike(self, scene: &mut Scene<'_>) -> Result<(), String> {
        match self {
            Nemesis::Kill => process::kill(scene).await,
            Nemesis::Pause => process::pause(scene).await,
            Nemesis::Isolate => partition::strike(scene, Shape::Isolate).await,
            Nemesis::Halves => partition::strike(scene, Shape::Halves).await,
            Nemesis::Ring => partition::strike(scene, Shape::Ring).await,
            Nemesis::Bridge => partition::strike(scene, Shape::Bridge).await,
            Nemesis::OneWay => partition::strike(scene, Shape::OneWay).await,
            Nemesis::Leaders => partition::strike(scene, Shape::Leaders).await,
            Nemesis::PowerExt4 | Nemesis::PowerXfs => power::strike(scene).await,
            Nemesis::Fsync => sync::strike(scene).await,
            Nemesis::DiskFull => full::strike(scene).await,
            Nemesis::Clock => clock::strike(scene).await,
        }
    }
}
