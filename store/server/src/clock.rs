//! Placement's time, carried on by the monotonic clock of this machine.
//!
//! Each store heartbeat brings placement's time. Between heartbeats, and while placement cannot
//! be reached, it goes on with the monotonic clock. It never goes back: if a new observation lies
//! behind what was carried on, time stands still until placement has caught up. Wall clocks play
//! no part (C3).

use std::time::Duration;

use parking_lot::Mutex;

use crate::value::PlacementTime;

/// What a store knows of placement's time.
#[derive(Debug, Default)]
pub struct PlacementClock {
    observed: Mutex<Option<Observation>>,
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    /// What placement said.
    time: PlacementTime,
    /// When it said so, by the monotonic clock.
    at: Duration,
    /// The latest time that may have been given out before.
    floor: PlacementTime,
}

impl Observation {
    fn carried_to(&self, now: Duration) -> PlacementTime {
        let passed = now.saturating_sub(self.at).as_millis();
        let carried = self.time.plus_ms(u64::try_from(passed).unwrap_or(u64::MAX));
        carried.max(self.floor)
    }
}

impl PlacementClock {
    /// Takes note of what placement said in an answer that arrived at `now`. Zero means that
    /// placement does not know the time either.
    pub fn observe(&self, time: PlacementTime, now: Duration) {
        if time == PlacementTime(0) {
            return;
        }
        let mut observed = self.observed.lock();
        let floor = observed.map_or(PlacementTime(0), |before| before.carried_to(now));
        *observed = Some(Observation {
            time,
            at: now,
            floor,
        });
    }

    /// Placement's time at `now`; zero while it is not known.
    pub fn at(&self, now: Duration) -> PlacementTime {
        let observed = *self.observed.lock();
        observed.map_or(PlacementTime(0), |observed| observed.carried_to(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn unknown_until_observed_then_carried_on() {
        let clock = PlacementClock::default();
        assert_eq!(clock.at(5 * SECOND), PlacementTime(0));
        clock.observe(PlacementTime(0), 5 * SECOND);
        assert_eq!(clock.at(5 * SECOND), PlacementTime(0));
        clock.observe(PlacementTime(1_000_000), 6 * SECOND);
        assert_eq!(clock.at(6 * SECOND), PlacementTime(1_000_000));
        assert_eq!(clock.at(8 * SECOND), PlacementTime(1_002_000));
    }

    #[test]
    fn stands_still_rather_than_going_back() {
        let clock = PlacementClock::default();
        clock.observe(PlacementTime(1_000_000), SECOND);
        // Our clock ran ten seconds, placement's eight.
        clock.observe(PlacementTime(1_008_000), 11 * SECOND);
        assert_eq!(clock.at(11 * SECOND), PlacementTime(1_010_000));
        assert_eq!(clock.at(12 * SECOND), PlacementTime(1_010_000));
        assert_eq!(clock.at(14 * SECOND), PlacementTime(1_011_000));
    }
}
