//! A merge as its source sees it: frozen, waiting for its fate, stopped or thawed. What both sides mean
//! to each other is the shard's part (`shard/merging.rs`), where the reasoning stands.

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, GroupId, LogIndex, PeerId, Term};

use super::Replica;
use super::absorbing::{Absorbing, Arriving};
use crate::command::AdminCommand;
use crate::effects::RegionChange;
use crate::event::{LocalBody, LocalMessage, MergeWord, PeerBody, Plea, Yielded};
use crate::machine::StateMachine;
use crate::merge::{self, Fate, Freeze, Heir, MergePhase};
use crate::outcome::{Answer, BusyReason, Doubt, MergeRefusal, Refusal};
use crate::record::TombstoneRecord;
use crate::region::{Region, RegionEpoch, RegionState};
use crate::run::{Run, busy};
use crate::territory::Territory;

/// Ticks between two questions about a source's fate.
const ASK_TICKS: u32 = 4;

/// What is under way of merges, on either side. Nothing here is durable: it follows from the state and
/// the log.
#[derive(Debug, Default)]
pub(super) struct Merging {
    /// As the leader: the freeze in the log that is not applied.
    proposed_freeze: Option<EntryId>,
    /// As the leader: what ends a freeze (of this region, or of the one to be absorbed) and is not
    /// applied.
    pub(super) proposed_verdict: Option<EntryId>,
    /// Ticks since it is known here that the region is frozen.
    frozen_ticks: u32,
    /// The term in which its target was asked to commit, without waiting for a tick.
    asked_in: Option<Term>,
    /// It was told to go, or that this region has absorbed it elsewhere, which may still need it here.
    unwanted_for: Option<Heir>,
    /// Another peer of the group was buried in a merge: one that the log here has yet to come to, or
    /// came to a while ago.
    was_merged_elsewhere: bool,
    /// The target wants it to stop.
    wanted: Option<Wanted>,
    stopped: Option<Stopped>,
    /// As the target: the committed merge that apply has reached.
    pub(super) absorbing: Option<Absorbing>,
    /// As the target: sources to be buried once this index is flushed.
    pub(super) absorbed: Vec<(LogIndex, GroupId)>,
    /// For how many ticks these wait.
    pub(super) absorbed_ticks: u32,
    /// As the target: a snapshot that waits for sources to stop.
    pub(super) arriving: Option<Arriving>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    target: GroupId,
    peer: PeerId,
    prepared: EntryId,
}

/// Why a source does nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// All of it is applied, and the target has it.
    Applied,
    /// It stands where it stood, and dies with the target's installation; it goes on if that does not
    /// come about.
    Anywhere,
}

impl Merging {
    /// Whether nothing waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.proposed_freeze.is_none()
            && self.proposed_verdict.is_none()
            && self.wanted.is_none()
            && self.absorbing.is_none()
            && self.absorbed.is_empty()
            && self.arriving.is_none()
    }
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn propose_merge(
        &mut self,
        epoch: RegionEpoch,
        target: &Region,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<EntryId, Refusal> {
        self.admit_verdict(epoch, run)?;
        merge::check::<S>(&self.region, target).map_err(Refusal::Merge)?;
        if !self.state.as_ref().is_some_and(|state| state.open) {
            return Err(Refusal::NotOpen);
        }
        if !self.are_all_here(run) {
            // A leader that sleeps hears of nobody: whoever asks again finds all awake.
            self.raft.wake(run.now);
            return Err(busy(run.config, BusyReason::PeerBehind));
        }
        let target = target.clone();
        let entry = self.propose_command(epoch, &AdminCommand::PrepareMerge { target }, run)?;
        self.merging.proposed_freeze = Some(entry);
        if !planted(Mutant::FreezeForgotten) {
            // Before anybody can know of the freeze, nobody reads here.
            self.void_lease(run);
            self.refuse_reads(run);
        }
        Ok(entry)
    }

    /// Whether every peer was heard of lately and keeps up: else a freeze would be in vain.
    fn are_all_here(&self, run: &Run<'_, S::Reply>) -> bool {
        let silence = run.config.tick * run.config.election_ticks_max;
        let peers = self.raft.status().peers;
        peers.iter().all(|(id, peer)| {
            let heard = self.heard.get(id);
            let is_near = heard.is_some_and(|heard| *heard + silence > run.now);
            is_near && self.keeps_up(peer, run.config.promote_lag_max)
        })
    }

    /// What every step of a merge asks of the leader that proposes it.
    pub(super) fn admit_verdict(
        &self,
        epoch: RegionEpoch,
        run: &Run<'_, S::Reply>,
    ) -> Result<(), Refusal> {
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
        if self.is_frozen() || self.is_verdict_pending() || self.merging.absorbing.is_some() {
            return Err(busy(run.config, BusyReason::Merging));
        }
        Ok(())
    }

    /// Whether something this leader proposed may still end a freeze.
    pub(super) fn is_verdict_pending(&self) -> bool {
        self.merging
            .proposed_verdict
            .is_some_and(|entry| self.is_ahead(entry))
    }

    fn is_ahead(&self, entry: EntryId) -> bool {
        self.applied.index < entry.index && self.raft.term() == entry.term
    }

    /// From proposing a freeze until its end is applied, nothing is served and nothing accepted.
    pub(super) fn is_frozen(&self) -> bool {
        let is_proposed = self
            .merging
            .proposed_freeze
            .is_some_and(|entry| self.is_ahead(entry));
        (is_proposed || self.freeze().is_some()) && !planted(Mutant::FreezeForgotten)
    }

    /// The freeze as applied.
    pub(super) fn freeze(&self) -> Option<&Freeze> {
        self.state.as_ref().and_then(|state| state.merges.freeze())
    }

    pub(super) fn merging_refusal(&self, run: &Run<'_, S::Reply>) -> Refusal {
        busy(run.config, BusyReason::Merging)
    }

    fn refuse_reads(&mut self, run: &mut Run<'_, S::Reply>) {
        for read in self.requests.take_reads() {
            run.refuse(Some(read.waiter), self.merging_refusal(run));
        }
    }

    /// Forgets what is decided by now.
    fn settle_proposals(&mut self) {
        let (applied, term) = (self.applied.index, self.raft.term());
        let is_over = |entry: &mut EntryId| applied >= entry.index || term != entry.term;
        self.merging.proposed_freeze.take_if(is_over);
        self.merging.proposed_verdict.take_if(is_over);
    }

    pub(super) fn apply_prepare(
        &mut self,
        entry: EntryId,
        epoch: RegionEpoch,
        target: &Region,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Answer<S::Reply>, Refusal> {
        let state = self.state.clone().ok_or(Refusal::NotOpen)?;
        if epoch != self.region.epoch {
            return Err(self.epoch_not_match());
        }
        merge::check::<S>(&self.region, target).map_err(Refusal::Merge)?;
        if !state.open {
            return Err(Refusal::NotOpen);
        }
        if !planted(Mutant::FreezeForgotten) {
            self.void_lease(run);
            run.effects.leases.retain(|cell| cell.group != self.group);
            self.refuse_reads(run);
        }
        self.merging.frozen_ticks = 0;
        self.merging.asked_in = None;
        self.change_state(merge::frozen(&state, target, entry), run);
        Ok(self.changed_answer())
    }

    pub(super) fn apply_rollback(
        &mut self,
        prepared: EntryId,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Answer<S::Reply>, Refusal> {
        let state = self.state.clone().ok_or(Refusal::NotOpen)?;
        if self
            .freeze()
            .is_none_or(|freeze| freeze.prepared != prepared)
        {
            return Err(Refusal::Merge(MergeRefusal::NotFrozen));
        }
        let mut thawed = state.as_ref().clone();
        thawed.merges.phase = MergePhase::Apart;
        thawed.region.epoch.version += 1;
        self.change_state(thawed, run);
        // The merge of which a grave told is a later one, for which the target may need this peer yet.
        if !self.merging.was_merged_elsewhere && self.merging.unwanted_for.take().is_some() {
            self.is_leaving = true;
        }
        Ok(self.changed_answer())
    }

    /// At the end of a run: a leader whose peers have just got the last of the log does not wait for a
    /// tick.
    pub(super) fn drive_merge(&mut self, run: &mut Run<'_, S::Reply>) {
        self.settle_proposals();
        let term = self.raft.term();
        let is_due = self.freeze().is_some() && self.merging.asked_in != Some(term);
        if is_due && self.is_leader() && self.are_all_caught_up() {
            self.merging.asked_in = Some(term);
            self.plead(run);
        }
    }

    /// Whether all peers have durably all that a frozen region ever wrote.
    fn are_all_caught_up(&self) -> bool {
        let Some(freeze) = self.freeze() else {
            return false;
        };
        let peers = self.raft.status().peers;
        let mut others = self.region.peers.iter().filter(|it| it.id != self.peer.id);
        others.all(|peer| {
            let has = peers.get(&peer.id).map(|it| it.matched);
            has.is_some_and(|has| has >= freeze.prepared.index)
                || planted(Mutant::MergedBeforeAllHaveIt)
        })
    }

    pub(super) fn tick_merge(&mut self, run: &mut Run<'_, S::Reply>) {
        if self.freeze().is_some() {
            self.merging.frozen_ticks = self.merging.frozen_ticks.saturating_add(1);
            if self.merging.frozen_ticks.is_multiple_of(ASK_TICKS) {
                self.plead(run);
            }
        }
        self.tick_absorbing(run);
    }

    fn plead(&self, run: &mut Run<'_, S::Reply>) {
        let (Some(freeze), Some(state)) = (self.freeze(), &self.state) else {
            return;
        };
        let patience = run.config.merge_patience_ticks;
        let waited = self.merging.frozen_ticks;
        let is_over = waited > patience.saturating_mul(PATIENCES_MAX);
        let plea = if !self.is_leader() {
            Plea::Tell
        } else if self.are_all_caught_up() && !is_over {
            Plea::Commit(Box::new(state.as_ref().clone()))
        } else if waited > patience {
            Plea::Decline
        } else {
            Plea::Tell
        };
        let body = LocalBody::Plea {
            target: freeze.target,
            epoch: freeze.epoch,
            plea,
        };
        self.say(freeze.target, body, run);
    }

    pub(super) fn say(&self, to: GroupId, body: LocalBody, run: &mut Run<'_, S::Reply>) {
        run.effects.local.push(LocalMessage {
            from: self.group,
            to,
            body,
        });
    }

    /// What the target, or its heir, knows.
    pub(crate) fn on_fate(
        &mut self,
        target: GroupId,
        epoch: RegionEpoch,
        fate: Fate,
        run: &mut Run<'_, S::Reply>,
    ) {
        let freeze = self.freeze();
        let freeze = freeze.filter(|it| (it.target, it.epoch) == (target, epoch));
        let declined = freeze.filter(|_| fate == Fate::Declined);
        let declined = declined.map(|freeze| freeze.prepared);
        // A merge of which it was told, but not this one, has all of its log only if that ends later.
        let ends_frozen = declined.is_some_and(|prepared| self.raft.last() == prepared);
        let is_wanted = self.is_awaited_by_target() || self.is_stopped();
        let is_unneeded = (fate == Fate::NotHere || ends_frozen) && !is_wanted;
        if is_unneeded && self.merging.unwanted_for.is_some() {
            let is_free = self.damaged || (!self.awaits_parent && !self.owes_children());
            self.is_leaving |= is_free && self.installing.is_none();
        } else if let Some(prepared) = declined {
            self.on_declined(prepared, run);
        }
    }

    /// Another peer of the group was buried in a merge. The target here, if there is one, may have
    /// yet to come to that.
    pub(super) fn on_merged_elsewhere(&mut self, into: Heir, run: &mut Run<'_, S::Reply>) {
        let target = into.group;
        self.merging.was_merged_elsewhere = true;
        if into.start.is_some() || self.merging.unwanted_for.is_none() {
            self.merging.unwanted_for = Some(into);
        }
        let body = LocalBody::Plea {
            target,
            epoch: RegionEpoch::default(),
            plea: Plea::Tell,
        };
        self.say(target, body, run);
    }

    /// Whether the target, which does not live here, may yet come to life with what it had before it
    /// absorbed this region: in a split of an older region that still holds its keys. Then it will
    /// look for this peer.
    pub(crate) fn may_be_looked_for(&self, territory: &Territory) -> bool {
        let heir = self.merging.unwanted_for.as_ref();
        heir.is_some_and(|heir| match &heir.start {
            Some(start) => territory.is_held_by_elder(start, heir.group, self.group),
            None => true,
        })
    }

    /// The target can never commit: the freeze may end.
    pub(super) fn on_declined(&mut self, prepared: EntryId, run: &mut Run<'_, S::Reply>) {
        let is_news = self.freeze().is_some_and(|it| it.prepared == prepared)
            && self.merging.stopped.is_none()
            && !self.damaged
            && !self.is_leaving;
        if !is_news {
            return;
        }
        if !self.is_leader() {
            let leader = self.leader().filter(|leader| leader.id != self.peer.id);
            if let Some(leader) = leader {
                let word = MergeWord::Declined { prepared };
                let message = self.envelope(leader, PeerBody::Merge(word));
                run.effects.messages.push(message);
            }
        } else if !self.is_verdict_pending() && self.transfer.is_none() {
            let rollback = AdminCommand::RollbackMerge { prepared };
            let epoch = self.region.epoch;
            // Refused it is tried again: the target is asked every few ticks.
            self.merging.proposed_verdict = self.propose_command(epoch, &rollback, run).ok();
        }
    }

    /// Told to go. A frozen one asks first whether its target here has yet to absorb it; one that the
    /// target waits for does not go.
    pub(super) fn leaves_only_unneeded(&mut self) -> bool {
        let heir = self.freeze().map(Freeze::heir);
        let is_frozen = heir.is_some();
        self.merging.unwanted_for = heir.or(self.merging.unwanted_for.take());
        is_frozen || self.is_awaited_by_target()
    }

    /// Whether the target stands before its merge until this peer has stopped.
    pub(super) fn is_awaited_by_target(&self) -> bool {
        self.merging.wanted.is_some()
    }

    /// Whether it does nothing any more, because its target has it or is about to.
    pub(crate) fn is_stopped(&self) -> bool {
        self.merging.stopped.is_some()
    }

    /// The target has committed the merge, which proves the freeze to be committed.
    pub(crate) fn on_yield(&mut self, target: GroupId, peer: PeerId, prepared: EntryId) {
        if self.merging.stopped == Some(Stopped::Anywhere) {
            self.merging.stopped = None;
        }
        self.merging.wanted = Some(Wanted {
            target,
            peer,
            prepared,
        });
        if !self.damaged && !self.awaits_parent && !self.is_leaving {
            self.raft.learn_commit(prepared);
        }
    }

    /// Stops, if the target wants it and all of the log is applied.
    pub(crate) fn stop_if_wanted(&mut self, run: &mut Run<'_, S::Reply>) {
        let Some(wanted) = self.merging.wanted else {
            return;
        };
        let Some(answer) = self.answer_to(wanted) else {
            return;
        };
        self.merging.wanted = None;
        if answer == Yielded::Applied && self.merging.stopped.is_none() {
            self.merging.stopped = Some(Stopped::Applied);
            self.fall_silent(run);
            run.announce(RegionChange::Gone {
                group: self.group,
                peer: self.peer.id,
            });
        }
        self.say(wanted.target, LocalBody::Yielded(answer), run);
    }

    fn answer_to(&self, wanted: Wanted) -> Option<Yielded> {
        if self.merging.stopped == Some(Stopped::Applied) {
            return Some(Yielded::Applied);
        }
        if self.damaged || self.is_leaving || self.leaves_after_split {
            return Some(Yielded::Never("it is damaged or on its way out"));
        }
        if self.peer.id != wanted.peer {
            return Some(Yielded::Never("another peer of it lives here"));
        }
        let is_waiting = self.state.is_none()
            || !self.birth_is_durable
            || self.awaits_parent
            || self.reads_nothing
            || self.installing.is_some()
            || self.offered.is_some();
        if is_waiting || self.applied.index < wanted.prepared.index {
            return None;
        }
        let named = (wanted.target, wanted.prepared);
        match self.freeze().map(|it| (it.target, it.prepared)) {
            Some(frozen) if frozen == named => Some(Yielded::Applied),
            _ => Some(Yielded::Never("it is not frozen for this")),
        }
    }

    /// The target gets a snapshot of what came of the merge.
    pub(crate) fn on_yield_to_snapshot(&mut self, target: GroupId, run: &mut Run<'_, S::Reply>) {
        let is_busy = self.is_leaving
            || self.leaves_after_split
            || self.awaits_parent
            || !self.birth_is_durable
            || self.installing.is_some()
            || self.offered.is_some()
            || self.merging.arriving.is_some();
        let answer = if is_busy {
            Yielded::Busy
        } else if !self.is_split_flushed() {
            run.effects.flushes.push(self.group);
            Yielded::Busy
        } else {
            // It will be asked again, should the snapshot not be taken.
            self.merging.wanted = None;
            if self.merging.stopped.is_none() {
                self.merging.stopped = Some(Stopped::Anywhere);
                self.fall_silent(run);
            }
            let freeze = self.freeze().filter(|it| it.target == target);
            let heir = Heir {
                group: target,
                start: freeze.map(|it| it.start.clone()),
            };
            Yielded::Stopped(Box::new(self.tombstone(Some(heir))))
        };
        self.say(target, LocalBody::Yielded(answer), run);
    }

    fn fall_silent(&mut self, run: &mut Run<'_, S::Reply>) {
        self.fail_all(Doubt::RegionGone, &Refusal::RegionNotFound, run);
    }

    /// The installation it was to die with does not come about.
    pub(crate) fn resume(&mut self) {
        if self.merging.stopped == Some(Stopped::Anywhere) {
            self.merging.stopped = None;
        }
    }

    /// Its target here died, or is damaged, before it absorbed this peer, which is nothing but a ghost
    /// from now on: the group is no more, and placement will say so.
    pub(crate) fn on_abandoned(&mut self, run: &mut Run<'_, S::Reply>) {
        self.merging.wanted = None;
        if self.merging.stopped.take() == Some(Stopped::Applied)
            && let Some(state) = self.state.clone()
        {
            let peer = self.peer.id;
            run.announce(RegionChange::Region { peer, state });
        }
    }

    /// What is recorded of it when it dies.
    pub(super) fn tombstone(&self, merged_into: Option<Heir>) -> TombstoneRecord {
        TombstoneRecord {
            peer: self.peer,
            leftover: self.state.as_ref().map(|state| state.region.clone()),
            parent: self.parent,
            merged_into,
        }
    }

    /// The region that has absorbed this one, of which the target, or a restart, tells.
    pub(super) fn heir(&self) -> Option<Heir> {
        match &self.state.as_ref()?.merges.phase {
            MergePhase::Merged { into } => Some(into.clone()),
            MergePhase::Frozen(freeze) if self.merging.stopped == Some(Stopped::Applied) => {
                Some(freeze.heir())
            }
            MergePhase::Frozen(_) | MergePhase::Apart => None,
        }
    }

    /// Found by a restart: its target has absorbed it, and that is flushed.
    pub(super) fn is_absorbed(state: Option<&RegionState>) -> bool {
        let phase = state.map(|state| &state.merges.phase);
        matches!(phase, Some(MergePhase::Merged { .. }))
    }

    /// It only waits to be buried.
    pub(super) fn lie_down(&mut self) {
        self.merging.stopped = Some(Stopped::Applied);
        self.is_leaving = true;
    }

    /// It dies beside the record of its target's installation, or because its target has it.
    pub(crate) fn may_die(&self) -> bool {
        self.is_stopped() && self.installing.is_none()
    }

    /// What is known of a merge that names `target`: this region, or one that it has absorbed.
    pub(crate) fn fate_of(&self, source: GroupId, target: GroupId, epoch: RegionEpoch) -> Fate {
        match &self.state {
            Some(_) if self.damaged => Fate::Open,
            Some(state) if target == self.group => merge::fate(state, source, epoch),
            Some(state) => merge::fate_by_heir(state, source, target),
            None => Fate::Open,
        }
    }
}

/// After so many times its patience a leader asks its target to decline, though all peers are ready.
const PATIENCES_MAX: u32 = 4;
