//! The standalone store under schedules of shuttle: who leads a group and who follows, upkeep and
//! checkpoints that want the log for themselves, a store that is closed under its writers.
//!
//! `TINYKV_CASES` multiplies the number of schedules; `TINYKV_LEDGER` (an absolute path) is where a
//! run appends its figures.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../../tests/src/ledger.rs"]
pub mod ledger;
/// For the ledger: what is checked out.
pub const BUILT_FROM: Option<&str> = None;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tinykv_engine_shuttle::{
    Durability, EngineError, EngineOptions, Standalone, StandaloneOptions,
};
use tinykv_env::{Env, SimEnv};
use tinykv_lsm::{LsmOptions, WriteBatch};
use tinykv_sync::{Fault, explore, explore_with, schedules, thread};
use tinykv_wal::WalOptions;

const DIR: &str = "/store";
const WRITERS: u8 = 3;
const WRITES: u8 = 3;

/// A log of small segments, memtables of a few writes, and groups of two writes at most.
fn options(background_threads: usize) -> StandaloneOptions {
    StandaloneOptions {
        engine: EngineOptions {
            wal: WalOptions {
                segment_bytes: 16 << 10,
                segments_target: 2,
                segments_max: 5,
                segments_spare: 1,
            },
            lsm: LsmOptions {
                memtable_bytes_max: 1 << 10,
                cache_bytes_max: 64 << 10,
                l0_compaction_files: 2,
                ..LsmOptions::default()
            },
        },
        batch_bytes_max: 8 << 10,
        group_bytes_max: 600,
        background_threads,
        revisit_every: Duration::ZERO,
    }
}

fn open(env: &Arc<dyn Env>, background_threads: usize) -> Arc<Standalone> {
    let options = options(background_threads);
    let store = Standalone::open(env.clone(), Path::new(DIR), options);
    Arc::new(store.expect("open"))
}

fn key(writer: u8, number: u8) -> String {
    format!("w{writer}-{number}")
}

/// Writes two keys at a time, reads them back, and answers how many writes were acknowledged before
/// the store was closed.
fn write(store: &Standalone, writer: u8) -> u8 {
    for round in 1..=WRITES {
        let mut batch = WriteBatch::new();
        for number in 0..2 {
            batch.put(key(writer, number), vec![round; 100]);
        }
        let durability = match round % 2 {
            0 => Durability::Buffered,
            _ => Durability::Synced,
        };
        match store.write(batch, durability) {
            Ok(()) => match store.multi_get(&[key(writer, 0), key(writer, 1)]) {
                Ok(values) => assert!(
                    values.iter().flatten().all(|v| v[..] == [round; 100]) && values.len() == 2,
                    "round {round} of writer {writer} is not to be seen"
                ),
                Err(EngineError::Closed) => return round,
                Err(error) => panic!("read: {error}"),
            },
            Err(EngineError::Closed) => return round - 1,
            Err(error) => panic!("write: {error}"),
        }
    }
    WRITES
}

fn writers(store: &Arc<Standalone>) -> Vec<thread::JoinHandle<u8>> {
    let start = |writer| {
        let store = store.clone();
        thread::spawn(move || write(&store, writer))
    };
    (0..WRITERS).map(start).collect()
}

fn done<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    let done = threads.into_iter();
    done.map(|t| t.join().expect("no thread fails")).collect()
}

/// After a restart every writer has just what it was told.
fn check_reopened(env: &Arc<dyn Env>, reached: &[u8]) {
    let store = open(env, 0);
    for (writer, &reached) in (0..).zip(reached) {
        for number in 0..2 {
            let value = store.get(key(writer, number).as_bytes()).expect("get");
            let expected = (reached > 0).then(|| vec![reached; 100]);
            assert_eq!(value.as_deref(), expected.as_deref(), "writer {writer}");
        }
    }
    store.close().expect("close");
}

fn note(test: &str, schedules: usize) {
    let figures = json!({ "test": test, "schedules": schedules, "failures": 0 });
    ledger::append_if_asked("engine_schedules", &figures).expect("ledger");
}

/// Writers, and others that want the log for themselves.
fn groups(background_threads: usize) {
    let env = SimEnv::new(1).shared();
    let store = open(&env, background_threads);
    let threads = writers(&store);
    let other = store.clone();
    let other = thread::spawn(move || {
        other.sync().expect("sync");
        other.checkpoint(Path::new("/copy")).expect("checkpoint");
        other.flush().expect("flush");
    });
    let reached = done(threads);
    done(vec![other]);
    assert_eq!(reached, [WRITES; WRITERS as usize]);
    store.close().expect("close");
    drop(store);
    check_reopened(&env, &reached);
}

#[test]
fn groups_commit_in_order_and_all() {
    let count = schedules(1000);
    explore("groups", count, || groups(0));
    note("groups_commit_in_order_and_all", count);
}

#[test]
fn groups_commit_beside_a_background_thread() {
    let count = schedules(500);
    explore("groups and a thread", count, || groups(1));
    note("groups_commit_beside_a_background_thread", count);
}

#[test]
fn a_leader_that_wakes_nobody_is_found() {
    let fault = Fault::WakesAreLost;
    assert!(explore_with(fault, "planted", 200, || groups(0)));
}

/// A store is closed while they write: each write is acknowledged and stays, or is refused.
fn closed_under_writers(background_threads: usize) {
    let env = SimEnv::new(1).shared();
    let store = open(&env, background_threads);
    let threads = writers(&store);
    store.close().expect("close");
    let reached = done(threads);
    drop(store);
    check_reopened(&env, &reached);
}

#[test]
fn a_store_closed_under_its_writers_keeps_its_word() {
    let count = schedules(500);
    explore("close", count, || closed_under_writers(0));
    explore("close with a thread", count, || closed_under_writers(1));
    note("a_store_closed_under_its_writers_keeps_its_word", 2 * count);
}
