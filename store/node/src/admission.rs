//! Whether more work is let in. Written by the upkeep and log threads, read at every request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tinykv_replica::BusyReason;

/// The longest a command is held back while the engine is under pressure but not yet at its
/// limit.
const DELAY_MAX: Duration = Duration::from_millis(50);
/// What a refused asker is told to wait.
const WAIT: Duration = Duration::from_millis(50);

/// The state of everything that may be short. All of it is a hint: what must not happen is
/// prevented where it would happen.
#[derive(Debug)]
pub(crate) struct Admission {
    log_queue_bytes: AtomicUsize,
    log_queue_bytes_max: usize,
    /// Pressure of the engine in thousandths.
    pressure: AtomicU32,
    log_is_stuck: AtomicBool,
    disk_is_low: AtomicBool,
}

/// What admission says to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Come in, after this wait.
    After(Duration),
    /// Not now.
    Busy {
        /// What is short.
        reason: BusyReason,
        /// When it may be worth trying again.
        wait: Duration,
    },
}

impl Admission {
    pub(crate) fn new(log_queue_bytes_max: usize) -> Admission {
        Admission {
            log_queue_bytes: AtomicUsize::new(0),
            log_queue_bytes_max,
            pressure: AtomicU32::new(0),
            log_is_stuck: AtomicBool::new(false),
            disk_is_low: AtomicBool::new(false),
        }
    }

    /// For a command of a client.
    pub(crate) fn command(&self) -> Verdict {
        let busy = |reason| Verdict::Busy { reason, wait: WAIT };
        if self.log_is_stuck.load(Ordering::Relaxed) && self.disk_is_low() {
            return busy(BusyReason::DiskFull);
        }
        let pressure = self.pressure.load(Ordering::Relaxed);
        if pressure >= 1000 || !self.messages() {
            return busy(BusyReason::WriteStall);
        }
        let share = f64::from(pressure) / 1000.0;
        Verdict::After(DELAY_MAX.mul_f64(share * share))
    }

    /// For entries of other leaders: they come in as long as the log keeps up. While it waits for
    /// space it empties its queue without writing, so the queue alone would let everything in.
    pub(crate) fn messages(&self) -> bool {
        !self.log_is_stuck.load(Ordering::Relaxed)
            && self.log_queue_bytes.load(Ordering::Relaxed) < self.log_queue_bytes_max
    }

    pub(crate) fn log_queue_grew(&self, bytes: usize) {
        self.log_queue_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn log_queue_shrank(&self, bytes: usize) {
        self.log_queue_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_log_is_stuck(&self, stuck: bool) {
        self.log_is_stuck.store(stuck, Ordering::Relaxed);
    }

    pub(crate) fn set_pressure(&self, fraction: f64) {
        let thousandths = (fraction.clamp(0.0, 1.0) * 1000.0) as u32;
        self.pressure.store(thousandths, Ordering::Relaxed);
    }

    pub(crate) fn set_disk_is_low(&self, low: bool) {
        if self.disk_is_low.swap(low, Ordering::Relaxed) != low {
            match low {
                true => tracing::warn!("the disk is nearly full: writes are refused"),
                false => tracing::info!("the disk has space again"),
            }
        }
    }

    /// Whether writes that need space should be refused (D8).
    pub(crate) fn disk_is_low(&self) -> bool {
        self.disk_is_low.load(Ordering::Relaxed)
    }

    pub(crate) fn log_queue_bytes(&self) -> usize {
        self.log_queue_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_slowed_before_they_are_refused() {
        let admission = Admission::new(100);
        assert_eq!(admission.command(), Verdict::After(Duration::ZERO));
        admission.set_pressure(0.5);
        assert_eq!(admission.command(), Verdict::After(DELAY_MAX / 4));
        admission.set_pressure(1.0);
        assert!(matches!(admission.command(), Verdict::Busy { .. }));
        admission.set_pressure(0.0);
        admission.log_queue_grew(100);
        assert!(!admission.messages());
        assert!(matches!(admission.command(), Verdict::Busy { .. }));
        admission.log_queue_shrank(1);
        assert_eq!(admission.command(), Verdict::After(Duration::ZERO));
    }

    #[test]
    fn nothing_comes_in_while_the_log_waits_for_space() {
        let admission = Admission::new(100);
        admission.set_log_is_stuck(true);
        assert!(!admission.messages());
        let reason = match admission.command() {
            Verdict::Busy { reason, .. } => Some(reason),
            Verdict::After(_) => None,
        };
        assert_eq!(reason, Some(BusyReason::WriteStall));
        admission.set_log_is_stuck(false);
        assert!(admission.messages());
    }

    #[test]
    fn a_full_disk_refuses_only_once_the_log_cannot_go_on() {
        let admission = Admission::new(100);
        admission.set_disk_is_low(true);
        assert_eq!(admission.command(), Verdict::After(Duration::ZERO));
        admission.set_log_is_stuck(true);
        let verdict = admission.command();
        assert_eq!(
            verdict,
            Verdict::Busy {
                reason: BusyReason::DiskFull,
                wait: WAIT
            }
        );
    }
}
