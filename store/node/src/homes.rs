//! Which shard a group lives on.
//!
//! By default its id says so. A child of a split begins on its parent's shard and stays there until
//! the process ends; after a restart it is where its id says, unless its parent has to apply the
//! split again and must find it beside itself.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use tinykv_raft::GroupId;
use tinykv_replica::{BirthRecord, SplitPoint, TombstoneRecord};

use crate::storage::Found;

/// The homes of all groups of a process.
#[derive(Debug)]
pub(crate) struct Homes {
    count: usize,
    /// Those who do not live where their id says. The dead keep theirs: their graves are there.
    elsewhere: RwLock<BTreeMap<GroupId, usize>>,
}

impl Homes {
    pub(crate) fn new(count: usize) -> Homes {
        Homes {
            count,
            elsewhere: RwLock::default(),
        }
    }

    /// The number of the shard that owns a group.
    pub(crate) fn of(&self, group: GroupId) -> usize {
        let elsewhere = self.elsewhere.read();
        elsewhere.get(&group).copied().unwrap_or(self.by_id(group))
    }

    pub(crate) fn set(&self, group: GroupId, shard: usize) {
        if self.of(group) == shard {
            return;
        }
        let mut elsewhere = self.elsewhere.write();
        if self.by_id(group) == shard {
            elsewhere.remove(&group);
        } else {
            elsewhere.insert(group, shard);
        }
    }

    /// Puts everybody whose parent has yet to apply the split again on the parent's shard. What
    /// cannot be decoded stays where it is and is reported by the shard.
    pub(crate) fn settle(&self, found: &Found) {
        let applied: BTreeMap<_, _> = found
            .groups
            .iter()
            .map(|it| (it.group, it.applied))
            .collect();
        let births = found.groups.iter().map(|it| {
            let parent = BirthRecord::decode(&it.log.birth)
                .ok()
                .and_then(|birth| birth.parent);
            (it.group, parent)
        });
        let deaths = found.tombstones.iter().map(|it| {
            let record = TombstoneRecord::decode(&it.payload).ok();
            (it.group, record.and_then(|record| record.parent))
        });
        // A group that lives again decides for its elder's grave, too.
        let parents: BTreeMap<GroupId, Option<SplitPoint>> = deaths.chain(births).collect();
        let peers: BTreeMap<_, _> = found
            .groups
            .iter()
            .filter_map(|it| Some((it.group, BirthRecord::decode(&it.log.birth).ok()?.peer.id)))
            .collect();
        let is_ahead = |point: &SplitPoint| {
            let lags = applied
                .get(&point.group)
                .is_some_and(|applied| *applied < point.index);
            lags && peers.get(&point.group) == Some(&point.peer)
        };
        for group in parents.keys() {
            let mut home = *group;
            // Parents are older than their children, so this ends; what says otherwise is damaged.
            for _ in 0..parents.len() {
                match parents.get(&home).copied().flatten().filter(is_ahead) {
                    Some(point) => home = point.group,
                    None => break,
                }
            }
            self.set(*group, self.by_id(home));
        }
    }

    fn by_id(&self, group: GroupId) -> usize {
        let number = group.0 % self.count as u64;
        usize::try_from(number).expect("below the number of shards")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_live_with_their_parents() {
        let homes = Homes::new(2);
        let (even, odd) = (GroupId(4), GroupId(7));
        assert_eq!((homes.of(even), homes.of(odd)), (0, 1));
        homes.set(odd, 0);
        assert_eq!((homes.of(even), homes.of(odd)), (0, 0));
        homes.set(odd, 1);
        assert_eq!(homes.of(odd), 1);
        assert!(homes.elsewhere.read().is_empty());
    }
}
