//! Which faults a seed has, and when the next one comes.

use std::time::Duration;

use tinykv_env::{CrashMode, Prng};

use super::network::Cut;

/// Something bad (or the end of something bad).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Cut links between processes.
    Partition(Cut),
    /// Mend all links and draw new weather.
    Heal,
    /// Stop a store now; its disk keeps what the mode says.
    Crash { process: usize, mode: CrashMode },
    /// Stop a store in the middle of its n-th I/O from now.
    CrashAtIo {
        process: usize,
        ios: u64,
        mode: CrashMode,
    },
    /// A store does nothing for a while, then goes on as if no time had passed.
    Pause { process: usize, for_: Duration },
    /// The disk of a store takes longer to sync from now on.
    SlowDisk { process: usize, sync: Duration },
    /// All stores lose power in the same instant.
    PowerLoss { mode: CrashMode },
    /// The leader of a group is asked to hand over.
    Transfer,
    /// A peer of a group moves to a store that has none.
    Move,
    /// A region is cut into parts.
    Split,
    /// A region is to become a part of a neighbour.
    Merge,
    /// The placement group gets another member.
    AddMember,
    /// A member of the placement group is to leave.
    RemoveMember,
    /// Somebody sets the wall clock of a process, to be off by so many milliseconds.
    ClockJump { process: usize, offset_ms: i64 },
    /// The disk of a process has room for little more; later there is space again.
    DiskFull {
        process: usize,
        slack: u64,
        for_: Duration,
    },
    /// One of the next syncs of a process fails.
    SyncError { process: usize, syncs: u64 },
    /// A process is stopped, and while it is down a bit of its log turns over, below what the log
    /// itself says to be durable.
    LogDamage { process: usize, place: u64 },
    /// A process does not want to lead for a while, restarts included.
    Reluctance { process: usize, for_: Duration },
}

impl Fault {
    /// One word for reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Partition(_) => "partition",
            Fault::Heal => "heal",
            Fault::Crash { .. } => "crash",
            Fault::CrashAtIo { .. } => "crash_at_io",
            Fault::Pause { .. } => "pause",
            Fault::SlowDisk { .. } => "slow_disk",
            Fault::PowerLoss { .. } => "power_loss",
            Fault::Transfer => "transfer_leader",
            Fault::Move => "move_peer",
            Fault::Split => "split",
            Fault::Merge => "merge",
            Fault::AddMember => "add_member",
            Fault::RemoveMember => "remove_member",
            Fault::ClockJump { .. } => "clock_jump",
            Fault::DiskFull { .. } => "disk_full",
            Fault::SyncError { .. } => "sync_error",
            Fault::LogDamage { .. } => "log_damage",
            Fault::Reluctance { .. } => "reluctance",
        }
    }
}

/// What can be taken from a seed besides what strikes: it belongs to the weather and the machines.
const STANDING: [&str; 10] = [
    "loss",
    "double",
    "late",
    "replay",
    "garble",
    "drift",
    "late_notice",
    "sleep",
    "joint",
    "crash_in_job",
];

/// All that can be taken from a seed.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    striking().filter(|kind| *kind != "heal").chain(STANDING)
}

/// What strikes now and then, healing too.
pub(super) fn striking() -> impl Iterator<Item = &'static str> {
    WEIGHTS.iter().map(|(kind, _)| *kind)
}

/// How often each kind is drawn, where a seed has it. Healing is none that can be switched off.
const WEIGHTS: [(&str, u64); 18] = [
    ("heal", 3),
    ("partition", 2),
    ("crash", 2),
    ("crash_at_io", 2),
    ("pause", 2),
    ("slow_disk", 2),
    ("power_loss", 1),
    ("transfer_leader", 3),
    ("move_peer", 2),
    ("split", 4),
    ("merge", 4),
    ("add_member", 2),
    ("remove_member", 2),
    ("clock_jump", 2),
    ("disk_full", 2),
    ("sync_error", 1),
    ("log_damage", 1),
    ("reluctance", 1),
];

/// How a seed misbehaves.
#[derive(Debug)]
pub(super) struct Plan {
    random: Prng,
    /// Kinds this seed has, each as often as it weighs: some seeds have all, some only a few, so
    /// that each can do its worst without the others in its way.
    kinds: Vec<&'static str>,
    pause: (u64, u64),
}

impl Plan {
    pub(super) fn draw(mut random: Prng) -> Plan {
        let mut kinds = Vec::new();
        for (kind, weight) in WEIGHTS {
            if !random.chance(3) {
                kinds.extend((0..weight).map(|_| kind));
            }
        }
        if kinds.is_empty() {
            kinds.push("crash");
        }
        let pause = (random.between(50, 300), random.between(400, 2_000));
        Plan {
            random,
            kinds,
            pause,
        }
    }

    /// The next fault, to one of so many processes, and how long to wait for it.
    pub(super) fn next(&mut self, processes: usize) -> (Duration, Fault) {
        let wait = Duration::from_millis(self.random.between(self.pause.0, self.pause.1));
        (wait, self.fault(processes))
    }

    /// How long a stopped store stays down.
    pub(super) fn downtime(&mut self) -> Duration {
        Duration::from_millis(self.random.between(10, 1_500))
    }

    fn fault(&mut self, processes: usize) -> Fault {
        let process = self.random.below(processes as u64) as usize;
        let kind = self.random.pick(&self.kinds).copied().unwrap_or("heal");
        match kind {
            "partition" => Fault::Partition(self.cut()),
            "crash" => Fault::Crash {
                process,
                mode: self.mode(),
            },
            "crash_at_io" => Fault::CrashAtIo {
                process,
                ios: self.random.between(1, 60),
                mode: self.mode(),
            },
            "pause" => Fault::Pause {
                process,
                for_: Duration::from_millis(self.random.between(100, 3_000)),
            },
            "slow_disk" => {
                let sync = Duration::from_micros(match self.random.below(6) {
                    0 => self.random.between(400_000, 1_500_000),
                    1 | 2 => self.random.between(10_000, 400_000),
                    _ => self.random.between(100, 2_000),
                });
                Fault::SlowDisk { process, sync }
            }
            "power_loss" => Fault::PowerLoss { mode: self.mode() },
            "transfer_leader" => Fault::Transfer,
            "move_peer" => Fault::Move,
            "split" => Fault::Split,
            "merge" => Fault::Merge,
            "add_member" => Fault::AddMember,
            "remove_member" => Fault::RemoveMember,
            "clock_jump" => {
                let jump = self.random.between(1, 200_000) as i64;
                let offset_ms = if self.random.chance(2) { jump } else { -jump };
                Fault::ClockJump { process, offset_ms }
            }
            "disk_full" => Fault::DiskFull {
                process,
                slack: self.random.below(128 << 10),
                for_: Duration::from_millis(self.random.between(100, 2_000)),
            },
            "sync_error" => Fault::SyncError {
                process,
                syncs: self.random.between(1, 20),
            },
            "log_damage" => Fault::LogDamage {
                process,
                place: self.random.next_u64(),
            },
            "reluctance" => Fault::Reluctance {
                process,
                for_: Duration::from_millis(self.random.between(500, 4_000)),
            },
            _ => Fault::Heal,
        }
    }

    fn cut(&mut self) -> Cut {
        // Nobody else notices a single broken link, so it does its worst.
        let cuts: &[Cut] = match self.random.chance(3) {
            true => &[Cut::Link, Cut::LinkOneWay],
            false => &Cut::ALL,
        };
        self.random.pick(cuts).copied().unwrap_or(Cut::Isolate)
    }

    fn mode(&mut self) -> CrashMode {
        self.random
            .pick(&CrashMode::ALL)
            .copied()
            .unwrap_or(CrashMode::DropUnsynced)
    }
}
