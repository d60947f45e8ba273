//! Restarts that find a log damaged below what was acknowledged (D6): what is left of such peers,
//! and how they go.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, HardState, LogIndex, PeerId, Term, VoteKind};
use tinykv_replica::{
    BirthRecord, DropReason, Effects, Event, FIRST_ENTRY, KeyRange, Lookup, Outcome, Peer,
    PeerBody, PeerMessage, ReadError, Reader, RecoveredReplica, RecoveredTombstone, Refusal,
    RegionEpoch, RegionState, Rest, RoutingRange, Shard, ShardConfig, SplitPoint, StateMachine,
    TombstoneRecord,
};
use tinykv_wal::{Record, RecoveredGroup};

use crate::endings::{LATE, OTHER, append, proposal, read, said, vote};
use crate::lists::{Lists, data_key};
use crate::single::{GROUP, HERE, Single, is_buried, message, state};

const CHILD: GroupId = GroupId(8);
const GRANDCHILD: GroupId = GroupId(9);
const CHILD_HERE: Peer = Peer {
    id: PeerId(26),
    ..HERE
};
const CHILD_OTHER: Peer = Peer {
    id: PeerId(27),
    ..OTHER
};
const SPLIT: SplitPoint = SplitPoint {
    group: GROUP,
    peer: HERE.id,
    index: LogIndex(9),
};
const LATER: RegionEpoch = RegionEpoch {
    conf_ver: 9,
    version: 2,
};

/// An engine of which only the states of regions matter.
#[derive(Default)]
struct States(BTreeMap<Bytes, Bytes>);

impl Reader for States {
    fn get(&self, _: &[u8]) -> Lookup {
        Lookup::Missing
    }

    fn load(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, _: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        Ok(Vec::new())
    }
}

fn found(group: GroupId, birth: &BirthRecord, applied: u64) -> RecoveredReplica {
    RecoveredReplica {
        group,
        log: RecoveredGroup {
            birth: birth.encode(),
            hard_state: HardState {
                term: Term(3),
                ..HardState::default()
            },
            truncated: FIRST_ENTRY,
            last: FIRST_ENTRY,
            damaged: true,
            ..RecoveredGroup::default()
        },
        tail: Vec::new(),
        applied: LogIndex(applied),
    }
}

fn restart(
    found: Vec<RecoveredReplica>,
    tombstones: Vec<RecoveredTombstone>,
    engine: &States,
) -> (Single, Effects<Vec<u32>>) {
    let config = ShardConfig {
        hibernate_after_ticks: Some(1),
        ..ShardConfig::new(HERE.store, 1)
    };
    restart_with(config, found, tombstones, engine)
}

fn restart_with(
    config: ShardConfig,
    found: Vec<RecoveredReplica>,
    tombstones: Vec<RecoveredTombstone>,
    engine: &States,
) -> (Single, Effects<Vec<u32>>) {
    let factory = Box::new(|_| Lists::default());
    let now = Duration::from_secs(1);
    let recovered = Shard::recover(config, factory, found, tombstones, engine, now);
    let (shard, effects) = recovered.expect("damage of one peer stops nobody");
    (Single { shard, now }, effects)
}

fn founded() -> BirthRecord {
    BirthRecord {
        peer: HERE,
        epoch: RegionEpoch::FIRST,
        start: state(&[HERE, OTHER]).region.start,
        state: Some(state(&[HERE, OTHER])),
        parent: None,
        may_have_lived: false,
    }
}

fn with_damaged_log() -> (Single, Effects<Vec<u32>>) {
    let found = found(GROUP, &founded(), 0);
    restart(vec![found], Vec::new(), &States::default())
}

#[test]
fn peer_with_a_damaged_log_is_reported_and_never_votes_again() {
    let (mut single, effects) = with_damaged_log();
    let reported: Vec<_> = effects.damaged.iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(reported, [(GROUP, HERE.id)]);
    single.now += Duration::from_secs(10);
    for (term, body) in [
        (9, vote(VoteKind::PreVote, 9)),
        (9, vote(VoteKind::Vote, 9)),
        (9, append(Vec::new())),
    ] {
        let effects = single.run(said(OTHER, term, body));
        assert_eq!(effects.dropped[0].reason, DropReason::OutOfService);
        assert!(effects.messages.is_empty() && effects.messages_after_persist.is_empty());
        assert!(effects.wal.is_empty());
    }
    for event in [proposal(3, LATE), read(4)] {
        let effects = single.run(event);
        let refused = Outcome::DefinitelyNot(Refusal::Damaged);
        assert_eq!(effects.replies[0].1, refused);
    }
    let status = single.shard.status(GROUP).expect("it lives here, in a way");
    assert!(status.damaged);
    // Who sleeps under it is told not to wait.
    let wake = message(OTHER, RegionEpoch::FIRST, PeerBody::Rest(Rest::Wake));
    let effects = single.run(Event::Message(wake));
    assert_eq!(effects.messages[0].body, PeerBody::Rest(Rest::Disown));
}

/// Whom a damaged peer asks in so many ticks, in which it does nothing else.
fn asked(single: &mut Single, ticks: u32) -> Vec<Peer> {
    let mut asked = Vec::new();
    for _ in 0..ticks {
        let mut effects = single.run(Event::Tick);
        for message in std::mem::take(&mut effects.messages) {
            assert_eq!(message.body, PeerBody::Probe);
            asked.push(message.to);
        }
        assert!(effects.is_empty(), "it does more than ask: {effects:?}");
    }
    asked
}

#[test]
fn a_damaged_peer_asks_now_and_then_whether_it_was_removed() {
    let (mut single, _) = with_damaged_log();
    let questions = asked(&mut single, 400);
    assert!((4..=40).contains(&questions.len()), "{questions:?}");
    assert!(questions.iter().all(|peer| *peer == OTHER));
    let gone = message(OTHER, LATER, PeerBody::Gone);
    assert!(is_buried(&single.run(Event::Message(gone))));
}

#[test]
fn a_damaged_peer_without_a_region_asks_whoever_spoke_to_it() {
    let birth = BirthRecord {
        state: None,
        ..founded()
    };
    let engine = States::default();
    let (mut single, _) = restart(vec![found(GROUP, &birth, 0)], Vec::new(), &engine);
    assert!(asked(&mut single, 100).is_empty());
    single.run(said(OTHER, 9, append(Vec::new())));
    assert!(asked(&mut single, 100).contains(&OTHER));
}

/// Damage took the record of a birth; something else of the group is left in the log.
fn without_birth(group: GroupId, applied: u64) -> RecoveredReplica {
    let mut found = found(group, &founded(), applied);
    found.log.birth = Bytes::new();
    found
}

fn tombstone_of(effects: &Effects<Vec<u32>>) -> TombstoneRecord {
    let [Record::Tombstone { payload, .. }] = effects.wal.records.as_slice() else {
        panic!("nothing but a tombstone: {:?}", effects.wal);
    };
    TombstoneRecord::decode(payload).expect("as it was written")
}

/// What is durable of a restart's effects.
fn persisted(effects: &Effects<Vec<u32>>) -> Event {
    Event::Persisted(effects.persist.expect("something is recorded"))
}

#[test]
fn a_peer_whose_birth_is_lost_is_known_from_its_region() {
    let (parent, engine) = parent_found();
    let found = RecoveredReplica {
        log: without_birth(GROUP, 7).log,
        ..parent
    };
    let (mut single, effects) = restart(vec![found], Vec::new(), &engine);
    let reported: Vec<_> = effects.damaged.iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(reported, [(GROUP, HERE.id)]);
    assert!(effects.wal.is_empty());
    let effects = single.run(said(OTHER, 9, vote(VoteKind::Vote, 9)));
    assert_eq!(effects.dropped[0].reason, DropReason::OutOfService);
    let gone = message(OTHER, LATER, PeerBody::Gone);
    let effects = durably(&mut single, Event::Message(gone));
    drops(&effects, GROUP, b"");
}

#[test]
fn what_nobody_can_be_told_of_is_buried_without_a_name() {
    let found = without_birth(GROUP, 0);
    let (mut single, effects) = restart(vec![found], Vec::new(), &States::default());
    assert!(effects.damaged.is_empty(), "there is no peer to report");
    let buried = tombstone_of(&effects);
    assert_eq!((buried.peer.id, buried.leftover), (PeerId(0), None));
    // Nobody is born before it is durable that the remains are gone.
    let younger = Peer::learner(PeerId(90), HERE.store);
    let early = single.run(first_word(GROUP, younger));
    assert_eq!(early.dropped[0].reason, DropReason::YoungerPeer);
    let effects = durably(&mut single, persisted(&effects));
    let (group, peer) = (GROUP, effects.destroys[0].peer);
    single.run(Event::Destroyed { group, peer });
    single.run(first_word(GROUP, younger));
    assert_eq!(single.shard.peer(GROUP), Some(younger));
}

#[test]
fn who_is_buried_without_a_name_leaves_its_keys_and_its_elders_grave() {
    // The engine has the region of a time after its own removal.
    let elsewhere = state(&[OTHER]).encode();
    let engine = States(BTreeMap::from([(Lists::state_key(GROUP), elsewhere)]));
    let elder = TombstoneRecord {
        peer: HERE,
        leftover: None,
        parent: None,
        merged_into: None,
    };
    let dead = RecoveredTombstone {
        group: GROUP,
        payload: elder.encode(),
    };
    let (mut single, effects) = restart(vec![without_birth(GROUP, 7)], vec![dead], &engine);
    assert_eq!(tombstone_of(&effects).peer, HERE);
    let newborn = Peer::learner(PeerId(80), HERE.store);
    let early = single.run(first_word(GRANDCHILD, newborn));
    assert_eq!(early.dropped[0].reason, DropReason::Overlap(GROUP));
    let effects = durably(&mut single, persisted(&effects));
    single.run(drops(&effects, GROUP, b""));
    single.run(first_word(GRANDCHILD, newborn));
    assert_eq!(single.shard.peer(GRANDCHILD), Some(newborn));
    let ghost = single.run(first_word(GROUP, HERE));
    assert_eq!(ghost.dropped[0].reason, DropReason::DeadPeer);
}

fn part(group: GroupId, start: &'static [u8], peers: &[Peer]) -> RegionState {
    let mut state = state(peers);
    state.region.id = group;
    state.region.start = Bytes::from_static(start);
    state.region.epoch.version = 2;
    state
}

fn child_state() -> RegionState {
    part(CHILD, b"m", &[CHILD_HERE, CHILD_OTHER])
}

/// What a crash leaves whose sync was a lie: the engine has the parent from before the split.
fn parent_found() -> (RecoveredReplica, States) {
    let before_the_split = state(&[HERE, OTHER]).encode();
    let engine = States(BTreeMap::from([(
        Lists::state_key(GROUP),
        before_the_split,
    )]));
    (found(GROUP, &founded(), 7), engine)
}

fn family() -> (Single, Effects<Vec<u32>>) {
    let (parent, engine) = parent_found();
    let birth = BirthRecord {
        peer: CHILD_HERE,
        epoch: child_state().region.epoch,
        start: child_state().region.start,
        state: Some(child_state()),
        parent: Some(SPLIT),
        may_have_lived: false,
    };
    restart(vec![parent, found(CHILD, &birth, 0)], Vec::new(), &engine)
}

fn to(group: GroupId, from: Peer, to: Peer, body: PeerBody) -> Event {
    let start: &[u8] = match group {
        GROUP => b"",
        CHILD => b"m",
        _ => b"t",
    };
    Event::Message(PeerMessage {
        group,
        to,
        range: Some(RoutingRange {
            start: Bytes::copy_from_slice(start),
            end: Bytes::new(),
        }),
        ..message(from, LATER, body)
    })
}

/// The first word of a leader to a peer that is to be born here.
fn first_word(group: GroupId, here: Peer) -> Event {
    let body = PeerBody::Raft(tinykv_raft::Message {
        from: CHILD_OTHER.id,
        to: here.id,
        term: Term(5),
        body: append(Vec::new()),
    });
    to(group, CHILD_OTHER, here, body)
}

/// Expects that what was durable in the last run has the shell drop the data from `start` on.
fn drops(effects: &Effects<Vec<u32>>, group: GroupId, start: &[u8]) -> Event {
    let destroy = effects.destroys.first().expect("the data goes");
    let starts: Vec<_> = destroy.drop.iter().map(|range| &range.start).collect();
    assert_eq!((destroy.group, starts), (group, vec![&data_key(start)]));
    let peer = destroy.peer;
    Event::Destroyed { group, peer }
}

/// A run, and the one in which it is known to be durable.
fn durably(single: &mut Single, event: Event) -> Effects<Vec<u32>> {
    let engine = States::default();
    let mut effects = single.shard.run_once(&mut vec![event], single.now, &engine);
    if let Some(token) = effects.persist {
        let mut inbox = vec![Event::Persisted(token)];
        let after = single.shard.run_once(&mut inbox, single.now, &engine);
        effects.destroys.extend(after.destroys);
    }
    effects
}

#[test]
fn a_damaged_parent_does_not_hold_up_the_burial_of_its_child() {
    let (mut single, effects) = family();
    assert_eq!(effects.damaged.len(), 2);
    let younger = Peer::learner(PeerId(90), HERE.store);
    // Nobody begins on keys that a damaged peer's burial will drop.
    let effects = single.run(first_word(
        GRANDCHILD,
        Peer::learner(PeerId(80), HERE.store),
    ));
    assert_eq!(effects.dropped[0].reason, DropReason::Overlap(GROUP));

    let gone = to(CHILD, CHILD_OTHER, CHILD_HERE, PeerBody::Gone);
    let effects = durably(&mut single, gone);
    single.run(drops(&effects, CHILD, b"m"));
    // The parent has the keys still: after a restart it might be whole, and write to them.
    let effects = single.run(first_word(CHILD, younger));
    assert_eq!(effects.dropped[0].reason, DropReason::Overlap(GROUP));
    let (group, peer) = (CHILD, CHILD_HERE.id);
    let effects = single.run(Event::ForgetTombstone { group, peer });
    assert!(effects.wal.is_empty(), "a whole parent would revive it");

    let effects = durably(&mut single, to(GROUP, OTHER, HERE, PeerBody::Gone));
    single.run(drops(&effects, GROUP, b""));
    single.run(first_word(CHILD, younger));
    assert_eq!(single.shard.peer(CHILD), Some(younger));
}

#[test]
fn what_a_damaged_child_was_born_with_is_nobody_elses_when_its_parent_is_gone() {
    let (mut single, _) = family();
    let effects = durably(&mut single, to(GROUP, OTHER, HERE, PeerBody::Gone));
    single.run(drops(&effects, GROUP, b""));
    let newborn = Peer::learner(PeerId(80), HERE.store);
    let effects = single.run(first_word(GRANDCHILD, newborn));
    assert_eq!(effects.dropped[0].reason, DropReason::Overlap(CHILD));

    let gone = to(CHILD, CHILD_OTHER, CHILD_HERE, PeerBody::Gone);
    let effects = durably(&mut single, gone);
    single.run(drops(&effects, CHILD, b"m"));
    single.run(first_word(GRANDCHILD, newborn));
    assert_eq!(single.shard.peer(GRANDCHILD), Some(newborn));
}

#[test]
fn a_restart_with_a_damaged_parent_goes_on_with_the_burial_of_its_child() {
    let (parent, engine) = parent_found();
    let record = TombstoneRecord {
        peer: CHILD_HERE,
        leftover: Some(child_state().region),
        parent: Some(SPLIT),
        merged_into: None,
    };
    let dead = RecoveredTombstone {
        group: CHILD,
        payload: record.encode(),
    };
    let (mut single, effects) = restart(vec![parent], vec![dead], &engine);
    assert!(effects.destroys.is_empty());
    let effects = durably(&mut single, Event::Tick);
    drops(&effects, CHILD, b"m");
}

fn reported(effects: &Effects<Vec<u32>>) -> Vec<(GroupId, PeerId)> {
    effects.damaged.iter().map(|it| (it.0, it.1)).collect()
}

/// A start of a store whose log was damaged once.
fn after_damage(found: Vec<RecoveredReplica>) -> (Single, Effects<Vec<u32>>) {
    let config = ShardConfig {
        log_was_damaged: true,
        ..ShardConfig::new(HERE.store, 1)
    };
    restart_with(config, found, Vec::new(), &States::default())
}

/// The damage took all that the log had of a child, so nobody here knows that it voted.
#[test]
fn a_voter_that_is_called_where_a_log_was_damaged_is_damaged() {
    let (mut single, _) = after_damage(Vec::new());
    let effects = single.run(first_word(CHILD, CHILD_HERE));
    assert_eq!(reported(&effects), [(CHILD, CHILD_HERE.id)]);
    assert!(effects.messages.is_empty() && effects.messages_after_persist.is_empty());
    assert!(asked(&mut single, 100).contains(&CHILD_OTHER));

    // Nothing but its birth tells the next start of it.
    let [Record::Birth { birth, .. }] = effects.wal.records.as_slice() else {
        panic!("nothing but a birth: {:?}", effects.wal);
    };
    let birth = BirthRecord::decode(birth).expect("as it was written");
    let mut whole = found(CHILD, &birth, 0);
    whole.log.damaged = false;
    let (_, effects) = after_damage(vec![whole]);
    assert_eq!(reported(&effects), [(CHILD, CHILD_HERE.id)]);
}

#[test]
fn who_is_called_where_a_log_was_damaged_is_new_by_its_id() {
    let (mut single, _) = after_damage(Vec::new());
    let here = HERE.store;
    let (elder, newcomer) = (PeerId(39), PeerId(40));
    // A leader that has yet to apply the promotion takes a voter for a learner.
    let first = first_word(CHILD, Peer::learner(elder, here));
    let effects = single.run(first.clone());
    assert_eq!(effects.dropped[0].reason, DropReason::NotKnownNew);
    single.run(Event::NewPeersFrom(newcomer));
    // Ids that are drawn later say less of whoever came meanwhile.
    single.run(Event::NewPeersFrom(PeerId(50)));
    assert_eq!(reported(&single.run(first)), [(CHILD, elder)]);

    for peer in [Peer::learner(newcomer, here), Peer::voter(newcomer, here)] {
        let (mut single, _) = after_damage(Vec::new());
        single.run(Event::NewPeersFrom(newcomer));
        assert_eq!(reported(&single.run(first_word(CHILD, peer))), []);
        assert!(single.shard.status(CHILD).is_some_and(|it| !it.damaged));
    }
}
