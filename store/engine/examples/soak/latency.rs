//! Latencies of many calls in little memory: buckets of 1/16 of their value.

use std::time::Duration;

/// Buckets for each doubling.
const PARTS: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct Latencies {
    /// Calls by bucket of their microseconds.
    buckets: Vec<u64>,
    longest: Duration,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies {
            buckets: vec![0; PARTS * 40],
            longest: Duration::ZERO,
        }
    }

    pub(crate) fn note(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        let last = self.buckets.len() - 1;
        self.buckets[bucket(micros).min(last)] += 1;
        self.longest = self.longest.max(took);
    }

    pub(crate) fn add(&mut self, other: &Latencies) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.longest = self.longest.max(other.longest);
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// What this part of all calls did not take longer than, in microseconds.
    pub(crate) fn within(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return end_of(number).min(self.longest.as_micros() as u64);
            }
        }
        0
    }
}

/// Exact below `PARTS`, then `PARTS` to each doubling.
fn bucket(micros: u64) -> usize {
    let doublings = micros.max(PARTS as u64).ilog2() - PARTS.ilog2();
    PARTS * doublings as usize + (micros >> doublings) as usize
}

/// The last value of a bucket.
fn end_of(bucket: usize) -> u64 {
    let doublings = (bucket / PARTS).saturating_sub(1) as u32;
    (((bucket - PARTS * doublings as usize) as u64 + 1) << doublings) - 1
}
