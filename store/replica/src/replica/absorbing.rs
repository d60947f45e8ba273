//! A merge as its target sees it: committed, waiting for the source here, one region; and the other
//! way to the same end, a snapshot of what came of it. The reasoning stands in `shard/merging.rs`.

use std::collections::BTreeSet;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, GroupId, PeerId};

use super::Replica;
use super::applying::Progress;
use crate::command::AdminCommand;
use crate::effects::DropReason;
use crate::event::{LocalBody, MergeWord, PeerBody, Plea, ReceivedSnapshot, Yielded};
use crate::machine::{ReadError, StateMachine};
use crate::merge::{self, Fate};
use crate::outcome::{Answer, MergeRefusal, Refusal};
use crate::record::TombstoneRecord;
use crate::region::{RegionEpoch, RegionState};
use crate::run::Run;

/// Ticks after which a source is told again to stop.
const REMIND_TICKS: u32 = 10;

/// Ticks after which a flush is asked for again.
const FLUSH_TICKS: u32 = 40;

/// A committed merge that is valid here and waits for the source's peer.
#[derive(Debug)]
pub(super) struct Absorbing {
    entry: EntryId,
    source: Box<RegionState>,
    /// The source's peer here; none on a store whose peer was removed and will never serve.
    peer: Option<PeerId>,
    /// Whether the source has stopped here, with all of its log applied.
    is_ready: bool,
    ticks: u32,
}

/// A received snapshot whose region has absorbed others that still live here.
#[derive(Debug)]
pub(super) struct Arriving {
    received: ReceivedSnapshot,
    waiting: BTreeSet<GroupId>,
    stopped: Stopped,
}

/// Sources that die with an installation, and what is recorded of them.
pub(crate) type Stopped = Vec<(GroupId, TombstoneRecord)>;

impl<S: StateMachine> Replica<S> {
    /// A frozen region of this store asks.
    pub(crate) fn on_plea(
        &mut self,
        source: GroupId,
        (target, epoch): (GroupId, RegionEpoch),
        plea: Plea,
        run: &mut Run<'_, S::Reply>,
    ) {
        let mut fate = self.fate_of(source, target, epoch);
        let is_open = fate == Fate::Open && target == self.group && self.region.epoch == epoch;
        if is_open && plea == Plea::Tell && planted(Mutant::RolledBackUndecided) {
            fate = Fate::Declined;
        }
        if fate != Fate::Open {
            let body = LocalBody::Fate {
                target,
                epoch,
                fate,
            };
            return self.say(source, body, run);
        }
        if !is_open || plea == Plea::Tell || self.damaged || self.is_leaving || self.is_stopped() {
            return;
        }
        self.on_use(run);
        if self.is_leader() {
            return self.decide(source, epoch, plea, run);
        }
        let leader = self.leader().filter(|leader| leader.id != self.peer.id);
        if let Some(leader) = leader {
            let word = MergeWord::Plea {
                epoch,
                source,
                plea,
            };
            let message = self.envelope(leader, PeerBody::Merge(word));
            run.effects.messages.push(message);
        }
    }

    /// A follower says something about a merge.
    pub(super) fn on_merge_word(&mut self, word: MergeWord, run: &mut Run<'_, S::Reply>) {
        if !self.is_leader() {
            return;
        }
        match word {
            MergeWord::Plea {
                epoch,
                source,
                plea,
            } => self.decide(source, epoch, plea, run),
            MergeWord::Declined { prepared } => self.on_declined(prepared, run),
            MergeWord::Merged { .. } => {}
        }
    }

    /// As the target's leader. What is not proposed now is asked for again.
    fn decide(
        &mut self,
        source: GroupId,
        epoch: RegionEpoch,
        plea: Plea,
        run: &mut Run<'_, S::Reply>,
    ) {
        if self.admit_verdict(epoch, run).is_err() || self.installing.is_some() {
            return;
        }
        let command = match plea {
            Plea::Tell => return,
            Plea::Decline => AdminCommand::DeclineMerge { source },
            Plea::Commit(state) => {
                let is_it = state.region.id == source && self.check_commit(epoch, &state).is_ok();
                if !is_it {
                    return;
                }
                AdminCommand::CommitMerge { source: state }
            }
        };
        self.merging.proposed_verdict = self.propose_command(epoch, &command, run).ok();
    }

    fn check_commit(&self, epoch: RegionEpoch, source: &RegionState) -> Result<(), Refusal> {
        let is_open = self.state.as_ref().is_some_and(|state| state.open);
        if !is_open || !source.open {
            return Err(Refusal::NotOpen);
        }
        if epoch != self.region.epoch {
            return Err(self.epoch_not_match());
        }
        let freeze = source.merges.freeze();
        if freeze.is_none_or(|it| (it.target, it.epoch) != (self.group, epoch)) {
            return Err(Refusal::Merge(MergeRefusal::NotFrozen));
        }
        merge::check::<S>(&source.region, &self.region).map_err(Refusal::Merge)
    }

    /// A committed merge: refused, or parked until the source has stopped here, or carried out.
    pub(super) fn apply_commit_merge(
        &mut self,
        entry: EntryId,
        epoch: RegionEpoch,
        source: Box<RegionState>,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Progress<S::Reply>, ReadError> {
        let ready = |it: &mut Absorbing| it.entry == entry && it.is_ready;
        if let Some(absorbing) = self.merging.absorbing.take_if(ready) {
            let answer = self.absorb(absorbing, run)?;
            return Ok(Progress::Done(Ok(Some(answer))));
        }
        if let Err(refusal) = self.check_commit(epoch, &source) {
            return Ok(Progress::Done(Err(refusal)));
        }
        let absorbing = Absorbing {
            entry,
            peer: source
                .region
                .peer_on(self.peer.store)
                .filter(|_| self.region.peer(self.peer.id).is_some())
                .map(|peer| peer.id),
            source,
            is_ready: false,
            ticks: 0,
        };
        if planted(Mutant::MergedWithoutSource) {
            let answer = self.absorb(absorbing, run)?;
            return Ok(Progress::Done(Ok(Some(answer))));
        }
        self.forget_arrival(run);
        self.ask_to_yield(&absorbing, run);
        self.merging.absorbing = Some(absorbing);
        Ok(Progress::Parked)
    }

    fn ask_to_yield(&self, absorbing: &Absorbing, run: &mut Run<'_, S::Reply>) {
        let freeze = absorbing.source.merges.freeze();
        if let (Some(peer), Some(freeze)) = (absorbing.peer, freeze) {
            let body = LocalBody::Yield {
                peer,
                prepared: freeze.prepared,
            };
            self.say(absorbing.source.region.id, body, run);
        }
    }

    /// Whether apply stands before a merge whose source has yet to stop.
    pub(super) fn awaits_source(&self) -> bool {
        let absorbing = self.merging.absorbing.as_ref();
        absorbing.is_some_and(|it| !it.is_ready)
    }

    fn absorb(
        &mut self,
        absorbing: Absorbing,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Answer<S::Reply>, ReadError> {
        let Absorbing { entry, source, .. } = absorbing;
        let state = self.state.clone();
        let state = state.ok_or_else(|| ReadError("a merge before the first state".to_owned()))?;
        let merged = merge::merged::<S>(&state, &source);
        let from = source.region.id;
        // In the batch of the target's new state: whoever restarts finds both, or neither.
        let remains = merge::remains(&source).encode();
        run.effects.apply.put(S::state_key(from), remains);
        self.change_state(merged, run);
        self.restore(run);
        // Until it is flushed the source's log is needed to do it again.
        self.owe_children(entry.index);
        self.merging.absorbed.push((entry.index, from));
        run.effects.flushes.push(self.group);
        Ok(self.changed_answer())
    }

    pub(super) fn apply_decline(
        &mut self,
        epoch: RegionEpoch,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Answer<S::Reply>, Refusal> {
        let state = self.state.clone().ok_or(Refusal::NotOpen)?;
        if epoch != self.region.epoch {
            return Err(self.epoch_not_match());
        }
        let mut moved_on = state.as_ref().clone();
        moved_on.region.epoch.version += 1;
        self.change_state(moved_on, run);
        Ok(self.changed_answer())
    }

    pub(super) fn tick_absorbing(&mut self, run: &mut Run<'_, S::Reply>) {
        if let Some(mut absorbing) = self.merging.absorbing.take() {
            absorbing.ticks += 1;
            let is_due = absorbing.ticks.is_multiple_of(REMIND_TICKS);
            if is_due && !absorbing.is_ready && self.merging.arriving.is_none() {
                self.ask_to_yield(&absorbing, run);
            }
            self.merging.absorbing = Some(absorbing);
        }
        if self.merging.absorbed.is_empty() {
            self.merging.absorbed_ticks = 0;
        } else {
            self.merging.absorbed_ticks += 1;
            if self.merging.absorbed_ticks.is_multiple_of(FLUSH_TICKS) {
                run.effects.flushes.push(self.group);
            }
        }
    }

    /// This peer will not carry out what it waits for.
    pub(super) fn forget_absorbing(&mut self, run: &mut Run<'_, S::Reply>) {
        if let Some(absorbing) = self.merging.absorbing.take() {
            self.say(absorbing.source.region.id, LocalBody::Abandoned, run);
        }
    }

    /// What is flushed will never be done again: its sources may be buried.
    pub(super) fn bury_absorbed(&mut self, run: &mut Run<'_, S::Reply>) {
        let flushed = self.log.flushed;
        let over = self.merging.absorbed.extract_if(.., |it| it.0 <= flushed);
        let over: Vec<GroupId> = over.map(|(_, source)| source).collect();
        for source in over {
            self.say(source, LocalBody::Die { recorded: None }, run);
        }
    }

    /// A source answers.
    pub(crate) fn on_yielded(
        &mut self,
        source: GroupId,
        yielded: Yielded,
        run: &mut Run<'_, S::Reply>,
    ) {
        let arriving = self.merging.arriving.as_mut();
        let awaiting = arriving.filter(|it| it.waiting.contains(&source));
        match (yielded, awaiting) {
            (Yielded::Applied, _) => {
                let absorbing = self.merging.absorbing.as_mut();
                if let Some(absorbing) = absorbing.filter(|it| it.source.region.id == source) {
                    absorbing.is_ready = true;
                    // The log was faster than the snapshot.
                    self.forget_arrival(run);
                }
            }
            (Yielded::Stopped(record), Some(arriving)) => {
                arriving.waiting.remove(&source);
                arriving.stopped.push((source, *record));
            }
            (Yielded::Never(_), Some(arriving)) => {
                arriving.waiting.remove(&source);
            }
            (Yielded::Busy, Some(_)) => self.refuse_arrival(run),
            (Yielded::Never(why), None) => {
                let is_awaited = |it: &Absorbing| it.source.region.id == source && !it.is_ready;
                if self.merging.absorbing.as_ref().is_some_and(is_awaited) {
                    let error = format!("group {source}, which it absorbs, cannot yield: {why}");
                    self.on_damage(ReadError(error), run);
                }
            }
            (Yielded::Stopped(_) | Yielded::Busy, None) => {}
        }
    }

    /// Keeps a snapshot until the regions that its region has absorbed have stopped here.
    pub(crate) fn await_sources(
        &mut self,
        received: ReceivedSnapshot,
        sources: BTreeSet<GroupId>,
        run: &mut Run<'_, S::Reply>,
    ) {
        for source in &sources {
            self.say(*source, LocalBody::YieldToSnapshot, run);
        }
        self.merging.arriving = Some(Arriving {
            received,
            waiting: sources,
            stopped: Vec::new(),
        });
    }

    /// The snapshot for which all have stopped by now.
    pub(crate) fn take_arrival(&mut self) -> Option<(ReceivedSnapshot, Stopped)> {
        let is_complete = |it: &mut Arriving| it.waiting.is_empty();
        let arriving = self.merging.arriving.take_if(is_complete)?;
        Some((arriving.received, arriving.stopped))
    }

    fn refuse_arrival(&mut self, run: &mut Run<'_, S::Reply>) {
        if let Some(from) = self.forget_arrival(run) {
            run.drop_message(self.group, from, DropReason::SnapshotNotWanted);
        }
    }

    /// The snapshot is not to be installed: those that have stopped, or are about to, go on.
    pub(super) fn forget_arrival(&mut self, run: &mut Run<'_, S::Reply>) -> Option<PeerId> {
        let arriving = self.merging.arriving.take()?;
        run.effects.snapshot_discards.push(arriving.received.handle);
        for source in arriving.waiting {
            self.say(source, LocalBody::Resume, run);
        }
        self.let_go_on(arriving.stopped, run);
        Some(arriving.received.message.from.id)
    }

    pub(crate) fn let_go_on(&self, stopped: Stopped, run: &mut Run<'_, S::Reply>) {
        for (source, _) in stopped {
            self.say(source, LocalBody::Resume, run);
        }
    }
}
