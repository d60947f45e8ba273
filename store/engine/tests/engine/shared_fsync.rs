//! Threads: concurrent callers share an fsync, readers and writers do not disturb each other, and
//! background threads keep the store going. On the real file system.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tinykv_engine::{Direction, Durability, Standalone, StandaloneOptions};
use tinykv_env::{Env, OsEnv, SimEnv};

use crate::{DIR, machine, tiny_standalone};

fn open(env: Arc<dyn Env>, dir: &Path, options: StandaloneOptions) -> Arc<Standalone> {
    Arc::new(Standalone::open(env, dir, options).expect("open"))
}

/// Runs `act` on as many threads as there are numbers.
fn on_threads(count: u64, act: impl Fn(u64) + Send + Sync) {
    std::thread::scope(|scope| {
        for number in 0..count {
            let act = &act;
            scope.spawn(move || act(number));
        }
    });
}

#[test]
fn concurrent_writers_share_a_sync_and_lose_nothing() {
    const THREADS: u64 = 8;
    const WRITES: u64 = 200;
    let dir = tempfile::tempdir().expect("directory");
    let options = StandaloneOptions {
        background_threads: 2,
        ..tiny_standalone()
    };
    let store = open(OsEnv::shared(), dir.path(), options.clone());
    on_threads(THREADS, |thread| {
        for number in 0..WRITES {
            let key = format!("{thread}/{number:04}");
            let durability = if number % 4 == 0 {
                Durability::Synced
            } else {
                Durability::Buffered
            };
            store
                .put(key.clone(), vec![thread as u8; 100], durability)
                .expect("put");
            let found = store.get(key.as_bytes()).expect("get");
            assert_eq!(found, Some(Bytes::from(vec![thread as u8; 100])), "{key}");
        }
    });
    drop(store);
    let store = open(OsEnv::shared(), dir.path(), options);
    let scan = store.scan(b"", b"", Direction::Forward).expect("scan");
    let keys: Vec<_> = scan.map(|item| item.expect("scan").0).collect();
    assert_eq!(keys.len() as u64, THREADS * WRITES);
    assert!(keys.is_sorted());
}

#[test]
fn a_group_costs_one_sync() {
    const THREADS: u64 = 16;
    const WRITES: u64 = 50;
    let env: SimEnv = machine(1);
    let options = StandaloneOptions {
        engine: tinykv_engine::EngineOptions::default(),
        batch_bytes_max: 1 << 20,
        group_bytes_max: 1 << 20,
        background_threads: 0,
        ..StandaloneOptions::default()
    };
    let store = open(env.shared(), Path::new(DIR), options);
    let before = env.sync_count();
    // Two rounds overlap at least when a writer arrives while another one leads, so there can
    // never be more syncs than writes; alone, there would be exactly as many.
    let done = AtomicU64::new(0);
    on_threads(THREADS, |thread| {
        for number in 0..WRITES {
            let key = format!("{thread}/{number}");
            store.put(key, "v", Durability::Synced).expect("put");
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    let syncs = env.sync_count() - before;
    let writes = done.into_inner();
    assert_eq!(writes, THREADS * WRITES);
    assert!(syncs <= writes, "{syncs} syncs for {writes} writes");
    println!("{syncs} syncs for {writes} writes");
}

#[test]
fn snapshots_and_scans_stand_still_while_others_write() {
    let dir = tempfile::tempdir().expect("directory");
    let options = StandaloneOptions {
        background_threads: 1,
        ..tiny_standalone()
    };
    let store = open(OsEnv::shared(), dir.path(), options);
    for number in 0..100u32 {
        store
            .put(format!("{number:03}"), "before", Durability::Buffered)
            .expect("put");
    }
    on_threads(4, |thread| {
        if thread == 0 {
            for round in 0..2000u32 {
                let key = format!("{:03}", round % 100);
                store
                    .put(key, format!("round {round}"), Durability::Buffered)
                    .expect("put");
            }
            return;
        }
        for _ in 0..30 {
            let snapshot = store.snapshot().expect("snapshot");
            let read = || -> Vec<_> {
                let scan = snapshot.scan(b"", b"", Direction::Backward).expect("scan");
                scan.map(|item| item.expect("scan")).collect()
            };
            let first = read();
            assert_eq!(first.len(), 100);
            assert_eq!(first, read(), "a snapshot does not change");
        }
    });
}
