//! The sending end of replication: what each peer is due, in one round.

use std::mem;

use crate::message::{Append, MessageBody, TimeoutNow};
use crate::progress::Progress;
use crate::raft::{Office, Raft, Wait};
use crate::ready::{Fetch, FetchPurpose, SnapshotRequest};
use crate::status::PeerState;
use crate::types::{Entry, EntryId, LogIndex, PeerId};

impl Raft {
    /// Sends every peer what it is due, in one round.
    pub(crate) fn replicate(&mut self) {
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        lead.open_drain();
        let mut peers = mem::take(&mut lead.progress);
        for (peer, progress) in &mut peers {
            self.replicate_to(*peer, progress);
        }
        let is_alone = self.configuration.is_only_voter(self.config.id);
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        lead.progress = peers;
        if is_alone {
            // Nobody needs to be asked.
            lead.pulse(self.now, self.config.promise);
        }
        self.advance_confirmed();
        self.release_promises();
    }

    fn replicate_to(&mut self, peer: PeerId, progress: &mut Progress) {
        let mut is_sent = false;
        while let Some(entries) = self.next_entries(peer, progress) {
            let bytes = entries.iter().map(Entry::size).sum();
            let upto = LogIndex(progress.next.previous().0 + entries.len() as u64);
            self.send_append(peer, progress, entries);
            progress.sent_entries(upto, bytes);
            is_sent = true;
        }
        let told = self.log.commit().min(progress.next.previous());
        let is_news = progress.state == PeerState::Replicate && told > progress.commit_sent;
        if !is_sent && (is_news || progress.heartbeat_due) {
            self.send_append(peer, progress, Vec::new());
            is_sent = true;
        }
        progress.heartbeat_due &= !is_sent;
        progress.sent |= is_sent;
    }

    /// The next entries to send to this peer, if there are any, they fit its window, and they are
    /// at hand; what is not at hand is asked for.
    fn next_entries(&mut self, peer: PeerId, progress: &mut Progress) -> Option<Vec<Entry>> {
        let config = &self.config;
        let room = progress.room(config.in_flight_bytes_max, config.in_flight_messages_max)?;
        let truncated = self.log.truncated();
        if progress.next <= truncated.index {
            progress.await_snapshot();
            let (term, at_least) = (self.term, truncated);
            self.outbox.snapshots.push(SnapshotRequest {
                to: peer,
                term,
                at_least,
            });
            return None;
        }
        let last = self.log.last().index;
        if progress.next > last {
            // A peer that is probed is probed without entries, too.
            return None;
        }
        let bytes_max = config.append_bytes_max.min(room);
        let first = self.log.memory_first();
        let entries = if progress.next >= first {
            self.log.entries(progress.next, last, bytes_max)
        } else if progress.provided.is_empty() {
            if !progress.fetching {
                progress.fetching = true;
                let purpose = FetchPurpose::Peer(peer);
                let (from, upto) = (progress.next, first.previous());
                let term = self.term;
                self.outbox.fetch.push(Fetch {
                    purpose,
                    term,
                    from,
                    upto,
                    bytes_max,
                });
            }
            return None;
        } else {
            mem::take(&mut progress.provided)
        };
        let bytes: usize = entries.iter().map(Entry::size).sum();
        if bytes > room && !progress.is_idle() {
            if progress.next < first {
                progress.provided = entries;
            }
            return None;
        }
        Some(entries)
    }

    fn send_append(&mut self, peer: PeerId, progress: &mut Progress, entries: Vec<Entry>) {
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        let pulse = lead.pulse(self.now, self.config.promise);
        let is_blind = progress.state == PeerState::Snapshot;
        // What was cut off cannot be asked about; whether the peer has all of it, can.
        let index = progress.next.previous().max(self.log.truncated().index);
        let previous = if is_blind {
            EntryId::default()
        } else {
            self.log.id(index)
        };
        let commit = if is_blind {
            LogIndex(0)
        } else {
            self.log.commit()
        };
        let upto = LogIndex(previous.index.0 + entries.len() as u64);
        progress.commit_sent = progress.commit_sent.max(commit.min(upto));
        let body = MessageBody::Append(Append {
            previous,
            entries,
            commit,
            pulse,
        });
        self.send(peer, body, Wait::No);
    }

    /// Tells the target of a transfer to campaign, once it has everything and everything here is
    /// applied and answered.
    fn release_promises(&mut self) {
        let (last, applied) = (self.log.last().index, self.log.applied());
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
        let Some(transfer) = &lead.transfer else {
            return;
        };
        let target = transfer.target;
        let matched = lead.progress.get(&target).map(|progress| progress.matched);
        let is_settled = applied == last && lead.pending_reads() == 0;
        if transfer.is_due
            && matched == Some(last)
            && is_settled
            && let Some(force) = lead.release(self.term)
        {
            self.send(
                target,
                MessageBody::TimeoutNow(TimeoutNow { force }),
                Wait::No,
            );
        }
    }
}
