//! Where everything is: the books of the log, in memory, shared by the writer and the readers.
//!
//! The same `apply` serves the writer, after each batch, and recovery, which replays the log from
//! its oldest segment on. That segment is rarely the first ever written, so a replay may meet
//! records of a group before the carried record that tells of its birth; it takes them as they
//! come, and [`Index::check`] says at the end what does not add up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId, LogIndex, Term, TermStart};

use crate::recovered::RecoveredGroup;
use crate::segment::Segment;
use crate::stored::{GroupState, Span, Stored};
use crate::{Extent, Position};

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Segments in use by their numbers; the last one is written to.
    pub(crate) segments: BTreeMap<u32, SegmentUse>,
    /// Groups that live.
    pub(crate) groups: BTreeMap<GroupId, GroupLog>,
    /// Tombstones nobody forgot.
    pub(crate) tombstones: BTreeMap<GroupId, Tombstone>,
    /// Everything before this stands in the files; what is behind is being written.
    pub(crate) written: Position,
    /// Everything before this is durable.
    pub(crate) durable: Position,
}

/// A segment in use.
#[derive(Debug)]
pub(crate) struct SegmentUse {
    /// The file. Who reads from it holds a clone, and it is not recycled before that is gone.
    pub(crate) segment: Arc<Segment>,
    /// Every group that may have something alive here.
    pub(crate) groups: BTreeSet<GroupId>,
}

/// A tombstone.
#[derive(Debug)]
pub(crate) struct Tombstone {
    pub(crate) payload: Bytes,
    /// The segment of its newest record.
    pub(crate) at: u32,
}

/// One group.
#[derive(Debug, Default)]
pub(crate) struct GroupLog {
    pub(crate) state: GroupState,
    /// The segment of the last record that told the whole state: a replay from there on knows
    /// it. 0: none was met yet (in a replay only).
    pub(crate) state_at: u32,
    /// Runs of entries by their first index; disjoint, and outside a replay without gaps.
    runs: BTreeMap<LogIndex, Run>,
}

/// Consecutive entries of one term that one record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// What of it counts.
    pub(crate) span: Span,
    /// Where the record begins.
    pub(crate) at: Position,
    /// Bytes of the record.
    pub(crate) len: u32,
    /// A copy of what was durable already.
    carried: bool,
}

impl Index {
    /// Enters a record that stands at `at` and takes `len` bytes.
    pub(crate) fn apply(&mut self, stored: &Stored, at: Position, len: u32) {
        let id = stored.group();
        match stored {
            Stored::Tombstone {
                payload, carried, ..
            } => {
                if !carried {
                    self.groups.remove(&id);
                }
                let tombstone = Tombstone {
                    payload: payload.clone(),
                    at: at.segment(),
                };
                self.tombstones.insert(id, tombstone);
            }
            Stored::ForgetTombstone { .. } => {
                self.tombstones.remove(&id);
            }
            Stored::Birth {
                birth,
                hard_state,
                truncated,
                ..
            } => {
                let group = GroupLog {
                    state: GroupState {
                        birth: birth.clone(),
                        hard_state: *hard_state,
                        truncated: *truncated,
                        ..GroupState::default()
                    },
                    state_at: at.segment(),
                    runs: BTreeMap::new(),
                };
                self.groups.insert(id, group);
            }
            _ => self.groups.entry(id).or_default().apply(stored, at, len),
        }
        if let Some(segment) = self.segments.get_mut(&at.segment()) {
            segment.groups.insert(id);
        }
    }

    /// Bytes of the records that hold living entries.
    pub(crate) fn entry_bytes(&self) -> u64 {
        let logs = self.groups.values();
        let runs = logs.flat_map(|log| log.runs.values());
        runs.map(|run| u64::from(run.len)).sum()
    }

    /// After a replay: cuts every log at its first gap and names the groups that had one, or that
    /// nothing told the birth of.
    pub(crate) fn check(&mut self) -> Vec<GroupId> {
        let mut inconsistent = Vec::new();
        for (id, group) in &mut self.groups {
            let whole = group.cut_at_gap();
            if !whole || group.state_at == 0 {
                inconsistent.push(*id);
            }
        }
        inconsistent
    }

    /// The groups as [`crate::Recovered`] names them.
    pub(crate) fn recovered_groups(&self) -> BTreeMap<GroupId, RecoveredGroup> {
        let recovered = |log: &GroupLog| RecoveredGroup {
            birth: log.state.birth.clone(),
            hard_state: log.state.hard_state,
            truncated: log.state.truncated,
            terms: log.terms(),
            last: log.last(),
            installing: log.state.installing.clone(),
            installed: log.state.installed.clone(),
            damaged: log.state.damaged,
        };
        self.groups
            .iter()
            .map(|(id, log)| (*id, recovered(log)))
            .collect()
    }
}

impl GroupLog {
    fn apply(&mut self, stored: &Stored, at: Position, len: u32) {
        match stored {
            Stored::Entries { spans, carried, .. } => {
                if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
                    let end = if *carried {
                        last.last
                    } else {
                        LogIndex(u64::MAX)
                    };
                    self.clear(first.first, end);
                }
                for span in spans {
                    let run = Run {
                        span: *span,
                        at,
                        len,
                        carried: *carried,
                    };
                    self.runs.insert(span.first, run);
                }
            }
            Stored::HardState { hard_state, .. } => self.state.hard_state = *hard_state,
            Stored::Truncated { upto, reset, .. } => self.cut(*upto, *reset),
            Stored::Installing {
                snapshot,
                payload,
                reset,
                ..
            } => {
                self.cut(*snapshot, *reset);
                self.state.installing = Some((*snapshot, payload.clone()));
            }
            Stored::Installed {
                snapshot, payload, ..
            } => {
                self.state.installing = None;
                self.state.installed = Some((*snapshot, payload.clone()));
            }
            Stored::Carried { state, .. } => {
                self.state = state.clone();
                self.state_at = at.segment();
                self.clear(LogIndex(0), state.truncated.index);
            }
            Stored::Birth { .. } | Stored::Tombstone { .. } | Stored::ForgetTombstone { .. } => {
                unreachable!("births and deaths are entered by the index")
            }
        }
    }

    /// The last entry; where the log begins when it is empty.
    pub(crate) fn last(&self) -> EntryId {
        match self.runs.last_key_value() {
            Some((_, run)) => EntryId {
                term: run.span.term,
                index: run.span.last,
            },
            None => self.state.truncated,
        }
    }

    /// The term of an index from the truncation point to the last entry, both included.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.state.truncated.index {
            return Some(self.state.truncated.term);
        }
        let (_, run) = self.runs.range(..=index).next_back()?;
        (run.span.last >= index).then_some(run.span.term)
    }

    /// Runs that hold indexes from `from` on, in order.
    pub(crate) fn runs_from(&self, from: LogIndex) -> impl Iterator<Item = &Run> {
        let first = self
            .runs
            .range(..=from)
            .next_back()
            .map_or(from, |(first, _)| *first);
        self.runs
            .range(first..)
            .map(|(_, run)| run)
            .filter(move |run| run.span.last >= from)
    }

    /// Runs whose records stand in a segment, in order of index.
    pub(crate) fn runs_in(&self, segment: u32) -> impl Iterator<Item = &Run> {
        self.runs
            .values()
            .filter(move |run| run.at.segment() == segment)
    }

    /// The last index that is durable when everything before `durable` is.
    pub(crate) fn durable_index(&self, durable: Position) -> LogIndex {
        let mut last = self.last().index;
        for run in self.runs.values().rev() {
            if run.carried || run.at < durable {
                break;
            }
            last = run.span.first.previous();
        }
        last
    }

    pub(crate) fn extent(&self, durable: Position) -> Extent {
        Extent {
            truncated: self.state.truncated,
            last: self.last(),
            durable: self.durable_index(durable),
            bytes: self.runs.values().map(|run| u64::from(run.len)).sum(),
        }
    }

    fn terms(&self) -> Vec<TermStart> {
        let mut terms: Vec<TermStart> = Vec::new();
        for run in self.runs.values() {
            if terms.last().is_none_or(|start| start.term != run.span.term) {
                terms.push(TermStart {
                    term: run.span.term,
                    first: run.span.first,
                });
            }
        }
        terms
    }

    fn cut(&mut self, upto: EntryId, reset: bool) {
        if reset {
            self.runs.clear();
        } else {
            self.clear(LogIndex(0), upto.index);
        }
        self.state.truncated = upto;
    }

    /// Forgets the positions of `first..=last`.
    fn clear(&mut self, first: LogIndex, last: LogIndex) {
        let overlapping: Vec<Run> = self
            .runs_from(first)
            .take_while(|run| run.span.first <= last)
            .copied()
            .collect();
        for run in overlapping {
            self.runs.remove(&run.span.first);
            if run.span.first < first {
                let mut left = run;
                left.span.last = first.previous();
                self.runs.insert(left.span.first, left);
            }
            if run.span.last > last {
                let mut right = run;
                right.span.first = last.next();
                self.runs.insert(right.span.first, right);
            }
        }
    }

    /// Cuts the log where the first index is missing or a term falls. True: there was no such
    /// place.
    fn cut_at_gap(&mut self) -> bool {
        let mut expected = self.state.truncated.index.next();
        let mut term = self.state.truncated.term;
        for run in self.runs.values() {
            if run.span.first != expected || run.span.term < term {
                break;
            }
            expected = run.span.last.next();
            term = run.span.term;
        }
        self.runs.split_off(&expected).is_empty()
    }
}
