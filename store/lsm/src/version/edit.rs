//! One step from a version to the next, as the MANIFEST records it.

use std::collections::BTreeMap;

use crate::batch::{AppliedChange, OriginId};
use crate::codec::{Malformed, Reader, put_bytes, put_varint};
use crate::range::KeyRange;
use crate::version::FileMeta;

/// Everything in it takes effect together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VersionEdit {
    /// Tables that join, and their level.
    pub(crate) added: Vec<(usize, FileMeta)>,
    /// Numbers of tables that leave.
    pub(crate) removed: Vec<u64>,
    /// Moves of applied indexes.
    pub(crate) applied: BTreeMap<OriginId, AppliedChange>,
    /// Every sequence used so far is at most this one.
    pub(crate) last_sequence: u64,
    /// Every file number used so far is below this one.
    pub(crate) next_file: u64,
}

const TAG_ADDED: u64 = 1;
const TAG_REMOVED: u64 = 2;
const TAG_ADVANCE: u64 = 3;
const TAG_FORGET: u64 = 4;
const TAG_LAST_SEQUENCE: u64 = 5;
const TAG_NEXT_FILE: u64 = 6;

/// No tree has more levels, so an edit that names one is damaged.
const LEVELS_MAX: usize = 64;

impl VersionEdit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (level, meta) in &self.added {
            put_varint(&mut out, TAG_ADDED);
            put_varint(&mut out, *level as u64);
            encode_meta(&mut out, meta);
        }
        for number in &self.removed {
            put_varint(&mut out, TAG_REMOVED);
            put_varint(&mut out, *number);
        }
        for (origin, change) in &self.applied {
            match change {
                AppliedChange::Advance(index) => {
                    put_varint(&mut out, TAG_ADVANCE);
                    put_varint(&mut out, origin.0);
                    put_varint(&mut out, *index);
                }
                AppliedChange::Forget => {
                    put_varint(&mut out, TAG_FORGET);
                    put_varint(&mut out, origin.0);
                }
            }
        }
        put_varint(&mut out, TAG_LAST_SEQUENCE);
        put_varint(&mut out, self.last_sequence);
        put_varint(&mut out, TAG_NEXT_FILE);
        put_varint(&mut out, self.next_file);
        out
    }

    /// An unknown tag is an error: whoever skips part of an edit loses data.
    pub(crate) fn decode(bytes: &[u8]) -> Result<VersionEdit, Malformed> {
        let mut edit = VersionEdit::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            match reader.varint()? {
                TAG_ADDED => {
                    let level = reader.length()?;
                    if level >= LEVELS_MAX {
                        return Err(Malformed("a level that no tree has"));
                    }
                    edit.added.push((level, decode_meta(&mut reader)?));
                }
                TAG_REMOVED => edit.removed.push(reader.varint()?),
                TAG_ADVANCE => {
                    let origin = OriginId(reader.varint()?);
                    let change = AppliedChange::Advance(reader.varint()?);
                    edit.applied.insert(origin, change);
                }
                TAG_FORGET => {
                    let origin = OriginId(reader.varint()?);
                    edit.applied.insert(origin, AppliedChange::Forget);
                }
                TAG_LAST_SEQUENCE => edit.last_sequence = reader.varint()?,
                TAG_NEXT_FILE => edit.next_file = reader.varint()?,
                _ => return Err(Malformed("an edit with an unknown part")),
            }
        }
        Ok(edit)
    }
}

fn encode_meta(out: &mut Vec<u8>, meta: &FileMeta) {
    let flags = u64::from(meta.range.end_excluded) | u64::from(meta.sequence.is_some()) << 1;
    for number in [
        meta.number,
        meta.size,
        u64::from(meta.tag),
        flags,
        meta.sequence.unwrap_or(0),
        meta.smallest_sequence,
        meta.largest_sequence,
        meta.entries,
        meta.deletes,
        meta.range_tombstones,
        meta.raw_bytes,
    ] {
        put_varint(out, number);
    }
    put_bytes(out, &meta.range.start);
    put_bytes(out, &meta.range.end);
}

fn decode_meta(reader: &mut Reader<'_>) -> Result<FileMeta, Malformed> {
    let number = reader.varint()?;
    let size = reader.varint()?;
    let tag = u32::try_from(reader.varint()?).map_err(|_| Malformed("a tag is too large"))?;
    let flags = reader.varint()?;
    let sequence = reader.varint()?;
    Ok(FileMeta {
        number,
        size,
        tag,
        sequence: (flags & 2 != 0).then_some(sequence),
        smallest_sequence: reader.varint()?,
        largest_sequence: reader.varint()?,
        entries: reader.varint()?,
        deletes: reader.varint()?,
        range_tombstones: reader.varint()?,
        raw_bytes: reader.varint()?,
        range: KeyRange {
            start: reader.owned_bytes()?,
            end: reader.owned_bytes()?,
            end_excluded: flags & 1 != 0,
        },
    })
}
