//! Back-pressure: how hard admission should brake.

use std::time::Duration;

use tinykv_sync::Mutex;

use crate::LsmOptions;
use crate::compaction::debt_bytes;
use crate::snapshot::SuperVersion;

/// How hard admission should brake, and why. A tree never refuses a write (what was committed has
/// to be applied); whoever admits work slows down by this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// 0: not at all. Rises steadily with what piles up; 1: admit nothing.
    pub fraction: f64,
    /// What it comes from.
    pub cause: PressureCause,
}

/// Where back-pressure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureCause {
    /// There is none.
    None,
    /// Closed memtables wait for their flush.
    Memtables,
    /// Level 0 has too many tables.
    LevelZero,
    /// Too many bytes wait for compaction.
    Debt,
}

/// How long pressure has been at its limit.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    state: Mutex<StallState>,
}

#[derive(Debug, Default)]
struct StallState {
    /// When the limit was reached, if it still is.
    since: Option<Duration>,
    /// All stalls that are over.
    total: Duration,
}

impl Stalls {
    /// Notes what pressure is at this time.
    pub(crate) fn note(&self, pressure: &Pressure, now: Duration) {
        let mut state = self.state.lock();
        if pressure.fraction >= 1.0 {
            state.since.get_or_insert(now);
        } else if let Some(since) = state.since.take() {
            state.total += now.saturating_sub(since);
        }
    }

    /// All of it up to now.
    pub(crate) fn total(&self, now: Duration) -> Duration {
        let state = self.state.lock();
        let running = state.since.map(|since| now.saturating_sub(since));
        state.total + running.unwrap_or_default()
    }
}

/// The worst of all causes.
pub(crate) fn measure(state: &SuperVersion, options: &LsmOptions) -> Pressure {
    let memtables: u64 = state.memtables().map(|memtable| memtable.bytes()).sum();
    // All of them closed, and the active one full, too.
    let limit = options.memtable_bytes_max as f64 * (1.0 + options.immutable_memtables_max as f64);
    let causes = [
        (
            // One is being filled and one flushed in normal work; more means that flushes lag.
            ramp(memtables as f64, limit / 2.0, limit),
            PressureCause::Memtables,
        ),
        (
            ramp(
                state.version.level(0).len() as f64,
                options.l0_slowdown_files as f64,
                options.l0_stop_files as f64,
            ),
            PressureCause::LevelZero,
        ),
        (
            ramp(
                debt_bytes(&state.version, options) as f64,
                options.debt_slowdown_bytes as f64,
                options.debt_stop_bytes as f64,
            ),
            PressureCause::Debt,
        ),
    ];
    let none = Pressure {
        fraction: 0.0,
        cause: PressureCause::None,
    };
    causes.into_iter().fold(none, |worst, (fraction, cause)| {
        if fraction > worst.fraction {
            Pressure { fraction, cause }
        } else {
            worst
        }
    })
}

/// 0 up to `low`, 1 from `high` on, straight between.
fn ramp(value: f64, low: f64, high: f64) -> f64 {
    if value >= high {
        return 1.0;
    }
    ((value - low) / (high - low)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pressure, PressureCause, Stalls, ramp};

    #[test]
    fn it_begins_at_nothing_and_rises_steadily() {
        assert_eq!(ramp(0.0, 8.0, 24.0), 0.0);
        assert_eq!(ramp(8.0, 8.0, 24.0), 0.0);
        assert_eq!(ramp(16.0, 8.0, 24.0), 0.5);
        assert_eq!(ramp(24.0, 8.0, 24.0), 1.0);
        assert_eq!(ramp(f64::MAX, 8.0, 24.0), 1.0);
        let steps: Vec<f64> = (0..30).map(|n| ramp(f64::from(n), 8.0, 24.0)).collect();
        let rises = |pair: &[f64]| (0.0..0.1).contains(&(pair[1] - pair[0]));
        assert!(steps.windows(2).all(rises), "{steps:?}");
    }

    #[test]
    fn stalls_add_up() {
        let at = |fraction| Pressure {
            fraction,
            cause: PressureCause::Debt,
        };
        let stalls = Stalls::default();
        let seconds = Duration::from_secs;
        stalls.note(&at(0.9), seconds(10));
        assert_eq!(stalls.total(seconds(20)), seconds(0));
        stalls.note(&at(1.0), seconds(20));
        stalls.note(&at(1.0), seconds(25));
        assert_eq!(stalls.total(seconds(27)), seconds(7));
        stalls.note(&at(0.5), seconds(30));
        stalls.note(&at(0.5), seconds(40));
        assert_eq!(stalls.total(seconds(50)), seconds(10));
        stalls.note(&at(1.0), seconds(50));
        stalls.note(&at(0.0), seconds(51));
        assert_eq!(stalls.total(seconds(60)), seconds(11));
    }
}
