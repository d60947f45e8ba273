//! Old entries, read beside the writer.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tinykv_raft::{Entry, EntryId, GroupId, LogIndex, Term};

use crate::ReadError;
use crate::codec::next_record;
use crate::index::{Index, Run};
use crate::segment::Segment;

/// The reading half of the log: cheap to clone, usable from any thread while the writer works.
/// It sees what was appended, durable or not.
#[derive(Clone)]
pub struct WalReader {
    log_id: u64,
    index: Arc<Mutex<Index>>,
}

/// The extent of a group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The entry the log begins behind.
    pub truncated: EntryId,
    /// The last entry appended; `truncated` when the log is empty.
    pub last: EntryId,
    /// The last index known durable here.
    pub durable: LogIndex,
    /// Bytes of log that hold the entries, about.
    pub bytes: u64,
}

impl WalReader {
    pub(crate) fn new(log_id: u64, index: Arc<Mutex<Index>>) -> WalReader {
        WalReader { log_id, index }
    }

    /// Entries `from..=upto`, cut after `bytes_max` of [`Entry::size`] but never empty.
    ///
    /// # Errors
    /// `Truncated` when `from` is cut off, `BeyondEnd` when it is not there yet; `Corrupt` when
    /// what the file holds is not what was written.
    pub fn entries(
        &self,
        group: GroupId,
        from: LogIndex,
        upto: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let pieces = self.locate(group, from, upto, bytes_max)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for (segment, run) in pieces {
            for entry in read_record(self.log_id, &segment, group, &run)? {
                let index = entry.id.index;
                let wanted = from.max(run.span.first)..=upto.min(run.span.last);
                if !wanted.contains(&index) {
                    continue;
                }
                bytes += entry.size();
                if bytes > bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The extent of a group's log; `None` for a group that is not in the log.
    pub fn extent(&self, group: GroupId) -> Option<Extent> {
        let index = self.index.lock();
        let log = index.groups.get(&group)?;
        Some(log.extent(index.durable))
    }

    /// The last index of a group that is durable here; `None` for a group that is not in the
    /// log. Nothing beyond may be applied (invariant 6).
    pub fn durable_index(&self, group: GroupId) -> Option<LogIndex> {
        let index = self.index.lock();
        let log = index.groups.get(&group)?;
        Some(log.durable_index(index.durable))
    }

    /// The term of an index from the truncation point to the last entry, both included.
    pub fn term(&self, group: GroupId, index: LogIndex) -> Option<Term> {
        self.index.lock().groups.get(&group)?.term(index)
    }

    /// The snapshot that a group is installing as far as the log knows, durably or not.
    pub fn installing(&self, group: GroupId) -> Option<EntryId> {
        let index = self.index.lock();
        let installing = &index.groups.get(&group)?.state.installing;
        installing.as_ref().map(|(snapshot, _)| *snapshot)
    }

    /// Groups that are in the log, ascending.
    pub fn groups(&self) -> Vec<GroupId> {
        self.index.lock().groups.keys().copied().collect()
    }

    /// The records to read, each with its segment held, so that it is not recycled meanwhile.
    fn locate(
        &self,
        group: GroupId,
        from: LogIndex,
        upto: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<(Arc<Segment>, Run)>, ReadError> {
        let index = self.index.lock();
        let log = index
            .groups
            .get(&group)
            .ok_or(ReadError::UnknownGroup(group))?;
        let truncated = log.state.truncated.index;
        if from <= truncated {
            return Err(ReadError::Truncated {
                group,
                upto: truncated,
            });
        }
        let mut pieces = Vec::new();
        let mut bytes = 0u64;
        for run in log.runs_from(from) {
            let enough = bytes > bytes_max as u64 && !pieces.is_empty();
            if run.span.first > upto || run.at >= index.written || enough {
                break;
            }
            if let Some(used) = index.segments.get(&run.at.segment()) {
                pieces.push((used.segment.clone(), *run));
                // Of the first record only a part may be wanted, so it counts for nothing.
                let whole = run.span.first >= from;
                bytes += if whole { u64::from(run.len) } else { 0 };
            }
        }
        if pieces.is_empty() {
            return Err(ReadError::BeyondEnd {
                group,
                last: log.last().index,
            });
        }
        Ok(pieces)
    }
}

impl fmt::Debug for WalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalReader").finish_non_exhaustive()
    }
}

/// Reads and verifies the record that holds a run.
pub(crate) fn read_record(
    log_id: u64,
    segment: &Segment,
    group: GroupId,
    run: &Run,
) -> Result<Vec<Entry>, ReadError> {
    assert_eq!(
        run.at.segment(),
        segment.number,
        "a record is looked for in another segment"
    );
    let corrupt = |what| ReadError::Corrupt {
        path: segment.file.path().to_owned(),
        offset: u64::from(run.at.offset()),
        what,
    };
    let mut bytes = vec![0; run.len as usize];
    segment
        .file
        .read_exact_at(&mut bytes, u64::from(run.at.offset()))
        .map_err(|e| ReadError::Io(Arc::new(e)))?;
    let found = next_record(log_id, &bytes, 0)
        .ok_or_else(|| corrupt("the checksum of a record does not hold"))?;
    let (owner, entries) = found
        .entries()
        .ok_or_else(|| corrupt("a record of entries holds something else"))?;
    let holds = |index: LogIndex| {
        entries
            .iter()
            .any(|entry| entry.id.index == index && entry.id.term == run.span.term)
    };
    if owner != group || !holds(run.span.first) || !holds(run.span.last) {
        return Err(corrupt("a record holds other entries than were written"));
    }
    Ok(entries)
}
