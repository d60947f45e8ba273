//! Many threads on one store on a real disk, each against its own oracle.
//!
//! Every thread has keys of its own, of which it always knows what a read must show, however many
//! flushes, compactions and checkpoints go on; and pairs of keys that all threads write in one
//! batch, so that whoever sees the two halves differ has seen half a batch.
//!
//! `TINYKV_STRESS_SECONDS` makes it last that long.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tinykv_engine::{Direction, Durability, Standalone, StandaloneOptions, StandaloneSnapshot};
use tinykv_env::{OsEnv, Prng};
use tinykv_lsm::WriteBatch;

use crate::ledger::append_if_asked;
use crate::tiny_standalone;

const THREADS: u64 = 8;
/// Steps of a thread when no time is set.
const STEPS: u64 = 400;
/// Keys of each thread.
const KEYS: u64 = 500;
const PAIRS: u64 = 20;

type Oracle = BTreeMap<Bytes, Bytes>;

fn options() -> StandaloneOptions {
    let mut options = tiny_standalone();
    options.background_threads = 2;
    options.engine.lsm.memtable_bytes_max = 32 << 10;
    options.engine.wal.segment_bytes = 64 << 10;
    options.engine.wal.segments_max = 16;
    options
}

/// One thread.
struct Worker<'a> {
    store: &'a Standalone,
    dir: &'a Path,
    number: u64,
    random: Prng,
    oracle: Oracle,
    /// An earlier moment, to be looked at again.
    earlier: Option<(StandaloneSnapshot, Oracle)>,
    steps: u64,
    checkpoints: u64,
}

impl Worker<'_> {
    fn key(&mut self) -> Bytes {
        let (number, key) = (self.number, self.random.below(KEYS));
        Bytes::from(format!("own/{number}/{key:04}"))
    }

    fn bounds(&self) -> (String, String) {
        (
            format!("own/{}/", self.number),
            format!("own/{}0", self.number),
        )
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.random.below(1000) {
            0..=599 => self.write(),
            600..=699 => self.write_pair(),
            700..=849 => self.read(),
            850..=929 => self.read_pairs(),
            930..=959 => self.look_back(),
            960..=989 => self.check_scans(&self.snapshot(), &self.oracle),
            990..=997 => self.store.flush().expect("flush"),
            _ => self.checkpoint(),
        }
    }

    fn write(&mut self) {
        let mut batch = WriteBatch::new();
        for _ in 0..self.random.between(1, 5) {
            let key = self.key();
            match self.random.below(20) {
                0 => {
                    let end = self.key();
                    if key < end && self.random.chance(3) {
                        self.oracle.retain(|k, _| *k < key || *k >= end);
                        batch.delete_range(key, end);
                    }
                }
                1..=4 => {
                    self.oracle.remove(&key);
                    batch.delete(key);
                }
                _ => {
                    let mut value = vec![0; self.random.between(0, 200) as usize];
                    self.random.fill(&mut value);
                    let value = Bytes::from(value);
                    self.oracle.insert(key.clone(), value.clone());
                    batch.put(key, value);
                }
            }
        }
        let durability = match self.random.chance(20) {
            true => Durability::Synced,
            false => Durability::Buffered,
        };
        self.store.write(batch, durability).expect("write");
    }

    fn write_pair(&mut self) {
        let pair = self.random.below(PAIRS);
        let value = format!("{} of {}", self.steps, self.number);
        let mut batch = WriteBatch::new();
        batch
            .put(format!("pair/{pair:02}/left"), value.clone())
            .put(format!("pair/{pair:02}/right"), value);
        self.store
            .write(batch, Durability::Buffered)
            .expect("write");
    }

    fn read(&mut self) {
        let key = self.key();
        let found = self.store.get(&key).expect("get");
        assert_eq!(found.as_ref(), self.oracle.get(&key), "{key:?}");
        let keys: Vec<Bytes> = (0..5).map(|_| self.key()).collect();
        let found = self.store.multi_get(&keys).expect("multi_get");
        let expected = keys.iter().map(|key| self.oracle.get(key).cloned());
        assert!(found.into_iter().eq(expected), "{keys:?}");
    }

    fn read_pairs(&self) {
        check_pairs(&self.snapshot());
    }

    /// An earlier snapshot shows what was there then.
    fn look_back(&mut self) {
        if let Some((snapshot, oracle)) = self.earlier.take() {
            self.check_scans(&snapshot, &oracle);
        }
        self.earlier = Some((self.snapshot(), self.oracle.clone()));
    }

    fn snapshot(&self) -> StandaloneSnapshot {
        self.store.snapshot().expect("snapshot")
    }

    fn check_scans(&self, snapshot: &StandaloneSnapshot, oracle: &Oracle) {
        let (start, end) = self.bounds();
        let scan = |direction| -> Vec<(Bytes, Bytes)> {
            let scan = snapshot.scan(start.as_bytes(), end.as_bytes(), direction);
            scan.expect("scan")
                .map(|item| item.expect("scan"))
                .collect()
        };
        let expected = oracle
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        assert!(scan(Direction::Forward).into_iter().eq(expected.clone()));
        assert!(scan(Direction::Backward).into_iter().eq(expected.rev()));
    }

    /// A copy holds what this thread has written, and whole pairs.
    fn checkpoint(&mut self) {
        self.checkpoints += 1;
        let name = format!("copy-{}-{}", self.number, self.checkpoints);
        let dir = self.dir.join(name);
        self.store.checkpoint(&dir).expect("checkpoint");
        let copy = Standalone::open(OsEnv::shared(), &dir, options()).expect("open the copy");
        let snapshot = copy.snapshot().expect("snapshot");
        self.check_scans(&snapshot, &self.oracle);
        check_pairs(&snapshot);
        drop((snapshot, copy));
        std::fs::remove_dir_all(&dir).expect("remove the copy");
    }
}

fn check_pairs(snapshot: &StandaloneSnapshot) {
    let scan = snapshot
        .scan(b"pair/", b"pair0", Direction::Forward)
        .expect("scan");
    let found: Vec<(Bytes, Bytes)> = scan.map(|item| item.expect("scan")).collect();
    for pair in found.chunks(2) {
        assert_eq!(pair.len(), 2, "half a pair");
        assert_eq!(pair[0].1, pair[1].1, "{:?} is half written", pair[0].0);
    }
}

#[test]
fn threads_agree_with_their_oracles() {
    let seconds: Option<u64> = std::env::var("TINYKV_STRESS_SECONDS")
        .ok()
        .map(|text| text.parse().expect("TINYKV_STRESS_SECONDS is a number"));
    let dir = tempfile::tempdir().expect("directory");
    let env = OsEnv::shared();
    let begun = env.now();
    let is_over = |steps: u64| match seconds {
        Some(seconds) => env.now() - begun >= Duration::from_secs(seconds),
        None => steps >= STEPS,
    };
    let home = dir.path().join("store");
    let store = Standalone::open(env.clone(), &home, options()).expect("open");
    let workers: Vec<Worker<'_>> = std::thread::scope(|scope| {
        let start = |number| {
            let mut worker = Worker {
                store: &store,
                dir: dir.path(),
                number,
                random: Prng::new(number + 1),
                oracle: Oracle::new(),
                earlier: None,
                steps: 0,
                checkpoints: 0,
            };
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over(worker.steps) {
                    worker.step();
                }
                worker
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|worker| worker.expect("a worker found a difference"))
            .collect()
    });
    let statistics = store.statistics();
    let figures = json!({
        "threads": THREADS,
        "seconds": (env.now() - begun).as_secs(),
        "steps": workers.iter().map(|worker| worker.steps).sum::<u64>(),
        "checkpoints": workers.iter().map(|worker| worker.checkpoints).sum::<u64>(),
        "flushes": statistics.flushes,
        "compactions": statistics.compactions,
        "differences": 0,
    });
    let oracles: Oracle = workers
        .into_iter()
        .flat_map(|worker| worker.oracle)
        .collect();
    store.close().expect("close");
    drop(store);
    let store = Standalone::open(env.clone(), &home, options()).expect("reopen");
    let scan = store
        .scan(b"own/", b"own0", Direction::Forward)
        .expect("scan");
    let found: Oracle = scan.map(|item| item.expect("scan")).collect();
    assert_eq!(found, oracles);
    assert!(
        statistics.flushes > 0 && statistics.compactions > 0,
        "{figures}"
    );
    append_if_asked("engine_stress", &figures).expect("ledger");
}
