//! Bad input and bad luck: one typed answer each, and nothing half done (D4, D8).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tinykv_engine::{
    Durability, Engine, EngineError, EngineOptions, ErrorKind, Standalone, StandaloneOptions,
};
use tinykv_env::{CrashMode, Env, SimEnv};
use tinykv_lsm::{LsmOptions, OriginId, WriteBatch};
use tinykv_raft::{Entry, EntryId, GroupId, HardState, LogIndex, Payload, Term};
use tinykv_wal::{Batch, Record, Wal};

use crate::{DIR, machine, tiny_options, tiny_standalone};

fn open(env: &SimEnv) -> Standalone {
    Standalone::open(env.shared(), Path::new(DIR), tiny_standalone()).expect("open")
}

fn value(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 300])
}

#[test]
fn a_directory_is_used_by_one() {
    let env = machine(1);
    let store = open(&env);
    let error = Standalone::open(env.shared(), Path::new(DIR), tiny_standalone());
    let error = error.expect_err("in use");
    assert!(matches!(error, EngineError::InUse { .. }));
    assert_eq!(error.to_string(), "data/engine is in use");
    assert_eq!(error.kind(), ErrorKind::Unusable);
    drop(store);
    open(&env);
}

#[test]
fn a_closed_store_refuses_everything_but_its_snapshots() {
    let env = machine(2);
    let store = open(&env);
    store.put("k", "v", Durability::Buffered).expect("put");
    let snapshot = store.snapshot().expect("snapshot");
    store.close().expect("close");
    store.close().expect("closing twice is fine");
    let errors = [
        store.put("k", "w", Durability::Synced).err(),
        store.get(b"k").err(),
        store.flush().err(),
        store.checkpoint(Path::new("data/copy")).err(),
        store.run_job().err(),
    ];
    for error in errors {
        let error = error.expect("closed");
        assert_eq!(error.to_string(), "the engine is closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    assert_eq!(snapshot.get(b"k").expect("get").as_deref(), Some(&b"v"[..]));
    drop((store, snapshot));
    env.crash(CrashMode::DropUnsynced);
    let store = open(&env);
    let kept = store.get(b"k").expect("get");
    assert_eq!(kept.as_deref(), Some(&b"v"[..]), "closing syncs");
}

#[test]
fn bad_input_is_refused_and_nothing_is_written() {
    let env = machine(3);
    let store = open(&env);
    let io_before = env.io_count();
    let mut moves_applied = WriteBatch::new();
    moves_applied.put("k", "v").applied(OriginId(1), 99);
    let refused = [
        (store.put("", "v", Durability::Synced), "a key is empty"),
        (
            store.delete(vec![b'k'; 70_000], Durability::Synced),
            "a batch of 70000 bytes is over the limit of 8192 bytes",
        ),
        (
            store.put("k", vec![0; 9000], Durability::Synced),
            "a batch of 9001 bytes is over the limit of 8192 bytes",
        ),
        (
            store.write(moves_applied, Durability::Synced),
            "a batch for a standalone store moves no applied index",
        ),
    ];
    for (result, sentence) in refused {
        let error = result.expect_err(sentence);
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(sentence), "{error}");
    }
    assert_eq!(env.io_count(), io_before);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let env = machine(4);
    let batch = StandaloneOptions {
        batch_bytes_max: 1 << 20,
        ..tiny_standalone()
    };
    let engine = StandaloneOptions {
        engine: EngineOptions {
            lsm: LsmOptions {
                levels: 1,
                ..LsmOptions::default()
            },
            ..tiny_options()
        },
        ..tiny_standalone()
    };
    for (options, name) in [(batch, "batch_bytes_max"), (engine, "levels")] {
        let error = Standalone::open(env.shared(), Path::new(DIR), options);
        let error = error.expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    assert!(!env.exists(Path::new(DIR)).expect("exists"));
}

#[test]
fn a_store_directory_is_no_standalone_store() {
    let env = machine(5);
    let dir = Path::new(DIR);
    let (engine, mut recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
    let birth = Record::Birth {
        group: GroupId(40),
        birth: Bytes::new(),
        hard_state: HardState::default(),
        truncated: EntryId::default(),
    };
    recovery
        .writer
        .append(&Batch::from(vec![birth]))
        .expect("append");
    recovery.writer.sync().expect("sync");
    drop((engine, recovery));
    let error = Standalone::open(env.shared(), dir, tiny_standalone()).expect_err("foreign");
    assert!(matches!(error, EngineError::NotStandalone { .. }));
    assert_eq!(
        error.to_string(),
        "data/engine belongs to a store: it holds group 40"
    );
}

#[test]
fn a_failed_sync_fails_every_write_after_it() {
    let mut failures = 0;
    for n in 1..60 {
        let env = machine(6);
        let store = open(&env);
        env.fail_sync_at(env.sync_count() + n);
        let mut acknowledged = Vec::new();
        let mut failed = None;
        for number in 0..40u8 {
            match store.put(vec![b'k', number], value(number), Durability::Synced) {
                Ok(()) => acknowledged.push(number),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let Some(error) = failed else { continue };
        failures += 1;
        assert_eq!(error.kind(), ErrorKind::Failed, "sync {n}: {error}");
        let again = store.put("again", "v", Durability::Buffered);
        assert_eq!(again.expect_err("final").kind(), ErrorKind::Failed);
        drop(store);
        env.crash(CrashMode::DropUnsynced);
        // A standalone store has no other copy: what cannot be trusted is not opened.
        match Standalone::open(env.shared(), Path::new(DIR), tiny_standalone()) {
            Ok(store) => {
                for number in acknowledged {
                    let found = store.get(&[b'k', number]).expect("get");
                    assert_eq!(found, Some(value(number)), "sync {n}");
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unusable, "sync {n}: {error}"),
        }
    }
    assert!(failures > 20, "only {failures} failures");
}

#[test]
fn a_full_disk_passes_and_loses_nothing() {
    let env = machine(7);
    let store = open(&env);
    let mut written = 0u64;
    env.set_capacity(Some(200 << 10));
    let full = loop {
        let key = written.to_be_bytes().to_vec();
        match store.put(key, value(written as u8), Durability::Synced) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk never fills");
    };
    assert_eq!(full.kind(), ErrorKind::Retry, "{full}");
    let check = |store: &Standalone| {
        for number in 0..written {
            let found = store.get(&number.to_be_bytes()).expect("reads go on");
            assert_eq!(found, Some(value(number as u8)), "write {number}");
        }
    };
    check(&store);
    env.set_capacity(None);
    store
        .put("after", "v", Durability::Synced)
        .expect("service returns when space does");
    check(&store);
    drop(store);
    env.crash(CrashMode::DropUnsynced);
    check(&open(&env));
}

#[test]
fn a_tree_ahead_of_its_log_is_damage() {
    // The last frames of the log are lost without a watermark behind them; the tree, which has
    // flushed them, convicts.
    let env = machine(8);
    let dir = Path::new(DIR);
    let (engine, recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
    let mut wal = recovery.writer;
    let group = GroupId(3);
    let birth = Record::Birth {
        group,
        birth: Bytes::new(),
        hard_state: HardState::default(),
        truncated: EntryId::default(),
    };
    wal.append(&Batch::from(vec![birth])).expect("append");
    wal.sync().expect("sync");
    let entries = vec![Entry {
        id: EntryId {
            term: Term(1),
            index: LogIndex(1),
        },
        payload: Payload::Empty,
    }];
    wal.append(&Batch::from(vec![Record::Entries { group, entries }]))
        .expect("append");
    let end = wal.sync().expect("sync");
    let mut batch = WriteBatch::new();
    batch.put("k", "v").applied(OriginId(3), 1);
    engine.write(&batch).expect("write");
    engine.lsm().flush().expect("flush");
    drop((engine, wal));
    env.crash(CrashMode::KeepAll);
    let offset = (end.0 & 0xffff_ffff) - 64;
    env.flip(&dir.join("wal/000001.wal"), offset, 1)
        .expect("flip");

    for _ in 0..2 {
        let (engine, recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
        assert!(recovery.groups[&group].log.damaged, "it would vote");
        drop((engine, recovery));
    }
    let (mut wal, _) = Wal::open(env.shared(), &dir.join("wal"), tiny_options().wal).expect("open");
    wal.maintain().expect("the log itself goes on");
}

#[test]
fn a_group_that_only_the_tree_knows_is_damaged() {
    let env = machine(8);
    let dir = Path::new(DIR);
    let (engine, recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
    let mut wal = recovery.writer;
    let first = EntryId {
        term: Term(1),
        index: LogIndex(1),
    };
    let mut ends = Vec::new();
    for number in [3, 4, 5] {
        let birth = Record::Birth {
            group: GroupId(number),
            birth: Bytes::from_static(b"who it is"),
            hard_state: HardState::default(),
            truncated: first,
        };
        wal.append(&Batch::from(vec![birth])).expect("append");
        ends.push(wal.sync().expect("sync"));
        let mut batch = WriteBatch::new();
        batch.put(number.to_be_bytes().to_vec(), "v");
        batch.applied(OriginId(number), 1);
        engine.write(&batch).expect("write");
    }
    engine.lsm().flush().expect("flush");
    drop((engine, wal));
    env.crash(CrashMode::KeepAll);
    // All that the log had of the second group.
    let offset = (ends[1].0 & 0xffff_ffff) - 64;
    env.flip(&dir.join("wal/000001.wal"), offset, 1)
        .expect("flip");

    for start in 0..2 {
        let (engine, recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
        let lost = &recovery.groups[&GroupId(4)];
        assert_eq!(lost.applied, LogIndex(1));
        assert!(lost.log.damaged && lost.log.birth.is_empty(), "{lost:?}");
        assert_eq!(recovery.damaged.is_empty(), start > 0, "found once");
        drop((engine, recovery));
    }
    // Once it is dead, the tree's data of it waits to be dropped, and says nothing.
    let (engine, mut recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
    let tombstone = Record::Tombstone {
        group: GroupId(4),
        payload: Bytes::from_static(b"who it was"),
    };
    let tombstone = Batch::from(vec![tombstone]);
    recovery.writer.append(&tombstone).expect("append");
    recovery.writer.sync().expect("sync");
    drop((engine, recovery));
    let (_engine, recovery) = Engine::open(env.shared(), dir, tiny_options()).expect("open");
    assert!(!recovery.groups.contains_key(&GroupId(4)));
}

#[test]
#[should_panic(expected = "log is durable up to")]
fn applying_before_durable_is_a_bug_of_the_caller() {
    let env = machine(9);
    let (engine, recovery) =
        Engine::open(env.shared(), Path::new(DIR), tiny_options()).expect("open");
    let mut wal = recovery.writer;
    let group = GroupId(3);
    let birth = Record::Birth {
        group,
        birth: Bytes::new(),
        hard_state: HardState::default(),
        truncated: EntryId::default(),
    };
    wal.append(&Batch::from(vec![birth])).expect("append");
    let mut batch = WriteBatch::new();
    batch.put("k", "v").applied(OriginId(3), 1);
    let _ = engine.write(&batch);
}

/// Names and lengths of everything below a directory.
fn listing(env: &SimEnv, dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in env.list_dir(dir).expect("list") {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            found.extend(listing(env, &path));
        } else if entry.name != "LOCK" {
            found.push((path, entry.len));
        }
    }
    found
}

/// A closed store with tables and an unflushed log, and how many keys it holds.
fn closed_store() -> (SimEnv, u64) {
    let env = machine(10);
    let store = open(&env);
    for number in 0..150u64 {
        let key = number.to_be_bytes().to_vec();
        let put = store.put(key, value(number as u8), Durability::Synced);
        put.expect("put");
    }
    store.close().expect("close");
    assert!(
        store
            .statistics()
            .levels
            .iter()
            .any(|level| level.files > 0)
    );
    (env, 150)
}

#[test]
fn a_half_deleted_directory_is_refused() {
    let (whole, keys) = closed_store();
    let dir = Path::new(DIR);
    let (mut refused, mut needless) = (0, 0);
    for (path, _) in listing(&whole, dir) {
        let env = whole.duplicate();
        env.remove_file(&path).expect("remove");
        let before = listing(&env, dir);
        match Standalone::open(env.shared(), dir, tiny_standalone()) {
            // A segment that held nothing any more.
            Ok(store) => {
                assert!(path.starts_with(dir.join("wal")), "{}", path.display());
                for number in 0..keys {
                    let found = store.get(&number.to_be_bytes()).expect("get");
                    assert_eq!(found, Some(value(number as u8)), "{}", path.display());
                }
                needless += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unusable, "{error}");
                if path.starts_with(dir.join("lsm")) {
                    let name = path.display().to_string();
                    assert!(error.to_string().contains(&name), "{error}");
                    assert_eq!(listing(&env, dir), before, "nothing was written");
                }
                refused += 1;
            }
        }
    }
    assert!(refused > 5, "{refused} refused, {needless} needless");
}

#[test]
fn half_of_a_directory_is_no_store() {
    let (whole, _) = closed_store();
    let dir = Path::new(DIR);
    for (half, sentence) in [
        (
            "wal",
            "it is missing, though the tree holds what stood in it",
        ),
        ("lsm", "it is missing, though the log knows groups"),
    ] {
        let env = whole.duplicate();
        let gone = dir.join(half);
        for entry in env.list_dir(&gone).expect("list") {
            env.remove_file(&gone.join(&entry.name)).expect("remove");
        }
        env.remove_dir(&gone).expect("remove");
        for _ in 0..2 {
            let error = Standalone::open(env.shared(), dir, tiny_standalone());
            let error = error.expect_err("half of it is gone");
            assert_eq!(error.kind(), ErrorKind::Unusable);
            let expected = format!("data/engine/{half} is damaged: {sentence}");
            assert_eq!(error.to_string(), expected);
            assert!(!env.exists(&gone).expect("exists"), "it is not made anew");
        }
    }
}

#[test]
fn the_disk_may_be_full_at_any_write() {
    let (mut refused, mut too_early) = (0, 0);
    for pages in 8..90 {
        let env = machine(11);
        env.set_capacity(Some(pages << 12));
        let store = match Standalone::open(env.shared(), Path::new(DIR), tiny_standalone()) {
            Ok(store) => store,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Retry, "{pages} pages: {error}");
                too_early += 1;
                continue;
            }
        };
        let mut acknowledged = 0u64;
        while acknowledged < 120 {
            let key = acknowledged.to_be_bytes().to_vec();
            match store.put(key, value(acknowledged as u8), Durability::Synced) {
                Ok(()) => acknowledged += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Retry, "{pages} pages: {error}");
                    assert_eq!(store.get(&acknowledged.to_be_bytes()).expect("get"), None);
                    refused += 1;
                    env.set_capacity(None);
                }
            }
        }
        drop(store);
        env.crash(CrashMode::DropUnsynced);
        let store = open(&env);
        for number in 0..acknowledged {
            let found = store.get(&number.to_be_bytes()).expect("get");
            assert_eq!(found, Some(value(number as u8)), "{pages} pages");
        }
    }
    assert!(
        refused > 20,
        "{refused} refused, {too_early} could not begin"
    );
}
