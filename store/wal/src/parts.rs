//! From a caller's batch to encoded records, checked against the books first.

use std::collections::BTreeMap;

use tinykv_raft::{Entry, EntryId, GroupId, LogIndex};

use crate::codec::{self, RECORD_HEADER, entry_bytes_max, spans_of};
use crate::index::{GroupLog, Index};
use crate::stored::{Span, Stored};
use crate::{Batch, Record, WalError};

/// An encoded record and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stored: Stored,
}

/// Entries are cut into records of about this size, so that reading one back is cheap.
const RECORD_BYTES_TARGET: usize = 256 << 10;

/// Checks a batch against the books: how each record is stored. `None`: it is entries, or changes
/// nothing any more.
///
/// # Panics
/// When a record is impossible after those before it.
pub(crate) fn check_batch(index: &Index, batch: &Batch) -> Vec<Option<Stored>> {
    let mut view = View {
        index,
        changed: BTreeMap::new(),
    };
    let records = batch.records.iter();
    records.map(|record| view.check(record)).collect()
}

/// Encodes a checked batch, record by record.
pub(crate) fn encode_batch(
    log_id: u64,
    batch: &Batch,
    checked: Vec<Option<Stored>>,
    payload_max: usize,
) -> Result<Vec<Part>, WalError> {
    let mut parts = Vec::with_capacity(batch.records.len());
    for (record, stored) in batch.records.iter().zip(checked) {
        if let Record::Entries { group, entries } = record {
            encode_entries(log_id, *group, entries, false, payload_max, &mut parts);
        } else if let Some(stored) = stored {
            let mut bytes = Vec::new();
            codec::encode(log_id, &mut bytes, &stored);
            parts.push(Part { bytes, stored });
        }
    }
    match parts.iter().find(|part| part.bytes.len() > payload_max) {
        None => Ok(parts),
        Some(part) => Err(WalError::TooLarge {
            bytes: part.bytes.len(),
            bytes_max: payload_max,
        }),
    }
}

/// Encodes entries into records of about the target size, none larger than a segment can take
/// unless one entry is.
pub(crate) fn encode_entries(
    log_id: u64,
    group: GroupId,
    entries: &[Entry],
    carried: bool,
    payload_max: usize,
    parts: &mut Vec<Part>,
) {
    let target = RECORD_BYTES_TARGET.min(payload_max);
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = RECORD_HEADER;
        let fits = |entry: &&Entry| {
            bytes += entry_bytes_max(entry);
            bytes <= target
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        let mut bytes = Vec::with_capacity(bytes.min(target));
        codec::encode_entries(log_id, &mut bytes, group, now, carried);
        parts.push(Part {
            bytes,
            stored: Stored::Entries {
                group,
                spans: spans_of(now),
                carried,
            },
        });
        rest = later;
    }
}

/// The books as they will be when the records checked so far are in them.
struct View<'a> {
    index: &'a Index,
    /// Groups that the batch has touched; `None`: dead.
    changed: BTreeMap<GroupId, Option<Outline>>,
}

/// As much of a group as later records of a batch can depend on.
#[derive(Clone, Debug)]
struct Outline {
    truncated: EntryId,
    last: EntryId,
    /// The log as before the batch holds for indexes up to here.
    original_upto: LogIndex,
    /// Entries of the batch, oldest first; later ones win.
    appended: Vec<Span>,
    installing: bool,
}

impl View<'_> {
    /// Asserts that the record is possible, and says how it is stored.
    fn check(&mut self, record: &Record) -> Option<Stored> {
        let group = record.group();
        Some(match record {
            Record::Entries { entries, .. } => {
                self.check_entries(group, entries);
                return None;
            }
            Record::HardState { hard_state, .. } => {
                self.outline(group, "a hard state");
                Stored::HardState {
                    group,
                    hard_state: *hard_state,
                }
            }
            Record::Truncated { upto, .. } => {
                // The upkeep of the log may have cut further already.
                if upto.index < self.outline(group, "a truncation").truncated.index {
                    return None;
                }
                let reset = self.cut(group, *upto, "a truncation");
                Stored::Truncated {
                    group,
                    upto: *upto,
                    reset,
                }
            }
            Record::Birth {
                birth,
                hard_state,
                truncated,
                ..
            } => {
                self.changed.insert(group, Some(Outline::new(*truncated)));
                Stored::Birth {
                    group,
                    birth: birth.clone(),
                    hard_state: *hard_state,
                    truncated: *truncated,
                }
            }
            Record::Installing {
                snapshot, payload, ..
            } => {
                let reset = self.cut(group, *snapshot, "an installation");
                self.outline(group, "an installation").installing = true;
                Stored::Installing {
                    group,
                    snapshot: *snapshot,
                    payload: payload.clone(),
                    reset,
                }
            }
            Record::Installed {
                snapshot, payload, ..
            } => {
                let outline = self.outline(group, "the end of an installation");
                assert!(
                    outline.installing,
                    "group {group}: an installation of {snapshot} ended that had not begun"
                );
                outline.installing = false;
                Stored::Installed {
                    group,
                    snapshot: *snapshot,
                    payload: payload.clone(),
                }
            }
            Record::Tombstone { payload, .. } => {
                self.changed.insert(group, None);
                Stored::Tombstone {
                    group,
                    payload: payload.clone(),
                    carried: false,
                }
            }
            Record::ForgetTombstone { .. } => Stored::ForgetTombstone { group },
        })
    }

    fn check_entries(&mut self, group: GroupId, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            panic!("group {group}: a record of no entries");
        };
        for pair in entries.windows(2) {
            assert!(
                pair[1].id.index == pair[0].id.index.next() && pair[1].id.term >= pair[0].id.term,
                "group {group}: in a record, {} follows {}",
                pair[1].id,
                pair[0].id
            );
        }
        let outline = self.outline(group, "entries");
        assert!(
            first.id.index > outline.truncated.index && first.id.index <= outline.last.index.next(),
            "group {group}: entries from {} do not follow a log from {} to {}",
            first.id,
            outline.truncated,
            outline.last
        );
        outline.last = last.id;
        outline.original_upto = outline.original_upto.min(first.id.index.previous());
        outline.appended.extend(spans_of(entries));
    }

    /// Whether cutting up to an entry leaves nothing of the log.
    fn cut(&mut self, group: GroupId, upto: EntryId, what: &str) -> bool {
        let original = self.index.groups.get(&group);
        let outline = self.outline(group, what);
        assert!(
            upto.index >= outline.truncated.index,
            "group {group}: {what} up to {upto} of a log cut up to {}",
            outline.truncated
        );
        let in_span = |span: &&Span| span.first <= upto.index && upto.index <= span.last;
        let term = if upto.index > outline.last.index {
            None
        } else if upto.index == outline.truncated.index {
            Some(outline.truncated.term)
        } else if upto.index <= outline.original_upto {
            original.and_then(|log| log.term(upto.index))
        } else {
            let newest = outline.appended.iter().rev().find(in_span);
            newest.map(|span| span.term)
        };
        let reset = term != Some(upto.term);
        if reset {
            *outline = Outline {
                installing: outline.installing,
                ..Outline::new(upto)
            };
        }
        outline.truncated = upto;
        reset
    }

    fn outline(&mut self, group: GroupId, what: &str) -> &mut Outline {
        let index = self.index;
        let outline = self.changed.entry(group).or_insert_with(|| {
            let outline = |log: &GroupLog| Outline {
                last: log.last(),
                original_upto: log.last().index,
                installing: log.state.installing.is_some(),
                ..Outline::new(log.state.truncated)
            };
            index.groups.get(&group).map(outline)
        });
        match outline {
            Some(outline) => outline,
            None => panic!("{what} of group {group}, which is not in the log"),
        }
    }
}

impl Outline {
    /// An empty log that begins behind an entry.
    fn new(truncated: EntryId) -> Outline {
        Outline {
            truncated,
            last: truncated,
            original_upto: LogIndex(0),
            appended: Vec::new(),
            installing: false,
        }
    }
}
