//! The clock of the shell: time since the client was made.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Time as a duration since the client was made, on the runtime's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub(crate) fn new() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    /// The time.
    pub(crate) fn now(self) -> Duration {
        self.origin.elapsed()
    }

    /// The runtime's instant of a time.
    pub(crate) fn instant(self, time: Duration) -> Instant {
        self.origin + time
    }
}

/// A number that differs from process to process and from call to call.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
