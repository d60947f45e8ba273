//! What is encoded comes back; what is not encoded never panics.

use std::time::Duration;

use bytes::Bytes;
use tinykv_env::Prng;
use tinykv_raft::{
    Configuration, Entry, EntryId, GroupId, LogIndex, MembershipChange, MembershipStep, Payload,
    PeerId, SnapshotMetadata, Term,
};
use tinykv_replica::{
    Freeze, Heir, MergePhase, Peer, PeerRole, Region, RegionEpoch, RoutingRange, StoreId,
};

use super::*;

fn id(random: &mut Prng) -> EntryId {
    EntryId {
        term: Term(random.below(9)),
        index: LogIndex(random.next_u64()),
    }
}

fn peer(random: &mut Prng) -> Peer {
    let roles = [
        PeerRole::Voter,
        PeerRole::Learner,
        PeerRole::IncomingVoter,
        PeerRole::DemotingVoter,
        PeerRole::LeavingVoter,
    ];
    Peer {
        id: PeerId(random.next_u64()),
        store: StoreId(random.next_u64()),
        role: *random.pick(&roles).expect("four roles"),
    }
}

fn blob(random: &mut Prng) -> Bytes {
    let mut bytes = vec![0; random.below(40) as usize];
    random.fill(&mut bytes);
    Bytes::from(bytes)
}

fn entry(random: &mut Prng) -> Entry {
    let payload = match random.below(3) {
        0 => Payload::Empty,
        1 => Payload::Command(blob(random)),
        _ => Payload::Membership(MembershipChange {
            steps: vec![
                MembershipStep::AddVoter(PeerId(random.next_u64())),
                MembershipStep::AddLearner(PeerId(2)),
                MembershipStep::Remove(PeerId(3)),
            ],
            context: blob(random),
        }),
    };
    Entry {
        id: id(random),
        payload,
    }
}

fn force(random: &mut Prng) -> Force {
    Force {
        term: Term(random.below(9)),
        seq: Seq(random.next_u64()),
    }
}

fn body(random: &mut Prng) -> MessageBody {
    let kind = match random.chance(2) {
        true => VoteKind::PreVote,
        false => VoteKind::Vote,
    };
    let campaign = Term(random.below(9));
    match random.below(10) {
        0 => MessageBody::VoteRequest(VoteRequest {
            kind,
            campaign,
            last: id(random),
            force: random.chance(2).then(|| force(random)),
            first: random.chance(2),
        }),
        1 => MessageBody::VoteReply(VoteReply {
            kind,
            campaign,
            commit: id(random),
            refusal: match random.below(4) {
                0 => None,
                1 => Some(Refusal::Promised(Duration::from_nanos(random.next_u64()))),
                2 => Some(Refusal::Behind),
                _ => Some(Refusal::Voted),
            },
        }),
        2 => MessageBody::AppendReply(AppendReply {
            seq: Seq(random.next_u64()),
            outcome: match random.below(5) {
                0 => AppendOutcome::Accepted {
                    matched: LogIndex(random.next_u64()),
                    durable: LogIndex(random.next_u64()),
                },
                1 => AppendOutcome::Rejected {
                    previous: LogIndex(random.next_u64()),
                    hint: id(random),
                },
                2 => AppendOutcome::NeedsSnapshot,
                3 => AppendOutcome::Busy,
                _ => AppendOutcome::StaleTerm,
            },
        }),
        3 => MessageBody::Snapshot(Snapshot {
            metadata: metadata(random),
        }),
        4 => MessageBody::TimeoutNow(TimeoutNow {
            force: force(random),
        }),
        _ => MessageBody::Append(Append {
            previous: id(random),
            entries: (0..random.below(4)).map(|_| entry(random)).collect(),
            commit: LogIndex(random.next_u64()),
            pulse: Pulse {
                seq: Seq(random.next_u64()),
                promise: Duration::from_millis(500),
            },
        }),
    }
}

fn metadata(random: &mut Prng) -> SnapshotMetadata {
    let mut peers = || (0..random.below(3)).map(PeerId).collect();
    let configuration = Configuration {
        voters: peers(),
        voters_outgoing: peers(),
        learners: peers(),
        learners_next: peers(),
    };
    SnapshotMetadata {
        last: id(random),
        configuration,
    }
}

fn message(random: &mut Prng) -> PeerMessage {
    let (from, to) = (peer(random), peer(random));
    PeerMessage {
        group: GroupId(random.next_u64()),
        from,
        to,
        epoch: RegionEpoch {
            conf_ver: random.below(9),
            version: random.below(9),
        },
        keep_after: LogIndex(random.below(9)),
        range: random.chance(2).then(|| RoutingRange {
            start: Bytes::from(random.next_u64().to_string()),
            end: Bytes::new(),
        }),
        body: match random.below(10) {
            0 => PeerBody::Gone,
            1 => PeerBody::Probe,
            2 => PeerBody::Rest(rest(random)),
            3 => PeerBody::AskedBy(peer(random)),
            4 => PeerBody::Merge(merge_word(random)),
            _ => PeerBody::Raft(Message {
                from: from.id,
                to: to.id,
                term: Term(random.below(9)),
                body: body(random),
            }),
        },
    }
}

fn merge_word(random: &mut Prng) -> MergeWord {
    match random.below(5) {
        0 => {
            let prepared = id(random);
            return MergeWord::Declined { prepared };
        }
        1 => {
            let start = random.chance(2).then(|| blob(random));
            let group = GroupId(random.below(9));
            let into = Heir { group, start };
            return MergeWord::Merged { into };
        }
        _ => {}
    }
    let freeze = Freeze {
        prepared: id(random),
        target: GroupId(random.below(9)),
        start: blob(random),
        epoch: RegionEpoch::FIRST,
    };
    let mut state = RegionState::default();
    state.merges.phase = MergePhase::Frozen(freeze);
    MergeWord::Plea {
        epoch: RegionEpoch::FIRST,
        source: GroupId(random.below(9)),
        plea: match random.below(3) {
            0 => Plea::Tell,
            1 => Plea::Decline,
            _ => Plea::Commit(Box::new(state)),
        },
    }
}

fn rest(random: &mut Prng) -> Rest {
    let (term, last) = (Term(random.below(9)), LogIndex(random.below(9)));
    match random.below(5) {
        0 => Rest::Ask { term, last },
        1 => Rest::Agree { term, last },
        2 => Rest::Sleep { term, last },
        3 => Rest::Wake,
        _ => Rest::Disown,
    }
}

#[test]
fn every_message_comes_back_as_it_was() {
    let random = &mut Prng::new(1);
    for _ in 0..500 {
        let messages: Vec<_> = (0..random.below(4)).map(|_| message(random)).collect();
        let payload = encode_messages(&messages);
        assert_eq!(decode_messages(&payload), Ok(messages));
    }
}

#[test]
fn a_snapshot_header_comes_back_as_it_was() {
    let random = &mut Prng::new(2);
    for _ in 0..100 {
        let region = Region {
            id: GroupId(5),
            start: blob(random),
            end: blob(random),
            epoch: RegionEpoch::FIRST,
            peers: vec![peer(random)],
        };
        let header = SnapshotHeader {
            message: message(random),
            state: RegionState {
                region,
                open: true,
                machine: blob(random),
                ..RegionState::default()
            },
        };
        let payload = encode_snapshot_header(&header);
        assert_eq!(decode_snapshot_header(&payload), Ok(header));
    }
}

/// Cuts, flips, noise and absurd lengths: an error or a message, never a panic, and no
/// allocation by a length that the input does not bear out.
#[test]
fn bad_bytes_never_panic() {
    let random = &mut Prng::new(3);
    for _ in 0..2_000 {
        let messages: Vec<_> = (0..1 + random.below(3)).map(|_| message(random)).collect();
        let payload = encode_messages(&messages);
        let cut = random.below(payload.len() as u64) as usize;
        assert!(decode_messages(&payload[..cut]).is_err());
        let mut bent = payload.to_vec();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bent.len() as u64) as usize;
            bent[at] = random.next_u64() as u8;
        }
        drop(decode_messages(&bent));
        drop(decode_snapshot_header(&bent));
    }
    for len in 0..200 {
        let mut noise = vec![0; len];
        random.fill(&mut noise);
        drop(decode_messages(&noise));
        if let Some(format) = noise.first_mut() {
            *format = FORMAT;
        }
        drop(decode_messages(&noise));
        drop(decode_snapshot_header(&noise));
    }
    let endless = [FORMAT, 0xff, 0xff, 0xff, 0xff];
    assert!(decode_messages(&endless).is_err());
}

#[test]
fn a_newer_format_is_refused() {
    let mut payload = encode_messages(&[]).to_vec();
    payload[0] = FORMAT + 1;
    let error = decode_messages(&payload).expect_err("newer");
    assert_eq!(error.problem, "unknown format");
}
