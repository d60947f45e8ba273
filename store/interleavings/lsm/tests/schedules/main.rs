//! The whole tree under schedules of shuttle: rotation of the memtable against writes, flushes
//! against rotation, compactions and ingests against both, readers against all of them.
//!
//! `TINYKV_CASES` multiplies the number of schedules; `TINYKV_LEDGER` (an absolute path) is where a
//! run appends its figures. Every test has a twin that plants a mistake and has to find it.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../../tests/src/ledger.rs"]
pub mod ledger;
/// For the ledger: what is checked out.
pub const BUILT_FROM: Option<&str> = None;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tinykv_env::{Env, SimEnv};
use tinykv_lsm_shuttle::{Ingest, Lsm, LsmOptions, OriginId, Snapshot, SstWriter, WriteBatch};
use tinykv_sync::atomic::{AtomicU64, Ordering};
use tinykv_sync::{Fault, explore, explore_with, schedules, thread};

const DIR: &str = "/tree";
/// Keys of each writer; a batch sets them all to its number.
const KEYS: u64 = 2;
/// The one whose keys come by ingests.
const INGESTER: u64 = 9;
const WRITES: u64 = 4;
const INGESTS: u64 = 2;

/// Two or three batches fill a memtable, two tables fill level 0.
fn options() -> LsmOptions {
    LsmOptions {
        memtable_bytes_max: 1 << 10,
        block_bytes: 128,
        index_partition_bytes: 128,
        level_base_bytes: 1 << 10,
        level_multiplier: 2,
        levels: 3,
        table_bytes_max: 1 << 10,
        l0_compaction_files: 2,
        ..LsmOptions::default()
    }
}

/// A tree and how far each writer was told it had come.
struct Shared {
    lsm: Lsm,
    env: Arc<dyn Env>,
    acknowledged: [AtomicU64; INGESTER as usize + 1],
}

fn open(env: &Arc<dyn Env>) -> Lsm {
    Lsm::open(env.clone(), Path::new(DIR), options()).expect("open")
}

fn shared() -> Arc<Shared> {
    let env = SimEnv::new(1).shared();
    env.create_dir_all(Path::new("/in")).expect("create");
    Arc::new(Shared {
        lsm: open(&env),
        env,
        acknowledged: Default::default(),
    })
}

fn spawn(
    shared: &Arc<Shared>,
    act: impl FnOnce(&Shared) + Send + 'static,
) -> thread::JoinHandle<()> {
    let shared = shared.clone();
    thread::spawn(move || act(&shared))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no thread fails");
    }
}

fn key(writer: u64, number: u64) -> Bytes {
    Bytes::from(format!("w{writer}-{number}"))
}

impl Shared {
    /// Batches, of which one begins with a range delete.
    fn write(&self, writer: u64) {
        for round in 1..=WRITES {
            let mut batch = WriteBatch::new();
            if round == 3 {
                batch.delete_range(format!("w{writer}-"), format!("w{writer}."));
            }
            for number in 0..KEYS {
                batch.put(key(writer, number), vec![round as u8; 100]);
            }
            batch.applied(OriginId(writer), round);
            self.lsm.write(&batch).expect("write");
            self.acknowledge(writer, round);
        }
    }

    fn ingest(&self) {
        for round in 1..=INGESTS {
            let path = Path::new("/in").join(round.to_string());
            let mut table = SstWriter::create(&self.env, &path, self.lsm.options()).expect("file");
            for number in 0..KEYS {
                let added = table.add(&key(INGESTER, number), &[round as u8; 100]);
                added.expect("add");
            }
            table.finish().expect("finish");
            let ingest = Ingest {
                drop: vec![(Bytes::from("w9-"), Bytes::from("w9."))],
                files: vec![path],
                applied: Some((OriginId(INGESTER), round)),
            };
            self.lsm.ingest(&ingest).expect("ingest");
            self.acknowledge(INGESTER, round);
        }
    }

    fn acknowledge(&self, writer: u64, round: u64) {
        self.acknowledged[writer as usize].store(round, Ordering::SeqCst);
    }

    /// Work as it comes, a few times.
    fn work(&self, times: usize) {
        for _ in 0..times {
            match self.lsm.plan() {
                Some(job) => drop(job.run().expect("job")),
                None => thread::yield_now(),
            }
        }
    }

    /// Snapshots are whole, hold what was acknowledged before them, and do not change.
    fn read(&self, writers: &[u64]) {
        for _ in 0..2 {
            let before: Vec<u64> = writers.iter().map(|&writer| self.reached(writer)).collect();
            let snapshot = self.lsm.snapshot();
            let seen: Vec<u64> = writers.iter().map(|&w| round_in(&snapshot, w)).collect();
            for (seen, before) in seen.iter().zip(&before) {
                assert!(seen >= before, "{before} was acknowledged, {seen} is there");
            }
            thread::yield_now();
            let again: Vec<u64> = writers.iter().map(|&w| round_in(&snapshot, w)).collect();
            assert_eq!(again, seen, "a snapshot stays what it was");
        }
    }

    fn reached(&self, writer: u64) -> u64 {
        self.acknowledged[writer as usize].load(Ordering::SeqCst)
    }

    /// All of it, now and after a restart, and no file that nobody names.
    fn check_end(self: Arc<Shared>, writers: &[u64]) {
        self.lsm.flush().expect("flush");
        self.lsm.settle().expect("settle");
        let entries = self.env.list_dir(Path::new(DIR)).expect("list");
        let there = entries.iter().filter(|e| e.name.ends_with(".sst")).count();
        let levels = self.lsm.statistics().levels;
        let named: usize = levels.iter().map(|level| level.files).sum();
        assert_eq!(there, named, "files go with their last reader");
        let reached: Vec<u64> = writers.iter().map(|&w| self.reached(w)).collect();
        let check = |lsm: &Lsm| {
            let snapshot = lsm.snapshot();
            for (&writer, &reached) in writers.iter().zip(&reached) {
                assert_eq!(round_in(&snapshot, writer), reached, "writer {writer}");
                assert_eq!(lsm.flushed_of(OriginId(writer)), reached);
                assert_eq!(lsm.applied(OriginId(writer)), reached);
            }
        };
        check(&self.lsm);
        let env = self.env.clone();
        drop(Arc::into_inner(self).expect("all threads are done"));
        check(&open(&env));
    }
}

/// The number of the batch that a snapshot shows of a writer: the same in all its keys, by get and
/// by iterator; 0 before the first.
fn round_in(snapshot: &Snapshot, writer: u64) -> u64 {
    let keys: Vec<Bytes> = (0..KEYS).map(|number| key(writer, number)).collect();
    let got = snapshot.multi_get(&keys).expect("get");
    let (lower, upper) = (format!("w{writer}-"), format!("w{writer}."));
    let mut iter = snapshot
        .iter(lower.as_bytes(), upper.as_bytes())
        .expect("iterate");
    let mut walked = Vec::new();
    while iter.next().expect("next") {
        walked.push(Some(iter.value()));
    }
    let first = got[0].clone();
    assert!(got.iter().all(|value| *value == first), "half a batch");
    let expected = if first.is_some() { got } else { Vec::new() };
    assert_eq!(walked, expected, "get and iterator differ");
    first.map_or(0, |value| u64::from(value[0]))
}

fn note(test: &str, schedules: usize) {
    let figures = json!({ "test": test, "schedules": schedules, "failures": 0 });
    ledger::append_if_asked("lsm_schedules", &figures).expect("ledger");
}

/// Two writers, who rotate when a memtable is full, somebody who rotates when it is not, two who do
/// what is due, and a reader.
fn everything_moves() {
    let shared = shared();
    join([
        spawn(&shared, |s| s.write(0)),
        spawn(&shared, |s| s.write(1)),
        spawn(&shared, |s| {
            for _ in 0..2 {
                s.lsm.rotate().expect("rotate");
            }
        }),
        spawn(&shared, |s| s.work(4)),
        spawn(&shared, |s| s.work(4)),
        spawn(&shared, |s| s.read(&[0, 1])),
    ]);
    shared.check_end(&[0, 1]);
}

#[test]
fn rotation_flush_and_compaction_lose_nothing() {
    let count = schedules(1500);
    explore("rotation", count, everything_moves);
    note("rotation_flush_and_compaction_lose_nothing", count);
}

#[test]
fn a_version_swap_without_its_lock_is_found() {
    let fault = Fault::EmptyLocksExcludeNobody;
    assert!(explore_with(fault, "planted", 300, everything_moves));
}

/// An ingest moves the visible sequence on without the write lock, and swaps versions beside flushes
/// and compactions.
fn ingest_beside_writers() {
    let shared = shared();
    join([
        spawn(&shared, |s| s.write(0)),
        spawn(&shared, Shared::ingest),
        spawn(&shared, |s| s.work(4)),
        spawn(&shared, |s| s.read(&[0, INGESTER])),
    ]);
    shared.check_end(&[0, INGESTER]);
}

#[test]
fn an_ingest_beside_writers_is_whole() {
    let count = schedules(1000);
    explore("ingest", count, ingest_beside_writers);
    note("an_ingest_beside_writers_is_whole", count);
}

/// Whoever flushes waits for the flush of another one.
fn flushes_at_once() {
    let shared = shared();
    let flush = |s: &Shared| {
        let before = s.reached(0);
        s.lsm.flush().expect("flush");
        assert!(s.lsm.flushed_of(OriginId(0)) >= before, "not flushed");
    };
    join([
        spawn(&shared, |s| s.write(0)),
        spawn(&shared, flush),
        spawn(&shared, flush),
        spawn(&shared, |s| s.work(2)),
    ]);
    shared.check_end(&[0]);
}

#[test]
fn flushes_wait_for_each_other() {
    let count = schedules(1000);
    explore("flushes", count, flushes_at_once);
    note("flushes_wait_for_each_other", count);
}

#[test]
fn a_flush_that_wakes_nobody_is_found() {
    assert!(explore_with(
        Fault::WakesAreLost,
        "planted",
        200,
        flushes_at_once
    ));
}

/// Several threads share one large compaction, which ends once, while a reader holds its inputs.
fn parts_of_one_compaction() {
    let env = SimEnv::new(1).shared();
    let options = LsmOptions {
        levels: 2,
        memtable_bytes_max: 64 << 10,
        compactions_max: 4,
        compaction_parts_max: 4,
        ..options()
    };
    let lsm = Lsm::open(env.clone(), Path::new(DIR), options).expect("open");
    for round in 0..2u8 {
        let mut batch = WriteBatch::new();
        for number in 0..60 {
            // Bytes that do not compress to nothing.
            let value = (0..100u8).map(|at| at.wrapping_mul(number).wrapping_add(at ^ round));
            batch.put(format!("k{number:03}"), value.collect::<Vec<u8>>());
        }
        lsm.write(&batch).expect("write");
        lsm.flush().expect("flush");
    }
    let read = |snapshot: &Snapshot| {
        let mut iter = snapshot.iter(b"", b"").expect("iterate");
        let mut all = Vec::new();
        while iter.next().expect("next") {
            all.push((Bytes::copy_from_slice(iter.key()), iter.value()));
        }
        all
    };
    let expected = read(&lsm.snapshot());
    let shared = Arc::new(Shared {
        lsm,
        env,
        acknowledged: Default::default(),
    });
    let held = shared.lsm.snapshot();
    let mut threads: Vec<_> = (0..3).map(|_| spawn(&shared, |s| s.work(2))).collect();
    let (copy, all) = (expected.clone(), held);
    threads.push(spawn(&shared, move |_| assert_eq!(read(&all), copy)));
    join(threads);
    shared.lsm.settle().expect("settle");
    assert_eq!(shared.lsm.statistics().compactions, 1, "it ends once");
    assert_eq!(read(&shared.lsm.snapshot()), expected);
    shared.check_end(&[]);
}

#[test]
fn a_compaction_in_parts_ends_once() {
    let count = schedules(500);
    explore("parts", count, parts_of_one_compaction);
    note("a_compaction_in_parts_ends_once", count);
}

/// A lone table is moved into the next level as it is, while others look for work: who plans locks
/// what is under way, then how far each compaction is.
fn moves_beside_plans() {
    let env = SimEnv::new(1).shared();
    let options = LsmOptions {
        l0_compaction_files: 1,
        compression_last_level: options().compression,
        ..options()
    };
    let shared = Arc::new(Shared {
        lsm: Lsm::open(env.clone(), Path::new(DIR), options).expect("open"),
        env,
        acknowledged: Default::default(),
    });
    let put = |s: &Shared, writer| {
        let mut batch = WriteBatch::new();
        batch.put(key(writer, 0), vec![1; 100]);
        s.lsm.write(&batch).expect("write");
        s.lsm.flush().expect("flush");
    };
    join([
        spawn(&shared, move |s| {
            for writer in 0..2 {
                put(s, writer);
                s.work(1);
            }
        }),
        spawn(&shared, |s| s.work(4)),
    ]);
    shared.lsm.settle().expect("settle");
    assert_eq!(shared.lsm.statistics().levels[0].files, 0);
}

#[test]
fn a_move_waits_for_nobody_who_plans() {
    let count = schedules(1000);
    explore("moves", count, moves_beside_plans);
    note("a_move_waits_for_nobody_who_plans", count);
}
