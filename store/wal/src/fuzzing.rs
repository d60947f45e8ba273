//! What decodes bytes from segments, for the fuzzer in `store/fuzz` and for the ordinary tests,
//! which replay what the fuzzer kept.
//!
//! Checksums are made to hold, for they would keep the fuzzer out; what is left to stand between
//! any bytes and the books are the decoders: no panic, no endless loop, and no memory beyond a few
//! times the bytes themselves.

#[path = "../../fuzz/target.rs"]
mod target;

use std::path::Path;

use tinykv_raft::{Entry, EntryId, GroupId, LogIndex, Payload, Term};

use crate::Position;
use crate::codec::{RECORD_HEADER, encode_entries, next_record};
use crate::frame::{FRAME_ALIGN, FRAME_HEADER, FrameHeader, checksum, looks_like_frame};
use crate::scan::frames_of;
use crate::stored::Stored;

pub use target::Target;

const LOG: u64 = 0x1234_5678_9abc_def0;

/// All of this crate.
pub const TARGETS: [Target; 2] = [
    Target {
        name: "wal_records",
        run: records,
        seed: records_seed,
    },
    Target {
        name: "wal_frames",
        run: frames,
        seed: frames_seed,
    },
];

/// A payload: records whose lengths are cut to what is there.
fn records(data: &[u8]) {
    let mut bytes = data.to_vec();
    let mut at = 0;
    while at + RECORD_HEADER <= bytes.len() {
        let (header, rest) = bytes[at..].split_at_mut(RECORD_HEADER);
        let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let len = (len as usize).min(rest.len());
        header[1..5].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = checksum(LOG.rotate_left(8) ^ u64::from(header[0]), &rest[..len]);
        header[5..9].copy_from_slice(&crc.to_le_bytes());
        at += RECORD_HEADER + len;
    }
    let mut at = 0;
    while let Some(found) = next_record(LOG, &bytes, at) {
        if let Some(Stored::Entries { spans, .. }) = found.decode() {
            assert!(spans.len() <= bytes.len());
        }
        if let Some((_, entries)) = found.entries() {
            assert!(entries.len() <= bytes.len());
        }
        at += found.len;
    }
}

fn records_seed() -> Vec<u8> {
    let entry = |index| Entry {
        id: EntryId {
            term: Term(3),
            index: LogIndex(index),
        },
        payload: Payload::Command("command".into()),
    };
    let mut out = Vec::new();
    for group in [1, 300] {
        encode_entries(LOG, &mut out, GroupId(group), &[entry(7), entry(8)], false);
    }
    out
}

/// A segment: whatever looks like a frame and says where it is gets a checksum that holds.
fn frames(data: &[u8]) {
    let mut contents = data.to_vec();
    for at in (0..contents.len()).step_by(FRAME_ALIGN as usize) {
        let frame = &mut contents[at..];
        if !looks_like_frame(frame) || frame.len() < FRAME_HEADER as usize {
            continue;
        }
        let len = u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]);
        let end = (FRAME_HEADER as usize).saturating_add(len as usize);
        if let Some(covered) = frame.get(4..end) {
            let crc = checksum(LOG, covered);
            frame[..4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let Ok(found) = frames_of(LOG, &contents, Path::new("segment")) else {
        return;
    };
    for frame in found {
        let end = frame.position.offset() + FRAME_HEADER + frame.payload_len;
        assert!(end as usize <= contents.len());
        assert!(frame.continues <= frame.position && frame.durable_upto <= frame.position);
    }
}

fn frames_seed() -> Vec<u8> {
    let mut contents = Vec::new();
    for number in 0..3 {
        contents.resize(contents.len().next_multiple_of(FRAME_ALIGN as usize), 0);
        let position = Position::new(2, contents.len() as u32);
        let mut frame = vec![0; FRAME_HEADER as usize];
        frame.extend_from_slice(&records_seed());
        let header = FrameHeader {
            position,
            number: number + 1,
            continues: position,
            durable_upto: Position::new(2, 0),
            oldest: 1,
            files: 2,
            damage_known: Position::default(),
            payload_len: frame.len() as u32 - FRAME_HEADER,
        };
        header.seal(LOG, &mut frame);
        contents.extend_from_slice(&frame);
    }
    contents
}

#[cfg(test)]
#[test]
fn whatever_the_fuzzer_kept_is_taken() {
    for target in &TARGETS {
        target::replay(target);
    }
}
