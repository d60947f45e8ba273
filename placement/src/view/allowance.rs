//! How many peers may be added to a store at once, by how slow it is for those who wait for it.
//!
//! A store that gets new peers writes their data beside what clients write. It tells how slow it is
//! (1 fine, 100 stuck, 0 if it does not tell). From `SLOW` on half of what was allowed is allowed,
//! again after `PAUSE` if that was not enough; below `FINE` a little more is with every heartbeat,
//! up to what the settings say. Between the two nothing changes. One peer is always allowed: what is
//! missing has to come back.

use std::time::Duration;

use crate::state::Settings;

/// From this score on a store is slow.
const SLOW: u64 = 20;

/// Below this one it may take more.
const FINE: u64 = 10;

/// It takes so long until less work shows.
const PAUSE: Duration = Duration::from_secs(5);

/// All that the settings allow.
const ALL: u32 = 1_000;

/// What comes back with every heartbeat: all of it within 20 of them.
const STEP: u32 = 50;

/// The share of `additions_per_store_max` that a store gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Thousandths.
    share: u32,
    /// When it was halved last.
    halved_at: Option<Duration>,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance {
            share: ALL,
            halved_at: None,
        }
    }
}

impl Allowance {
    /// A heartbeat with this score.
    pub fn hear(&mut self, score: u64, now: Duration) {
        let rests = self
            .halved_at
            .is_some_and(|at| now.saturating_sub(at) < PAUSE);
        if score >= SLOW && !rests {
            self.share /= 2;
            self.halved_at = Some(now);
        } else if score < FINE {
            self.share = ALL.min(self.share + STEP);
        }
    }

    /// Peers that may be added at once.
    pub fn additions_max(&self, settings: &Settings) -> u32 {
        let all = u64::from(settings.additions_per_store_max);
        let allowed = all * u64::from(self.share) / u64::from(ALL);
        let one = settings.additions_per_store_max.min(1);
        u32::try_from(allowed).unwrap_or(u32::MAX).max(one)
    }

    /// Whether that is less than the settings say.
    pub fn is_reduced(&self, settings: &Settings) -> bool {
        self.additions_max(settings) < settings.additions_per_store_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is allowed after a heartbeat a second with each of these scores.
    fn allowed(scores: &[u64]) -> Vec<u32> {
        let (settings, mut allowance) = (Settings::default(), Allowance::default());
        let seconds = (1..).map(Duration::from_secs);
        let heard = scores.iter().zip(seconds).map(|(score, now)| {
            allowance.hear(*score, now);
            allowance.additions_max(&settings)
        });
        heard.collect()
    }

    #[test]
    fn it_is_halved_while_a_store_is_slow_and_comes_back_step_by_step() {
        assert_eq!(
            allowed(&[0, 1, 9, 15, 19]),
            [8; 5],
            "fine, or it does not tell"
        );
        let slow = allowed(&[20; 21]);
        let halved = [4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 1];
        assert_eq!(slow[..11], halved);
        assert!(
            slow[11..].iter().all(|allowed| *allowed == 1),
            "one is always"
        );
        let mut scores = vec![100, 15, 15];
        scores.extend([1; 10]);
        assert_eq!(
            allowed(&scores),
            [4, 4, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 8],
            "held between slow and fine, then a little more each time"
        );
    }

    #[test]
    fn it_follows_the_setting() {
        let mut allowance = Allowance::default();
        let mut settings = Settings::default();
        allowance.hear(50, Duration::from_secs(1));
        settings.additions_per_store_max = 100;
        assert_eq!(allowance.additions_max(&settings), 50);
        settings.additions_per_store_max = 1;
        assert_eq!(allowance.additions_max(&settings), 1);
        assert!(!allowance.is_reduced(&settings));
    }
}
