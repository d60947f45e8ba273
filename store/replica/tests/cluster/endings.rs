//! How things end: requests of a peer that cannot go on, and messages that nobody should have sent.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{
    Append, Entry, EntryId, Fetch, FetchPurpose, LogIndex, MembershipChange, MembershipStep,
    MessageBody, Payload, PeerId, Pulse, StepError, Term, VoteKind, VoteRequest,
};
use tinykv_replica::{
    AdminAction, AdminRequest, Birth, Command, Doubt, DropReason, Effects, EntryFetch, Event,
    FIRST_ENTRY, Outcome, Peer, PeerBody, PeerChange, Proposal, ReadError, ReadRequest, Refusal,
    RegionEpoch, StoreId, WaiterId,
};

use tinykv_wal::Record;

use crate::lists::encode_append;
use crate::single::{Empty, GROUP, HERE, Single, message, raft, state};

pub(crate) const OTHER: Peer = Peer {
    id: PeerId(2),
    store: StoreId(2),
    role: tinykv_replica::PeerRole::Voter,
};
pub(crate) const LATE: Duration = Duration::from_secs(60);

pub(crate) fn proposal(waiter: u64, deadline: Duration) -> Event {
    let command = Command::build(RegionEpoch::FIRST, 6, |out| encode_append(b"k", 1, out));
    Event::Propose(Proposal {
        group: GROUP,
        peer: None,
        term: None,
        command,
        deadline,
        waiter: WaiterId(waiter),
    })
}

pub(crate) fn read(waiter: u64) -> Event {
    Event::Read(ReadRequest {
        group: GROUP,
        peer: None,
        epoch: None,
        deadline: LATE,
        waiter: WaiterId(waiter),
    })
}

/// A leader alone with two commands in its log that are not durable yet.
fn with_open_proposals() -> Single {
    let mut single = Single::new();
    single.run(Event::Create(Birth {
        peer: HERE,
        state: state(&[HERE]),
    }));
    let mut inbox = vec![proposal(1, LATE), proposal(2, Duration::from_secs(3))];
    let effects = single.shard.run_once(&mut inbox, single.now, &Empty);
    assert!(effects.replies.is_empty() && effects.persist.is_some());
    single
}

fn endings(mut effects: Effects<Vec<u32>>) -> Vec<(WaiterId, Outcome<Vec<u32>>)> {
    effects.replies.sort_by_key(|reply| reply.0);
    effects.replies
}

fn damage() -> Event {
    let fetch = Fetch {
        purpose: FetchPurpose::Apply,
        term: Term(2),
        from: LogIndex(2),
        upto: LogIndex(2),
        bytes_max: 1,
    };
    let request = EntryFetch {
        group: GROUP,
        peer: HERE.id,
        fetch,
    };
    let entries = Err(ReadError("a bad sector".to_owned()));
    Event::EntriesFetched { request, entries }
}

#[test]
fn whoever_waits_is_answered_when_the_peer_cannot_go_on() {
    let (group, peer) = (GROUP, HERE.id);
    let cases = [
        (damage(), Doubt::Damaged, Refusal::Damaged),
        (
            Event::Destroy { group, peer },
            Doubt::RegionGone,
            Refusal::RegionNotFound,
        ),
        (Event::Shutdown, Doubt::ShuttingDown, Refusal::ShuttingDown),
    ];
    for (event, doubt, refusal) in cases {
        let mut single = with_open_proposals();
        let mut inbox = vec![event];
        let effects = single.shard.run_once(&mut inbox, single.now, &Empty);
        let undetermined = Outcome::Undetermined(doubt);
        assert_eq!(
            endings(effects),
            [
                (WaiterId(1), undetermined.clone()),
                (WaiterId(2), undetermined)
            ]
        );
        // Whoever comes later is refused at once.
        let mut inbox = vec![proposal(3, LATE), read(4)];
        let effects = single.shard.run_once(&mut inbox, single.now, &Empty);
        let refused = Outcome::DefinitelyNot(refusal);
        assert_eq!(
            endings(effects),
            [(WaiterId(3), refused.clone()), (WaiterId(4), refused)]
        );
    }
}

#[test]
fn whoever_waits_for_the_disk_is_answered_at_the_deadline() {
    let mut single = with_open_proposals();
    single.now = Duration::from_secs(4);
    let mut inbox = vec![Event::Tick];
    let effects = single.shard.run_once(&mut inbox, single.now, &Empty);
    let doubt = Outcome::Undetermined(Doubt::DeadlineExceeded);
    assert_eq!(endings(effects), [(WaiterId(2), doubt)]);
}

pub(crate) fn vote(kind: VoteKind, term: u64) -> MessageBody {
    MessageBody::VoteRequest(VoteRequest {
        kind,
        campaign: match kind {
            VoteKind::PreVote => Term(term + 1),
            VoteKind::Vote => Term(term),
        },
        last: EntryId {
            term: Term(term),
            index: LogIndex(1_000),
        },
        force: None,
        first: false,
    })
}

pub(crate) fn append(entries: Vec<Entry>) -> MessageBody {
    MessageBody::Append(Append {
        previous: FIRST_ENTRY,
        entries,
        commit: FIRST_ENTRY.index,
        pulse: Pulse::default(),
    })
}

pub(crate) fn said(from: Peer, term: u64, body: MessageBody) -> Event {
    Event::Message(message(from, RegionEpoch::FIRST, raft(from, term, body)))
}

#[test]
fn messages_that_cannot_be_right_are_told_apart() {
    let mut single = Single::new();
    single.run(Event::Create(Birth {
        peer: HERE,
        state: state(&[HERE, OTHER]),
    }));
    let entry = |payload| Entry {
        id: EntryId {
            term: Term(3),
            index: FIRST_ENTRY.index.next(),
        },
        payload,
    };
    let garbage = entry(Payload::Command(Bytes::from_static(b"\xff\x00\x01")));
    let other_context = entry(Payload::Membership(MembershipChange {
        steps: vec![MembershipStep::Remove(HERE.id)],
        context: Bytes::from_static(b"nonsense"),
    }));
    let bad = DropReason::BadEntry(garbage.id);
    let absurd = DropReason::Refused(StepError::AbsurdTerm {
        from: OTHER.id,
        term: Term(u64::MAX),
        here: Term(1),
    });
    let mut for_another_group = message(OTHER, RegionEpoch::FIRST, PeerBody::Probe);
    for_another_group.group = tinykv_raft::GroupId(77);
    let mut for_another_store = message(OTHER, RegionEpoch::FIRST, PeerBody::Probe);
    for_another_store.to.store = StoreId(9);
    let elder = Peer::voter(PeerId(0), HERE.store);
    let mut for_an_elder = message(OTHER, RegionEpoch::FIRST, PeerBody::Probe);
    for_an_elder.to = elder;
    let envelope = PeerBody::Raft(tinykv_raft::Message {
        from: PeerId(66),
        to: HERE.id,
        term: Term(3),
        body: append(Vec::new()),
    });
    let removed = Peer::voter(PeerId(40), StoreId(4));
    let probe = message(removed, RegionEpoch::FIRST, PeerBody::Probe);
    let cases = [
        (said(OTHER, 3, append(vec![garbage])), bad.clone()),
        (said(OTHER, 3, append(vec![other_context])), bad),
        (said(OTHER, u64::MAX, append(Vec::new())), absurd),
        (Event::Message(for_another_group), DropReason::UnknownGroup),
        (Event::Message(for_another_store), DropReason::Misaddressed),
        (Event::Message(for_an_elder), DropReason::Misaddressed),
        (
            Event::Message(message(OTHER, RegionEpoch::FIRST, envelope)),
            DropReason::Misaddressed,
        ),
        (Event::Message(probe), DropReason::NotMember),
    ];
    let before = single.shard.status(GROUP).expect("it lives here").raft;
    for (event, reason) in cases {
        let effects = single.run(event);
        let reasons: Vec<_> = effects.dropped.iter().map(|it| it.reason.clone()).collect();
        assert_eq!(reasons, [reason]);
        assert!(effects.wal.is_empty() && effects.messages.is_empty());
    }
    let after = single.shard.status(GROUP).expect("it lives here").raft;
    assert_eq!(after, before, "nothing of it left a trace");
}

/// `sim --seed 14105`: a voter that missed its removal asks those that were voters with it; the new
/// leader is not among them.
#[test]
fn a_removed_peer_that_asks_a_follower_is_dismissed_by_the_leader() {
    let removed = Peer::voter(PeerId(40), StoreId(4));
    let wants_vote = MessageBody::VoteRequest(VoteRequest {
        kind: VoteKind::PreVote,
        campaign: Term(4),
        last: FIRST_ENTRY,
        force: None,
        first: true,
    });
    for asks in [PeerBody::Probe, raft(removed, 4, wants_vote)] {
        let mut follower = Single::new();
        follower.run(Event::Create(Birth {
            peer: HERE,
            state: state(&[HERE, OTHER]),
        }));
        let asked = message(removed, RegionEpoch::FIRST, asks);
        let effects = follower.run(Event::Message(asked.clone()));
        assert!(passed_on(&effects).is_empty(), "there is no leader");
        follower.run(said(OTHER, 3, append(Vec::new())));
        let effects = follower.run(Event::Message(asked));
        assert_eq!(passed_on(&effects), [(OTHER.id, removed)]);
        let again = message(OTHER, RegionEpoch::FIRST, PeerBody::AskedBy(removed));
        let effects = follower.run(Event::Message(again));
        assert!(passed_on(&effects).is_empty(), "once is enough");
    }
    let mut leader = Single::new();
    leader.run(Event::Create(Birth {
        peer: HERE,
        state: state(&[HERE]),
    }));
    leader.run(proposal(1, LATE));
    let told = message(OTHER, RegionEpoch::FIRST, PeerBody::AskedBy(removed));
    let effects = leader.run(Event::Message(told));
    let farewell: Vec<_> = effects
        .messages
        .iter()
        .map(|it| (it.to, &it.body))
        .collect();
    assert_eq!(farewell, [(removed, &PeerBody::Gone)]);
}

fn passed_on(effects: &Effects<Vec<u32>>) -> Vec<(PeerId, Peer)> {
    let passed = effects.messages.iter().map(|it| match it.body {
        PeerBody::AskedBy(peer) => Some((it.to.id, peer)),
        _ => None,
    });
    passed.flatten().collect()
}

/// `sim --seed 20137`: a promotion was applied everywhere, then one voter's disk broke and the power
/// failed for the others. They counted by the old configuration, in which the broken one is needed.
#[test]
fn that_a_membership_is_committed_is_on_record_once_it_is_applied() {
    let mut single = Single::new();
    single.run(Event::Create(Birth {
        peer: HERE,
        state: state(&[HERE]),
    }));
    single.run(proposal(1, LATE));
    let learner = Peer::learner(PeerId(9), StoreId(9));
    let change = AdminAction::ChangePeers {
        epoch: RegionEpoch::FIRST,
        changes: vec![PeerChange::AddLearner(learner)],
    };
    let mut inbox = vec![Event::Admin(AdminRequest {
        group: GROUP,
        action: change,
        deadline: LATE,
        waiter: None,
    })];
    let (mut changed_at, mut commit) = (LogIndex(0), LogIndex(0));
    loop {
        let effects = single.shard.run_once(&mut inbox, single.now, &Empty);
        for record in effects.wal.records {
            match record {
                Record::Entries { entries, .. } => {
                    changed_at = entries.last().map_or(changed_at, |last| last.id.index);
                }
                Record::HardState { hard_state, .. } => commit = hard_state.commit,
                _ => {}
            }
        }
        match effects.persist {
            Some(token) => inbox.push(Event::Persisted(token)),
            None => break,
        }
    }
    let status = single.shard.status(GROUP).expect("it lives here");
    assert_eq!(status.applied.index, changed_at);
    assert!(changed_at > FIRST_ENTRY.index && commit == changed_at);
}
