//! Decoders against bytes nobody wrote, and what the books do that a whole log shows only rarely.

use bytes::Bytes;
use proptest::prelude::*;
use tinykv_env::Prng;
use tinykv_raft::{
    Entry, EntryId, GroupId, HardState, LogIndex, MembershipChange, MembershipStep, Payload,
    PeerId, Term,
};

use crate::Position;
use crate::codec::{encode, encode_entries, next_record, spans_of};
use crate::frame::{FRAME_ALIGN, FRAME_HEADER, FrameHeader, NoFrame, checksum};
use crate::index::Index;
use crate::scan::frames_in;
use crate::stored::{GroupState, Span, Stored};

const LOG: u64 = 0x1234_5678_9abc_def0;

fn header(position: Position, payload_len: u32) -> FrameHeader {
    FrameHeader {
        position,
        number: 7,
        continues: Position::new(1, 64),
        durable_upto: Position::new(1, 64),
        oldest: 1,
        files: 3,
        damage_known: Position::default(),
        payload_len,
    }
}

fn frame(position: Position, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_HEADER as usize];
    bytes.extend_from_slice(payload);
    header(position, payload.len() as u32).seal(LOG, &mut bytes);
    bytes
}

fn every_record() -> Vec<Stored> {
    let group = GroupId(300);
    let id = EntryId {
        term: Term(4),
        index: LogIndex(u64::MAX),
    };
    let payload = Bytes::from_static(b"payload");
    let hard_state = HardState {
        term: Term(9),
        vote: Some(PeerId(2)),
        commit: LogIndex(17),
    };
    vec![
        Stored::HardState { group, hard_state },
        Stored::Truncated {
            group,
            upto: id,
            reset: true,
        },
        Stored::Birth {
            group,
            birth: payload.clone(),
            hard_state,
            truncated: id,
        },
        Stored::Installing {
            group,
            snapshot: id,
            payload: payload.clone(),
            reset: false,
        },
        Stored::Installed {
            group,
            snapshot: id,
            payload: Bytes::new(),
        },
        Stored::Tombstone {
            group,
            payload: payload.clone(),
            carried: false,
        },
        Stored::Tombstone {
            group,
            payload: payload.clone(),
            carried: true,
        },
        Stored::ForgetTombstone { group },
        Stored::Carried {
            group,
            state: GroupState {
                birth: payload.clone(),
                hard_state,
                truncated: id,
                installing: Some((id, payload)),
                installed: None,
                damaged: true,
            },
        },
    ]
}

fn some_entries() -> Vec<Entry> {
    let payloads = [
        Payload::Empty,
        Payload::Command(Bytes::from_static(b"command")),
        Payload::Membership(MembershipChange {
            steps: vec![
                MembershipStep::AddVoter(PeerId(1)),
                MembershipStep::AddLearner(PeerId(u64::MAX)),
                MembershipStep::Remove(PeerId(3)),
            ],
            context: Bytes::from_static(b"context"),
        }),
    ];
    let entry = |(i, payload): (u64, Payload)| Entry {
        id: EntryId {
            term: Term(1 + i / 2),
            index: LogIndex(10 + i),
        },
        payload,
    };
    (0..).zip(payloads).map(entry).collect()
}

fn one_of_each() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for stored in every_record() {
        let mut bytes = Vec::new();
        encode(LOG, &mut bytes, &stored);
        all.push(bytes);
    }
    for carried in [false, true] {
        let mut bytes = Vec::new();
        encode_entries(LOG, &mut bytes, GroupId(300), &some_entries(), carried);
        all.push(bytes);
    }
    all
}

#[test]
fn records_read_back_as_written() {
    for (stored, bytes) in every_record().iter().zip(one_of_each()) {
        let found = next_record(LOG, &bytes, 0).expect("a record");
        assert_eq!(found.len, bytes.len());
        assert_eq!(found.decode().as_ref(), Some(stored));
        assert!(next_record(LOG + 1, &bytes, 0).is_none(), "another log's");
    }
    let bytes = one_of_each().pop().expect("entries");
    let found = next_record(LOG, &bytes, 0).expect("a record");
    assert_eq!(found.entries(), Some((GroupId(300), some_entries())));
    assert_eq!(
        found.decode(),
        Some(Stored::Entries {
            group: GroupId(300),
            spans: spans_of(&some_entries()),
            carried: true,
        })
    );
}

#[test]
fn a_frame_is_only_where_and_whose_it_was_written() {
    let position = Position::new(3, 128);
    let mut contents = vec![0; 128];
    contents.extend_from_slice(&frame(position, b"payload"));
    let opened = FrameHeader::open(LOG, &contents, 128);
    assert_eq!(opened, Ok(header(position, 7)));
    assert_eq!(
        FrameHeader::open(LOG + 1, &contents, 128),
        Err(NoFrame::Absent),
        "another log's"
    );
    let mut moved = vec![0; 192];
    moved.extend_from_slice(&contents[128..]);
    assert_eq!(FrameHeader::open(LOG, &moved, 192), Err(NoFrame::Absent));
    for byte in 128..contents.len() {
        let mut flipped = contents.clone();
        flipped[byte] ^= 0x20;
        let opened = FrameHeader::open(LOG, &flipped, 128);
        assert_eq!(opened, Err(NoFrame::Absent), "byte {byte}");
    }
}

#[test]
fn a_newer_frame_is_named_as_such() {
    let mut bytes = frame(Position::new(2, 0), b"x");
    bytes[8..10].copy_from_slice(&9u16.to_le_bytes());
    let crc = checksum(LOG, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(FrameHeader::open(LOG, &bytes, 0), Err(NoFrame::Newer(9)));
}

#[test]
fn the_scan_goes_on_past_a_bad_frame() {
    let mut contents = vec![0u8; 4096];
    for offset in [0u32, 512, 1024] {
        let bytes = frame(Position::new(2, offset), &[1; 300]);
        contents[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    assert_eq!(frames_in(LOG, &contents).len(), 3);
    contents[600] ^= 1;
    let offsets: Vec<u32> = frames_in(LOG, &contents)
        .iter()
        .map(|frame| frame.position.offset())
        .collect();
    assert_eq!(offsets, [0, 1024]);
}

#[test]
fn a_payload_that_looks_like_a_frame_is_not_one() {
    // Even when the frame around it is bad, a client's bytes do not pass: the checksum covers the
    // log's id.
    let inner = frame(Position::new(2, 64 + FRAME_ALIGN), b"forged");
    let mut payload = vec![0; FRAME_ALIGN as usize];
    payload.extend_from_slice(&inner);
    let mut contents = vec![0; 64];
    contents.extend_from_slice(&frame(Position::new(2, 64), &payload));
    contents[64] ^= 1;
    contents.resize(4096, 0);
    assert_eq!(frames_in(LOG + 1, &contents), vec![]);
}

fn span(first: u64, last: u64, term: u64) -> Span {
    Span {
        first: LogIndex(first),
        last: LogIndex(last),
        term: Term(term),
    }
}

#[test]
fn copies_take_the_place_of_the_originals_in_a_replay() {
    // The replay begins where the originals and the birth are gone already.
    let group = GroupId(1);
    let entries = |spans: Vec<Span>, carried| Stored::Entries {
        group,
        spans,
        carried,
    };
    let mut index = Index::default();
    let mut apply = |stored: &Stored, segment| index.apply(stored, Position::new(segment, 64), 10);
    apply(&entries(vec![span(50, 60, 3)], false), 5);
    apply(
        &Stored::Carried {
            group,
            state: GroupState {
                truncated: EntryId {
                    term: Term(1),
                    index: LogIndex(10),
                },
                ..GroupState::default()
            },
        },
        6,
    );
    apply(&entries(vec![span(11, 20, 1), span(21, 49, 2)], true), 6);
    apply(&entries(vec![span(58, 70, 4)], false), 7);
    assert_eq!(index.check(), vec![]);
    let log = &index.groups[&group];
    assert_eq!(log.term(LogIndex(10)), Some(Term(1)));
    assert_eq!(log.term(LogIndex(35)), Some(Term(2)));
    assert_eq!(log.term(LogIndex(57)), Some(Term(3)));
    assert_eq!(log.term(LogIndex(58)), Some(Term(4)));
    assert_eq!(log.term(LogIndex(71)), None);
    assert_eq!(log.last().index, LogIndex(70));
    assert_eq!(log.durable_index(Position::new(7, 0)), LogIndex(57));
}

#[test]
fn a_gap_in_a_replayed_log_is_reported_and_cut() {
    let group = GroupId(1);
    let mut index = Index::default();
    let birth = Stored::Birth {
        group,
        birth: Bytes::new(),
        hard_state: HardState::default(),
        truncated: EntryId::default(),
    };
    index.apply(&birth, Position::new(1, 64), 10);
    for spans in [vec![span(1, 5, 1)], vec![span(8, 9, 1)]] {
        let entries = Stored::Entries {
            group,
            spans,
            carried: false,
        };
        index.apply(&entries, Position::new(1, 128), 10);
    }
    assert_eq!(index.check(), vec![group]);
    assert_eq!(index.groups[&group].last().index, LogIndex(5));
}

proptest! {
    #[test]
    fn decoders_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(&bytes);
    }

    /// Valid records with damage that the checksum is made to cover: the body's decoder alone
    /// stands between these bytes and the books.
    #[test]
    fn bodies_with_a_valid_checksum_take_any_damage(
        which in 0usize..11,
        seed in any::<u64>(),
        flips in 1usize..6,
    ) {
        let mut bytes = one_of_each().swap_remove(which);
        let mut random = Prng::new(seed);
        for _ in 0..flips {
            let at = 9 + random.below(bytes.len() as u64 - 9) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        if random.chance(3) {
            bytes.truncate(9 + random.below(bytes.len() as u64 - 9) as usize);
        }
        reseal(&mut bytes);
        decode_everything(&bytes);
    }
}

fn decode_everything(bytes: &[u8]) {
    let mut at = 0;
    while let Some(found) = next_record(LOG, bytes, at) {
        // Spans are as many as the body has bytes at most, so nothing grows beyond the input.
        if let Some(Stored::Entries { spans, .. }) = found.decode() {
            assert!(spans.len() <= bytes.len());
        }
        if let Some((_, entries)) = found.entries() {
            assert!(entries.len() <= bytes.len());
        }
        at += found.len;
    }
    for offset in (0..bytes.len() as u32).step_by(FRAME_ALIGN as usize) {
        assert_eq!(FrameHeader::open(LOG, bytes, offset), Err(NoFrame::Absent));
    }
}

/// Makes length and checksum fit the body again.
fn reseal(bytes: &mut [u8]) {
    let (header, body) = bytes.split_at_mut(9);
    header[1..5].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = checksum(LOG.rotate_left(8) ^ u64::from(header[0]), body);
    header[5..9].copy_from_slice(&crc.to_le_bytes());
}
