//! One shard alone, told step by step what its shell and other stores have to say.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{
    Append, AppendOutcome, AppendReply, EntryId, GroupId, LogIndex, Message, MessageBody, PeerId,
    Pulse, Seq, Snapshot, SnapshotMetadata, Term, VoteKind, VoteRequest,
};
use tinykv_replica::{
    Birth, Command, DropReason, Effects, Event, FIRST_ENTRY, InstallError, KeyRange, Lookup, Peer,
    PeerBody, PeerMessage, Proposal, ReadError, Reader, ReceivedSnapshot, Region, RegionEpoch,
    RegionState, RoutingRange, Shard, ShardConfig, SnapshotHandle, StoreId, WaiterId,
};
use tinykv_wal::Record;

use crate::lists::{Lists, encode_append};

pub(crate) const GROUP: GroupId = GroupId(7);
pub(crate) const HERE: Peer = Peer {
    id: PeerId(1),
    store: StoreId(1),
    role: tinykv_replica::PeerRole::Voter,
};

/// An engine with nothing in it.
pub(crate) struct Empty;

impl Reader for Empty {
    fn get(&self, _: &[u8]) -> Lookup {
        Lookup::Missing
    }

    fn load(&self, _: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(None)
    }

    fn scan(&self, _: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        Ok(Vec::new())
    }
}

pub(crate) struct Single {
    pub(crate) shard: Shard<Lists>,
    pub(crate) now: Duration,
}

impl Single {
    pub(crate) fn new() -> Single {
        let mut config = ShardConfig::new(HERE.store, 1);
        config.memory_bytes_max = 1;
        Single {
            shard: Shard::new(config, Box::new(|_| Lists::default())),
            now: Duration::from_secs(1),
        }
    }

    /// One run; what it writes is durable at once.
    pub(crate) fn run(&mut self, event: Event) -> Effects<Vec<u32>> {
        self.now += Duration::from_millis(1);
        let mut inbox = vec![event];
        let effects = self.shard.run_once(&mut inbox, self.now, &Empty);
        if let Some(token) = effects.persist {
            let after = self.run(Event::Persisted(token));
            assert!(effects.entry_fetches.is_empty() || after.entry_fetches.is_empty());
            if effects.entry_fetches.is_empty() && effects.snapshot_installs.is_empty() {
                return Effects {
                    entry_fetches: after.entry_fetches,
                    snapshot_installs: after.snapshot_installs,
                    ..effects
                };
            }
        }
        effects
    }
}

pub(crate) fn state(peers: &[Peer]) -> RegionState {
    RegionState {
        region: Region {
            id: GROUP,
            start: Bytes::new(),
            end: Bytes::new(),
            epoch: RegionEpoch::FIRST,
            peers: peers.to_vec(),
        },
        open: true,
        machine: Bytes::new(),
        ..RegionState::default()
    }
}

pub(crate) fn message(from: Peer, epoch: RegionEpoch, body: PeerBody) -> PeerMessage {
    PeerMessage {
        group: GROUP,
        from,
        to: HERE,
        epoch,
        keep_after: LogIndex(0),
        range: Some(RoutingRange::default()),
        body,
    }
}

pub(crate) fn raft(from: Peer, term: u64, body: MessageBody) -> PeerBody {
    PeerBody::Raft(Message {
        from: from.id,
        to: HERE.id,
        term: Term(term),
        body,
    })
}

/// A leader that counts a learner among its peers.
fn leading(learner: Peer) -> Single {
    let mut single = Single::new();
    single.run(Event::Create(Birth {
        peer: HERE,
        state: state(&[HERE, learner]),
    }));
    single
}

/// A peer has all up to an index.
fn accepts(single: &Single, from: Peer, upto: LogIndex) -> Event {
    let reply = AppendReply {
        seq: Seq(0),
        outcome: AppendOutcome::Accepted {
            matched: upto,
            durable: upto,
        },
    };
    let status = single.shard.status(GROUP).expect("it lives here");
    let term = status.raft.hard_state.term.0;
    let body = raft(from, term, MessageBody::AppendReply(reply));
    Event::Message(message(from, RegionEpoch::FIRST, body))
}

/// Damage of its store's log may leave nothing of a peer: only who knows its keys is born.
#[test]
fn who_falls_silent_is_told_the_keys_once_more() {
    let other = Peer::learner(PeerId(2), StoreId(2));
    let mut single = leading(other);
    let last = single.shard.status(GROUP).expect("it lives").raft.last;
    let calls_with_keys = |single: &mut Single, ticks: u32| -> Vec<bool> {
        let calls = (0..ticks).flat_map(|_| single.run(Event::Tick).messages);
        calls.map(|call| call.range.is_some()).collect()
    };
    assert!(calls_with_keys(&mut single, 20).contains(&true), "unheard");
    single.run(accepts(&single, other, last.index));
    let answered = calls_with_keys(&mut single, 2);
    assert!(!answered.is_empty() && !answered.contains(&true));
    assert_eq!(calls_with_keys(&mut single, 50).last(), Some(&true));
}

#[test]
fn who_needs_what_is_cut_gets_a_snapshot_at_once() {
    let other = Peer::learner(PeerId(2), StoreId(2));
    let mut single = leading(other);
    for number in 1..10 {
        let command = Command::build(RegionEpoch::FIRST, 6, |out| {
            encode_append(b"k", number, out)
        });
        single.run(Event::Propose(Proposal {
            group: GROUP,
            peer: None,
            term: None,
            command,
            deadline: Duration::from_secs(60),
            waiter: WaiterId(u64::from(number)),
        }));
    }
    let status = single.shard.status(GROUP).expect("it lives here");
    assert_eq!(status.applied.index, status.raft.last.index);
    let accepted = accepts(&single, other, FIRST_ENTRY.index);
    let mut effects = single.run(accepted);
    let request = effects.entry_fetches.pop().expect("old entries are wanted");
    let nothing = Event::EntriesFetched {
        request,
        entries: Ok(Vec::new()),
    };
    let after = single.run(nothing);
    assert!(after.entry_fetches.is_empty(), "it asks again");
    assert_eq!(after.snapshot_sends.len(), 1);
}

/// A learner-to-be whose snapshot is being installed.
fn installing() -> (Single, EntryId) {
    let leader = Peer::voter(PeerId(5), StoreId(2));
    let here = Peer::learner(HERE.id, HERE.store);
    let mut single = Single::new();
    let append = Append {
        previous: EntryId::default(),
        entries: Vec::new(),
        commit: LogIndex(0),
        pulse: Pulse::default(),
    };
    let body = raft(leader, 3, MessageBody::Append(append));
    single.run(Event::Message(message(leader, RegionEpoch::FIRST, body)));
    let last = EntryId {
        term: Term(3),
        index: LogIndex(40),
    };
    let state = state(&[here, leader]);
    let metadata = SnapshotMetadata {
        last,
        configuration: state.region.configuration(),
    };
    let body = raft(leader, 3, MessageBody::Snapshot(Snapshot { metadata }));
    let received = ReceivedSnapshot {
        message: message(leader, RegionEpoch::FIRST, body),
        state,
        handle: SnapshotHandle(9),
    };
    let effects = single.run(Event::SnapshotReceived(Box::new(received)));
    assert_eq!(effects.snapshot_installs.len(), 1);
    (single, last)
}

fn finish(single: &mut Single, snapshot: EntryId, error: InstallError) -> Effects<Vec<u32>> {
    single.run(Event::SnapshotInstalled {
        group: GROUP,
        peer: HERE.id,
        snapshot,
        result: Err(error),
    })
}

pub(crate) fn is_buried(effects: &Effects<Vec<u32>>) -> bool {
    let records = &effects.wal.records;
    records
        .iter()
        .any(|record| matches!(record, Record::Tombstone { .. }))
}

#[test]
fn a_peer_damaged_by_its_snapshot_can_be_buried() {
    let (mut single, last) = installing();
    let error = InstallError::Damaged(ReadError("a broken table".to_owned()));
    assert_eq!(finish(&mut single, last, error).damaged.len(), 1);
    let (group, peer) = (GROUP, HERE.id);
    assert!(is_buried(&single.run(Event::Destroy { group, peer })));
}

#[test]
fn a_damaged_peer_believes_that_it_was_removed() {
    let (mut single, last) = installing();
    let error = InstallError::Damaged(ReadError("a broken table".to_owned()));
    finish(&mut single, last, error);
    let leader = Peer::voter(PeerId(5), StoreId(2));
    let later = RegionEpoch {
        conf_ver: 9,
        ..RegionEpoch::FIRST
    };
    let gone = message(leader, later, PeerBody::Gone);
    assert!(is_buried(&single.run(Event::Message(gone))));
}

/// What siblings say before the split is applied here calls nobody into life: the keys are the
/// parent's.
#[test]
fn sibling_message_before_the_split_is_applied() {
    let mut single = Single::new();
    let parent = Event::Create(Birth {
        peer: HERE,
        state: state(&[HERE]),
    });
    single.run(parent);
    let child = GroupId(8);
    let leader = Peer::voter(PeerId(25), StoreId(2));
    let here = Peer::voter(PeerId(26), HERE.store);
    let body = |body| {
        PeerBody::Raft(Message {
            from: leader.id,
            to: here.id,
            term: Term(2),
            body,
        })
    };
    let append = MessageBody::Append(Append {
        previous: FIRST_ENTRY,
        entries: Vec::new(),
        commit: FIRST_ENTRY.index,
        pulse: Pulse::default(),
    });
    let vote = MessageBody::VoteRequest(VoteRequest {
        kind: VoteKind::Vote,
        campaign: Term(2),
        last: FIRST_ENTRY,
        force: None,
        first: true,
    });
    for said in [append, vote] {
        let range = RoutingRange {
            start: Bytes::from_static(b"m"),
            end: Bytes::new(),
        };
        let message = PeerMessage {
            group: child,
            from: leader,
            to: here,
            epoch: RegionEpoch::FIRST,
            keep_after: LogIndex(0),
            range: Some(range),
            body: body(said.clone()),
        };
        let effects = single.run(Event::Message(message.clone()));
        assert_eq!(effects.dropped[0].reason, DropReason::Overlap(GROUP));
        assert!(effects.wal.is_empty() && single.shard.peer(child).is_none());
        let silent = PeerMessage {
            range: None,
            ..message
        };
        let effects = single.run(Event::Message(silent));
        assert_eq!(effects.dropped[0].reason, DropReason::UnknownGroup);
    }
}

#[test]
fn an_installation_that_waits_is_not_given_up() {
    let (mut single, last) = installing();
    finish(&mut single, last, InstallError::Overlap(GroupId(8)));
    let effects = single.run(Event::Tick);
    assert_eq!(effects.snapshot_installs.len(), 1);
}
