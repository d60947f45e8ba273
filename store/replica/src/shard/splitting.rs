//! Splits, as what parents and children on one store mean to each other.
//!
//! # The order of things
//!
//! A committed split is applied in two steps. When apply reaches the entry, and epoch, keys and ids
//! still fit the replicated region, the parent stops there and the births of its children are
//! recorded ([`tinykv_wal::Record::Birth`], with the parent and the index of the split). Once these are durable, one
//! batch holds the parent's new state and applied index and each child's first state and
//! applied index; children are announced before the parent shrinks, and from then on they live. So
//! nothing reveals a child before its birth is durable, and the engine never holds a group that the
//! log does not know.
//!
//! # What a crash can leave
//!
//! Let `i` be the split's index, `f` what is flushed of the parent.
//!
//! * *No birth is durable.* Then `f < i` (the batch is written after the births), and the parent
//!   does it all again.
//! * *Some or all births are durable, `f < i`.* The engine has nothing of the children: it lost
//!   parent and children in one piece. A child recovered like this (a parent in its birth record, no
//!   applied index) waits: it takes no message, serves nobody, does not tick. What it may have
//!   promised and acknowledged in its first life stands in its log and hard state. The
//!   parent applies its log up to `i` again, by itself: a birth proves that `i` is committed, so the
//!   recovered commit index is raised to it. Until it has, it takes no snapshot (which would
//!   jump over what the children began with) and does not leave. Missing births are recorded, those
//!   that exist are found, and the step ends as it would have the first time.
//! * *`f >= i`.* All of it is there.
//! * *The child is dead* (a tombstone) *and `f < i`.* The parent's log brings back what was the
//!   child's; the batch that applies the split deletes it. The burial goes on only after that.
//! * *A child, or a younger peer of its group, has an applied index of its own and `f < i`.* Shells
//!   flush all before they install or drop ranges, so this should not be; it is left untouched.
//! * *The parent died.* It is buried only once what it applied up to its last split is flushed: its
//!   tombstone cuts the log. If it is damaged before it could apply the split, its children
//!   are damaged, too; they are replaced like any damaged peer.
//! * *The parent is damaged and its child dead.* The child's burial waits for nobody. Its keys stay
//!   the parent's until that is buried as well, so no younger peer begins below them; and the
//!   tombstone is not forgotten, so a restart that finds the parent whole brings up no child: the
//!   batch that applies the split deletes what was the child's.
//!
//! # Two shards
//!
//! A child lives on its parent's shard, and so does its grave, at least as long as the parent has not
//! flushed the split: the shell sees to that when it recovers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{GroupId, LogIndex};

use super::Shard;
use crate::event::Birth;
use crate::grave::Stage;
use crate::machine::StateMachine;
use crate::outcome::{Outcome, Refusal};
use crate::record::SplitPoint;
use crate::region::{Region, RegionState};
use crate::replica::Replica;
use crate::run::Run;

/// Regions an outdated request is told, at most.
const REGIONS_MAX: usize = 16;

impl<S: StateMachine> Shard<S> {
    /// If apply of the group stands before a split: sees to the births, and once all are durable
    /// wakes the children and has the parent apply it. Says whether it may go on.
    pub(super) fn prepare_split(&mut self, group: GroupId, run: &mut Run<'_, S::Reply>) -> bool {
        let Some(parent) = self.replicas.get_mut(&group) else {
            return false;
        };
        let Some((point, children)) = parent.split_prepared() else {
            return false;
        };
        parent.owe_children(point.index);
        let beside_leader = parent.is_leader();
        let mut all_born = true;
        for state in &children {
            all_born &= self.see_to_birth(point, state, run);
        }
        if !all_born {
            return false;
        }
        for state in &children {
            self.bring_up(point, state, beside_leader, run);
        }
        if let Some(parent) = self.replicas.get_mut(&group) {
            parent.proceed_with_split();
        }
        true
    }

    /// Whether the child's birth is durable, or needs not be.
    fn see_to_birth(
        &mut self,
        point: SplitPoint,
        state: &Arc<RegionState>,
        run: &mut Run<'_, S::Reply>,
    ) -> bool {
        let group = state.region.id;
        if let Some(child) = self.replicas.get(&group) {
            return !child.awaits_parent() || child.is_born();
        }
        let Some(peer) = state.region.peer_on(self.config.store) else {
            return true;
        };
        if self
            .graves
            .get(&group)
            .is_some_and(|grave| peer.id <= grave.record.peer.id)
            && !planted(Mutant::SplitOverTombstone)
        {
            return true;
        }
        let birth = Birth {
            peer,
            state: state.as_ref().clone(),
        };
        let machine = (self.factory)(group);
        let child = Replica::conceive(birth, point, machine, run);
        self.adopt(point.group, group);
        self.replicas.insert(group, child);
        false
    }

    fn bring_up(
        &mut self,
        point: SplitPoint,
        state: &Arc<RegionState>,
        beside_leader: bool,
        run: &mut Run<'_, S::Reply>,
    ) {
        let group = state.region.id;
        match self.replicas.get_mut(&group) {
            Some(child) if child.awaits_parent() && child.parent() == Some(point) => {
                child.wake(beside_leader, run);
                self.newly_awake.insert(group);
                self.touched.insert(group);
            }
            Some(_) => {}
            None => {
                for range in S::ranges(&state.region) {
                    run.effects.apply.delete_range(range.start, range.end);
                }
            }
        }
    }

    /// The split's batch is written by now: what was woken may read, what was held may be dropped.
    pub(super) fn after_splits(&mut self, run: &mut Run<'_, S::Reply>) {
        for group in std::mem::take(&mut self.newly_awake) {
            if let Some(child) = self.replicas.get_mut(&group) {
                child.begin_to_read();
                self.touched.insert(group);
            }
        }
        // The parent has applied the split, or jumped over it, or is gone or damaged.
        for group in std::mem::take(&mut self.graves_awaiting) {
            let Some(grave) = self.graves.get(&group) else {
                continue;
            };
            if grave
                .record
                .parent
                .is_some_and(|parent| self.is_split_ahead(parent))
            {
                self.graves_awaiting.insert(group);
            } else if let Some(grave) = self.graves.get_mut(&group)
                && grave.stage == Stage::AwaitingSplit
            {
                grave.stage = Stage::Recording;
                grave.on_recorded::<S>(group, run);
            }
        }
    }

    /// Whether the parent lives here and has yet to apply the split.
    pub(super) fn is_split_ahead(&self, parent: SplitPoint) -> bool {
        let replica = self.parent_at(parent);
        replica.is_some_and(|replica| replica.has_yet_to_apply(parent.index))
    }

    /// Whether the parent lives here and might bring its children into the world once more, be it
    /// after a restart that finds it whole again.
    pub(super) fn is_split_possible(&self, parent: SplitPoint) -> bool {
        let replica = self.parent_at(parent);
        replica.is_some_and(|replica| replica.lags_behind(parent.index))
    }

    fn parent_at(&self, parent: SplitPoint) -> Option<&Replica<S>> {
        let replica = self.replicas.get(&parent.group);
        replica.filter(|replica| replica.peer().id == parent.peer)
    }

    pub(super) fn adopt(&mut self, parent: GroupId, child: GroupId) {
        self.children.entry(parent).or_default().insert(child);
    }

    /// Children whose parent here is damaged before their split will never be brought up.
    pub(super) fn orphan_children(&mut self, parent: GroupId, run: &mut Run<'_, S::Reply>) {
        let children = self.children.get(&parent).cloned().unwrap_or_default();
        for group in children {
            let is_waiting = |child: &&mut Replica<S>| {
                child.awaits_parent() && child.parent().is_some_and(|it| it.group == parent)
            };
            if let Some(child) = self.replicas.get_mut(&group).filter(is_waiting) {
                child.orphan(parent, run);
                self.touched.insert(group);
            }
        }
    }

    /// Who asked with an outdated epoch learns of the children, too.
    pub(super) fn complete_regions(&self, run: &mut Run<'_, S::Reply>) {
        for (_, outcome) in &mut run.effects.replies {
            let Outcome::DefinitelyNot(Refusal::EpochNotMatch { regions }) = outcome else {
                continue;
            };
            if let Some(group) = regions.first().map(|region| region.id) {
                self.add_descendants(group, regions);
            }
        }
    }

    fn add_descendants(&self, group: GroupId, regions: &mut Vec<Arc<Region>>) {
        let mut seen = BTreeSet::from([group]);
        let mut open = vec![group];
        while let Some(group) = open.pop() {
            for child in self.children.get(&group).into_iter().flatten() {
                if !seen.insert(*child) {
                    continue;
                }
                open.push(*child);
                let replica = self.replicas.get(child);
                let replica = replica.filter(|replica| !replica.awaits_parent());
                if let Some(region) = replica.and_then(Replica::region) {
                    regions.push(Arc::clone(region));
                }
            }
        }
        // The nearest to the asked region first: a split cuts off what lies to its right.
        regions[1..].sort_by(|a, b| a.start.cmp(&b.start));
        regions.truncate(REGIONS_MAX);
    }
}

/// The last split of each parent that has to be applied here before its children can live, among
/// children of which the engine has nothing.
pub(super) fn split_floors(
    waiting: impl Iterator<Item = SplitPoint>,
) -> BTreeMap<GroupId, LogIndex> {
    let mut floors = BTreeMap::new();
    for point in waiting {
        let floor: &mut LogIndex = floors.entry(point.group).or_default();
        *floor = point.index.max(*floor);
    }
    floors
}
