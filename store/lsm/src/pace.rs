//! How fast compactions may write: a token bucket whose rate follows what waits to be compacted.
//!
//! A compaction that runs as fast as it can makes every fsync beside it slow, and mostly nobody
//! waits for it. So it writes at a low rate while little waits and faster the nearer back-pressure
//! comes; where that would begin there is no limit. Nothing sleeps here: whoever runs a job is told
//! how long to pause.

use std::time::Duration;

use tinykv_sync::Mutex;

use crate::LsmOptions;
use crate::compaction::debt_bytes;
use crate::version::Version;

/// Unused time up to this long may be made up for.
const BURST: Duration = Duration::from_millis(100);
/// No pause is longer, whatever was written: a rate that rises meanwhile shall take effect, and who
/// does not pause shall not make others pay for it.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Shared by all compactions of a tree.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The time up to which what was written so far takes at the rates it was written at.
    paid_until: Mutex<Duration>,
}

impl Pace {
    /// Notes that so many bytes were written; answers how long to pause now.
    pub(crate) fn wrote(&self, bytes: u64, rate: Option<f64>, now: Duration) -> Duration {
        let mut paid_until = self.paid_until.lock();
        let Some(rate) = rate else {
            // Whatever is owed is forgiven.
            *paid_until = now;
            return Duration::ZERO;
        };
        let earliest = now.saturating_sub(BURST);
        let cost = Duration::from_secs_f64(bytes as f64 / rate);
        *paid_until = ((*paid_until).max(earliest) + cost).min(now + PAUSE_MAX);
        paid_until.saturating_sub(now)
    }
}

/// Bytes a second that compactions should write, all together; `None`: as fast as they can.
pub(crate) fn rate(version: &Version, options: &LsmOptions) -> Option<f64> {
    let least = options.compaction_bytes_per_second_min as f64;
    let files = version.level(0).len() as f64 / options.l0_slowdown_files as f64;
    let debt = debt_bytes(version, options) as f64 / options.debt_slowdown_bytes.max(1) as f64;
    rate_at(files.max(debt), least)
}

/// `urgency` is 1 where back-pressure begins.
fn rate_at(urgency: f64, least: f64) -> Option<f64> {
    (least > 0.0 && urgency < 1.0).then(|| least / (1.0 - urgency.max(0.0)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BURST, PAUSE_MAX, Pace, rate_at};

    #[test]
    fn the_rate_rises_without_a_step_and_ends_where_pressure_begins() {
        assert_eq!(rate_at(0.0, 100.0), Some(100.0));
        assert_eq!(rate_at(0.5, 100.0), Some(200.0));
        assert_eq!(rate_at(1.0, 100.0), None);
        assert_eq!(rate_at(7.0, 100.0), None);
        assert_eq!(rate_at(0.0, 0.0), None, "no limit is set");
        let rates: Vec<f64> = (0..100)
            .filter_map(|n| rate_at(f64::from(n) / 100.0, 100.0))
            .collect();
        assert_eq!(rates.len(), 100);
        assert!(rates.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn pauses_add_up_to_the_rate() {
        let pace = Pace::default();
        let begun = Duration::from_secs(100);
        let mut now = begun;
        for _ in 0..1000 {
            now += pace.wrote(1000, Some(100_000.0), now);
        }
        let took = now - begun;
        let expected = Duration::from_secs(10);
        assert!(took <= expected && took + BURST >= expected, "{took:?}");
    }

    #[test]
    fn idle_time_is_not_saved_and_debts_are_forgiven() {
        let pace = Pace::default();
        let second = Duration::from_secs(1);
        assert!(pace.wrote(1_000_000, Some(1000.0), second) == PAUSE_MAX);
        // In a hurry nobody waits, and afterwards nobody pays for it.
        assert_eq!(pace.wrote(1_000_000, None, second), Duration::ZERO);
        let pause = pace.wrote(10, Some(1000.0), second);
        assert_eq!(pause, Duration::from_millis(10));
        // After a long time at rest the burst is small.
        let later = 1000 * second;
        let pause = pace.wrote(200, Some(1000.0), later);
        assert_eq!(pause, Duration::from_millis(200) - BURST);
    }
}
