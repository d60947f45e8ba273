//! How slow this process is for those who wait for it, as one number.
//!
//! Two latencies are counted where they end: from the proposal of a command until it is
//! applied, and of
//! each write and sync of the log. Counting is one addition into a bucket of powers of two; whoever
//! reports looks now and then ([`Slowness::look`]) at what came since. A sync that does not end would
//! count nowhere, so one that is under way counts with its age.
//!
//! The score is 1 while 99 of 100 are as fast as they should be, and 100 when they take as long as no
//! client waits; in between it grows with the logarithm of the latency, the worse of both decides.
//! It follows what was measured with some delay, faster upwards than downwards, so that one look with
//! few requests does not make or mend a bad name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A latency above is not as it should be, for commands and for syncs.
const COMMAND_NORMAL: Duration = Duration::from_millis(100);
const SYNC_NORMAL: Duration = Duration::from_millis(50);
/// At this one nobody waits any more: the score is 100.
const STUCK: Duration = Duration::from_secs(3);
/// What a look with a worse, or better, measurement changes of the score.
const UPWARDS: f64 = 0.5;
const DOWNWARDS: f64 = 0.2;

/// Powers of two of microseconds: the last holds everything from half an hour on.
const BUCKETS: usize = 32;

/// Counts latencies.
#[derive(Debug, Default)]
struct Buckets([AtomicU64; BUCKETS]);

impl Buckets {
    fn count(&self, latency: Duration) {
        self.0[bucket(latency)].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}

/// Bucket `i` holds latencies below `2^i` microseconds that the one before does not.
fn bucket(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let bits = u64::BITS - us.leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

/// The longest latency of a bucket.
fn longest(bucket: usize) -> Duration {
    Duration::from_micros(1 << bucket)
}

/// What is measured of those who wait.
#[derive(Debug, Default)]
pub struct Latencies {
    commands: Buckets,
    syncs: Buckets,
    /// When the sync that is under way began, in microseconds of the monotonic clock, plus one; 0:
    /// none is.
    sync_began_us: AtomicU64,
}

impl Latencies {
    /// A command had its outcome after so long.
    pub(crate) fn on_command(&self, latency: Duration) {
        self.commands.count(latency);
    }

    /// The log is about to be written and synced.
    pub(crate) fn on_sync_begun(&self, now: Duration) {
        let us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.sync_began_us
            .store(us.saturating_add(1), Ordering::Relaxed);
    }

    /// That took so long.
    pub(crate) fn on_sync_ended(&self, latency: Duration) {
        self.sync_began_us.store(0, Ordering::Relaxed);
        self.syncs.count(latency);
    }

    /// The age of the sync under way.
    fn sync_age(&self, now: Duration) -> Option<Duration> {
        let began = self.sync_began_us.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_micros(began)))
    }
}

/// The score of a process, kept by whoever reports it.
#[derive(Debug)]
pub struct Slowness {
    commands: [u64; BUCKETS],
    syncs: [u64; BUCKETS],
    score: f64,
}

impl Default for Slowness {
    fn default() -> Slowness {
        Slowness {
            commands: [0; BUCKETS],
            syncs: [0; BUCKETS],
            score: 1.0,
        }
    }
}

impl Slowness {
    /// Takes what came since the last look into account; the score, 1 (fine) to 100 (stuck).
    pub fn look(&mut self, latencies: &Latencies, now: Duration) -> u64 {
        let commands = since(&mut self.commands, latencies.commands.counts());
        let mut syncs = since(&mut self.syncs, latencies.syncs.counts());
        if let Some(age) = latencies.sync_age(now) {
            syncs[bucket(age)] += 1;
        }
        let commands = score(percentile_99(&commands), COMMAND_NORMAL);
        let measured = commands.max(score(percentile_99(&syncs), SYNC_NORMAL));
        let weight = match measured > self.score {
            true => UPWARDS,
            false => DOWNWARDS,
        };
        self.score += (measured - self.score) * weight;
        self.score.round().clamp(1.0, 100.0) as u64
    }
}

fn since(before: &mut [u64; BUCKETS], counts: [u64; BUCKETS]) -> [u64; BUCKETS] {
    let before = std::mem::replace(before, counts);
    std::array::from_fn(|at| counts[at] - before[at])
}

/// The latency that one of a hundred exceeds, rounded up to a power of two; zero if there was nothing.
fn percentile_99(counts: &[u64; BUCKETS]) -> Duration {
    let all: u64 = counts.iter().sum();
    let above = all / 100;
    let mut seen = 0;
    for (at, count) in counts.iter().enumerate().rev() {
        seen += count;
        if seen > above {
            return longest(at);
        }
    }
    Duration::ZERO
}

fn score(latency: Duration, normal: Duration) -> f64 {
    if latency <= normal {
        return 1.0;
    }
    let times = |of: Duration| (of.as_secs_f64() / normal.as_secs_f64()).ln();
    (1.0 + 99.0 * times(latency) / times(STUCK)).min(100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The score after so many looks, with the same latencies before each.
    fn after(looks: u32, commands: &[(u32, Duration)], syncs: &[(u32, Duration)]) -> u64 {
        let (latencies, mut slowness) = (Latencies::default(), Slowness::default());
        let mut score = 1;
        for _ in 0..looks {
            for (count, latency) in commands {
                (0..*count).for_each(|_| latencies.on_command(*latency));
            }
            for (count, latency) in syncs {
                (0..*count).for_each(|_| latencies.on_sync_ended(*latency));
            }
            score = slowness.look(&latencies, Duration::ZERO);
        }
        score
    }

    #[test]
    fn the_slowest_of_a_hundred_decide_and_the_worse_of_both() {
        assert_eq!(after(9, &[], &[]), 1, "nobody waits");
        assert_eq!(after(9, &[(500, MS)], &[(500, 10 * MS)]), 1);
        assert_eq!(after(9, &[(1_000, MS), (9, 2_000 * MS)], &[]), 1, "too few");
        let slow = after(9, &[(900, MS), (100, 700 * MS)], &[]);
        assert!((60..80).contains(&slow), "{slow}");
        let by_disk = after(9, &[(900, MS)], &[(10, 700 * MS)]);
        assert!((60..90).contains(&by_disk), "{by_disk}");
        assert_eq!(after(20, &[(10, 60_000 * MS)], &[]), 100);
    }

    #[test]
    fn a_bad_name_takes_a_few_looks_and_goes_more_slowly() {
        assert_eq!(after(1, &[(10, 9_000 * MS)], &[]), 51);
        let (latencies, mut slowness) = (Latencies::default(), Slowness::default());
        (0..10).for_each(|_| latencies.on_command(9_000 * MS));
        let scores: Vec<u64> = (0..4)
            .map(|_| slowness.look(&latencies, Duration::ZERO))
            .collect();
        assert_eq!(scores, [51, 41, 33, 26]);
    }

    #[test]
    fn a_sync_that_does_not_end_counts() {
        let (latencies, mut slowness) = (Latencies::default(), Slowness::default());
        latencies.on_sync_begun(1_000 * MS);
        assert_eq!(slowness.look(&latencies, 1_001 * MS), 1);
        for second in 5..20 {
            slowness.look(&latencies, second * 1_000 * MS);
        }
        assert_eq!(slowness.look(&latencies, 20_000 * MS), 100);
        latencies.on_sync_ended(19_000 * MS);
        let mut score = 100;
        for second in 21..60 {
            score = slowness.look(&latencies, second * 1_000 * MS);
        }
        assert_eq!(score, 1);
    }

    #[test]
    fn buckets_hold_what_they_say() {
        for us in [0, 1, 2, 3, 4, 1_000, 1 << 40] {
            let latency = Duration::from_micros(us);
            let at = bucket(latency);
            assert!(latency <= longest(at) || at == BUCKETS - 1, "{latency:?}");
            assert!(at < 2 || latency >= longest(at - 1), "{latency:?}");
        }
    }
}
