//! How often a region is reported.

use std::time::Duration;

use tinykv_raft::GroupId;

/// Time between heartbeats of a region about which something is under way.
const UNDER_WAY: Duration = Duration::from_millis(300);
/// Time between heartbeats of a region that is busy.
const BUSY: Duration = Duration::from_secs(3);
/// Seconds between heartbeats of a region at rest.
const AT_REST_S: u64 = 10;

/// What decides when a region is reported again, unless something happens to it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rhythm {
    /// Something about it is under way.
    UnderWay,
    /// It is busy.
    Busy,
    /// Neither.
    AtRest,
}

impl Rhythm {
    /// When a region that is reported now is reported again.
    ///
    /// Regions at rest are reported on whole seconds, each on those that its id gives it. So
    /// thousands of them wake this process and placement once a second and not all the time, and
    /// a second has a tenth of them to report, even if all came to be led here at once.
    pub(super) fn next(self, group: GroupId, now: Duration) -> Duration {
        match self {
            Rhythm::UnderWay => now + UNDER_WAY,
            Rhythm::Busy => now + BUSY,
            Rhythm::AtRest => {
                let first = now.as_secs() + 1;
                let wait = (group.0 % AT_REST_S + AT_REST_S - first % AT_REST_S) % AT_REST_S;
                Duration::from_secs(first + wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_at_rest_share_the_seconds_evenly() {
        let mut shares = [0; 10];
        for group in (0..1000).map(GroupId) {
            for now in [0, 999, 1_000, 12_345, 19_999].map(Duration::from_millis) {
                let next = Rhythm::AtRest.next(group, now);
                assert!(now < next && next <= now + Duration::from_secs(10));
                assert_eq!(next.subsec_nanos(), 0);
                let after = Rhythm::AtRest.next(group, next + Duration::from_millis(30));
                assert_eq!(after, next + Duration::from_secs(10), "and then for good");
            }
            let next = Rhythm::AtRest.next(group, Duration::from_secs(7));
            shares[(next.as_secs() % 10) as usize] += 1;
        }
        assert_eq!(shares, [100; 10]);
    }

    #[test]
    fn whatever_goes_on_is_reported_sooner() {
        let now = Duration::from_millis(1_234);
        let next = |rhythm: Rhythm| rhythm.next(GroupId(5), now);
        assert_eq!(next(Rhythm::UnderWay), Duration::from_millis(1_534));
        assert_eq!(next(Rhythm::Busy), Duration::from_millis(4_234));
        assert_eq!(next(Rhythm::AtRest), Duration::from_secs(5));
    }
}
