//! The machine under the real driver, one peer, against a model.

mod model;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use tinykv_lsm::Operation as EngineOperation;
use tinykv_raft::PeerId;
use tinykv_replica::{
    AdminAction, AdminCommand, AdminRequest, Answer, Birth, Command as Envelope, Effects, Event,
    KeyRange, Lookup, Outcome, Peer, Proposal, RegionEpoch, Shard, ShardConfig, StoreId, WaiterId,
};

use super::*;
use crate::command::{Condition, NewExpiry};
use crate::space::Space;
use model::Model;

const GROUP: GroupId = GroupId(7);
const TICK: Duration = Duration::from_millis(50);

/// One region with one peer: a shard, and the disk and engine it would have.
struct Single {
    shard: Shard<RawMachine>,
    engine: Engine,
    now: Duration,
    next_waiter: u64,
    answers: BTreeMap<WaiterId, Outcome<Reply>>,
}

/// The engine's data, of which `cold` keys are not in memory.
#[derive(Default)]
struct Engine {
    data: BTreeMap<Bytes, Bytes>,
    cold: BTreeSet<Bytes>,
}

impl Reader for Engine {
    fn get(&self, key: &[u8]) -> Lookup {
        match self.data.get(key) {
            _ if self.cold.contains(key) => Lookup::NotCached,
            Some(value) => Lookup::Found(value.clone()),
            None => Lookup::Missing,
        }
    }

    fn load(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.data.get(key).cloned())
    }

    fn scan(&self, _range: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        unreachable!("the raw machine scans nothing")
    }
}

impl Engine {
    fn apply(&mut self, operation: &EngineOperation) {
        match operation {
            EngineOperation::Put { key, value } => {
                self.data.insert(key.clone(), value.clone());
            }
            EngineOperation::Delete { key } => {
                self.data.remove(key);
            }
            EngineOperation::DeleteRange { start, end } => {
                self.data.retain(|key, _| key < start || key >= end);
            }
        }
    }
}

impl Single {
    /// A region over the plain keys from `b` to `y`, led and open.
    fn open() -> Single {
        let peer = Peer::voter(PeerId(1), StoreId(1));
        let region = Region {
            id: GROUP,
            start: Bytes::from_static(b"b"),
            end: Bytes::from_static(b"y"),
            epoch: RegionEpoch::FIRST,
            peers: vec![peer],
        };
        let config = ShardConfig::new(StoreId(1), 1);
        let mut single = Single {
            shard: Shard::new(config, Box::new(|_| RawMachine)),
            engine: Engine::default(),
            now: Duration::ZERO,
            next_waiter: 0,
            answers: BTreeMap::new(),
        };
        let state = RegionState {
            region,
            open: false,
            machine: Bytes::new(),
            ..RegionState::default()
        };
        single.run(Event::Create(Birth { peer, state }));
        single.run_until(|single| single.shard.led_groups().next().is_some());
        let waiter = single.waiter();
        single.run(Event::Admin(AdminRequest {
            group: GROUP,
            action: AdminAction::Command {
                epoch: RegionEpoch::FIRST,
                command: AdminCommand::Open,
            },
            deadline: Duration::MAX,
            waiter: Some(waiter),
        }));
        let outcome = single.answer(waiter);
        assert!(matches!(outcome, Outcome::Ok(_)), "{outcome:?}");
        single
    }

    fn waiter(&mut self) -> WaiterId {
        self.next_waiter += 1;
        WaiterId(self.next_waiter)
    }

    /// Passes on an event and everything that follows from it.
    fn run(&mut self, event: Event) {
        let mut inbox = vec![event];
        while !inbox.is_empty() {
            let effects = self.shard.run_once(&mut inbox, self.now, &self.engine);
            inbox = self.carry_out(effects);
        }
    }

    fn carry_out(&mut self, effects: Effects<Reply>) -> Vec<Event> {
        for operation in effects.apply.operations() {
            self.engine.apply(operation);
        }
        self.answers.extend(effects.replies);
        let mut follow: Vec<Event> = effects.persist.map(Event::Persisted).into_iter().collect();
        for fetch in effects.value_fetches {
            let value = |key: Bytes| {
                let value = self.engine.data.get(&key).cloned();
                (key, value)
            };
            follow.push(Event::ValuesFetched {
                group: fetch.group,
                entry: fetch.entry,
                values: Ok(fetch.keys.into_iter().map(value).collect()),
            });
        }
        assert!(effects.damaged.is_empty(), "{:?}", effects.damaged);
        follow
    }

    fn run_until(&mut self, mut done: impl FnMut(&Single) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            self.now += TICK;
            self.run(Event::Tick);
        }
        panic!("it never came about");
    }

    fn answer(&mut self, waiter: WaiterId) -> Outcome<Reply> {
        self.run_until(|single| single.answers.contains_key(&waiter));
        self.answers.remove(&waiter).expect("just seen")
    }

    fn outcome(&mut self, command: &Command) -> Outcome<Reply> {
        let waiter = self.waiter();
        let envelope = Envelope::build(RegionEpoch::FIRST, command.encoded_len(), |out| {
            command.encode_into(out);
        });
        self.run(Event::Propose(Proposal {
            group: GROUP,
            peer: None,
            term: None,
            command: envelope,
            deadline: Duration::MAX,
            waiter,
        }));
        self.answer(waiter)
    }

    fn reply(&mut self, command: &Command) -> Reply {
        match self.outcome(command) {
            Outcome::Ok(Answer::Applied { reply, .. }) => reply,
            other => panic!("{command:?} ended as {other:?}"),
        }
    }

    fn time(&self) -> PlacementTime {
        let state = &self.engine.data[space::region_state_key(GROUP).as_slice()];
        let state = RegionState::decode(state).expect("written by the driver");
        RegionTime::decode(&state.machine)
            .expect("written by the machine")
            .0
    }

    /// Live plain keys and values at the region's time.
    fn live(&self) -> BTreeMap<Bytes, Bytes> {
        let time = self.time();
        let raw = self
            .engine
            .data
            .iter()
            .filter(|(key, _)| key.starts_with(b"r"));
        raw.filter_map(|(key, stored)| {
            let value = StoredValue::decode(stored).expect("written by the machine");
            let live = !value.expired_at(time);
            live.then(|| (space::shown(key), value.payload))
        })
        .collect()
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    (0_u8..6).prop_map(|letter| Space::Plain.engine_key(&[b'b' + letter]))
}

/// Small numbers, and texts that are none.
fn payload() -> impl Strategy<Value = Bytes> {
    (0_u8..4).prop_map(|number| Bytes::from(["1", "-2", "0", "x"][usize::from(number)]))
}

fn ttl_ms() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => 1_u64..40]
}

fn write() -> impl Strategy<Value = Write> {
    (key(), payload(), ttl_ms()).prop_map(|(key, payload, ttl_ms)| Write {
        key,
        stored: StoredValue::encode_plain(&payload),
        ttl_ms,
    })
}

fn update() -> impl Strategy<Value = Operation> {
    let delta = prop_oneof![4 => -3_i64..4, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let condition = prop_oneof![
        Just(Condition::Always),
        Just(Condition::IfAbsent),
        Just(Condition::IfPresent),
    ];
    let expiry = prop_oneof![
        Just(NewExpiry::Kept),
        ttl_ms().prop_map(|ttl_ms| NewExpiry::After { ttl_ms }),
    ];
    let put = (key(), payload(), condition, expiry);
    prop_oneof![
        3 => (key(), delta).prop_map(|(key, delta)| Operation::Increment { key, delta }),
        2 => (key(), payload()).prop_map(|(key, suffix)| Operation::Append { key, suffix }),
        3 => put.prop_map(|(key, payload, condition, expiry)| Operation::PutIf {
            key,
            stored: StoredValue::encode_plain(&payload),
            condition,
            expiry,
        }),
        1 => vec(key(), 1..5).prop_map(|keys| Operation::Remove { keys }),
        2 => (key(), ttl_ms()).prop_map(|(key, ttl_ms)| Operation::Expire { key, ttl_ms }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let swap = prop_oneof![
        1 => Just(Swap::Delete),
        3 => write().prop_map(|write| Swap::Put { stored: write.stored, ttl_ms: write.ttl_ms }),
    ];
    let range = (key(), key()).prop_filter_map("empty", |(start, end)| {
        (start < end).then_some(Operation::DeleteRange { start, end })
    });
    prop_oneof![
        12 => update(),
        1 => Just(Operation::AdvanceTime),
        4 => write().prop_map(Operation::Put),
        2 => key().prop_map(|key| Operation::Delete { key }),
        2 => vec(write(), 1..4).prop_map(Operation::BatchPut),
        1 => vec(key(), 1..4).prop_map(|keys| Operation::BatchDelete { keys }),
        1 => range,
        6 => (key(), of(payload()), swap).prop_map(|(key, expected, swap)| {
            Operation::CompareAndSwap { key, expected, swap }
        }),
    ]
}

/// Commands whose times come in no particular order, as from several leaders' clocks.
fn commands() -> impl Strategy<Value = Vec<(Command, bool)>> {
    let command = (0_u64..200, operation()).prop_map(|(now, operation)| Command {
        now: PlacementTime(now),
        operation,
    });
    vec((command, any::<bool>()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_reply_and_every_state_is_the_models(commands in commands()) {
        let mut single = Single::open();
        let mut model = Model::default();
        for (command, is_cold) in commands {
            single.engine.cold.clear();
            if is_cold {
                single.engine.cold.extend(RawMachine::wanted(&encoded(&command)));
            }
            prop_assert_eq!(single.reply(&command), model.apply(&command), "{:?}", command);
            prop_assert_eq!(single.time().0, model.time);
            prop_assert_eq!(single.live(), model.live());
        }
    }
}

fn encoded(command: &Command) -> Bytes {
    let mut out = bytes::BytesMut::new();
    command.encode_into(&mut out);
    out.freeze()
}

fn plain(key: &[u8]) -> Bytes {
    Space::Plain.engine_key(key)
}

#[test]
fn keys_outside_the_region_are_refused_and_named() {
    let mut single = Single::open();
    let write = |key: &[u8]| Write {
        key: plain(key),
        stored: StoredValue::encode_plain(b"v"),
        ttl_ms: 0,
    };
    let range = |start: &[u8], end: &[u8]| Operation::DeleteRange {
        start: plain(start),
        end: plain(end),
    };
    let rows = [
        (Operation::Put(write(b"a")), b"a"),
        (Operation::Delete { key: plain(b"y") }, b"y"),
        (Operation::BatchPut(vec![write(b"b"), write(b"z")]), b"z"),
        (range(b"a", b"c"), b"a"),
        (range(b"c", b"z"), b"c"),
    ];
    for (operation, named) in rows {
        let command = Command {
            now: PlacementTime(0),
            operation,
        };
        match single.outcome(&command) {
            Outcome::DefinitelyNot(Refusal::KeyNotInRegion { key, .. }) => {
                assert_eq!(key.as_ref(), named.as_slice());
            }
            other => panic!("{command:?} ended as {other:?}"),
        }
    }
    assert!(single.live().is_empty());
}

#[test]
fn the_stores_own_keys_cannot_be_reached() {
    let mut single = Single::open();
    let command = Command {
        now: PlacementTime(0),
        operation: Operation::Delete {
            key: Bytes::copy_from_slice(&space::region_state_key(GROUP)),
        },
    };
    let outcome = single.outcome(&command);
    assert!(
        matches!(
            outcome,
            Outcome::DefinitelyNot(Refusal::KeyNotInRegion { .. })
        ),
        "{outcome:?}"
    );
}

#[test]
fn bytes_that_are_no_command_are_refused() {
    let region = Arc::new(Region::default());
    let empty_value = encoded(&Command {
        now: PlacementTime(0),
        operation: Operation::Put(Write {
            key: plain(b"k"),
            stored: Bytes::new(),
            ttl_ms: 5,
        }),
    });
    for bytes in [Bytes::new(), Bytes::from_static(b"\xFF"), empty_value] {
        let refused = RawMachine::check(&region, &bytes);
        assert!(
            matches!(refused, Err(Refusal::Malformed { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_region_without_expiring_values_never_writes_its_time() {
    let mut single = Single::open();
    for number in 0..3_u8 {
        let command = Command {
            now: PlacementTime(1000 + u64::from(number)),
            operation: Operation::CompareAndSwap {
                key: plain(b"k"),
                expected: (number > 0).then(|| Bytes::from(vec![number - 1])),
                swap: Swap::Put {
                    stored: StoredValue::encode_plain(&[number]),
                    ttl_ms: 0,
                },
            },
        };
        assert!(matches!(
            single.reply(&command),
            Reply::Swapped {
                succeeded: true,
                ..
            }
        ));
    }
    assert_eq!(single.time(), PlacementTime(0));
}

/// What has expired may be gone from one disk and not from another: no difference of the replicas.
#[test]
fn what_has_expired_by_the_regions_time_is_no_content() {
    let state = |time| {
        let machine = RegionTime(PlacementTime(time)).encode();
        RegionState::new(Region::default(), true, machine)
    };
    let key = Space::Plain.engine_key(b"k");
    let expiring = StoredValue {
        expires_at: Some(PlacementTime(50)),
        payload: Bytes::from_static(b"v"),
    };
    let expiring = expiring.encode();
    assert!(RawMachine::is_content(&state(49), &key, &expiring));
    assert!(!RawMachine::is_content(&state(50), &key, &expiring));
    let plain = StoredValue::encode_plain(b"v");
    assert!(RawMachine::is_content(&state(50), &key, &plain));
    let never = RegionState::new(Region::default(), true, Bytes::new());
    assert!(RawMachine::is_content(&never, &key, &expiring));
}
