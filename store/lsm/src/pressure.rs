//! Back-pressure: how hard admission should brake.

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

/// The worst of all causes.
pub(crate) fn measure(state: &SuperVersion, options: &LsmOptions) -> Pressure {
    let memtables: u64 = state.memtables().map(|memtable| memtable.bytes()).sum();
    let limit = options.memtable_bytes_max as f64 * options.immutable_memtables_max as f64;
    let causes = [
        (
            // The active memtable fills up in normal work; twice its size means a flush lags.
            ramp(
                memtables as f64,
                2.0 * options.memtable_bytes_max as f64,
                limit + options.memtable_bytes_max as f64,
            ),
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
