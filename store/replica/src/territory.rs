//! Whose keys are whose on a store, over all its shards.
//!
//! Two groups must never hold the same keys on one store: one would be dropped or overwritten
//! with the other. A group holds keys from the moment its peer is called into life (those that
//! the leader's message tells) until its data is durably gone. What it holds follows its region;
//! the parts of a split change hands under one lock, so that there is no moment in which the keys
//! of a child are free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tinykv_raft::GroupId;

use crate::region::RoutingRange;

/// What groups hold; one for all shards of a store.
#[derive(Debug, Default)]
pub struct Territory {
    holdings: Mutex<BTreeMap<GroupId, RoutingRange>>,
}

impl Territory {
    /// The first claim of a peer that is called into life: refused as well when the group holds keys
    /// already, on whatever shard.
    pub(crate) fn claim_first(&self, group: GroupId, range: &RoutingRange) -> Result<(), GroupId> {
        let mut holdings = self.lock();
        let holder = holdings.iter().find(|(_, held)| held.overlaps(range));
        if let Some((other, _)) = holder {
            return Err(*other);
        }
        if holdings.contains_key(&group) {
            return Err(group);
        }
        holdings.insert(group, range.clone());
        Ok(())
    }

    /// Gives a group these keys instead of what it held, unless another group holds some of them.
    pub(crate) fn claim(&self, group: GroupId, range: &RoutingRange) -> Result<(), GroupId> {
        self.claim_beside(group, range, &BTreeSet::new())
    }

    /// The same, but that some others may hold them, too: they die of it.
    pub(crate) fn claim_beside(
        &self,
        group: GroupId,
        range: &RoutingRange,
        dying: &BTreeSet<GroupId>,
    ) -> Result<(), GroupId> {
        let mut holdings = self.lock();
        let is_other = |other: &GroupId| *other != group && !dying.contains(other);
        let mut others = holdings.iter().filter(|(other, _)| is_other(other));
        if let Some((other, _)) = others.find(|(_, held)| held.overlaps(range)) {
            return Err(*other);
        }
        holdings.insert(group, range.clone());
        Ok(())
    }

    /// Notes what groups hold by what they have applied, all at once.
    pub(crate) fn hold(&self, regions: impl IntoIterator<Item = (GroupId, RoutingRange)>) {
        let mut regions = regions.into_iter().peekable();
        if regions.peek().is_some() {
            self.lock().extend(regions);
        }
    }

    /// Notes what a damaged peer leaves, unless it holds keys already: of these, or more.
    pub(crate) fn keep(&self, group: GroupId, range: RoutingRange) {
        self.lock().entry(group).or_insert(range);
    }

    /// Those of some groups that hold anything.
    pub(crate) fn holders(&self, groups: impl Iterator<Item = GroupId>) -> BTreeSet<GroupId> {
        let holdings = self.lock();
        groups.filter(|it| holdings.contains_key(it)).collect()
    }

    /// Whether a region older than `heir`, but not `source`, holds the key: the heir may have been split
    /// from it, and come to life here when that is applied. Ids rise.
    pub(crate) fn is_held_by_elder(&self, key: &[u8], heir: GroupId, source: GroupId) -> bool {
        let holdings = self.lock();
        let mut elders = holdings.range(..heir).filter(|(it, _)| **it != source);
        elders.any(|(_, held)| held.contains(key))
    }

    /// Nothing of the group is left.
    pub(crate) fn release(&self, group: GroupId) {
        self.lock().remove(&group);
    }

    /// A panic of another thread in here leaves a map that is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, RoutingRange>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> RoutingRange {
        RoutingRange {
            start: start.into(),
            end: end.into(),
        }
    }

    #[test]
    fn keys_are_claimed_once_and_free_again_when_released() {
        let territory = Territory::default();
        let (one, two) = (GroupId(1), GroupId(2));
        territory.hold([(one, range("b", "m"))]);
        assert_eq!(territory.claim(two, &range("a", "c")), Err(one));
        assert_eq!(territory.claim(two, &range("c", "")), Err(one));
        assert_eq!(territory.claim(two, &range("m", "")), Ok(()));
        assert_eq!(territory.claim(one, &range("b", "z")), Err(two));
        // A refused claim changes nothing, and a group does not stand in its own way.
        assert_eq!(territory.claim(two, &range("l", "z")), Err(one));
        assert_eq!(territory.claim(two, &range("n", "z")), Ok(()));
        assert_eq!(territory.claim_first(two, &range("y", "z")), Err(two));
        assert_eq!(
            territory.claim_first(GroupId(3), &range("n", "o")),
            Err(two)
        );
        territory.release(two);
        assert_eq!(territory.claim_first(two, &range("y", "z")), Ok(()));
        territory.release(two);
        assert_eq!(territory.claim(one, &range("b", "z")), Ok(()));
    }
}
