//! The standalone store against a `BTreeMap`: crash at every I/O of generated traces, in every
//! mode (L1, L2, L4; D3).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::json;
use tinykv_engine::{Direction, Durability, EngineError, Standalone};
use tinykv_env::{CrashMode, Prng, SimEnv};
use tinykv_lsm::{CompactionFilter, Operation, WriteBatch};

use crate::ledger::append_if_asked;
use crate::{DIR, cases, machine, tiny_standalone};

type Model = BTreeMap<Bytes, Bytes>;

/// A store under test, and every state it went through.
struct Life {
    env: SimEnv,
    random: Prng,
    store: Option<Standalone>,
    history: Vec<Model>,
    /// The state known durable, as a place in `history`.
    synced: usize,
    crash_at: Option<u64>,
}

impl Life {
    fn new(seed: u64) -> Life {
        Life {
            env: machine(seed),
            random: Prng::new(seed),
            store: None,
            history: vec![Model::new()],
            synced: 0,
            crash_at: None,
        }
    }

    fn live(&mut self, steps: u32) {
        if self.store.is_none() && !self.open() {
            return;
        }
        for _ in 0..steps {
            if !self.step() {
                return;
            }
        }
    }

    fn open(&mut self) -> bool {
        let opened = Standalone::open(self.env.shared(), Path::new(DIR), tiny_standalone());
        let Some(store) = self.unless_stopped(opened) else {
            return false;
        };
        let found = contents(&store, Direction::Forward);
        let possible = &self.history[self.synced..];
        let Some(at) = possible.iter().rposition(|state| *state == found) else {
            panic!(
                "recovered what the store never was\nfound: {found:?}\nlast synced: {:?}\nlast: {:?}",
                possible.first(),
                possible.last()
            );
        };
        self.synced += at;
        self.history.truncate(self.synced + 1);
        assert_eq!(contents(&store, Direction::Backward), found);
        self.store = Some(store);
        true
    }

    fn step(&mut self) -> bool {
        match self.random.below(40) {
            0..=31 => self.write(),
            32 | 33 => {
                let flushed = self.store().flush();
                self.made_durable(flushed)
            }
            34 | 35 => {
                let synced = self.store().sync();
                self.made_durable(synced)
            }
            36 | 37 => self.check_reads(),
            _ => self.restart(),
        }
    }

    fn store(&self) -> &Standalone {
        self.store.as_ref().expect("open")
    }

    fn made_durable(&mut self, result: Result<(), EngineError>) -> bool {
        let done = self.unless_stopped(result).is_some();
        if done {
            self.synced = self.history.len() - 1;
        }
        done
    }

    fn write(&mut self) -> bool {
        let batch = random_batch(&mut self.random);
        let durability = if self.random.chance(3) {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        let mut after = self.history.last().expect("never empty").clone();
        apply(&mut after, &batch);
        self.history.push(after);
        let written = self.store().write(batch, durability);
        if durability == Durability::Synced {
            return self.made_durable(written);
        }
        self.unless_stopped(written).is_some()
    }

    fn check_reads(&mut self) -> bool {
        let state = self.history.last().expect("never empty").clone();
        let keys: Vec<Bytes> = (0..4).map(|_| random_key(&mut self.random)).collect();
        let found = self.store().multi_get(&keys);
        let Some(found) = self.unless_stopped(found) else {
            return false;
        };
        for (key, value) in keys.iter().zip(found) {
            assert_eq!(value.as_ref(), state.get(key), "key {key:?}");
        }
        true
    }

    fn restart(&mut self) -> bool {
        self.store = None;
        if self.env.is_stopped() {
            return false;
        }
        let mode = *self.random.pick(&CrashMode::ALL).expect("some modes");
        self.env.crash(mode);
        if let Some(n) = self.crash_at {
            self.env.crash_at(n);
        }
        self.open()
    }

    fn unless_stopped<T>(&self, result: Result<T, EngineError>) -> Option<T> {
        match result {
            _ if self.env.is_stopped() => None,
            Ok(value) => Some(value),
            Err(error) => panic!("the machine runs, but: {error}"),
        }
    }
}

fn contents(store: &Standalone, direction: Direction) -> Model {
    let scan = store.scan(b"", b"", direction).expect("scan");
    scan.collect::<Result<_, _>>().expect("scan")
}

fn random_key(random: &mut Prng) -> Bytes {
    Bytes::from(format!("key{:02}", random.below(40)))
}

fn random_batch(random: &mut Prng) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..random.between(1, 3) {
        match random.below(12) {
            0 => {
                batch.delete_range(random_key(random), random_key(random));
            }
            1..=3 => {
                batch.delete(random_key(random));
            }
            _ => {
                let mut value = vec![0; random.between(0, 300) as usize];
                random.fill(&mut value);
                batch.put(random_key(random), value);
            }
        }
    }
    batch
}

fn apply(model: &mut Model, batch: &WriteBatch) {
    for operation in batch.operations() {
        match operation {
            Operation::Put { key, value } => {
                model.insert(key.clone(), value.clone());
            }
            Operation::Delete { key } => {
                model.remove(key);
            }
            Operation::DeleteRange { start, end } => {
                model.retain(|key, _| key < start || key >= end);
            }
        }
    }
}

const STEPS: u32 = 60;

#[test]
fn crash_at_every_io_in_every_mode() {
    let mut recoveries = 0u64;
    for seed in 0..cases(4) {
        let mut whole = Life::new(seed);
        whole.live(STEPS);
        for crash_at in 1..=whole.env.io_count() {
            let mut life = Life::new(seed);
            life.crash_at = Some(crash_at);
            life.env.crash_at(crash_at);
            life.live(STEPS);
            assert!(life.env.is_stopped(), "seed {seed}: {crash_at}");
            for mode in CrashMode::ALL {
                recover(&life, mode);
                recoveries += 1;
            }
        }
    }
    println!("{recoveries} recoveries");
    assert!(recoveries >= 6_000, "only {recoveries} recoveries");
    let figures = json!({ "traces": cases(4), "recoveries": recoveries, "violations": 0 });
    append_if_asked("standalone_crash", &figures).expect("ledger");
}

fn recover(stopped: &Life, mode: CrashMode) {
    let env = stopped.env.duplicate();
    env.crash(mode);
    let mut life = Life {
        env,
        random: stopped.random.clone(),
        store: None,
        history: stopped.history.clone(),
        synced: stopped.synced,
        crash_at: None,
    };
    assert!(life.open());
    assert!(life.write());
}

#[test]
fn long_lives_with_random_crashes() {
    for seed in 1000..1000 + cases(10) {
        Life::new(seed).live(300);
    }
}

#[test]
fn a_checkpoint_is_the_store_at_its_moment() {
    let env = machine(3);
    let store = Standalone::open(env.shared(), Path::new(DIR), tiny_standalone()).expect("open");
    let mut random = Prng::new(3);
    let mut model = Model::new();
    for _ in 0..100 {
        let batch = random_batch(&mut random);
        apply(&mut model, &batch);
        store.write(batch, Durability::Buffered).expect("write");
    }
    let copy = Path::new("data/copy");
    store.checkpoint(copy).expect("checkpoint");
    store
        .put("key00", "later", Durability::Synced)
        .expect("put");
    let again = store.checkpoint(copy).expect_err("the place is taken");
    assert!(again.to_string().contains("exists already"), "{again}");

    env.crash(CrashMode::DropUnsynced);
    let copied = Standalone::open(env.shared(), copy, tiny_standalone()).expect("open the copy");
    assert_eq!(contents(&copied, Direction::Forward), model);
    copied
        .put("key01", "in the copy", Durability::Synced)
        .expect("the copy is a store of its own");
    let store = Standalone::open(env.shared(), Path::new(DIR), tiny_standalone()).expect("open");
    assert_eq!(
        store.get(b"key00").expect("get").as_deref(),
        Some(&b"later"[..])
    );
}

/// Drops every value that is due, once it was told that values become due.
#[derive(Debug, Default)]
struct DueValues {
    told: AtomicBool,
}

impl CompactionFilter for DueValues {
    fn drops(&self, _: &[u8], value: &[u8]) -> bool {
        self.told.load(Ordering::Relaxed) && value.starts_with(b"due")
    }
}

/// What has outlived its use goes though nobody writes any more, when the time has come and not before.
#[test]
fn tables_are_revisited_in_time() {
    let filter = Arc::new(DueValues::default());
    let mut options = tiny_standalone();
    options.engine.lsm.compaction_filter = Some(filter.clone());
    let every = options.revisit_every;
    let env = machine(4);
    let store = Standalone::open(env.shared(), Path::new(DIR), options).expect("open");
    for number in 0..100 {
        let value = format!("{} {number}", ["due", "kept"][number % 2]);
        let put = store.put(format!("key{number:03}"), value, Durability::Buffered);
        put.expect("put");
    }
    store.flush().expect("flush");
    let settle = || while store.run_job().expect("job") {};
    let left = || {
        let all = store.scan(b"", b"", Direction::Forward).expect("scan");
        all.map(|entry| entry.expect("entry").1).collect::<Vec<_>>()
    };
    settle();
    filter.told.store(true, Ordering::Relaxed);
    env.advance(every / 2);
    settle();
    assert_eq!(left().len(), 100, "nothing is due for compaction");
    env.advance(every / 2);
    settle();
    let left = left();
    assert_eq!(left.len(), 50);
    assert!(left.iter().all(|value| value.starts_with(b"kept")));
    assert!(!store.run_job().expect("job"), "a pass ends");
}
