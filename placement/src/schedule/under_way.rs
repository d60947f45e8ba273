//! The operators under way, at most one at work on a region: a merge is at work on two.

use std::collections::BTreeMap;

use tinykv_raft::GroupId;

use super::Operator;

/// Operators by the region whose leader they give orders to. What is asked about a region counts
/// the merge it is the target of as well.
#[derive(Clone, Debug, Default)]
pub struct Operators {
    by_region: BTreeMap<GroupId, Operator>,
    /// Targets of merges, and the sources their operators stand under.
    targets: BTreeMap<GroupId, GroupId>,
}

impl Operators {
    /// The operator at work on a region.
    pub fn get(&self, region: &GroupId) -> Option<&Operator> {
        let under = self.targets.get(region).unwrap_or(region);
        self.by_region.get(under)
    }

    /// Whether an operator is at work on a region.
    pub fn contains_key(&self, region: &GroupId) -> bool {
        self.get(region).is_some()
    }

    /// Takes up an operator, and again after [`Operators::take`].
    ///
    /// # Panics
    /// If another one is at work on one of its regions.
    pub fn begin(&mut self, operator: Operator) {
        let source = operator.region;
        if let Some(target) = operator.action.target() {
            assert!(!self.contains_key(&target), "{target} is busy");
            self.targets.insert(target, source);
        }
        let before = self.by_region.insert(source, operator);
        assert!(before.is_none(), "{source} is busy with {before:?}");
    }

    /// Hands out the operator that gives orders to the leader of this region.
    pub fn take(&mut self, region: GroupId) -> Option<Operator> {
        let operator = self.by_region.remove(&region)?;
        if let Some(target) = operator.action.target() {
            self.targets.remove(&target);
        }
        Some(operator)
    }

    /// All of them, by region.
    pub fn values(&self) -> impl Iterator<Item = &Operator> {
        self.by_region.values()
    }

    /// All of them, with their regions.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupId, &Operator)> {
        self.by_region.iter()
    }

    /// The regions that an operator is at work on.
    pub fn regions(&self) -> impl Iterator<Item = GroupId> {
        let sources = self.by_region.keys();
        sources.chain(self.targets.keys()).copied()
    }

    /// How many operators there are.
    pub fn len(&self) -> usize {
        self.by_region.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_region.is_empty()
    }
}
