//! What comes from outside and cannot be right: settings that contradict themselves, and messages
//! that no correct peer sends. Refused with a reason, and nothing changes.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{
    Append, AppendOutcome, AppendReply, Config, Configuration, Entry, EntryId, Force, Initial,
    LogIndex, MembershipChange, MembershipStep, Message, MessageBody, Payload, PeerId, Pulse, Raft,
    Seq, SnapshotMetadata, StepError, Term, TimeoutNow, VoteKind, VoteRequest,
};

const NOW: Duration = Duration::from_secs(1);

fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: LogIndex(index),
    }
}

fn voters(ids: &[u64]) -> Configuration {
    Configuration {
        voters: ids.iter().copied().map(PeerId).collect(),
        ..Configuration::default()
    }
}

/// Peer 1 of three, which follows peer 2 in term 5 and has one committed entry.
fn follower() -> Raft {
    let config = Config::new(PeerId(1), 1);
    let mut raft = Raft::new(config, Initial::new(voters(&[1, 2, 3]), Duration::ZERO));
    let entry = entry(1, 5, Payload::Empty);
    let first = append(id(0, 0), vec![entry], 1);
    raft.step(from(2, 5, first), NOW).expect("it is sound");
    while let Some(ready) = raft.ready(NOW) {
        raft.on_persisted(ready.number);
    }
    assert_eq!(raft.commit(), LogIndex(1));
    raft
}

fn entry(index: u64, term: u64, payload: Payload) -> Entry {
    Entry {
        id: id(index, term),
        payload,
    }
}

fn append(previous: EntryId, entries: Vec<Entry>, commit: u64) -> MessageBody {
    MessageBody::Append(Append {
        previous,
        entries,
        commit: LogIndex(commit),
        pulse: Pulse::default(),
    })
}

fn from(peer: u64, term: u64, body: MessageBody) -> Message {
    Message {
        from: PeerId(peer),
        to: PeerId(1),
        term: Term(term),
        body,
    }
}

/// The message is refused, and changes nothing.
fn refused(message: Message) -> StepError {
    let mut raft = follower();
    let before = raft.status();
    let error = raft.step(message, NOW).expect_err("it cannot be right");
    assert_eq!(raft.status(), before);
    assert_eq!(raft.ready(NOW), None);
    error
}

#[test]
fn appends_that_no_leader_sends_are_refused() {
    let malformed = [
        append(id(1, 5), vec![entry(3, 5, Payload::Empty)], 1),
        append(id(1, 5), vec![entry(2, 4, Payload::Empty)], 1),
        append(id(1, 5), vec![entry(2, 6, Payload::Empty)], 1),
        append(id(0, 3), Vec::new(), 0),
        append(id(u64::MAX, 5), Vec::new(), 0),
    ];
    for body in malformed {
        assert!(matches!(refused(from(2, 5, body)), StepError::Malformed(_)));
    }
    let conflict = append(id(0, 0), vec![entry(1, 4, Payload::Empty)], 0);
    let error = refused(from(2, 5, conflict));
    assert!(matches!(error, StepError::CommittedConflict { .. }));
    let error = refused(from(3, 5, append(id(1, 5), Vec::new(), 1)));
    assert!(matches!(error, StepError::TwoLeaders { .. }));
}

#[test]
fn changes_that_no_leader_proposes_are_refused() {
    let twice = [
        MembershipStep::AddVoter(PeerId(4)),
        MembershipStep::Remove(PeerId(4)),
    ];
    let nobody = [MembershipStep::AddLearner(PeerId(0))];
    let many: Vec<_> = (1..100)
        .map(|it| MembershipStep::AddVoter(PeerId(it)))
        .collect();
    for steps in [twice.to_vec(), nobody.to_vec(), many] {
        let change = MembershipChange {
            steps,
            context: Bytes::new(),
        };
        let entry = entry(2, 5, Payload::Membership(change));
        let error = refused(from(2, 5, append(id(1, 5), vec![entry], 1)));
        assert!(matches!(error, StepError::Malformed(_)));
    }
}

#[test]
fn messages_that_do_not_belong_here_are_refused() {
    let heartbeat = || append(id(1, 5), Vec::new(), 1);
    let mut other = from(2, 5, heartbeat());
    other.to = PeerId(9);
    assert!(matches!(refused(other), StepError::WrongReceiver { .. }));
    let own = from(1, 5, heartbeat());
    assert!(matches!(refused(own), StepError::WrongReceiver { .. }));
}

/// One message must not lead a group to where there are no terms left.
#[test]
fn terms_that_nobody_can_have_reached_are_refused() {
    let leap = 1 << 32;
    let vote = |campaign| {
        MessageBody::VoteRequest(VoteRequest {
            kind: VoteKind::Vote,
            campaign: Term(campaign),
            last: id(1, 5),
            force: None,
            first: false,
        })
    };
    for term in [5 + leap + 1, 1 << 61, u64::MAX] {
        for body in [append(id(1, 5), Vec::new(), 1), vote(term)] {
            let expected = StepError::AbsurdTerm {
                from: PeerId(2),
                term: Term(term),
                here: Term(5),
            };
            assert_eq!(refused(from(2, term, body)), expected);
        }
    }
    let mut raft = follower();
    let far = from(2, 5 + leap, append(id(1, 5), Vec::new(), 1));
    raft.step(far, NOW).expect("it may have been away for long");
    assert_eq!(raft.term(), Term(5 + leap));
}

#[test]
fn votes_and_orders_of_another_term_than_their_sender_s_are_refused() {
    let request = |kind| {
        MessageBody::VoteRequest(VoteRequest {
            kind,
            campaign: Term(9),
            last: id(1, 5),
            force: None,
            first: false,
        })
    };
    let force = Force {
        term: Term(4),
        seq: Seq(1),
    };
    let order = MessageBody::TimeoutNow(TimeoutNow { force });
    for body in [request(VoteKind::Vote), request(VoteKind::PreVote), order] {
        assert!(matches!(refused(from(2, 5, body)), StepError::Malformed(_)));
    }
}

#[test]
fn snapshots_that_cannot_be_are_refused() {
    let both = Configuration {
        learners: [PeerId(1)].into(),
        ..voters(&[1])
    };
    let stranger = Configuration {
        learners_next: [PeerId(7)].into(),
        ..voters(&[1])
    };
    let wrong = [
        (id(0, 0), voters(&[1])),
        (id(9, 6), voters(&[1])),
        (id(9, 5), voters(&[])),
        (id(9, 5), both),
        (id(9, 5), stranger),
    ];
    for (last, configuration) in wrong {
        let metadata = SnapshotMetadata {
            last,
            configuration,
        };
        let message = Message::snapshot(PeerId(2), PeerId(1), Term(5), metadata);
        assert!(matches!(refused(message), StepError::Malformed(_)));
    }
}

#[test]
fn answers_to_what_was_never_sent_are_refused() {
    let config = Config::new(PeerId(1), 1);
    let initial = Initial::new(voters(&[1]), Duration::ZERO);
    let mut raft = Raft::new(config, initial);
    let settle = |raft: &mut Raft| {
        while let Some(ready) = raft.ready(NOW) {
            raft.on_persisted(ready.number);
            for entry in &ready.committed {
                if let Payload::Membership(change) = &entry.payload {
                    raft.apply_membership(change);
                }
                raft.on_applied(entry.id.index);
            }
        }
    };
    settle(&mut raft);
    let steps = vec![MembershipStep::AddLearner(PeerId(2))];
    let change = MembershipChange {
        steps,
        context: Bytes::new(),
    };
    raft.propose_membership(change).expect("it leads");
    settle(&mut raft);
    let reply = |seq, matched, durable| {
        let (matched, durable) = (LogIndex(matched), LogIndex(durable));
        MessageBody::AppendReply(AppendReply {
            seq: Seq(seq),
            outcome: AppendOutcome::Accepted { matched, durable },
        })
    };
    let before = raft.status();
    let term = raft.term().0;
    for body in [reply(99, 1, 1), reply(0, 99, 1), reply(0, 1, 2)] {
        let error = raft.step(from(2, term, body), NOW);
        assert!(matches!(error, Err(StepError::NeverSent { .. })));
    }
    assert_eq!(raft.status(), before);
}

#[test]
fn settings_that_contradict_themselves_are_refused_in_a_sentence() {
    let wrong: [fn(&mut Config); 8] = [
        |it| it.id = PeerId(0),
        |it| it.heartbeat_ticks = 0,
        |it| it.election_ticks_min = it.heartbeat_ticks,
        |it| it.election_ticks_max = it.election_ticks_min,
        |it| it.append_bytes_max = 0,
        |it| it.in_flight_messages_max = 0,
        |it| it.in_flight_bytes_max = it.append_bytes_max - 1,
        |it| it.drift_percent = 100,
    ];
    for spoil in wrong {
        let mut config = Config::new(PeerId(1), 1);
        assert_eq!(config.validate(), Ok(()));
        spoil(&mut config);
        let sentence = config.validate().expect_err("spoilt");
        assert!(sentence.contains(" must "), "{sentence}");
    }
}
