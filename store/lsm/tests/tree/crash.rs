//! Crashes at every I/O of generated histories, in every way a disk can forget, then recovery.
//!
//! What is recovered must be a prefix of the order of writes, at or beyond what was known to be
//! durable, with applied indexes that fit (L1, L2, L4, L5); and the tree must go on from there.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;
use tinykv_env::{CrashMode, Prng, SimEnv};
use tinykv_lsm::{Lsm, LsmError, LsmOptions, Sequence, WriteBatch};

use crate::ledger::append_if_asked;
use crate::support::{
    Driver, INGEST_ORIGIN, Map, Model, ORIGINS, Step, cases, check, check_all, check_files,
    history, option_sets, origin_of, replay, tiny,
};

const KEYS: u64 = 40;
const STEPS: usize = 60;
const DIR: &str = "/tree";

/// What is known when a crash comes.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Batches and ingests asked for, the last of each perhaps not done.
    batches: u64,
    ingests: u64,
    /// The sequence that every batch was answered with.
    sequences: Vec<Sequence>,
    /// Durable before the crash.
    flushed: std::collections::BTreeMap<tinykv_lsm::OriginId, u64>,
}

/// Runs a history until it is done or the machine stops.
fn run(env: &SimEnv, history: &[Step], options: &LsmOptions) -> Known {
    let mut known = Known::default();
    let Ok(mut driver) = Driver::open(&env.shared(), Path::new(DIR), options.clone()) else {
        assert!(env.is_stopped());
        return known;
    };
    for step in history {
        let done = driver.step(step);
        known.batches = driver.batches;
        known.ingests = driver.ingests;
        known.sequences.clone_from(&driver.sequences);
        known.flushed = driver.lsm.flushed();
        if let Err(error) = done {
            assert!(env.is_stopped(), "{error}");
            break;
        }
    }
    known
}

/// Opens what a crash left and compares; returns the tree and the model it agrees with.
fn recover(
    env: &SimEnv,
    history: &[Step],
    known: &Known,
    options: &LsmOptions,
    what: &str,
) -> (Lsm, Map) {
    let opened = Lsm::open(env.shared(), Path::new(DIR), options.clone());
    let lsm = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = lsm.flushed();
    let index =
        |map: &std::collections::BTreeMap<_, u64>, origin| map.get(&origin).copied().unwrap_or(0);
    let batches = (0..ORIGINS).map(|o| index(&found, origin_of(o))).max();
    let batches = batches.unwrap_or(0);
    let ingests = index(&found, INGEST_ORIGIN);
    assert!(
        batches <= known.batches && ingests <= known.ingests,
        "{what}"
    );
    for (origin, durable) in &known.flushed {
        assert!(
            index(&found, *origin) >= *durable,
            "{what}: {origin:?} went back"
        );
    }
    for origin in (0..ORIGINS).map(origin_of) {
        let last = (1..=batches)
            .rev()
            .find(|&batch| origin_of(batch) == origin);
        assert_eq!(
            index(&found, origin),
            last.unwrap_or(0),
            "{what}: {origin:?} is no prefix"
        );
        assert_eq!(lsm.applied(origin), index(&found, origin), "{what}");
    }
    let model = replay(history, batches, ingests);
    check_all(&lsm.snapshot(), &model.map, what);
    check_files(env, Path::new(DIR), &lsm, what);
    check_sequence(&lsm, batches, known, what);
    (lsm, model.map)
}

/// L4: what is written next is newer than everything that was recovered.
fn check_sequence(lsm: &Lsm, batches: u64, known: &Known, what: &str) {
    let Some(newest) = known.sequences[..known.sequences.len().min(batches as usize)].last() else {
        return;
    };
    let next = lsm.write(&WriteBatch::new()).expect(what);
    assert!(next >= *newest, "{what}: {next:?} after {newest:?}");
}

/// The recovered tree takes writes, compacts, and keeps them over a restart.
fn go_on(env: &SimEnv, lsm: Lsm, map: Map, seed: u64, options: &LsmOptions, what: &str) {
    let dir = Path::new(DIR);
    let reached = lsm.flushed().values().copied().max().unwrap_or(0);
    let mut driver = Driver {
        env: env.shared(),
        dir: dir.to_owned(),
        batches: reached,
        ingests: reached,
        sequences: Vec::new(),
        held: Vec::new(),
        lsm,
    };
    let mut model = Model { map };
    for step in history(seed, 8, KEYS) {
        driver.step(&step).expect(what);
        match &step {
            Step::Write(changes) => model.write(changes),
            Step::Ingest { drop, entries } => model.ingest(drop, entries),
            _ => {}
        }
    }
    driver.release().expect(what);
    driver.lsm.flush().expect(what);
    driver.lsm.settle().expect(what);
    drop(driver);
    let lsm = Lsm::open(env.shared(), dir, options.clone()).expect(what);
    check(&lsm.snapshot(), &model.map, &mut Prng::new(8), KEYS, what);
}

/// Crashes a history at every I/O; returns how many recoveries that was.
fn crash_everywhere(seed: u64, name: &str, options: &LsmOptions) -> u64 {
    let mut history = history(seed, STEPS, KEYS);
    // Some histories flush nothing, and large memtables do not by themselves.
    history.push(Step::Flush);
    let whole = SimEnv::new(seed);
    let known = run(&whole, &history, options);
    assert!(
        !known.flushed.is_empty(),
        "seed {seed}, {name}: nothing was ever durable"
    );
    let mut recoveries = 0;
    for io in 1..=whole.io_count() {
        let env = SimEnv::new(seed);
        env.crash_at(io);
        let known = run(&env, &history, options);
        for (number, mode) in CrashMode::ALL.into_iter().enumerate() {
            let what = format!("seed {seed}, {name}, I/O {io}, {mode:?}");
            let env = env.duplicate();
            env.crash(mode);
            if io % 5 == number as u64 {
                recoveries += crash_in_recovery(&env, &history, &known, options, &what);
            }
            let (lsm, map) = recover(&env, &history, &known, options, &what);
            recoveries += 1;
            // Scans have shown everything; other ways to read and to go on are taken now and then.
            if io % 4 == number as u64 % 4 {
                check(&lsm.snapshot(), &map, &mut Prng::new(io), KEYS, &what);
                go_on(&env, lsm, map, seed ^ io, options, &what);
            }
        }
    }
    recoveries
}

/// Crashes at every I/O of opening, in turn in every mode.
fn crash_in_recovery(
    env: &SimEnv,
    history: &[Step],
    known: &Known,
    options: &LsmOptions,
    what: &str,
) -> u64 {
    let mut recoveries = 0;
    for mode in CrashMode::ALL.into_iter().cycle() {
        let env = env.duplicate();
        env.crash_at(env.io_count() + recoveries + 1);
        let opened = Lsm::open(env.shared(), Path::new(DIR), options.clone());
        if opened.is_ok() && !env.is_stopped() {
            break;
        }
        drop(opened);
        env.crash(mode);
        let what = format!(
            "{what}, then at I/O {} of opening, {mode:?}",
            recoveries + 1
        );
        recover(&env, history, known, options, &what);
        recoveries += 1;
    }
    recoveries
}

/// Nothing in this history flushes.
#[test]
fn a_history_that_flushes_nothing_ends_with_a_flush() {
    let seed = 48_001;
    let made = history(seed, STEPS, KEYS);
    assert!(!made.iter().any(|step| matches!(step, Step::Flush)));
    assert!(crash_everywhere(seed, "defaults", &LsmOptions::default()) > 0);
}

#[test]
fn crash_at_every_io_recovers_a_prefix() {
    let mut recoveries = 0;
    let mut traces = 0;
    for seed in 0..cases(3) {
        for (number, (name, options)) in (0..).zip(option_sets()) {
            recoveries += crash_everywhere(seed * 1000 + number, name, &options);
            traces += 1;
        }
    }
    println!("{recoveries} crash recoveries of {traces} traces");
    assert!(traces >= 20, "only {traces} traces");
    assert!(recoveries >= 50_000, "only {recoveries} recoveries");
    let figures = json!({ "traces": traces, "recoveries": recoveries, "violations": 0 });
    append_if_asked("lsm_crash", &figures).expect("ledger");
}

/// An edit that a killed process left unsynced removes tables only once it is durable: power may
/// fail while the tree is opened again.
#[test]
fn a_kill_and_then_power_loss_recovers_a_prefix() {
    assert!(crash_everywhere(1017, "tiny", &tiny()) > 200);
}

/// D4: after a failed sync nothing is acknowledged any more, and what was durable still is.
#[test]
fn a_failed_sync_is_final_and_loses_nothing_durable() {
    for seed in 0..cases(2) {
        let history = history(seed + 50, STEPS, KEYS);
        let whole = SimEnv::new(seed);
        run(&whole, &history, &tiny());
        for sync in 1..=whole.sync_count() {
            let what = format!("seed {seed}, sync {sync}");
            let env = SimEnv::new(seed);
            env.fail_sync_at(sync);
            let known = run_until_final(&env, &history, &what);
            env.crash(CrashMode::DropUnsynced);
            recover(&env, &history, &known, &tiny(), &what);
        }
    }
}

fn run_until_final(env: &SimEnv, history: &[Step], what: &str) -> Known {
    let mut known = Known::default();
    let mut driver = match Driver::open(&env.shared(), Path::new(DIR), tiny()) {
        Ok(driver) => driver,
        Err(error) => {
            assert!(error.is_final(), "{what}: {error}");
            return known;
        }
    };
    for step in history {
        let done = driver.step(step);
        known.batches = driver.batches;
        known.ingests = driver.ingests;
        known.flushed = driver.lsm.flushed();
        let Err(error) = done else { continue };
        assert!(error.is_final(), "{what}: {error}");
        // The sync of a table made outside the tree is the caller's to judge; all others end it.
        if driver.lsm.rotate().is_err() {
            assert!(driver.lsm.flush().is_err(), "{what}");
            assert!(driver.lsm.plan().is_none(), "{what}");
            assert_eq!(driver.lsm.flushed(), known.flushed, "{what}");
        }
        return known;
    }
    panic!("{what}: no step noticed");
}

/// D8: a full disk refuses jobs, loses nothing, and the same tree goes on when there is room.
#[test]
fn a_full_disk_is_survived_without_a_restart() {
    for seed in 0..cases(3) {
        let history = history(seed + 90, STEPS, KEYS);
        let mut refused = 0;
        for capacity in (8 << 10..96 << 10).step_by(1500) {
            let what = format!("seed {seed}, {capacity} bytes");
            let env = SimEnv::new(seed);
            let mut driver =
                Driver::open(&env.shared(), Path::new(DIR), tiny()).expect("room to open");
            let mut model = Model::default();
            env.set_capacity(Some(capacity));
            for step in &history {
                while let Err(error) = driver.step(step) {
                    let LsmError::Io { source } = &error else {
                        panic!("{what}: {error}");
                    };
                    assert_eq!(source.kind(), ErrorKind::StorageFull, "{what}: {error}");
                    refused += 1;
                    check(
                        &driver.lsm.snapshot(),
                        &model.map,
                        &mut Prng::new(9),
                        KEYS,
                        &what,
                    );
                    env.set_capacity(None);
                }
                match step {
                    Step::Write(changes) => model.write(changes),
                    Step::Ingest { drop, entries } => model.ingest(drop, entries),
                    _ => {}
                }
            }
            env.set_capacity(None);
            driver.lsm.flush().expect(&what);
            drop(driver);
            let lsm = Lsm::open(env.shared(), Path::new(DIR), tiny()).expect(&what);
            check(&lsm.snapshot(), &model.map, &mut Prng::new(9), KEYS, &what);
        }
        assert!(refused > 0, "seed {seed}: the disk was never full");
    }
}
