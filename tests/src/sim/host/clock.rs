//! The clocks of a simulated machine.

use std::time::Duration;

use tinykv_env::Prng;

/// When the wall clocks of a run begin: some day in 2026, in milliseconds since the Unix epoch.
const WALL_ORIGIN_MS: u64 = 1_780_000_000_000;

/// A monotonic clock that runs a little fast or slow, from an origin of its own, and a wall clock
/// that shows whatever somebody has set it to.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Clock {
    /// Parts in a thousand: 1000 is true time.
    rate: u32,
    origin: Duration,
    /// How far the wall clock is off, in milliseconds.
    wall_offset_ms: i64,
}

impl Clock {
    pub(super) fn draw(random: &mut Prng) -> Clock {
        Clock {
            rate: random.between(820, 1_180) as u32,
            origin: Duration::from_millis(random.below(100_000)),
            wall_offset_ms: 0,
        }
    }

    /// Without drift.
    pub(in crate::sim) fn steady(&mut self) {
        self.rate = 1_000;
    }

    /// The machine's own monotonic clock at an instant of true time.
    pub(in crate::sim) fn local(&self, now: Duration) -> Duration {
        self.origin + now * self.rate / 1000
    }

    /// How long a stretch of the machine's own time takes in true time.
    pub(in crate::sim) fn true_time(&self, local: Duration) -> Duration {
        local * 1000 / self.rate
    }

    /// The true time at which the machine's own clock will show `local`.
    pub(in crate::sim) fn true_instant(&self, local: Duration) -> Duration {
        self.true_time(local.saturating_sub(self.origin))
    }

    /// What the wall clock shows, in milliseconds since the Unix epoch.
    pub(in crate::sim) fn wall_ms(&self, now: Duration) -> u64 {
        let true_ms = WALL_ORIGIN_MS + now.as_millis() as u64;
        true_ms.saturating_add_signed(self.wall_offset_ms)
    }

    /// Somebody sets the wall clock: from now on it is off by so much.
    pub(in crate::sim) fn set_wall_offset(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }
}
