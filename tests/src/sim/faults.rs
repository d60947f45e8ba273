//! Which faults a seed has, and when the next one comes.

use std::time::Duration;

use tinykv_env::{CrashMode, Prng};

/// Something bad (or the end of something bad).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Cut links between stores.
    Partition,
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
    /// Somebody sets the wall clock of a process, to be off by so many milliseconds.
    ClockJump { process: usize, offset_ms: i64 },
}

impl Fault {
    /// One word for reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Partition => "partition",
            Fault::Heal => "heal",
            Fault::Crash { .. } => "crash",
            Fault::CrashAtIo { .. } => "crash_at_io",
            Fault::Pause { .. } => "pause",
            Fault::SlowDisk { .. } => "slow_disk",
            Fault::PowerLoss { .. } => "power_loss",
            Fault::Transfer => "transfer_leader",
            Fault::Move => "move_peer",
            Fault::Split => "split",
            Fault::ClockJump { .. } => "clock_jump",
        }
    }
}

/// How a seed misbehaves.
#[derive(Debug)]
pub(super) struct Plan {
    random: Prng,
    processes: usize,
    /// Kinds this seed has: some seeds have all, some only a few, so that each can do its worst
    /// without the others in its way.
    kinds: Vec<u64>,
    pause: (u64, u64),
}

/// Kinds of faults a seed can have.
const KINDS: u64 = 12;

impl Plan {
    pub(super) fn draw(mut random: Prng, processes: usize) -> Plan {
        let mut kinds: Vec<u64> = (0..KINDS).filter(|_| !random.chance(3)).collect();
        if kinds.is_empty() {
            kinds.push(2);
        }
        let pause = (random.between(50, 300), random.between(400, 2_000));
        Plan {
            random,
            processes,
            kinds,
            pause,
        }
    }

    /// The next fault and how long to wait for it.
    pub(super) fn next(&mut self) -> (Duration, Fault) {
        let wait = Duration::from_millis(self.random.between(self.pause.0, self.pause.1));
        (wait, self.fault())
    }

    /// How long a stopped store stays down.
    pub(super) fn downtime(&mut self) -> Duration {
        Duration::from_millis(self.random.between(10, 1_500))
    }

    fn fault(&mut self) -> Fault {
        let process = self.random.below(self.processes as u64) as usize;
        let kind = self.random.pick(&self.kinds).copied().unwrap_or(0);
        match kind {
            0 if self.random.chance(2) => Fault::Heal,
            0 => Fault::Partition,
            1 => Fault::Heal,
            2 => Fault::Crash {
                process,
                mode: self.mode(),
            },
            3 => {
                let ios = self.random.between(1, 60);
                Fault::CrashAtIo {
                    process,
                    ios,
                    mode: self.mode(),
                }
            }
            4 => {
                let for_ = Duration::from_millis(self.random.between(100, 3_000));
                Fault::Pause { process, for_ }
            }
            5 => {
                let sync = Duration::from_micros(match self.random.chance(2) {
                    true => self.random.between(10_000, 400_000),
                    false => self.random.between(100, 2_000),
                });
                Fault::SlowDisk { process, sync }
            }
            6 if self.random.chance(3) => Fault::PowerLoss { mode: self.mode() },
            6 | 7 => Fault::Transfer,
            8 => Fault::Move,
            9 | 10 => Fault::Split,
            _ => {
                let jump = self.random.between(1, 200_000) as i64;
                let offset_ms = if self.random.chance(2) { jump } else { -jump };
                Fault::ClockJump { process, offset_ms }
            }
        }
    }

    fn mode(&mut self) -> CrashMode {
        self.random
            .pick(&CrashMode::ALL)
            .copied()
            .unwrap_or(CrashMode::DropUnsynced)
    }
}
