//! How long to wait before the next attempt.

use std::time::Duration;

use crate::random::Random;

/// The first wait, before jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(8);

/// The longest wait, before jitter. Waits stop growing here and go on until the call's deadline,
/// so they outlast any election that the deadline outlasts, and a new leader is found within this
/// time of taking office.
pub const BACKOFF_MAX: Duration = Duration::from_millis(160);

/// Waits that double from [`BACKOFF_FIRST`] to [`BACKOFF_MAX`], each shortened by up to half at
/// random, so that callers refused together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    random: Random,
    /// The next wait before jitter.
    next: Duration,
}

impl Backoff {
    /// Waits from the first on, with this jitter.
    pub fn new(random: Random) -> Backoff {
        Backoff {
            random,
            next: BACKOFF_FIRST,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(BACKOFF_MAX);
        let half = whole / 2;
        let span = half.as_nanos() as u64 + 1;
        half + Duration::from_nanos(self.random.next_u64() % span)
    }
}
