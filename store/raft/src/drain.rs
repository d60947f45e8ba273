//! What comes out: everything that waits, gathered into one [`Ready`].

use std::mem;
use std::time::Duration;

use tinykv_mutants::{Mutant, planted};

use crate::message::Message;
use crate::raft::{Office, Raft, Wait};
use crate::ready::{Fetch, FetchPurpose, LeadershipChange, Ready, ReadyNumber};
use crate::types::{Entry, HardState};

impl Raft {
    /// What is to be done now; `None` if nothing. Drains everything.
    pub fn ready(&mut self, now: Duration) -> Option<Ready> {
        self.observe(now);
        if matches!(self.office, Office::Leader(_)) {
            self.leave_joint_when_due();
            self.replicate();
        }
        if let Office::Leader(lead) = &mut self.office {
            let reads = lead.release_reads(self.log.commit());
            self.outbox.reads.extend(reads);
        }
        let committed = self.drain_committed();
        let mut ready = Ready {
            committed,
            fetch: mem::take(&mut self.outbox.fetch),
            snapshots: mem::take(&mut self.outbox.snapshots),
            reads: mem::take(&mut self.outbox.reads),
            failed_reads: mem::take(&mut self.outbox.failed_reads),
            leadership: self.drain_leadership(),
            ..Ready::default()
        };
        self.drain_writes(&mut ready);
        self.drain_messages(&mut ready);
        self.log
            .evict(self.persistence.durable(), self.config.memory_bytes_max);
        if ready == Ready::default() {
            return None;
        }
        ready.number = self.persistence.next_number();
        if ready.must_sync {
            let hard_state = ready.hard_state.unwrap_or(self.persistence.handed());
            self.persistence
                .begin(ready.number, hard_state, self.log.last().index);
        }
        Some(ready)
    }

    /// All Readys up to `number` are durable here.
    pub fn on_persisted(&mut self, number: ReadyNumber) {
        self.persistence.finish(number);
        match self.office {
            Office::Candidate(_) => self.count_votes(),
            Office::Leader(_) => self.advance_commit(),
            Office::Follower | Office::PreCandidate(_) => {}
        }
    }

    /// What must be written: term and vote when they changed, new entries, a snapshot; the commit
    /// index goes along with any of them.
    fn drain_writes(&mut self, ready: &mut Ready) {
        let written = self.persistence.written();
        let last = self.log.last().index;
        ready.entries = self.log.entries(written.next(), last, usize::MAX);
        let count = ready.entries.len() as u64;
        assert!(
            written.0 + count == last.0,
            "{count} entries after {written} are in memory, the last is {last}"
        );
        ready.install = self.outbox.install.take();
        let HardState { term, vote, .. } = self.persistence.handed();
        let is_vote_new = (term, vote) != (self.term, self.vote);
        ready.must_sync = is_vote_new || count > 0 || ready.install.is_some();
        let hard_state = self.hard_state();
        if ready.must_sync && hard_state != self.persistence.handed() {
            ready.hard_state = Some(hard_state);
        }
    }

    /// Nothing leaves before the term it is said in is durable; acknowledgements wait for
    /// everything that is being written.
    fn drain_messages(&mut self, ready: &mut Ready) {
        let is_term_durable = self.persistence.is_vote_durable(self.term, self.vote);
        let is_all_durable = self.persistence.is_idle() && !ready.must_sync;
        assert!(
            is_term_durable || !matches!(self.office, Office::Leader(_)),
            "leads term {} before that is durable",
            self.term
        );
        let mut sort = |(message, wait): (Message, Wait)| match wait {
            Wait::No if is_term_durable => ready.send.push(message),
            _ if is_all_durable => ready.send.push(message),
            _ => ready.send_after_persist.push(message),
        };
        mem::take(&mut self.outbox.messages)
            .into_iter()
            .for_each(&mut sort);
    }

    /// Entries to apply: committed, durable here, and not handed out before.
    fn drain_committed(&mut self) -> Vec<Entry> {
        let from = self.log.handed().next();
        let durable = match planted(Mutant::OwnEntryBeforeFsync) {
            true => self.log.last().index,
            false => self.persistence.durable(),
        };
        let upto = self.log.commit().min(durable);
        if from > upto || self.installing.is_some() {
            return Vec::new();
        }
        let first = self.log.memory_first();
        let entries = if from >= first {
            self.log.entries(from, upto, usize::MAX)
        } else {
            mem::take(&mut self.outbox.provided)
        };
        if let Some(last) = entries.last() {
            self.log.set_handed(last.id.index);
        } else if !self.outbox.is_fetching && self.log.applied() == self.log.handed() {
            // One piece at a time, so that a long catch-up does not fill the memory.
            self.outbox.is_fetching = true;
            self.outbox.fetch.push(Fetch {
                purpose: FetchPurpose::Apply,
                term: self.term,
                from,
                upto: upto.min(first.previous()),
                bytes_max: self.config.in_flight_bytes_max,
            });
        }
        entries
    }

    fn drain_leadership(&mut self) -> Option<LeadershipChange> {
        let (role, leader, term) = (self.role(), self.leader, self.term);
        let change = Some(LeadershipChange { role, leader, term });
        if self.outbox.reported == change {
            return None;
        }
        self.outbox.reported = change;
        change
    }
}
