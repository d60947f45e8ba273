//! The log as the core sees it: where every term starts, a tail of entries in memory, and how far
//! things are. Older entries are the driver's to fetch.
//!
//! `truncated.index <= applied <= handed <= commit <= last.index` always holds, except that
//! `applied` stays behind `truncated` while a snapshot is being installed.

use std::collections::VecDeque;

use crate::config::Initial;
use crate::types::{Entry, EntryId, LogIndex, Term, TermStart};

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    /// The last entry before the log; 0@0 if nothing was ever cut.
    truncated: EntryId,
    /// The runs after `truncated`, ascending in term and index.
    terms: Vec<TermStart>,
    /// The last entry; `truncated` if the log is empty.
    last: EntryId,
    /// The newest entries, without a gap, ending at `last`.
    tail: VecDeque<Entry>,
    /// The sizes of `tail` added up.
    tail_bytes: usize,
    /// Known committed. Rises only.
    commit: LogIndex,
    /// Handed out for apply up to here. Rises only.
    handed: LogIndex,
    /// Applied up to here. Rises only.
    applied: LogIndex,
}

impl Log {
    pub(crate) fn new(initial: &Initial) -> Log {
        let mut log = Log {
            truncated: initial.truncated,
            terms: initial.terms.clone(),
            last: initial.last,
            tail: VecDeque::new(),
            tail_bytes: 0,
            commit: initial
                .hard_state
                .commit
                .max(initial.applied)
                .min(initial.last.index),
            handed: initial.applied,
            applied: initial.applied,
        };
        log.check_runs();
        assert!(
            log.truncated.index <= log.applied && log.applied <= log.last.index,
            "applied {} is not within the log from {} to {}",
            log.applied,
            log.truncated,
            log.last
        );
        let mut expected = log.last.index.0.wrapping_sub(initial.tail.len() as u64);
        for entry in &initial.tail {
            expected = expected.wrapping_add(1);
            assert!(
                entry.id.index.0 == expected && log.term(entry.id.index) == Some(entry.id.term),
                "entry {} of the tail does not fit the log up to {}",
                entry.id,
                log.last
            );
            log.tail_bytes += entry.size();
            log.tail.push_back(entry.clone());
        }
        log
    }

    fn check_runs(&self) {
        let mut previous = TermStart {
            term: self.truncated.term,
            first: self.truncated.index,
        };
        for (position, run) in self.terms.iter().enumerate() {
            let follows = if position == 0 {
                run.first == self.truncated.index.next() && run.term >= previous.term
            } else {
                run.first > previous.first && run.term > previous.term
            };
            assert!(follows, "run {run:?} does not follow {previous:?}");
            previous = *run;
        }
        let ends_well = match self.terms.last() {
            None => self.last == self.truncated,
            Some(run) => run.first <= self.last.index && run.term == self.last.term,
        };
        assert!(
            ends_well,
            "the last entry {} does not end the run {previous:?}",
            self.last
        );
    }

    pub(crate) fn truncated(&self) -> EntryId {
        self.truncated
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn commit(&self) -> LogIndex {
        self.commit
    }

    pub(crate) fn handed(&self) -> LogIndex {
        self.handed
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// The first index in memory; one past the last if there is none.
    pub(crate) fn memory_first(&self) -> LogIndex {
        LogIndex(self.last.index.0 + 1 - self.tail.len() as u64)
    }

    /// The term of the entry at `index`; `None` before `truncated` and after the last.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        if index < self.truncated.index || index > self.last.index {
            return None;
        }
        let run = self.terms.partition_point(|run| run.first <= index);
        let run = self.terms.get(run.checked_sub(1)?)?;
        Some(run.term)
    }

    /// The id of the entry at `index`, which must be in the log or be `truncated`.
    pub(crate) fn id(&self, index: LogIndex) -> EntryId {
        let term = self.term(index);
        assert!(
            term.is_some(),
            "{index} is not within {} and {}",
            self.truncated,
            self.last
        );
        EntryId {
            term: term.unwrap_or_default(),
            index,
        }
    }

    /// The last entry at or before `index` whose term is at most `term`: where logs that differ at
    /// `index` may still agree. An index before `truncated` is returned unseen, with `term`.
    pub(crate) fn last_of_term(&self, index: LogIndex, term: Term) -> EntryId {
        let mut index = index.min(self.last.index);
        while let Some(own) = self.term(index) {
            if own <= term {
                return EntryId { term: own, index };
            }
            let run = self.terms.partition_point(|run| run.first <= index);
            let first = run
                .checked_sub(1)
                .map_or(self.truncated.index, |run| self.terms[run].first);
            if index == LogIndex(0) {
                break;
            }
            index = first.min(index).previous();
        }
        EntryId { term, index }
    }

    /// Appends one entry behind the last.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert!(
            entry.id.index == self.last.index.next() && entry.id.term >= self.last.term,
            "entry {} does not follow {}",
            entry.id,
            self.last
        );
        if self.terms.is_empty() || entry.id.term > self.last.term {
            self.terms.push(TermStart {
                term: entry.id.term,
                first: entry.id.index,
            });
        }
        self.last = entry.id;
        self.tail_bytes += entry.size();
        self.tail.push_back(entry);
    }

    /// Drops the entry at `from` and everything behind it.
    pub(crate) fn drop_from(&mut self, from: LogIndex) {
        assert!(
            from > self.commit,
            "cutting at {from} drops what is committed to {}",
            self.commit
        );
        while self.tail.back().is_some_and(|entry| entry.id.index >= from) {
            let entry = self.tail.pop_back();
            self.tail_bytes -= entry.map_or(0, |entry| entry.size());
        }
        self.last = self.id(from.previous());
        self.terms.retain(|run| run.first < from);
    }

    /// The entries `from..=upto` from memory, cut at `bytes_max` but at least one; empty if the
    /// range is empty or `from` is not in memory.
    pub(crate) fn entries(&self, from: LogIndex, upto: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let first = self.memory_first();
        if from < first || from > upto {
            return Vec::new();
        }
        let start = usize::try_from(from.0 - first.0).expect("fits memory");
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.tail.range(start.min(self.tail.len())..) {
            bytes += entry.size();
            if entry.id.index > upto || (bytes > bytes_max && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// Sizes of the entries in `from..=upto` that are in memory, added up.
    pub(crate) fn bytes_between(&self, from: LogIndex, upto: LogIndex) -> usize {
        let within = |entry: &&Entry| entry.id.index >= from && entry.id.index <= upto;
        let first = self.memory_first();
        let start = usize::try_from(from.0.saturating_sub(first.0)).expect("fits memory");
        self.tail
            .range(start.min(self.tail.len())..)
            .take_while(within)
            .map(Entry::size)
            .sum()
    }

    /// Raises the commit index; a lower one changes nothing.
    pub(crate) fn raise_commit(&mut self, commit: LogIndex) {
        assert!(
            commit <= self.last.index,
            "commit {commit} lies behind the last {}",
            self.last
        );
        self.commit = self.commit.max(commit);
    }

    /// Everything up to `index` was handed out for apply.
    pub(crate) fn set_handed(&mut self, index: LogIndex) {
        assert!(
            self.handed <= index && index <= self.commit,
            "handing out {index} after {} of {}",
            self.handed,
            self.commit
        );
        self.handed = index;
    }

    /// The state machine is at `index`.
    pub(crate) fn set_applied(&mut self, index: LogIndex) {
        assert!(
            self.applied <= index && index <= self.handed,
            "applied {index} after {} although {} was handed out",
            self.applied,
            self.handed
        );
        self.applied = index;
    }

    /// Frees memory down to `bytes_max`, sparing what is not durable or not handed out.
    pub(crate) fn evict(&mut self, durable: LogIndex, bytes_max: usize) {
        let upto = durable.min(self.handed);
        while self.tail_bytes > bytes_max {
            match self.tail.front() {
                Some(entry) if entry.id.index <= upto => self.tail_bytes -= entry.size(),
                _ => break,
            }
            self.tail.pop_front();
        }
    }

    /// The log on disk was cut: it now starts after `upto`.
    pub(crate) fn compact(&mut self, upto: LogIndex) {
        if upto <= self.truncated.index {
            return;
        }
        assert!(
            upto <= self.applied,
            "cut at {upto}, applied {}",
            self.applied
        );
        self.truncated = self.id(upto);
        while self
            .tail
            .front()
            .is_some_and(|entry| entry.id.index <= upto)
        {
            let entry = self.tail.pop_front();
            self.tail_bytes -= entry.map_or(0, |entry| entry.size());
        }
        let keep = self.terms.partition_point(|run| run.first <= upto.next());
        self.terms.drain(..keep.saturating_sub(1));
        match self.terms.first_mut() {
            Some(run) if upto < self.last.index => run.first = run.first.max(upto.next()),
            _ => self.terms.clear(),
        }
        self.check_runs();
    }

    /// The log is replaced by a snapshot that ends in `last`. `applied` follows when it is
    /// installed.
    pub(crate) fn restore(&mut self, last: EntryId) {
        assert!(
            last.index > self.commit,
            "snapshot at {last} is behind commit {}",
            self.commit
        );
        self.truncated = last;
        self.last = last;
        self.terms.clear();
        self.tail.clear();
        self.tail_bytes = 0;
        self.commit = last.index;
        self.handed = last.index;
    }
}

#[cfg(test)]
mod tests;
