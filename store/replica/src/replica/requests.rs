//! Who waits for what in one group. Each waiter leaves exactly once, with an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, LogIndex, ReadId, Term};

use crate::outcome::WaiterId;
use crate::region::RegionEpoch;

/// A command in the log whose outcome somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposed {
    pub(super) waiter: WaiterId,
    pub(super) deadline: Duration,
}

/// A read that waits for its index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) waiter: WaiterId,
    pub(super) epoch: Option<RegionEpoch>,
    pub(super) deadline: Duration,
}

/// All open requests of a group. Bounded by [`crate::ShardConfig::waiters_max`].
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// By place in the log. Two terms may stand at one index: an entry that was overwritten here
    /// waits for what is committed there.
    proposed: BTreeMap<(LogIndex, Term), Proposed>,
    /// Arrived in this run; one question to the quorum serves them all.
    reads_new: Vec<Reading>,
    reads_asked: BTreeMap<ReadId, Vec<Reading>>,
    reads_confirmed: BTreeMap<LogIndex, Vec<Reading>>,
    last_read: ReadId,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        let reads = self
            .reads_asked
            .values()
            .chain(self.reads_confirmed.values());
        self.proposed.len() + self.reads_new.len() + reads.map(Vec::len).sum::<usize>()
    }

    pub(super) fn add_proposed(&mut self, entry: EntryId, proposed: Proposed) {
        let previous = self.proposed.insert((entry.index, entry.term), proposed);
        assert!(previous.is_none(), "entry {entry} was proposed twice");
    }

    /// An entry was applied: its own waiter, and those whose entries lost that place to it.
    pub(super) fn take_applied(&mut self, entry: EntryId) -> (Option<Proposed>, Vec<Proposed>) {
        let mut own = None;
        let mut superseded = Vec::new();
        while let Some(first) = self.proposed.first_entry() {
            let (index, term) = *first.key();
            if index > entry.index {
                break;
            }
            let proposed = first.remove();
            let is_same_term = term == entry.term || planted(Mutant::IndexWithoutTerm);
            if index == entry.index && is_same_term {
                own = Some(proposed);
            } else {
                superseded.push(proposed);
            }
        }
        (own, superseded)
    }

    /// All proposals up to an index: a snapshot jumped over them.
    pub(super) fn take_skipped(&mut self, upto: LogIndex) -> Vec<Proposed> {
        let keep = self.proposed.split_off(&(upto.next(), Term(0)));
        std::mem::replace(&mut self.proposed, keep)
            .into_values()
            .collect()
    }

    pub(super) fn add_read(&mut self, read: Reading) {
        self.reads_new.push(read);
    }

    /// The reads of this run under a new name, if there are any.
    pub(super) fn take_new_reads(&mut self) -> Option<(ReadId, Vec<Reading>)> {
        if self.reads_new.is_empty() {
            return None;
        }
        self.last_read = ReadId(self.last_read.0 + 1);
        Some((self.last_read, std::mem::take(&mut self.reads_new)))
    }

    pub(super) fn reads_asked(&mut self, id: ReadId, reads: Vec<Reading>) {
        self.reads_asked.insert(id, reads);
    }

    pub(super) fn reads_confirmed(&mut self, id: ReadId, index: LogIndex) {
        if let Some(reads) = self.reads_asked.remove(&id) {
            self.reads_confirmed.entry(index).or_default().extend(reads);
        }
    }

    pub(super) fn take_failed_reads(&mut self, id: ReadId) -> Vec<Reading> {
        self.reads_asked.remove(&id).unwrap_or_default()
    }

    /// Reads that may be served from a state that has applied this index.
    pub(super) fn take_ready_reads(&mut self, applied: LogIndex) -> Vec<(LogIndex, Reading)> {
        let keep = self.reads_confirmed.split_off(&applied.next());
        let ready = std::mem::replace(&mut self.reads_confirmed, keep);
        let each = |(index, reads): (LogIndex, Vec<Reading>)| {
            reads.into_iter().map(move |read| (index, read))
        };
        ready.into_iter().flat_map(each).collect()
    }

    /// Everybody whose deadline has passed.
    pub(super) fn take_expired(&mut self, now: Duration) -> (Vec<Proposed>, Vec<Reading>) {
        let mut proposed = Vec::new();
        self.proposed.retain(|_, waiting| {
            let keep = waiting.deadline > now;
            if !keep {
                proposed.push(*waiting);
            }
            keep
        });
        let mut reads = Vec::new();
        let lists = self
            .reads_asked
            .values_mut()
            .chain(self.reads_confirmed.values_mut());
        for list in lists.chain([&mut self.reads_new]) {
            list.retain(|waiting| {
                let keep = waiting.deadline > now;
                if !keep {
                    reads.push(*waiting);
                }
                keep
            });
        }
        self.reads_confirmed.retain(|_, list| !list.is_empty());
        (proposed, reads)
    }

    /// Everybody who wants to read.
    pub(super) fn take_reads(&mut self) -> Vec<Reading> {
        let mut reads = std::mem::take(&mut self.reads_new);
        let asked = std::mem::take(&mut self.reads_asked);
        reads.extend(asked.into_values().flatten());
        let confirmed = std::mem::take(&mut self.reads_confirmed);
        reads.extend(confirmed.into_values().flatten());
        reads
    }

    /// Everybody.
    pub(super) fn take_all(&mut self) -> (Vec<Proposed>, Vec<Reading>) {
        let proposed = std::mem::take(&mut self.proposed).into_values().collect();
        (proposed, self.take_reads())
    }
}
