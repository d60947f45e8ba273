//! The leader's side of replication: what replies mean, what is committed and confirmed by them, and
//! the leader's timers.

use tinykv_mutants::{Mutant, planted};

use crate::error::{SnapshotFailed, StepError};
use crate::leadership::Transfer;
use crate::message::{AppendOutcome, AppendReply, Force, Message, MessageBody, Snapshot};
use crate::raft::{Office, Raft};
use crate::ready::{Fetch, FetchPurpose, SnapshotRequest};
use crate::status::PeerState;
use crate::types::{Entry, EntryId, LogIndex, PeerId, SnapshotMetadata, Term};

impl Raft {
    pub(crate) fn on_append_reply(
        &mut self,
        from: PeerId,
        term: Term,
        reply: &AppendReply,
    ) -> Result<(), StepError> {
        let last = self.log.last().index;
        let Office::Leader(lead) = &mut self.office else {
            return Ok(());
        };
        let Some(progress) = lead.progress.get_mut(&from) else {
            return Ok(());
        };
        if term != self.term {
            if term > self.term {
                self.enter(term);
            }
            return Ok(());
        }
        if reply.seq > lead.seq {
            return Err(StepError::NeverSent {
                from,
                what: "a later round",
            });
        }
        if let AppendOutcome::Accepted { matched, durable } = reply.outcome
            && (matched > last || durable > matched)
        {
            return Err(StepError::NeverSent {
                from,
                what: "entries behind the last",
            });
        }
        progress.active = true;
        progress.echoed = progress.echoed.max(reply.seq);
        match reply.outcome {
            AppendOutcome::Accepted { matched, durable } => {
                let is_usable = matched >= self.log.truncated().index;
                if progress.state != PeerState::Snapshot || is_usable {
                    progress.accepted(matched, durable);
                }
            }
            AppendOutcome::Rejected { previous, hint } if progress.is_news(previous) => {
                let hint_index = hint.index.min(previous.previous());
                let agreed = self.log.last_of_term(hint_index, hint.term);
                progress.probe(agreed.index.next());
            }
            AppendOutcome::NeedsSnapshot
                if progress.state != PeerState::Snapshot && self.log.applied() > LogIndex(0) =>
            {
                progress.await_snapshot();
                let at_least = self.log.id(self.log.applied());
                self.outbox.snapshots.push(SnapshotRequest {
                    to: from,
                    term,
                    at_least,
                });
            }
            AppendOutcome::Rejected { .. }
            | AppendOutcome::NeedsSnapshot
            | AppendOutcome::Busy
            | AppendOutcome::StaleTerm => {}
        }
        self.advance_commit();
        self.advance_confirmed();
        Ok(())
    }

    /// Commits what a quorum has durably, if that reaches an entry of the own term (R7).
    pub(crate) fn advance_commit(&mut self) {
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        let own = match planted(Mutant::OwnEntryBeforeFsync) {
            true => self.log.last().index,
            false => self.persistence.durable(),
        };
        let id = self.config.id;
        let durable = |peer: PeerId| match lead.progress.get(&peer) {
            Some(progress) => progress.matched,
            None if peer == id => own,
            None => LogIndex(0),
        };
        let reached = self.configuration.quorum_value(durable).unwrap_or_default();
        let before = self.log.commit();
        let is_own_term = self.log.term(reached) == Some(self.term);
        if reached > before && (is_own_term || planted(Mutant::OldTermCommittedByCount)) {
            self.log.raise_commit(reached);
            let first = before.next().max(lead.term_start);
            let bytes = self.log.bytes_between(first, reached);
            lead.uncommitted_bytes = lead.uncommitted_bytes.saturating_sub(bytes);
        }
    }

    /// Finds the last confirmed round; the leader's own part in its lease is a promise, too.
    pub(crate) fn advance_confirmed(&mut self) {
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        let before = lead.confirmed.seq;
        lead.confirm(self.config.id, &self.configuration);
        let is_late = planted(Mutant::LeaseFromReceiveTime) && lead.confirmed.seq > before;
        if is_late || planted(Mutant::LeaseWhileInOffice) {
            lead.confirmed.sent_at = Some(self.now);
        }
        if let Some(sent_at) = lead.confirmed.sent_at {
            let to = Force {
                term: self.term,
                seq: lead.confirmed.seq,
            };
            self.promise.to = self.promise.to.max(Some(to));
            self.promise.until = self.promise.until.max(sent_at + self.config.promise);
        }
    }

    /// The leader's timers.
    pub(crate) fn tick_leader(&mut self) {
        let limit = self.config.election_ticks_min;
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        if let Some(transfer) = &mut lead.transfer {
            transfer.elapsed += 1;
            if transfer.elapsed >= limit {
                lead.abandon_transfer();
            }
        }
        lead.quorum_elapsed += 1;
        if lead.quorum_elapsed >= limit {
            lead.quorum_elapsed = 0;
            self.check_quorum();
        }
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        lead.heartbeat_elapsed += 1;
        if lead.heartbeat_elapsed >= self.config.heartbeat_ticks {
            lead.heartbeat_elapsed = 0;
            let since = lead.heartbeat_seq;
            for progress in lead.progress.values_mut() {
                // Whoever is sent appends and answers them in time needs no heartbeats.
                let is_busy = progress.sent && progress.echoed >= since;
                progress.heartbeat_due |= !is_busy;
                progress.sent = false;
            }
            lead.heartbeat_seq = lead.seq;
            if let Some(transfer) = &mut lead.transfer {
                transfer.is_due = true;
            }
        }
    }

    /// Steps down if no quorum was heard since the last time.
    fn check_quorum(&mut self) {
        let Office::Leader(lead) = &self.office else {
            return;
        };
        let id = self.config.id;
        let is_active = |peer: PeerId| {
            let progress = lead.progress.get(&peer);
            peer == id || progress.is_some_and(|progress| progress.active)
        };
        if !self.configuration.has_quorum(is_active) {
            self.step_down();
            return;
        }
        self.offer_office();
        if let Office::Leader(lead) = &mut self.office {
            for progress in lead.progress.values_mut() {
                progress.active = false;
            }
        }
    }

    /// A reluctant leader begins a transfer to a voter that it has not asked yet.
    fn offer_office(&mut self) {
        if self.is_willing() {
            return;
        }
        let commit = self.log.commit();
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        if lead.transfer.is_some() || commit < lead.term_start {
            return;
        }
        let is_fit = |peer: &&PeerId| {
            let progress = lead.progress.get(peer);
            !lead.offered.contains(peer)
                && progress.is_some_and(|it| it.active && it.matched >= commit)
        };
        if let Some(target) = self.configuration.voters.iter().find(is_fit).copied() {
            lead.offered.insert(target);
            lead.transfer = Some(Transfer::new(target));
        }
    }

    /// Answers a [`Fetch`]: entries from `fetch.from` on without a gap; empty if they are gone (the
    /// log was cut, and [`Raft::compact`] is on its way): a peer that needs them needs a snapshot.
    pub fn provide(&mut self, fetch: Fetch, entries: Vec<Entry>) {
        for (entry, index) in entries.iter().zip(fetch.from.0..) {
            let term = self.log.term(LogIndex(index));
            let fits = entry.id.index.0 == index && term.is_none_or(|term| term == entry.id.term);
            let is_own = fetch.term == self.term || fetch.purpose == FetchPurpose::Apply;
            assert!(
                fits || !is_own,
                "entry {} read from the log at {index}",
                entry.id
            );
        }
        match fetch.purpose {
            FetchPurpose::Apply => {
                self.outbox.is_fetching = false;
                if fetch.from == self.log.handed().next() {
                    self.outbox.provided = entries;
                }
            }
            FetchPurpose::Peer(peer) => {
                let Office::Leader(lead) = &mut self.office else {
                    return;
                };
                let Some(progress) = lead.progress.get_mut(&peer) else {
                    return;
                };
                let is_wanted =
                    fetch.term == self.term && progress.fetching && progress.next == fetch.from;
                progress.fetching = false;
                let applied = self.log.applied();
                if is_wanted && entries.is_empty() && applied >= fetch.from {
                    progress.await_snapshot();
                    self.outbox.snapshots.push(SnapshotRequest {
                        to: peer,
                        term: self.term,
                        at_least: self.log.id(applied),
                    });
                } else if is_wanted {
                    progress.provided = entries;
                }
            }
        }
    }

    /// The transport lost its connection to this peer; what was in flight may be lost.
    pub fn on_unreachable(&mut self, peer: PeerId) {
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        if let Some(progress) = lead.progress.get_mut(&peer)
            && progress.state != PeerState::Snapshot
        {
            progress.probe(LogIndex(0));
            // The next heartbeat finds out whether the peer is back.
            progress.probing = true;
        }
        if lead
            .transfer
            .as_ref()
            .is_some_and(|transfer| transfer.target == peer)
        {
            lead.abandon_transfer();
        }
    }

    /// Answers a [`SnapshotRequest`]: the snapshot ending in this entry was handed to the peer,
    /// or failed to be.
    pub fn on_snapshot_status(&mut self, peer: PeerId, result: Result<EntryId, SnapshotFailed>) {
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        let Some(progress) = lead.progress.get_mut(&peer) else {
            return;
        };
        if progress.state != PeerState::Snapshot {
            return;
        }
        let next = result.map_or(LogIndex(0), |last| last.index.next());
        progress.probe(next.min(self.log.last().index.next()));
        // The peer may still be installing it: the next heartbeat probes, not sooner.
        progress.probing = true;
    }
}

impl Message {
    /// The [`Snapshot`] message that the driver of the receiver steps once the
    /// snapshot's data is there.
    pub fn snapshot(from: PeerId, to: PeerId, term: Term, metadata: SnapshotMetadata) -> Message {
        let body = MessageBody::Snapshot(Snapshot { metadata });
        Message {
            from,
            to,
            term,
            body,
        }
    }
}
