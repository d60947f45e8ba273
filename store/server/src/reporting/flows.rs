//! What is read and written here, as it is told: per region and of the whole store.
//!
//! Regions count by themselves ([`tinykv_node::traffic`]). Once a second somebody looks at all of
//! them ([`Flows::look`]): what was added since is summed for the store, and regions are found that
//! have become busy enough that placement should hear of it sooner than of a region at rest. A
//! region without requests costs one comparison in a look, wakes nobody and is reported no sooner.
//!
//! A heartbeat tells the difference since the one before ([`Telling`]), with the interval it was
//! counted over. Intervals are told in whole seconds, so a heartbeat that follows the one before
//! within a second says nothing about flow, and the next one says all of it. The first heartbeat of
//! a leader says nothing either: it did not look before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tinykv_node::directory::RegionEntry;
use tinykv_node::traffic::Flow;
use tinykv_proto::pdpb;
use tinykv_raft::GroupId;

/// The shortest interval that is told.
const TOLD_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// From so many bytes or requests a second on a region is busy.
const BUSY_BYTES_PER_S: u64 = 64 << 10;
const BUSY_REQUESTS_PER_S: u64 = 50;

/// What was added to something over some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// What was added.
    pub flow: Flow,
    /// For how long it was counted.
    pub time: Duration,
}

impl Interval {
    /// Requests a second.
    pub fn requests_per_s(&self) -> u64 {
        per_s(self.flow.requests, self.time)
    }

    /// Bytes in and out a second.
    pub fn bytes_per_s(&self) -> u64 {
        per_s(self.flow.bytes(), self.time)
    }

    fn is_busy(&self) -> bool {
        self.bytes_per_s() >= BUSY_BYTES_PER_S || self.requests_per_s() >= BUSY_REQUESTS_PER_S
    }

    /// As heartbeats tell it; `wall` is the wall clock at its end.
    pub fn to_proto(&self, wall: Duration) -> pdpb::TimeInterval {
        let seconds = (self.time.as_millis() + 500) / 1000;
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).max(1);
        pdpb::TimeInterval {
            start_timestamp: wall.as_secs().saturating_sub(seconds),
            end_timestamp: wall.as_secs(),
        }
    }
}

fn per_s(count: u64, time: Duration) -> u64 {
    let ms = time.as_millis().max(1);
    u64::try_from(u128::from(count) * 1000 / ms).unwrap_or(u64::MAX)
}

/// Remembers what was told last of one thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Telling {
    told: Option<(Flow, Duration)>,
}

impl Telling {
    /// What can be told now; `None` if there was no look before, or none long enough ago.
    pub fn tell(&self, flow: Flow, now: Duration) -> Option<Interval> {
        let (before, at) = self.told?;
        let time = now.saturating_sub(at);
        let flow = flow.since(&before);
        (time >= TOLD_INTERVAL_MIN).then_some(Interval { flow, time })
    }

    /// Notes that everything up to now was told.
    pub fn note(&mut self, flow: Flow, now: Duration) {
        self.told = Some((flow, now));
    }

    /// Whether nothing was told yet.
    pub fn is_new(&self) -> bool {
        self.told.is_none()
    }
}

/// A region as the last look found it.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    flow: Flow,
    is_busy: bool,
}

/// Flow of all regions of this store.
#[derive(Debug, Default)]
pub struct Flows {
    looked: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    at: Duration,
    regions: BTreeMap<GroupId, Looked>,
    total: Flow,
}

/// What a look found in a region.
#[derive(Clone, Debug)]
pub struct Found {
    /// The region.
    pub entry: Arc<RegionEntry>,
    /// What was added since the look before.
    pub added: Interval,
    /// Whether it was not busy then and is now.
    pub has_become_busy: bool,
}

impl Flows {
    /// Looks at all regions; those that were or are in use.
    pub fn look(&self, entries: Vec<Arc<RegionEntry>>, now: Duration) -> Vec<Found> {
        let looks = &mut *self.looked.lock();
        let time = now.saturating_sub(looks.at);
        looks.at = now;
        let mut found = Vec::new();
        for entry in &entries {
            let flow = entry.traffic().flow();
            let last = looks.regions.entry(entry.group()).or_default();
            let (added, was_busy) = (flow.since(&last.flow), last.is_busy);
            if added == Flow::default() && !was_busy {
                last.flow = flow;
                continue;
            }
            let added = Interval { flow: added, time };
            let is_busy = added.is_busy();
            *last = Looked { flow, is_busy };
            looks.total = looks.total.plus(&added.flow);
            found.push(Found {
                entry: Arc::clone(entry),
                added,
                has_become_busy: is_busy && !was_busy,
            });
        }
        if looks.regions.len() > entries.len() {
            let there: BTreeSet<GroupId> = entries.iter().map(|entry| entry.group()).collect();
            looks.regions.retain(|group, _| there.contains(group));
        }
        found
    }

    /// Whether the last look found a region busy.
    pub fn is_busy(&self, group: GroupId) -> bool {
        let looks = self.looked.lock();
        looks.regions.get(&group).is_some_and(|known| known.is_busy)
    }

    /// What all regions together, those that are gone included, had served by the last look.
    pub fn total(&self) -> Flow {
        self.looked.lock().total
    }
}

#[cfg(test)]
mod tests {
    use tinykv_node::directory::Directory;
    use tinykv_raft::PeerId;
    use tinykv_replica::{Region, RegionChange, RegionState};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn directory(groups: &[u64]) -> Directory {
        let directory = Directory::default();
        for group in groups {
            let state = RegionState {
                region: Region {
                    id: GroupId(*group),
                    ..Region::default()
                },
                ..RegionState::default()
            };
            directory.apply(&RegionChange::Region {
                peer: PeerId(1),
                state: Arc::new(state),
            });
        }
        directory
    }

    #[test]
    fn only_regions_in_use_are_found_and_all_are_summed() {
        let directory = directory(&[1, 2, 3]);
        let flows = Flows::default();
        let group = |id| directory.group(GroupId(id)).expect("is there");
        let look = |seconds: u32| {
            let found = flows.look(directory.all(), SECOND * seconds);
            let told = |found: &Found| (found.entry.group().0, found.has_become_busy);
            found.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(look(1), []);
        group(1).traffic().on_read(1, 1, 10);
        group(2).traffic().on_write(1, BUSY_BYTES_PER_S);
        assert_eq!(look(2), [(1, false), (2, true)]);
        assert!(flows.is_busy(GroupId(2)) && !flows.is_busy(GroupId(1)));
        group(2).traffic().on_write(1, 2 * BUSY_BYTES_PER_S);
        assert_eq!(look(4), [(2, false)], "still");
        assert_eq!(look(5), [(2, false)], "not any more");
        assert_eq!(look(6), []);
        let total = flows.total();
        assert_eq!(total.bytes_written, 3 * BUSY_BYTES_PER_S);
        assert_eq!((total.bytes_read, total.requests), (10, 3));
        group(3).traffic().on_read(7, 7, 0);
        flows.look(vec![group(3)], SECOND * 7);
        assert_eq!(flows.total().requests, 10, "what is gone still counts");
    }

    #[test]
    fn flow_is_told_over_whole_seconds_and_none_is_lost() {
        let flow = |requests| Flow {
            requests,
            ..Flow::default()
        };
        let mut telling = Telling::default();
        assert_eq!(telling.tell(flow(5), SECOND), None, "since when?");
        telling.note(flow(5), SECOND);
        assert_eq!(telling.tell(flow(8), SECOND * 3 / 2), None, "too soon");
        let told = telling.tell(flow(25), SECOND * 3).expect("time enough");
        assert_eq!(told.flow, flow(20));
        assert_eq!((told.time, told.requests_per_s()), (SECOND * 2, 10));
        let proto = told.to_proto(Duration::from_millis(100_900));
        assert_eq!((proto.start_timestamp, proto.end_timestamp), (98, 100));
    }
}
