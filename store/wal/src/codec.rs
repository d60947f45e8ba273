//! Bytes of records.
//!
//! A record is its kind (1 byte), the length of its body (4) and a checksum (4) of its own, so
//! that a reader of old entries verifies what it reads without the rest of the frame; then the
//! body, in variable-length integers and length-prefixed bytes.

use bytes::Bytes;
use tinykv_raft::{
    Entry, EntryId, GroupId, HardState, LogIndex, MembershipChange, MembershipStep, Payload,
    PeerId, Term,
};

use crate::frame::checksum;
use crate::stored::{GroupState, Span, Stored};

/// Kind, length and checksum.
pub(crate) const RECORD_HEADER: usize = 9;

mod kind {
    pub(super) const ENTRIES: u8 = 1;
    pub(super) const HARD_STATE: u8 = 2;
    pub(super) const TRUNCATED: u8 = 3;
    pub(super) const BIRTH: u8 = 4;
    pub(super) const INSTALLING: u8 = 5;
    pub(super) const INSTALLED: u8 = 6;
    pub(super) const TOMBSTONE: u8 = 7;
    pub(super) const FORGET_TOMBSTONE: u8 = 8;
    pub(super) const CARRIED: u8 = 9;
    pub(super) const CARRIED_ENTRIES: u8 = 10;
    pub(super) const CARRIED_TOMBSTONE: u8 = 11;
}

/// Appends a record of entries to `out`. They are consecutive.
pub(crate) fn encode_entries(
    log_id: u64,
    out: &mut Vec<u8>,
    group: GroupId,
    entries: &[Entry],
    carried: bool,
) {
    let kind = if carried {
        kind::CARRIED_ENTRIES
    } else {
        kind::ENTRIES
    };
    let first = entries.first().map_or(0, |entry| entry.id.index.0);
    record(log_id, out, kind, |out| {
        put(out, group.0);
        put(out, first);
        put(out, entries.len() as u64);
        for entry in entries {
            put_entry(out, entry);
        }
    });
}

/// Appends any other record to `out`.
pub(crate) fn encode(log_id: u64, out: &mut Vec<u8>, stored: &Stored) {
    match stored {
        Stored::Entries { .. } => unreachable!("entries are encoded with their payloads"),
        Stored::HardState { group, hard_state } => record(log_id, out, kind::HARD_STATE, |out| {
            put(out, group.0);
            put_hard_state(out, hard_state);
        }),
        Stored::Truncated { group, upto, reset } => record(log_id, out, kind::TRUNCATED, |out| {
            put(out, group.0);
            put_id(out, *upto);
            out.push(u8::from(*reset));
        }),
        Stored::Birth {
            group,
            birth,
            hard_state,
            truncated,
        } => record(log_id, out, kind::BIRTH, |out| {
            put(out, group.0);
            put_bytes(out, birth);
            put_hard_state(out, hard_state);
            put_id(out, *truncated);
        }),
        Stored::Installing {
            group,
            snapshot,
            payload,
            reset,
        } => record(log_id, out, kind::INSTALLING, |out| {
            put(out, group.0);
            put_id(out, *snapshot);
            put_bytes(out, payload);
            out.push(u8::from(*reset));
        }),
        Stored::Installed {
            group,
            snapshot,
            payload,
        } => record(log_id, out, kind::INSTALLED, |out| {
            put(out, group.0);
            put_id(out, *snapshot);
            put_bytes(out, payload);
        }),
        Stored::Tombstone {
            group,
            payload,
            carried,
        } => {
            let kind = if *carried {
                kind::CARRIED_TOMBSTONE
            } else {
                kind::TOMBSTONE
            };
            record(log_id, out, kind, |out| {
                put(out, group.0);
                put_bytes(out, payload);
            });
        }
        Stored::ForgetTombstone { group } => {
            record(log_id, out, kind::FORGET_TOMBSTONE, |out| put(out, group.0));
        }
        Stored::Carried { group, state } => record(log_id, out, kind::CARRIED, |out| {
            put(out, group.0);
            put_state(out, state);
        }),
    }
}

/// A record found in a payload.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// Bytes of header and body.
    pub(crate) len: usize,
    kind: u8,
    body: &'a [u8],
}

/// Splits off the record at `start`. `None`: these bytes are no record of this log.
pub(crate) fn next_record(log_id: u64, payload: &[u8], start: usize) -> Option<Found<'_>> {
    let bytes = payload.get(start..)?;
    let header = bytes.get(..RECORD_HEADER)?;
    let len = u32::from_le_bytes(header[1..5].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(header[5..9].try_into().ok()?);
    let body = bytes.get(RECORD_HEADER..RECORD_HEADER.checked_add(len)?)?;
    (record_checksum(log_id, header[0], body) == crc).then_some(Found {
        len: RECORD_HEADER + len,
        kind: header[0],
        body,
    })
}

impl Found<'_> {
    /// The record, without the payloads of entries. `None`: no record this version writes.
    pub(crate) fn decode(&self) -> Option<Stored> {
        let mut body = Decoder { rest: self.body };
        let group = GroupId(body.number()?);
        let stored = match self.kind {
            kind::ENTRIES | kind::CARRIED_ENTRIES => Stored::Entries {
                group,
                spans: body.spans()?,
                carried: self.kind == kind::CARRIED_ENTRIES,
            },
            kind::HARD_STATE => Stored::HardState {
                group,
                hard_state: body.hard_state()?,
            },
            kind::TRUNCATED => Stored::Truncated {
                group,
                upto: body.id()?,
                reset: body.flag()?,
            },
            kind::BIRTH => Stored::Birth {
                group,
                birth: body.bytes()?,
                hard_state: body.hard_state()?,
                truncated: body.id()?,
            },
            kind::INSTALLING => Stored::Installing {
                group,
                snapshot: body.id()?,
                payload: body.bytes()?,
                reset: body.flag()?,
            },
            kind::INSTALLED => Stored::Installed {
                group,
                snapshot: body.id()?,
                payload: body.bytes()?,
            },
            kind::TOMBSTONE | kind::CARRIED_TOMBSTONE => Stored::Tombstone {
                group,
                payload: body.bytes()?,
                carried: self.kind == kind::CARRIED_TOMBSTONE,
            },
            kind::FORGET_TOMBSTONE => Stored::ForgetTombstone { group },
            kind::CARRIED => Stored::Carried {
                group,
                state: body.state()?,
            },
            _ => return None,
        };
        body.rest.is_empty().then_some(stored)
    }

    /// The entries of a record of entries, each payload an allocation of its own.
    pub(crate) fn entries(&self) -> Option<(GroupId, Vec<Entry>)> {
        if self.kind != kind::ENTRIES && self.kind != kind::CARRIED_ENTRIES {
            return None;
        }
        let mut body = Decoder { rest: self.body };
        let group = GroupId(body.number()?);
        let (first, count) = body.first_and_count()?;
        let mut entries = Vec::with_capacity(count);
        for i in 0..count as u64 {
            entries.push(body.entry(LogIndex(first.checked_add(i)?))?);
        }
        body.rest.is_empty().then_some((group, entries))
    }
}

/// Splits entries into spans of one term.
pub(crate) fn spans_of(entries: &[Entry]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for entry in entries {
        extend_spans(&mut spans, entry.id);
    }
    spans
}

/// Bytes an entry takes in a record, at most.
pub(crate) fn entry_bytes_max(entry: &Entry) -> usize {
    const NUMBERS: usize = 32;
    let steps = match &entry.payload {
        Payload::Membership(change) => 11 * change.steps.len(),
        Payload::Empty | Payload::Command(_) => 0,
    };
    NUMBERS + steps + entry.size()
}

fn extend_spans(spans: &mut Vec<Span>, id: EntryId) {
    match spans.last_mut() {
        Some(span) if span.term == id.term => span.last = id.index,
        _ => spans.push(Span {
            first: id.index,
            last: id.index,
            term: id.term,
        }),
    }
}

fn record(log_id: u64, out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    body(out);
    let len = u32::try_from(out.len() - start - RECORD_HEADER).expect("a record fits a segment");
    let crc = record_checksum(log_id, kind, &out[start + RECORD_HEADER..]);
    out[start] = kind;
    out[start + 1..start + 5].copy_from_slice(&len.to_le_bytes());
    out[start + 5..start + 9].copy_from_slice(&crc.to_le_bytes());
}

fn record_checksum(log_id: u64, kind: u8, body: &[u8]) -> u32 {
    checksum(log_id.rotate_left(8) ^ u64::from(kind), body)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_id(out: &mut Vec<u8>, id: EntryId) {
    put(out, id.term.0);
    put(out, id.index.0);
}

fn put_hard_state(out: &mut Vec<u8>, hard_state: &HardState) {
    put(out, hard_state.term.0);
    out.push(u8::from(hard_state.vote.is_some()));
    put(out, hard_state.vote.map_or(0, |peer| peer.0));
    put(out, hard_state.commit.0);
}

fn put_installation(out: &mut Vec<u8>, installation: &Option<(EntryId, Bytes)>) {
    out.push(u8::from(installation.is_some()));
    if let Some((snapshot, payload)) = installation {
        put_id(out, *snapshot);
        put_bytes(out, payload);
    }
}

fn put_state(out: &mut Vec<u8>, state: &GroupState) {
    put_bytes(out, &state.birth);
    put_hard_state(out, &state.hard_state);
    put_id(out, state.truncated);
    put_installation(out, &state.installing);
    put_installation(out, &state.installed);
    out.push(u8::from(state.damaged));
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put(out, entry.id.term.0);
    match &entry.payload {
        Payload::Empty => out.push(0),
        Payload::Command(command) => {
            out.push(1);
            put_bytes(out, command);
        }
        Payload::Membership(change) => {
            out.push(2);
            put(out, change.steps.len() as u64);
            for step in &change.steps {
                let (kind, peer) = match step {
                    MembershipStep::AddVoter(peer) => (0, peer),
                    MembershipStep::AddLearner(peer) => (1, peer),
                    MembershipStep::Remove(peer) => (2, peer),
                };
                out.push(kind);
                put(out, peer.0);
            }
            put_bytes(out, &change.context);
        }
    }
}

/// Reads a body from the front; every method answers `None` when the bytes do not fit.
struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let slice = self.rest.get(..len)?;
        self.rest = &self.rest[len..];
        Some(slice)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        self.slice().map(Bytes::copy_from_slice)
    }

    fn id(&mut self) -> Option<EntryId> {
        Some(EntryId {
            term: Term(self.number()?),
            index: LogIndex(self.number()?),
        })
    }

    fn hard_state(&mut self) -> Option<HardState> {
        let term = Term(self.number()?);
        let voted = self.flag()?;
        let peer = PeerId(self.number()?);
        Some(HardState {
            term,
            vote: voted.then_some(peer),
            commit: LogIndex(self.number()?),
        })
    }

    fn installation(&mut self) -> Option<Option<(EntryId, Bytes)>> {
        Some(if self.flag()? {
            Some((self.id()?, self.bytes()?))
        } else {
            None
        })
    }

    fn state(&mut self) -> Option<GroupState> {
        Some(GroupState {
            birth: self.bytes()?,
            hard_state: self.hard_state()?,
            truncated: self.id()?,
            installing: self.installation()?,
            installed: self.installation()?,
            damaged: self.flag()?,
        })
    }

    /// The first index and the number of entries, which the bytes that are left can hold.
    fn first_and_count(&mut self) -> Option<(u64, usize)> {
        const ENTRY_BYTES_MIN: usize = 2;
        let first = self.number()?;
        let count = usize::try_from(self.number()?).ok()?;
        let possible = first > 0 && count > 0 && count <= self.rest.len() / ENTRY_BYTES_MIN;
        possible.then_some((first, count))
    }

    fn spans(&mut self) -> Option<Vec<Span>> {
        let (first, count) = self.first_and_count()?;
        let mut spans: Vec<Span> = Vec::new();
        for i in 0..count as u64 {
            let index = LogIndex(first.checked_add(i)?);
            let term = Term(self.number()?);
            self.skip_payload()?;
            extend_spans(&mut spans, EntryId { term, index });
        }
        Some(spans)
    }

    fn skip_payload(&mut self) -> Option<()> {
        match self.byte()? {
            0 => {}
            1 => {
                self.slice()?;
            }
            2 => {
                self.membership()?;
            }
            _ => return None,
        }
        Some(())
    }

    fn entry(&mut self, index: LogIndex) -> Option<Entry> {
        let term = Term(self.number()?);
        let payload = match self.byte()? {
            0 => Payload::Empty,
            1 => Payload::Command(self.bytes()?),
            2 => Payload::Membership(self.membership()?),
            _ => return None,
        };
        Some(Entry {
            id: EntryId { term, index },
            payload,
        })
    }

    fn membership(&mut self) -> Option<MembershipChange> {
        let mut steps = Vec::new();
        for _ in 0..self.number()? {
            let kind = self.byte()?;
            let peer = PeerId(self.number()?);
            steps.push(match kind {
                0 => MembershipStep::AddVoter(peer),
                1 => MembershipStep::AddLearner(peer),
                2 => MembershipStep::Remove(peer),
                _ => return None,
            });
        }
        Some(MembershipChange {
            steps,
            context: self.bytes()?,
        })
    }
}
