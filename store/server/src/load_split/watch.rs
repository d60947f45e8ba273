//! When a region is sampled, and when it is time to split it.

use std::time::Duration;

/// A region that stays busy for so long is to be split; meanwhile it is sampled.
pub const BUSY_FOR: Duration = Duration::from_secs(5);
/// For so long nothing is done after a region was split, or found not to be divisible.
pub const COOLDOWN: Duration = Duration::from_secs(20);

/// From which load on a region is to be split; 0: not for this reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Requests a second.
    pub requests_per_s: u64,
    /// Bytes a second, in and out.
    pub bytes_per_s: u64,
}

/// The load of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub requests_per_s: u64,
    /// Bytes a second, in and out.
    pub bytes_per_s: u64,
}

impl Thresholds {
    /// Whether a load is above one of them.
    pub fn are_exceeded(&self, rate: Rate) -> bool {
        let exceeds = |rate, threshold| threshold > 0 && rate >= threshold;
        exceeds(rate.requests_per_s, self.requests_per_s)
            || exceeds(rate.bytes_per_s, self.bytes_per_s)
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    Nothing,
    /// Begin to sample.
    Begin,
    /// Give up sampling: the region is not busy any more.
    End,
    /// It stayed busy: choose a boundary.
    Choose,
}

/// One region that is busy, or was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    busy_since: Option<Duration>,
    /// Nothing is done before.
    rests_until: Duration,
}

impl Watch {
    /// Takes note of a look at the region. Its turn to be split may have to wait (`may_split`).
    pub fn observe(&mut self, is_over: bool, may_split: bool, now: Duration) -> Step {
        if now < self.rests_until {
            return Step::Nothing;
        }
        match self.busy_since {
            None if is_over => {
                self.busy_since = Some(now);
                Step::Begin
            }
            None => Step::Nothing,
            Some(_) if !is_over => {
                self.busy_since = None;
                Step::End
            }
            Some(since) if now.saturating_sub(since) >= BUSY_FOR && may_split => {
                self.busy_since = None;
                self.rests_until = now + COOLDOWN;
                Step::Choose
            }
            Some(_) => Step::Nothing,
        }
    }

    /// Whether there is nothing left to remember.
    pub fn is_over(&self, now: Duration) -> bool {
        self.busy_since.is_none() && now >= self.rests_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens in looks one second apart: `1` over, `0` not.
    fn steps(looks: &str) -> String {
        let mut watch = Watch::default();
        let step = |(second, look): (usize, char)| {
            let now = Duration::from_secs(second as u64 + 100);
            match watch.observe(look == '1', true, now) {
                Step::Nothing => '.',
                Step::Begin => 'b',
                Step::End => 'e',
                Step::Choose => 'C',
            }
        };
        looks.chars().enumerate().map(step).collect()
    }

    #[test]
    fn only_lasting_load_is_divided_and_then_there_is_rest() {
        assert_eq!(steps("00000"), ".....");
        assert_eq!(steps("0110"), ".b.e");
        assert_eq!(steps("11110111111"), "b...eb....C");
        let rest = ".".repeat(19);
        assert_eq!(steps(&"1".repeat(32)), format!("b....C{rest}b....C."));
    }

    #[test]
    fn a_turn_that_has_to_wait_is_not_lost() {
        let mut watch = Watch::default();
        let at = Duration::from_secs;
        assert_eq!(watch.observe(true, true, at(1)), Step::Begin);
        assert_eq!(watch.observe(true, false, at(9)), Step::Nothing);
        assert!(!watch.is_over(at(9)));
        assert_eq!(watch.observe(true, true, at(10)), Step::Choose);
        assert!(!watch.is_over(at(29)));
        assert!(watch.is_over(at(30)));
    }

    #[test]
    fn either_threshold_is_enough_and_zero_is_none() {
        let rate = Rate {
            requests_per_s: 10,
            bytes_per_s: 1_000,
        };
        let exceeded = |requests_per_s, bytes_per_s| {
            let thresholds = Thresholds {
                requests_per_s,
                bytes_per_s,
            };
            thresholds.are_exceeded(rate)
        };
        assert!(exceeded(10, 0) && exceeded(0, 1_000) && exceeded(11, 999));
        assert!(!exceeded(0, 0) && !exceeded(11, 1_001));
    }
}
