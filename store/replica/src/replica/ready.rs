//! From the core's `Ready` to effects: what leaves at once, what leaves with the record.

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{LeadershipChange, LogIndex, Message, Ready, Role};
use tinykv_wal::Record;

use super::Replica;
use crate::effects::{EntryFetch, LeaseCell, RegionChange};
use crate::event::PeerBody;
use crate::machine::StateMachine;
use crate::outcome::{Answer, Outcome, ReadGrant};
use crate::run::{Awaiting, Durable, Run};

impl<S: StateMachine> Replica<S> {
    /// Ends the group's part of a run: everything that follows from the events is worked out. May
    /// be called again in the same run, when the children of a split have turned out to be ready.
    pub(crate) fn finish(&mut self, run: &mut Run<'_, S::Reply>) {
        if self.damaged || self.is_leaving || self.awaits_parent || self.is_stopped() {
            return;
        }
        self.ask_reads(run);
        self.apply_committed(run);
        while !self.is_leaving {
            self.hand_over_when_drained(run);
            let Some(ready) = self.raft.ready(run.now) else {
                break;
            };
            self.take_ready(ready, run);
            self.apply_committed(run);
            if self.damaged {
                return;
            }
        }
        self.discard_offer(run);
        self.drive_merge(run);
        self.dismiss(run);
        self.release_reads(run);
        self.send_snapshots(run);
        self.watch_transfer(run);
        self.publish_lease(run);
        self.note_waking(run);
    }

    /// The run's batch is complete: from the next one on it is read from the engine.
    pub(crate) fn end_run(&mut self) {
        self.overlay.clear();
        self.is_being_checked = false;
    }

    fn take_ready(&mut self, ready: Ready, run: &mut Run<'_, S::Reply>) {
        if let Some(hard_state) = ready.hard_state
            && !planted(Mutant::VoteNotPersisted)
        {
            run.record(Record::HardState {
                group: self.group,
                hard_state,
            });
        }
        if let Some(last) = ready.entries.last() {
            let bytes = ready.entries.iter().map(tinykv_raft::Entry::size).sum();
            self.log.on_append(last.id.index, bytes);
            run.record(Record::Entries {
                group: self.group,
                entries: ready.entries,
            });
        }
        if let Some(metadata) = ready.install {
            self.begin_install(metadata, run);
        }
        if ready.must_sync || !ready.send_after_persist.is_empty() {
            self.await_durable(Durable::Ready(ready.number), run);
        }
        if let Some(change) = ready.leadership {
            self.on_leadership(change, run);
        }
        for message in ready.send {
            self.send(message, run);
        }
        for message in ready.send_after_persist {
            if let Some(to) = self.find_peer(message.to) {
                let message = self.envelope(to, PeerBody::Raft(message));
                run.effects.messages_after_persist.push(message);
            }
        }
        for entry in ready.committed {
            self.committed_bytes += entry.size();
            self.committed.push_back(entry);
        }
        for fetch in ready.fetch {
            let request = EntryFetch {
                group: self.group,
                peer: self.peer.id,
                fetch,
            };
            run.effects.entry_fetches.push(request);
        }
        self.snapshots_wanted.extend(ready.snapshots);
        for read in ready.reads {
            self.requests.reads_confirmed(read.id, read.index);
        }
        for id in ready.failed_reads {
            for read in self.requests.take_failed_reads(id) {
                run.refuse(Some(read.waiter), self.not_leader());
            }
        }
    }

    pub(super) fn await_durable(&self, what: Durable, run: &mut Run<'_, S::Reply>) {
        run.awaiting.push(Awaiting {
            group: self.group,
            peer: self.peer.id,
            what,
        });
    }

    fn send(&self, message: Message, run: &mut Run<'_, S::Reply>) {
        let Some(to) = self.find_peer(message.to) else {
            return;
        };
        let message = self.envelope(to, PeerBody::Raft(message));
        // Whatever a newborn says reveals its birth.
        if self.birth_is_durable {
            run.effects.messages.push(message);
        } else {
            run.effects.messages_after_persist.push(message);
        }
    }

    fn on_leadership(&mut self, change: LeadershipChange, run: &mut Run<'_, S::Reply>) {
        if change.leader.is_some() {
            self.campaign_at = None;
            self.leaderless_ticks = 0;
        }
        if change.role == Role::Leader && self.leadership.role != Role::Leader {
            let others = self
                .region
                .peers
                .iter()
                .filter(|peer| peer.id != self.peer.id);
            self.heard = others.map(|peer| (peer.id, run.now)).collect();
        }
        if planted(Mutant::DoubtCalledRefusal) && change.role != Role::Leader {
            for proposed in self.requests.take_skipped(LogIndex(u64::MAX - 1)) {
                run.refuse(Some(proposed.waiter), self.not_leader());
            }
        }
        self.leadership = change;
        self.announce_leader(run);
    }

    pub(super) fn announce_leader(&self, run: &mut Run<'_, S::Reply>) {
        if self.birth_is_durable && self.state.is_some() {
            run.announce(RegionChange::Leader {
                group: self.group,
                peer: self.peer.id,
                leader: self.leadership.leader,
                term: self.leadership.term,
                is_here: self.leadership.role == Role::Leader,
            });
        }
    }

    /// Reads whose index is applied go, if the range is still the one they meant.
    fn release_reads(&mut self, run: &mut Run<'_, S::Reply>) {
        if self.installing.is_some() {
            return;
        }
        let reached = match planted(Mutant::ReadBeforeApplied) {
            true => LogIndex(u64::MAX - 1),
            false => self.applied.index,
        };
        for (index, read) in self.requests.take_ready_reads(reached) {
            let checked = match self.is_frozen() {
                true => Err(self.merging_refusal(run)),
                false => self.check_version(read.epoch),
            };
            match checked {
                Ok(()) => {
                    let grant = ReadGrant {
                        index,
                        region: self.region.clone(),
                    };
                    run.reply(Some(read.waiter), Outcome::Ok(Answer::Read(grant)));
                }
                Err(refusal) => run.refuse(Some(read.waiter), refusal),
            }
        }
    }

    /// Tells the world of readers what the lease is worth now. While a transfer is under way it is
    /// worth nothing, from the moment it was asked for.
    fn publish_lease(&mut self, run: &mut Run<'_, S::Reply>) {
        let may_serve = self.is_leader()
            && !self.is_leaving
            && (self.transfer.is_none() || planted(Mutant::LeaseKeptInTransfer))
            && self.installing.is_none()
            && !self.is_frozen()
            && (self.applied.term == self.raft.term() || planted(Mutant::LeaseBeforeOwnEntry));
        let lease = if may_serve { self.raft.lease() } else { None };
        let limit = self.lease_limit();
        let cell = lease.and_then(|lease| {
            let valid_until = match limit {
                None => lease.valid_until,
                Some(limit) => lease.valid_until.min(limit?),
            };
            Some(LeaseCell {
                group: self.group,
                term: lease.term,
                epoch: self.region.epoch,
                valid_until,
            })
        });
        if cell == self.published {
            return;
        }
        match cell {
            Some(cell) => run.effects.leases.push(cell),
            None => run.effects.lease_voids.push(self.group),
        }
        self.published = cell;
    }
}
