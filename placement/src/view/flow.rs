//! How much is read and written, per second, decayed over time.
//!
//! What a heartbeat counted over an interval outweighs what was known before, the more the longer
//! the interval: after `MEMORY` both weigh the same. What is not heard of any more fades likewise.
//! Whole numbers throughout, so that equal reports give equal flows everywhere.

use std::time::Duration;

/// A report that counted over as long as this weighs as much as all before it.
const MEMORY: Duration = Duration::from_secs(30);

/// Regions at rest report every ten seconds; a silence up to this says nothing.
const GRACE: Duration = Duration::from_secs(15);

/// What serving a key costs beside its bytes, as bytes.
const KEY_COST: u64 = 256;

/// Bytes and keys, counted or per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
}

impl Amount {
    /// One number for both: bytes, and for every key as many as serving one costs.
    pub fn load(self) -> u64 {
        let keys = self.keys.saturating_mul(KEY_COST);
        self.bytes.saturating_add(keys)
    }

    fn map(self, other: Amount, merge: impl Fn(u64, u64) -> u64) -> Amount {
        Amount {
            bytes: merge(self.bytes, other.bytes),
            keys: merge(self.keys, other.keys),
        }
    }
}

/// What was read and written while it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Out.
    pub read: Amount,
    /// In.
    pub written: Amount,
    /// For how long; not zero.
    pub over: Duration,
}

/// A flow per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Out.
    pub read: Amount,
    /// In.
    pub written: Amount,
    /// When it was heard of last.
    heard_at: Duration,
}

impl Flow {
    /// Takes a report in.
    pub fn hear(&mut self, counted: Counted, now: Duration) {
        let over = counted.over.as_millis().max(1);
        let weigh = |known: u64, count: u64| {
            let known = u128::from(known) * MEMORY.as_millis();
            let sum = known + u128::from(count) * 1_000;
            u64::try_from(sum / (MEMORY.as_millis() + over)).unwrap_or(u64::MAX)
        };
        let before = self.at(now);
        *self = Flow {
            read: before.read.map(counted.read, weigh),
            written: before.written.map(counted.written, weigh),
            heard_at: now,
        };
    }

    /// As it is now, if it is not heard of any more.
    pub fn at(self, now: Duration) -> Flow {
        let silence = now.saturating_sub(self.heard_at).saturating_sub(GRACE);
        let fade = |known: u64, _| {
            let left = u128::from(known) * MEMORY.as_millis();
            u64::try_from(left / (MEMORY + silence).as_millis()).unwrap_or(u64::MAX)
        };
        Flow {
            read: self.read.map(self.read, fade),
            written: self.written.map(self.written, fade),
            heard_at: self.heard_at,
        }
    }

    /// One number for all of it.
    pub fn load(self) -> u64 {
        self.read.load().saturating_add(self.written.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counted(bytes: u64, seconds: u64) -> Counted {
        let keys = bytes / 100;
        Counted {
            read: Amount { bytes, keys },
            written: Amount::default(),
            over: SECOND * u32::try_from(seconds).expect("small"),
        }
    }

    #[test]
    fn a_steady_flow_is_known_after_some_time_and_forgotten_after_some() {
        let mut flow = Flow::default();
        let mut now = SECOND;
        for _ in 0..30 {
            now += 10 * SECOND;
            flow.hear(counted(100_000, 10), now);
        }
        let known = flow.at(now).read;
        assert!((9_900..=10_000).contains(&known.bytes), "{known:?}");
        assert!((90..=100).contains(&known.keys), "{known:?}");
        assert_eq!(flow.at(now).written, Amount::default());
        for _ in 0..10 {
            now += 10 * SECOND;
            flow.hear(counted(0, 10), now);
        }
        assert!(flow.at(now).read.bytes < 1_000, "{flow:?}");
    }

    #[test]
    fn one_report_counts_by_its_length() {
        let rate = |seconds| {
            let mut flow = Flow::default();
            flow.hear(counted(seconds * 4_000, seconds), SECOND);
            flow.read.bytes
        };
        assert_eq!(
            [rate(1), rate(10), rate(30), rate(90)],
            [129, 1_000, 2_000, 3_000]
        );
    }

    #[test]
    fn silence_fades_after_a_grace() {
        let mut flow = Flow::default();
        flow.hear(counted(60_000, 30), SECOND);
        let after = |seconds| flow.at(SECOND + SECOND * seconds).read.bytes;
        assert_eq!(
            [after(0), after(15), after(45), after(105)],
            [1_000, 1_000, 500, 250]
        );
        let huge = Counted {
            read: Amount {
                bytes: u64::MAX,
                keys: u64::MAX,
            },
            written: Amount::default(),
            over: Duration::ZERO,
        };
        flow.hear(huge, SECOND);
        assert_eq!(flow.load(), u64::MAX);
    }
}
