//! Real threads: writers, readers and background work at once.
//!
//! Each writer counts up all its keys in one batch, so a snapshot that shows two different counts
//! of one writer, or a count that goes back, has seen half a batch or lost one (L1, L3).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tinykv_env::{Env, SimEnv};
use tinykv_lsm::{Ingest, Lsm, LsmOptions, OriginId, SstWriter, WriteBatch};

use crate::support::{cases, tiny};

const WRITERS: u64 = 2;
const KEYS: u64 = 12;
/// The writers go on until the reader has looked so often, however slow its thread is.
const OBSERVED_MIN: u64 = 10;

fn key(writer: u64, number: u64) -> Bytes {
    Bytes::from(format!("w{writer}-{number:02}"))
}

/// All counts of a writer in one snapshot, by iterator and by get.
fn counts(lsm: &Lsm, writer: u64) -> Vec<u64> {
    let snapshot = lsm.snapshot();
    let parse = |value: &Bytes| -> u64 {
        let text = std::str::from_utf8(value).expect("digits");
        text.parse().expect("a count")
    };
    let (lower, upper) = (format!("w{writer}-"), format!("w{writer}."));
    let mut iter = snapshot
        .iter(lower.as_bytes(), upper.as_bytes())
        .expect("iterate");
    let mut counts = Vec::new();
    while iter.next().expect("next") {
        counts.push(parse(&iter.value()));
    }
    for number in 0..KEYS {
        let value = snapshot.get(&key(writer, number)).expect("get");
        counts.extend(value.as_ref().map(parse));
    }
    counts
}

/// Counts up until both the rounds and the reader have had enough; answers how far it came.
fn write(lsm: &Lsm, writer: u64, rounds: u64, observed: &AtomicU64) -> u64 {
    let mut round = 0;
    while round < rounds || observed.load(Ordering::Relaxed) < OBSERVED_MIN {
        round += 1;
        let mut batch = WriteBatch::new();
        if round % 7 == 0 {
            batch.delete_range(format!("w{writer}-"), format!("w{writer}."));
        }
        for number in 0..KEYS {
            batch.put(key(writer, number), round.to_string());
        }
        batch.applied(OriginId(writer), round);
        lsm.write(&batch).expect("write");
    }
    round
}

/// Replaces one range by ingests; every snapshot shows one of them whole.
fn ingest(lsm: &Lsm, env: &Arc<dyn Env>, rounds: u64) {
    for round in 1..=rounds {
        let path = Path::new("/in").join(round.to_string());
        let mut writer = SstWriter::create(env, &path, lsm.options()).expect("create");
        for number in 0..KEYS {
            let value = round.to_string();
            writer.add(&key(9, number), value.as_bytes()).expect("add");
        }
        writer.finish().expect("finish");
        let done = lsm.ingest(&Ingest {
            drop: vec![(Bytes::from("w9-"), Bytes::from("w9."))],
            files: vec![path],
            applied: Some((OriginId(9), round)),
        });
        done.expect("ingest");
    }
}

#[test]
fn snapshots_are_whole_while_everything_moves() {
    let env = SimEnv::new(1).shared();
    env.create_dir_all(Path::new("/in"))
        .expect("create_dir_all");
    let lsm = Lsm::open(env.clone(), Path::new("/tree"), tiny()).expect("open");
    let rounds = cases(400);
    let busy = AtomicU64::new(WRITERS + 1);
    let stop = AtomicBool::new(false);
    let observed = AtomicU64::new(0);
    let written: [AtomicU64; WRITERS as usize] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    match lsm.plan() {
                        Some(job) => drop(job.run().expect("job")),
                        None => std::thread::yield_now(),
                    }
                }
            });
        }
        for writer in 0..WRITERS {
            let (lsm, busy, observed) = (&lsm, &busy, &observed);
            let written = &written[writer as usize];
            scope.spawn(move || {
                let last = write(lsm, writer, rounds, observed);
                written.store(last, Ordering::Relaxed);
                busy.fetch_sub(1, Ordering::AcqRel);
            });
        }
        scope.spawn(|| {
            ingest(&lsm, &env, rounds / 10);
            busy.fetch_sub(1, Ordering::AcqRel);
        });
        scope.spawn(|| {
            let mut reached = [0; 10];
            while busy.load(Ordering::Acquire) > 0 {
                for writer in [0, 1, 9] {
                    let counts = counts(&lsm, writer);
                    let Some(&first) = counts.first() else {
                        continue;
                    };
                    assert_eq!(counts, vec![first; 2 * KEYS as usize], "writer {writer}");
                    let reached = &mut reached[writer as usize];
                    assert!(
                        first >= *reached,
                        "writer {writer}: from {reached} to {first}"
                    );
                    *reached = first;
                    observed.fetch_add(1, Ordering::Relaxed);
                }
            }
            stop.store(true, Ordering::Release);
        });
    });
    let [first, second] = written.map(AtomicU64::into_inner);
    lsm.flush().expect("flush");
    lsm.settle().expect("settle");
    drop(lsm);
    let lsm = Lsm::open(env, Path::new("/tree"), tiny()).expect("reopen");
    for (writer, last) in [(0, first), (1, second), (9, rounds / 10)] {
        assert_eq!(counts(&lsm, writer), vec![last; 2 * KEYS as usize]);
        assert_eq!(lsm.flushed_of(OriginId(writer)), last);
    }
}

/// A table taken in where a compaction is under way stays out of its way.
#[test]
fn an_ingest_into_the_gap_of_a_running_compaction() {
    let env = SimEnv::new(1).shared();
    let dir = Path::new("/tree");
    let lsm = Lsm::open(env.clone(), dir, tiny()).expect("open");
    for round in 0..2u8 {
        let mut batch = WriteBatch::new();
        batch.put("a", vec![round; 10]).put("z", vec![round; 10]);
        lsm.write(&batch).expect("write");
        lsm.flush().expect("flush");
    }
    let compaction = lsm.plan().expect("level 0 is due");
    let path = Path::new("/m.sst");
    let mut writer = SstWriter::create(&env, path, lsm.options()).expect("create");
    writer.add(b"m", b"taken in").expect("add");
    writer.finish().expect("finish");
    let ingest = Ingest {
        files: vec![path.to_owned()],
        ..Ingest::default()
    };
    lsm.ingest(&ingest).expect("ingest");
    compaction.run().expect("compaction");
    lsm.settle().expect("settle");
    let values = lsm
        .snapshot()
        .multi_get(&["z", "m", "a"])
        .expect("multi_get");
    let expected = [vec![1; 10], b"taken in".to_vec(), vec![1; 10]];
    assert_eq!(values, expected.map(|value| Some(Bytes::from(value))));
}

/// Puts numbers under keys in a scattered order, every one in a batch of its own.
fn scatter(lsm: &Lsm, keys: u64, round: u64) {
    for number in 0..keys {
        let number = number * 7919 % keys;
        let mut batch = WriteBatch::new();
        if number.is_multiple_of(50) {
            batch.delete_range(format!("k{number:05}"), format!("k{:05}", number + 3));
        }
        batch.put(format!("k{number:05}"), format!("{number} of {round}"));
        lsm.write(&batch).expect("write");
    }
}

fn all(lsm: &Lsm) -> Vec<(Bytes, Bytes)> {
    let mut iter = lsm.snapshot().iter(&[], &[]).expect("iterate");
    let mut seen = Vec::new();
    while iter.next().expect("next") {
        seen.push((Bytes::copy_from_slice(iter.key()), iter.value()));
    }
    seen
}

/// Tables that lie in the directory and tables that are in use.
fn tables(lsm: &Lsm, env: &dyn Env) -> (usize, usize) {
    let entries = env.list_dir(Path::new("/tree")).expect("list");
    let there = entries.iter().filter(|e| e.name.ends_with(".sst")).count();
    let levels = lsm.statistics().levels;
    (there, levels.iter().map(|level| level.files).sum())
}

/// Several threads work on one compaction; what comes out is what one thread alone would make.
#[test]
fn a_large_compaction_is_done_in_parts() {
    let options = LsmOptions {
        levels: 2,
        compactions_max: 8,
        compaction_parts_max: 8,
        ..tiny()
    };
    for round in 0..cases(4) {
        let env = SimEnv::new(round).shared();
        let lsm = Lsm::open(env.clone(), Path::new("/tree"), options.clone()).expect("open");
        scatter(&lsm, 600, round);
        scatter(&lsm, 600, round + 1);
        lsm.flush().expect("flush");
        let expected = all(&lsm);
        let first = lsm.plan().expect("level 0 is due");
        let parts_before = lsm.statistics().compaction_parts;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        match lsm.plan() {
                            Some(job) => drop(job.run().expect("job")),
                            None => std::thread::yield_now(),
                        }
                    }
                });
            }
            first.run().expect("compaction");
            while lsm.statistics().levels[0].files > 0 {
                std::thread::yield_now();
            }
            done.store(true, Ordering::Release);
        });
        let statistics = lsm.statistics();
        assert_eq!(statistics.compactions, 1);
        assert!(statistics.compaction_parts - parts_before >= 3);
        assert_eq!(all(&lsm), expected);
        lsm.settle().expect("settle");
        assert!(lsm.verify().is_empty());
        let (there, in_use) = tables(&lsm, env.as_ref());
        assert_eq!(there, in_use);
        drop(lsm);
        let lsm = Lsm::open(env, Path::new("/tree"), options.clone()).expect("reopen");
        assert_eq!(all(&lsm), expected);
    }
}

/// A part that finds the disk full gives up all parts, and the whole is due again.
#[test]
fn a_compaction_whose_part_fails_leaves_nothing() {
    let options = LsmOptions {
        levels: 2,
        compaction_parts_max: 8,
        ..tiny()
    };
    let sim = SimEnv::new(3);
    let env = sim.shared();
    let lsm = Lsm::open(env.clone(), Path::new("/tree"), options).expect("open");
    scatter(&lsm, 600, 1);
    lsm.flush().expect("flush");
    let expected = all(&lsm);
    let before = tables(&lsm, env.as_ref());
    let used = |env: &SimEnv| -> u64 {
        let entries = env.list_dir(Path::new("/tree")).expect("list");
        entries.iter().map(|entry| entry.len).sum()
    };
    let mut refused = 0;
    for room in (0..20_000).step_by(1000) {
        sim.set_capacity(Some(used(&sim) + room));
        let job = lsm.plan().expect("level 0 is due");
        let helper = lsm.plan();
        assert!(helper.is_none(), "nobody joins before it has begun");
        match job.run() {
            Ok(_) => break,
            Err(error) => assert!(!error.is_final(), "{error}"),
        }
        refused += 1;
        assert_eq!(tables(&lsm, env.as_ref()), before);
        assert_eq!(all(&lsm), expected);
    }
    assert!(refused > 5, "{refused}");
    sim.set_capacity(None);
    lsm.settle().expect("settle");
    assert_eq!(all(&lsm), expected);
    let (there, in_use) = tables(&lsm, env.as_ref());
    assert_eq!(there, in_use);
}
