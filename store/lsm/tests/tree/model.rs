//! Generated histories against a `BTreeMap`: every option set, with snapshots and restarts.

use std::path::Path;

use crate::ledger::append_if_asked;
use crate::support::{
    Driver, Map, Model, Step, cases, check, check_files, history, option_sets, tiny,
};
use bytes::Bytes;
use serde_json::json;
use tinykv_env::{Prng, SimEnv};
use tinykv_lsm::{Lsm, LsmOptions, OriginId, Snapshot, WriteBatch};

const KEYS: u64 = 120;

/// Single puts, deletes, range deletes and keys taken in.
fn operations(history: &[Step]) -> usize {
    let of = |step: &Step| match step {
        Step::Write(changes) => changes.len(),
        Step::Ingest { entries, .. } => 1 + entries.len(),
        _ => 0,
    };
    history.iter().map(of).sum()
}

/// Runs a history and compares at every turn; returns what is left at the end.
fn run(history: &[Step], seed: u64, name: &str, options: &LsmOptions) -> Map {
    let what = format!("seed {seed}, {name}");
    let env = SimEnv::new(seed).shared();
    let random = &mut Prng::new(seed ^ 0x5eed);
    let dir = Path::new("/tree");
    let mut driver = Driver::open(&env, dir, options.clone()).expect("open");
    let mut model = Model::default();
    let mut snapshots: Vec<(Snapshot, Map)> = Vec::new();
    for (number, step) in history.iter().enumerate() {
        driver.step(step).expect(&what);
        match step {
            Step::Write(changes) => model.write(changes),
            Step::Ingest { drop, entries } => model.ingest(drop, entries),
            _ => {}
        }
        if random.chance(12) {
            snapshots.push((driver.lsm.snapshot(), model.map.clone()));
        }
        if random.chance(10) && !snapshots.is_empty() {
            let index = random.below(snapshots.len() as u64) as usize;
            let (snapshot, map) = snapshots.swap_remove(index);
            check(
                &snapshot,
                &map,
                random,
                KEYS,
                &format!("{what}, step {number}, old"),
            );
        }
        if random.chance(10) {
            let snapshot = driver.lsm.snapshot();
            check(
                &snapshot,
                &model.map,
                random,
                KEYS,
                &format!("{what}, step {number}"),
            );
        }
        if random.chance(60) {
            driver.lsm.flush().expect("flush");
            snapshots.clear();
            driver.held.clear();
            let applied = driver.lsm.flushed();
            drop(driver.lsm);
            driver.lsm = Lsm::open(env.clone(), dir, options.clone()).expect("reopen");
            assert_eq!(driver.lsm.flushed(), applied, "{what}");
        }
    }
    for (snapshot, map) in snapshots {
        check(
            &snapshot,
            &map,
            random,
            KEYS,
            &format!("{what}, at the end, old"),
        );
    }
    driver.release().expect("release");
    driver.lsm.settle().expect("settle");
    check(&driver.lsm.snapshot(), &model.map, random, KEYS, &what);
    check_checkpoint(&driver, &model, random, &what);
    // L9: files go with their last reader.
    driver.lsm.settle().expect("settle");
    check_files(driver.env.as_ref(), &driver.dir, &driver.lsm, &what);
    model.map
}

fn check_checkpoint(driver: &Driver, model: &Model, random: &mut Prng, what: &str) {
    let dir = Path::new("/checkpoint");
    driver.lsm.checkpoint(dir).expect("checkpoint");
    let copy = Lsm::open(driver.env.clone(), dir, driver.lsm.options().clone()).expect("open copy");
    assert_eq!(copy.flushed(), driver.lsm.flushed(), "{what}");
    check(
        &copy.snapshot(),
        &model.map,
        random,
        KEYS,
        &format!("{what}, checkpoint"),
    );
}

#[test]
fn option_sets_agree_with_the_model_and_each_other() {
    let mut total = 0;
    for seed in 0..cases(12) {
        let history = history(seed, 250, KEYS);
        let mut results: Vec<(&str, Map)> = Vec::new();
        for (name, options) in option_sets() {
            results.push((name, run(&history, seed, name, &options)));
            total += operations(&history);
        }
        for pair in results.windows(2) {
            assert_eq!(
                pair[0].1, pair[1].1,
                "seed {seed}: {} and {}",
                pair[0].0, pair[1].0
            );
        }
    }
    println!("{total} operations");
    assert!(total >= 60_000, "only {total} operations");
    let option_sets = option_sets().len();
    let figures = json!({ "operations": total, "option_sets": option_sets, "differences": 0 });
    append_if_asked("lsm_model", &figures).expect("ledger");
}

#[test]
fn a_tree_reopens_with_other_options() {
    let env = SimEnv::new(1).shared();
    let dir = Path::new("/tree");
    let mut model = Model::default();
    let random = &mut Prng::new(1);
    let mut batches = 0;
    let mut ingests = 0;
    for (seed, (name, options)) in
        (0..cases(3)).flat_map(|n| option_sets().into_iter().map(move |s| (n, s)))
    {
        let mut driver = Driver::open(&env, dir, options).expect("open");
        driver.batches = batches;
        driver.ingests = ingests;
        for step in history(seed, 60, KEYS) {
            driver.step(&step).expect("step");
            match &step {
                Step::Write(changes) => model.write(changes),
                Step::Ingest { drop, entries } => model.ingest(drop, entries),
                _ => {}
            }
        }
        check(&driver.lsm.snapshot(), &model.map, random, KEYS, name);
        driver.held.clear();
        driver.lsm.flush().expect("flush");
        batches = driver.batches;
        ingests = driver.ingests;
    }
}

#[test]
fn what_was_not_flushed_is_gone_after_a_restart() {
    let env = SimEnv::new(1).shared();
    let dir = Path::new("/tree");
    let driver = Driver::open(&env, dir, tiny()).expect("open");
    let mut batch = WriteBatch::new();
    batch.put("a", "1").applied(OriginId(1), 7);
    driver.lsm.write(&batch).expect("write");
    assert_eq!(driver.lsm.applied(OriginId(1)), 7);
    assert_eq!(driver.lsm.flushed_of(OriginId(1)), 0);
    drop(driver);
    let lsm = Lsm::open(env, dir, tiny()).expect("open");
    assert_eq!(lsm.snapshot().get(b"a").expect("get"), None::<Bytes>);
    assert_eq!(lsm.applied(OriginId(1)), 0);
}
