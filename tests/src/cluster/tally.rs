//! What calls took, and whether there was a second in which none ended.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// Calls of one kind, counted by everybody who makes them.
#[derive(Debug)]
pub struct Tally {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    begin: Instant,
    /// What each call took, in microseconds.
    took: Vec<u32>,
    /// Calls that ended in each second since the beginning.
    per_second: Vec<u64>,
    /// What the calls were about: one each, or as many as a batch holds.
    items: u64,
}

/// A stretch of time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stretch {
    /// How long it was.
    pub seconds: f64,
    /// Calls that ended in it.
    pub calls: u64,
    /// What they were about: one each, or as many as a batch holds.
    pub items: u64,
    /// The middle one of what they took, in microseconds.
    pub p50_us: u32,
    /// What 99 of 100 did not exceed.
    pub p99_us: u32,
    /// The longest.
    pub longest_us: u32,
    /// Whole seconds in which no call ended.
    pub seconds_without: u64,
    /// The fewest items of a whole second.
    pub least_items_per_second: u64,
}

impl Tally {
    /// Nothing counted yet; the first stretch begins now.
    pub fn new() -> Tally {
        Tally {
            counts: Mutex::new(Counts::new()),
        }
    }

    /// Counts a call that began then and has ended now.
    pub fn ended(&self, begin: Instant, items: u64) {
        let took = begin.elapsed();
        let mut counts = self.counts();
        let at = counts.begin.elapsed();
        counts.add(at, took, items);
    }

    /// What was counted so far in this stretch.
    pub fn items(&self) -> u64 {
        self.counts().items
    }

    /// Ends the stretch, and begins the next one.
    pub fn take(&self) -> Stretch {
        let counts = std::mem::replace(&mut *self.counts(), Counts::new());
        let lasted = counts.begin.elapsed();
        counts.stretch(lasted)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

impl Counts {
    fn new() -> Counts {
        Counts {
            begin: Instant::now(),
            took: Vec::new(),
            per_second: Vec::new(),
            items: 0,
        }
    }

    fn add(&mut self, at: Duration, took: Duration, items: u64) {
        self.took
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.items += items;
        let second = at.as_secs() as usize;
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += items;
    }

    fn stretch(mut self, lasted: Duration) -> Stretch {
        self.took.sort_unstable();
        // The last second is not a whole one.
        self.per_second.resize(lasted.as_secs() as usize, 0);
        Stretch {
            seconds: lasted.as_secs_f64(),
            calls: self.took.len() as u64,
            items: self.items,
            p50_us: percentile(&self.took, 50),
            p99_us: percentile(&self.took, 99),
            longest_us: self.took.last().copied().unwrap_or(0),
            seconds_without: self.per_second.iter().filter(|items| **items == 0).count() as u64,
            least_items_per_second: self.per_second.iter().min().copied().unwrap_or(0),
        }
    }
}

/// The smallest value that is not exceeded by `percent` of the sorted values; 0 of none.
pub fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    match sorted.len() {
        0 => T::default(),
        len => sorted[(len * percent).div_ceil(100).clamp(1, len) - 1],
    }
}

/// As milliseconds, for figures.
pub fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counts, percentile};

    #[test]
    fn percentiles_are_of_the_values() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(percentile(&values, 50), 100);
        assert_eq!(percentile(&values, 99), 198);
        assert_eq!(percentile(&values, 100), 200);
        assert_eq!(percentile(&[7], 1), 7);
        assert_eq!(percentile::<u32>(&[], 99), 0);
    }

    #[test]
    fn a_second_without_calls_is_seen() {
        let mut counts = Counts::new();
        for second in [0, 1, 3, 4, 5] {
            let at = Duration::from_millis(second * 1_000 + 10);
            counts.add(at, Duration::from_millis(10 + second), 3);
        }
        let stretch = counts.stretch(Duration::from_millis(5_500));
        assert_eq!((stretch.calls, stretch.items), (5, 15));
        assert_eq!(stretch.seconds_without, 1);
        assert_eq!(stretch.least_items_per_second, 0);
        assert_eq!((stretch.p50_us, stretch.longest_us), (13_000, 15_000));
    }
}
