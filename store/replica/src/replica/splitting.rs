//! A split as one replica sees it: proposed, prepared, applied; and its other side, the life of a
//! child until its parent here has applied it. What both mean to each other is the shard's part
//! (`shard/splitting.rs`), where the reasoning stands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_lsm::OriginId;
use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, GroupId, Initial, LogIndex, ProposeError};
use tinykv_wal::Record;

use super::Replica;
use super::applying::Progress;
use super::lifecycle::founding;
use crate::effects::RegionChange;
use crate::event::Birth;
use crate::machine::{ReadError, StateMachine};
use crate::outcome::{Answer, BusyReason, Refusal};
use crate::record::{BirthRecord, SplitPoint};
use crate::region::{FIRST_ENTRY, Region, RegionEpoch, RegionState};
use crate::run::{Durable, Run, busy};
use crate::split::{SplitIds, parts_of};

/// A split that this leader proposed and has not applied. The lease is not renewed meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProposedSplit {
    entry: EntryId,
    /// What the lease was worth when the split was proposed.
    lease_until: Option<Duration>,
}

/// A committed split that is valid here and waits for the births of its children.
#[derive(Debug)]
pub(super) struct Splitting {
    entry: EntryId,
    /// The region afterwards.
    left: Region,
    children: Vec<Arc<RegionState>>,
    /// Whether all births are durable and the children stand ready.
    is_ready: bool,
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn propose_split(
        &mut self,
        epoch: RegionEpoch,
        keys: Vec<Bytes>,
        ids: Vec<SplitIds>,
        run: &Run<'_, S::Reply>,
    ) -> Result<EntryId, Refusal> {
        if self.transfer.is_some() {
            return Err(busy(run.config, BusyReason::Transferring));
        }
        if epoch != self.region.epoch {
            return Err(self.epoch_not_match());
        }
        if self.raft.is_membership_pending() || self.region.is_joint() {
            return Err(busy(run.config, BusyReason::MembershipPending));
        }
        if self.proposed_split.is_some() || self.splitting.is_some() {
            return Err(busy(run.config, BusyReason::Splitting));
        }
        parts_of(&self.region, &keys, &ids).map_err(Refusal::Split)?;
        let command = crate::command::AdminCommand::Split { keys, ids };
        let encoded = crate::command::Command::admin(epoch, &command).into_encoded();
        let proposed = self.raft.propose(encoded);
        let entry = proposed.map_err(|error: ProposeError| self.refusal_of(&error, run))?;
        self.proposed_split = Some(ProposedSplit {
            entry,
            lease_until: self.published.map(|cell| cell.valid_until),
        });
        Ok(entry)
    }

    /// How far a lease may reach, given a split that is proposed and not applied: whoever has
    /// applied it counts from its own birth, which came after the proposal.
    pub(super) fn lease_limit(&mut self) -> Option<Option<Duration>> {
        let split = self.proposed_split?;
        if planted(Mutant::ParentLeaseKeptInSplit) {
            return None;
        }
        let is_over =
            self.applied.index >= split.entry.index || self.raft.term() != split.entry.term;
        if is_over {
            self.proposed_split = None;
            return None;
        }
        Some(split.lease_until)
    }

    pub(super) fn epoch_not_match(&self) -> Refusal {
        Refusal::EpochNotMatch {
            regions: vec![self.region.clone()],
        }
    }

    /// A committed split: refused, or parked until the children are born, or carried out.
    pub(super) fn apply_split(
        &mut self,
        entry: EntryId,
        epoch: RegionEpoch,
        keys: &[Bytes],
        ids: &[SplitIds],
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Progress<S::Reply>, ReadError> {
        if let Some(splitting) = self
            .splitting
            .take_if(|it| it.entry == entry && it.is_ready)
        {
            let answer = self.become_left_part(splitting, run);
            return Ok(Progress::Done(Ok(Some(answer))));
        }
        let Some(state) = &self.state else {
            return Err(ReadError("a split before the first state".to_owned()));
        };
        if epoch != self.region.epoch {
            return Ok(Progress::Done(Err(self.epoch_not_match())));
        }
        if self.region.is_joint() {
            let refusal = busy(run.config, BusyReason::MembershipPending);
            return Ok(Progress::Done(Err(refusal)));
        }
        let (left, children) = match parts_of(&self.region, keys, ids) {
            Ok(parts) => parts,
            Err(refusal) => return Ok(Progress::Done(Err(Refusal::Split(refusal)))),
        };
        let child = |region| {
            Arc::new(RegionState {
                region,
                ..state.as_ref().clone()
            })
        };
        self.splitting = Some(Splitting {
            entry,
            left,
            children: children.into_iter().map(child).collect(),
            is_ready: false,
        });
        Ok(Progress::Parked)
    }

    fn become_left_part(
        &mut self,
        splitting: Splitting,
        run: &mut Run<'_, S::Reply>,
    ) -> Answer<S::Reply> {
        let state = self.state.as_ref().expect("a split is applied to a state");
        let state = RegionState {
            region: splitting.left,
            ..state.as_ref().clone()
        };
        // Before anything of this run can tell of the split, nobody reads the right part here.
        self.void_lease(run);
        run.effects.leases.retain(|cell| cell.group != self.group);
        self.change_state(state, run);
        if std::mem::take(&mut self.leaves_after_split) {
            self.is_leaving = true;
        }
        let children = splitting.children.iter();
        let children = children.map(|state| Arc::new(state.region.clone()));
        Answer::Split(
            std::iter::once(self.region.clone())
                .chain(children)
                .collect(),
        )
    }

    /// Whether apply stands before a split whose children are not all ready.
    pub(super) fn awaits_children(&self) -> bool {
        self.splitting.as_ref().is_some_and(|it| !it.is_ready)
    }

    /// The children that the next entry to be applied brings into the world.
    pub(crate) fn split_prepared(&self) -> Option<(SplitPoint, Vec<Arc<RegionState>>)> {
        let splitting = self.splitting.as_ref().filter(|it| !it.is_ready)?;
        if self.damaged || self.is_leaving || self.installing.is_some() {
            return None;
        }
        let point = SplitPoint {
            group: self.group,
            peer: self.peer.id,
            index: splitting.entry.index,
        };
        Some((point, splitting.children.clone()))
    }

    /// From now on there are children who wait for this replica to apply up to `index`: it takes
    /// no snapshot and does not leave before it has.
    pub(crate) fn owe_children(&mut self, index: LogIndex) {
        self.split_floor = self.split_floor.max(index);
    }

    /// Whether it has not applied so far: now, or after a restart that finds it whole again.
    pub(crate) fn lags_behind(&self, index: LogIndex) -> bool {
        self.applied.index < index
    }

    /// Whether it will apply so far as long as this process lives.
    pub(crate) fn has_yet_to_apply(&self, index: LogIndex) -> bool {
        !self.damaged && self.lags_behind(index)
    }

    pub(crate) fn owes_children(&self) -> bool {
        self.applied.index < self.split_floor
    }

    /// All children are ready: the split is applied in this run.
    pub(crate) fn proceed_with_split(&mut self) {
        if let Some(splitting) = &mut self.splitting {
            splitting.is_ready = true;
        }
    }

    /// Whether a crash now would leave the splits of this replica as they are: its own birth in one,
    /// and those in which it is the parent. Until then it takes no snapshot. An installation
    /// is done again after a crash as soon as it is in the log: a child's would lie under what its
    /// parent brings back from before the split, and a parent's would jump over what its children
    /// began with.
    pub(super) fn is_split_flushed(&self) -> bool {
        let birth = match self.parent {
            Some(_) => FIRST_ENTRY.index,
            None => LogIndex(0),
        };
        self.log.flushed >= self.split_floor.max(birth)
    }

    /// Whether everything that the split of a child needs from this log is flushed.
    pub(crate) fn may_be_buried(&self) -> bool {
        self.log.flushed >= self.split_floor.min(self.applied.index)
    }

    /// A child whose parent here is about to apply the split. Its birth is recorded in this run;
    /// all the rest waits for [`Replica::wake`].
    pub(crate) fn conceive(
        birth: Birth,
        parent: SplitPoint,
        machine: S,
        run: &mut Run<'_, S::Reply>,
    ) -> Replica<S> {
        let Birth { peer, state } = birth;
        let group = state.region.id;
        let initial = Initial {
            birth: tinykv_raft::Birth::Split,
            ..founding(&state, run.now)
        };
        let record = BirthRecord {
            peer,
            epoch: state.region.epoch,
            start: state.region.start.clone(),
            state: Some(state.clone()),
            parent: Some(parent),
            may_have_lived: false,
        };
        run.record(Record::Birth {
            group,
            birth: record.encode(),
            hard_state: initial.hard_state,
            truncated: FIRST_ENTRY,
        });
        let mut replica = Replica::with(group, &record, initial, machine, run.config);
        replica.parent = Some(parent);
        replica.awaits_parent = true;
        replica.await_durable(Durable::Birth, run);
        replica.set_state(state);
        replica
    }

    pub(crate) fn parent(&self) -> Option<SplitPoint> {
        self.parent
    }

    /// Whether this child waits for its parent here to apply the split it was born in.
    pub(crate) fn awaits_parent(&self) -> bool {
        self.awaits_parent
    }

    pub(crate) fn is_born(&self) -> bool {
        self.birth_is_durable
    }

    /// The parent applies the split in this run: the child's first state goes into the same batch,
    /// and its life begins. It reads nothing in this run, for the batch is not visible yet.
    pub(crate) fn wake(&mut self, beside_leader: bool, run: &mut Run<'_, S::Reply>) {
        self.awaits_parent = false;
        self.reads_nothing = true;
        self.is_state_dirty = true;
        run.effects.apply.put(
            S::state_key(self.group),
            self.state.as_ref().expect("a child has a state").encode(),
        );
        self.is_state_dirty = false;
        run.effects
            .apply
            .applied(OriginId(self.group.0), self.applied.index.0);
        self.restore(run);
        run.announce(RegionChange::Region {
            peer: self.peer.id,
            state: self.state.clone().expect("a child has a state"),
        });
        self.announce_leader(run);
        self.is_heir = beside_leader;
        self.campaign_as_heir(run);
    }

    /// The batch of the run in which it woke is written.
    pub(crate) fn begin_to_read(&mut self) {
        self.reads_nothing = false;
    }

    /// Again and again until somebody leads: the others are born a moment later.
    pub(super) fn campaign_as_heir(&mut self, run: &Run<'_, S::Reply>) {
        if !self.is_heir {
            return;
        }
        let is_over = self.raft.leader().is_some() || self.leaderless_ticks > HEIR_TICKS;
        if is_over {
            self.is_heir = false;
        } else {
            self.raft.campaign_first(run.now);
        }
    }

    /// The parent will never apply the split.
    pub(crate) fn orphan(&mut self, parent: GroupId, run: &mut Run<'_, S::Reply>) {
        let error = format!("its parent here, group {parent}, cannot apply the split any more");
        self.on_damage(ReadError(error), run);
    }
}

/// How long an heir keeps asking; after that it is a voter like the others.
const HEIR_TICKS: u32 = 20;
