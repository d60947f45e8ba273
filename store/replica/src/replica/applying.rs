//! Committed entries become data, in the order of the log.
//!
//! An entry's writes, the region's state and the applied index go into one batch. Nothing here
//! depends on the clock, on who leads, or on whether somebody waits.

use bytes::Bytes;
use tinykv_lsm::OriginId;
use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{Entry, EntryId, Payload};

use super::{Parked, Replica};
use crate::command::{AdminCommand, Decoded, decode_entry};
use crate::effects::{Check, Observed, RegionChange, ValueFetch};
use crate::machine::{ApplyContext, NeedsKeys, ReadError, Staged, StateMachine};
use crate::outcome::{Answer, Outcome, Refusal};
use crate::region::{RegionEpoch, RegionState};
use crate::run::Run;

/// What became of one entry.
pub(super) enum Progress<R> {
    /// Applied (which may mean: refused, by every replica alike).
    Done(Result<Option<Answer<R>>, Refusal>),
    /// Values have to be read, or children to be born, first.
    Parked,
}

impl<S: StateMachine> Replica<S> {
    /// Applies what is committed, as far as memory allows.
    pub(super) fn apply_committed(&mut self, run: &mut Run<'_, S::Reply>) {
        if self.damaged || self.installing.is_some() || self.reads_nothing {
            return;
        }
        let before = self.applied;
        let mut damage = None;
        while !self.is_leaving
            && !self.awaits_children()
            && !self.awaits_source()
            && !self.is_being_checked
            && self.parked.as_ref().is_none_or(|parked| !parked.is_waiting)
        {
            let Some(entry) = self.committed.front().cloned() else {
                break;
            };
            assert_eq!(
                entry.id.index,
                self.applied.index.next(),
                "group {}: entry {} does not follow {}",
                self.group,
                entry.id,
                self.applied
            );
            match self.apply_entry(&entry, run) {
                Ok(Progress::Done(outcome)) => {
                    self.committed.pop_front();
                    self.committed_bytes -= entry.size();
                    self.parked = None;
                    self.applied = entry.id;
                    self.answer(entry.id, outcome, run);
                }
                Ok(Progress::Parked) => break,
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            }
        }
        if self.applied != before {
            self.write_applied(run);
            self.raft.on_applied(self.applied.index);
        }
        if let Some(error) = damage {
            self.on_damage(error, run);
        }
    }

    /// Puts the region's state (if it changed) and the applied index behind the data.
    pub(super) fn write_applied(&mut self, run: &mut Run<'_, S::Reply>) {
        if std::mem::take(&mut self.is_state_dirty) {
            let state = self
                .state
                .as_ref()
                .expect("only an existing state gets dirty");
            run.effects
                .apply
                .put(S::state_key(self.group), state.encode());
        }
        run.effects
            .apply
            .applied(OriginId(self.group.0), self.applied.index.0);
    }

    /// The region changed by an applied entry.
    pub(super) fn change_state(&mut self, state: RegionState, run: &mut Run<'_, S::Reply>) {
        self.is_state_dirty = true;
        let state = self.set_state(state);
        if self.birth_is_durable {
            run.announce(RegionChange::Region {
                peer: self.peer.id,
                state,
            });
        }
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Progress<S::Reply>, ReadError> {
        let encoded = match &entry.payload {
            Payload::Empty => return Ok(Progress::Done(Ok(None))),
            Payload::Membership(change) if !change.steps.is_empty() && self.freeze().is_some() => {
                return Ok(Progress::Done(Err(self.merging_refusal(run))));
            }
            Payload::Membership(change) => {
                let outcome = self.apply_change(change, run)?;
                return Ok(Progress::Done(
                    outcome.map(|()| Some(self.changed_answer())),
                ));
            }
            Payload::Command(encoded) => encoded,
        };
        // An entry of an unknown kind was written by a newer version. Skipping it would make this
        // replica differ from others, so it has to stop here.
        let decoded = decode_entry(encoded).map_err(|error| ReadError(error.to_string()))?;
        let ends_freeze = |decoded: &Decoded| {
            let Decoded::Admin { command, .. } = decoded else {
                return false;
            };
            matches!(command, AdminCommand::RollbackMerge { .. })
        };
        if self.freeze().is_some() && !planted(Mutant::FreezeForgotten) && !ends_freeze(&decoded) {
            return Ok(Progress::Done(Err(self.merging_refusal(run))));
        }
        match decoded {
            Decoded::Machine { epoch, body } => self.apply_command(entry.id, epoch, &body, run),
            Decoded::Admin { epoch, command } => self.apply_admin(entry.id, epoch, command, run),
        }
    }

    fn apply_admin(
        &mut self,
        entry: EntryId,
        epoch: RegionEpoch,
        command: AdminCommand,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Progress<S::Reply>, ReadError> {
        let outcome = match command {
            AdminCommand::Open => self.check_version(Some(epoch)).map(|()| {
                self.open(run);
                self.changed_answer()
            }),
            AdminCommand::Split { keys, ids } => {
                return self.apply_split(entry, epoch, &keys, &ids, run);
            }
            AdminCommand::PrepareMerge { target } => self.apply_prepare(entry, epoch, &target, run),
            AdminCommand::CommitMerge { source } => {
                return self.apply_commit_merge(entry, epoch, source, run);
            }
            AdminCommand::DeclineMerge { .. } => self.apply_decline(epoch, run),
            AdminCommand::RollbackMerge { prepared } => self.apply_rollback(prepared, run),
            AdminCommand::Check { id } => self.check_version(Some(epoch)).map(|()| {
                self.begin_check(entry, id, run);
                self.changed_answer()
            }),
        };
        Ok(Progress::Done(outcome.map(Some)))
    }

    /// The shell takes its snapshot when this run is written, so the next entry waits for the next
    /// run: a tick at the latest.
    fn begin_check(&mut self, entry: EntryId, id: u64, run: &mut Run<'_, S::Reply>) {
        let state = self.state.as_ref().expect("entries are applied to a state");
        self.is_being_checked = true;
        run.effects.checks.push(Check {
            group: self.group,
            peer: self.peer.id,
            entry,
            id,
            state: state.clone(),
            ranges: S::ranges(&self.region),
        });
    }

    fn open(&mut self, run: &mut Run<'_, S::Reply>) {
        let state = self.state.as_ref().expect("entries are applied to a state");
        if !state.open {
            let open = RegionState {
                open: true,
                ..state.as_ref().clone()
            };
            self.change_state(open, run);
        }
    }

    fn apply_command(
        &mut self,
        entry: EntryId,
        epoch: RegionEpoch,
        body: &Bytes,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Progress<S::Reply>, ReadError> {
        let Some(state) = self.state.clone() else {
            return Err(ReadError("a command before the first state".to_owned()));
        };
        let is_blind = planted(Mutant::EpochIgnoredAtApply);
        if let Err(refusal) = self.check_version(Some(epoch))
            && !is_blind
        {
            return Ok(Progress::Done(Err(refusal)));
        }
        if !state.open {
            return Ok(Progress::Done(Err(Refusal::NotOpen)));
        }
        if let Err(refusal) = S::check(&self.region, body)
            && !is_blind
        {
            return Ok(Progress::Done(Err(refusal)));
        }
        let nothing = std::collections::BTreeMap::new();
        let mut context = ApplyContext {
            reader: run.reader,
            overlay: &self.overlay,
            fetched: self
                .parked
                .as_ref()
                .map_or(&nothing, |parked| &parked.fetched),
            state: &state,
            staged: Staged::default(),
        };
        let result = self.machine.apply(&self.region, entry, body, &mut context);
        let staged = context.staged;
        match result {
            Ok(reply) => {
                self.commit_staged(entry, staged, &state, run);
                Ok(Progress::Done(Ok(Some(Answer::Applied { entry, reply }))))
            }
            Err(NeedsKeys(keys)) => {
                self.park(entry, keys, run);
                Ok(Progress::Parked)
            }
        }
    }

    fn commit_staged(
        &mut self,
        entry: EntryId,
        staged: Staged,
        state: &RegionState,
        run: &mut Run<'_, S::Reply>,
    ) {
        self.overlay.commit(staged.writes, &mut run.effects.apply);
        if let Some(machine) = staged.machine {
            self.is_state_dirty = true;
            self.set_state(RegionState {
                machine,
                ..state.clone()
            });
        }
        if run.config.observe && !staged.observed.is_empty() {
            run.effects.observed.push(Observed {
                group: self.group,
                entry,
                events: staged.observed,
            });
        }
    }

    fn park(&mut self, entry: EntryId, keys: Vec<Bytes>, run: &mut Run<'_, S::Reply>) {
        let fetched = match self.parked.take() {
            Some(parked) if parked.entry == entry => parked.fetched,
            _ => Default::default(),
        };
        assert!(
            !keys.is_empty() && keys.iter().all(|key| !fetched.contains_key(key)),
            "group {}: entry {entry} asks again for what it was given",
            self.group
        );
        self.parked = Some(Parked {
            entry,
            is_waiting: true,
            fetched,
        });
        run.effects.value_fetches.push(ValueFetch {
            group: self.group,
            entry,
            keys,
        });
    }

    fn answer(
        &mut self,
        entry: EntryId,
        outcome: Result<Option<Answer<S::Reply>>, Refusal>,
        run: &mut Run<'_, S::Reply>,
    ) {
        let (own, superseded) = self.requests.take_applied(entry);
        for proposed in superseded {
            run.refuse(Some(proposed.waiter), Refusal::Superseded { by: entry });
        }
        let Some(proposed) = own else { return };
        match outcome {
            Ok(Some(answer)) => run.reply(Some(proposed.waiter), Outcome::Ok(answer)),
            Ok(None) => unreachable!("nobody proposes empty entries"),
            Err(refusal) => run.refuse(Some(proposed.waiter), refusal),
        }
    }

    pub(super) fn changed_answer(&self) -> Answer<S::Reply> {
        Answer::Changed(self.region.clone())
    }
}
