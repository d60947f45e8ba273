//! What a compaction filter drops may be there or not; nothing else may change.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tinykv_env::{CrashMode, Prng, SimEnv};
use tinykv_lsm::{CompactionFilter, Lsm, LsmOptions, Snapshot, WriteBatch};

use crate::support::{
    Driver, INGEST_ORIGIN, Map, Model, ORIGINS, Step, cases, history, option_sets, origin_of,
    replay, tiny,
};

const DIR: &str = "/tree";
const KEYS: u64 = 80;

/// Values carry the number of the step that wrote them; those of every third one expire.
fn expires(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let number = text.strip_prefix("value ")?.split(' ').next()?;
    number.parse().ok().filter(|number| number % 3 == 0)
}

/// Drops what expires up to a time it is told.
#[derive(Debug, Default)]
struct Expiry {
    upto: AtomicU64,
}

impl Expiry {
    fn allows(&self, value: &[u8]) -> bool {
        expires(value).is_some_and(|at| at <= self.upto.load(Ordering::Relaxed))
    }
}

impl CompactionFilter for Expiry {
    fn drops(&self, _: &[u8], value: &[u8]) -> bool {
        self.allows(value)
    }
}

fn scan(snapshot: &Snapshot) -> Map {
    let mut iter = snapshot.iter(&[], &[]).expect("iterate");
    let mut seen = Map::new();
    while iter.next().expect("next") {
        seen.insert(Bytes::copy_from_slice(iter.key()), iter.value());
    }
    seen
}

/// What is seen is what the model says, but for what may have been dropped.
fn check(snapshot: &Snapshot, model: &Map, filter: &Expiry, what: &str) {
    let seen = scan(snapshot);
    let keys: BTreeSet<&Bytes> = seen.keys().chain(model.keys()).collect();
    for key in keys {
        let (found, expected) = (seen.get(key), model.get(key));
        assert_eq!(snapshot.get(key).expect("get").as_ref(), found, "{what}");
        let dropped = found.is_none() && expected.is_some_and(|value| filter.allows(value));
        assert!(found == expected || dropped, "{what}: {key:?} is {found:?}");
    }
}

fn apply(model: &mut Model, step: &Step) {
    match step {
        Step::Write(changes) => model.write(changes),
        Step::Ingest { drop, entries } => model.ingest(drop, entries),
        _ => {}
    }
}

fn run(seed: u64, name: &str, options: LsmOptions) {
    let what = format!("seed {seed}, {name}");
    let filter = Arc::new(Expiry::default());
    let options = LsmOptions {
        compaction_filter: Some(filter.clone()),
        ..options
    };
    let env = SimEnv::new(seed).shared();
    let random = &mut Prng::new(seed);
    let mut driver = Driver::open(&env, Path::new(DIR), options).expect("open");
    let mut model = Model::default();
    let mut snapshots: Vec<(Snapshot, Map)> = Vec::new();
    for (number, step) in history(seed, 200, KEYS).iter().enumerate() {
        driver.step(step).expect(&what);
        apply(&mut model, step);
        if random.chance(15) {
            filter.upto.store(number as u64, Ordering::Relaxed);
        }
        if random.chance(10) {
            let snapshot = driver.lsm.snapshot();
            check(&snapshot, &model.map, &filter, &what);
            let seen = scan(&snapshot);
            snapshots.push((snapshot, seen));
        }
        if random.chance(10) && !snapshots.is_empty() {
            let index = random.below(snapshots.len() as u64) as usize;
            let (snapshot, seen) = snapshots.swap_remove(index);
            assert_eq!(scan(&snapshot), seen, "{what}: an old snapshot changed");
        }
    }
    driver.release().expect("release");
    driver.lsm.settle().expect("settle");
    check(&driver.lsm.snapshot(), &model.map, &filter, &what);
    for (snapshot, seen) in snapshots {
        assert_eq!(scan(&snapshot), seen, "{what}: an old snapshot changed");
    }
}

#[test]
fn nothing_but_what_it_drops_changes() {
    for seed in 0..cases(4) {
        for (name, options) in option_sets() {
            run(seed + 700, name, options);
        }
    }
}

/// In one level everything meets at the bottom: all that may go is gone.
#[test]
fn what_it_drops_is_gone_at_the_bottom() {
    let filter = Arc::new(Expiry::default());
    filter.upto.store(u64::MAX, Ordering::Relaxed);
    let options = LsmOptions {
        levels: 2,
        l0_compaction_files: 1,
        compaction_filter: Some(filter.clone()),
        ..tiny()
    };
    let env = SimEnv::new(1).shared();
    let lsm = Lsm::open(env, Path::new(DIR), options).expect("open");
    for number in 0..60 {
        let mut batch = WriteBatch::new();
        batch.put(format!("k{number:03}"), format!("value {number} "));
        lsm.write(&batch).expect("write");
    }
    let before = lsm.snapshot();
    lsm.flush().expect("flush");
    assert_eq!(scan(&lsm.snapshot()).len(), 60, "a flush drops nothing");
    lsm.settle().expect("settle");
    let seen = scan(&lsm.snapshot());
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|value| expires(value).is_none()));
    assert_eq!(scan(&before).len(), 60, "the snapshot was first");
}

/// A newer value that goes must not bring back an older one from below.
#[test]
fn an_older_value_stays_hidden() {
    let filter = Arc::new(Expiry::default());
    filter.upto.store(u64::MAX, Ordering::Relaxed);
    let options = LsmOptions {
        levels: 4,
        level_base_bytes: 1 << 10,
        level_multiplier: 2,
        l0_compaction_files: 1,
        compaction_filter: Some(filter),
        ..tiny()
    };
    let env = SimEnv::new(1).shared();
    let lsm = Lsm::open(env, Path::new(DIR), options).expect("open");
    for round in [1, 3] {
        for number in 0..400 {
            let mut batch = WriteBatch::new();
            let value = format!("value {round} {}", "x".repeat(40));
            if round == 1 || number < 20 {
                batch.put(format!("k{number:03}"), value);
                lsm.write(&batch).expect("write");
            }
        }
        lsm.flush().expect("flush");
        lsm.settle().expect("settle");
    }
    for number in 0..20 {
        let value = lsm.snapshot().get(format!("k{number:03}").as_bytes());
        let value = value.expect("get");
        assert!(
            value.as_deref().is_none_or(|v| v.starts_with(b"value 3")),
            "{value:?} came back"
        );
    }
}

/// Crashes between compactions that drop: what comes back is a prefix but for what may be gone.
#[test]
fn crashes_around_it_change_nothing_else() {
    let filter = Arc::new(Expiry::default());
    filter.upto.store(u64::MAX, Ordering::Relaxed);
    let options = LsmOptions {
        compaction_filter: Some(filter.clone()),
        ..tiny()
    };
    let history = history(9, 120, KEYS);
    let run = |env: &SimEnv| {
        let opened = Driver::open(&env.shared(), Path::new(DIR), options.clone());
        let Ok(mut driver) = opened else { return };
        // The machine stops at some step, or never.
        let _ = history.iter().try_for_each(|step| driver.step(step));
    };
    let whole = SimEnv::new(9);
    run(&whole);
    for io in 1..=whole.io_count() {
        let env = SimEnv::new(9);
        env.crash_at(io);
        run(&env);
        env.crash(CrashMode::ALL[io as usize % CrashMode::ALL.len()]);
        let lsm = Lsm::open(env.shared(), Path::new(DIR), options.clone()).expect("reopen");
        let batches = (0..ORIGINS).map(|batch| lsm.flushed_of(origin_of(batch)));
        let batches = batches.max().unwrap_or(0);
        let model = replay(&history, batches, lsm.flushed_of(INGEST_ORIGIN));
        check(&lsm.snapshot(), &model.map, &filter, &format!("I/O {io}"));
    }
}

/// What nobody writes any more expires all the same, once somebody asks for a pass.
#[test]
fn a_pass_drops_what_has_expired_where_nobody_writes() {
    for seed in 0..cases(3) {
        let filter = Arc::new(Expiry::default());
        let options = LsmOptions {
            compaction_filter: Some(filter.clone()),
            ..tiny()
        };
        let env = SimEnv::new(seed).shared();
        let mut driver = Driver::open(&env, Path::new(DIR), options).expect("open");
        let mut model = Model::default();
        for step in history(seed, 200, KEYS) {
            driver.step(&step).expect("step");
            apply(&mut model, &step);
        }
        driver.release().expect("release");
        driver.lsm.flush().expect("flush");
        driver.lsm.settle().expect("settle");
        filter.upto.store(u64::MAX, Ordering::Relaxed);
        driver.lsm.settle().expect("settle");
        let before = scan(&driver.lsm.snapshot());
        assert!(before.values().any(|value| expires(value).is_some()));
        driver.lsm.revisit();
        driver.lsm.settle().expect("settle");
        model.map.retain(|_, value| expires(value).is_none());
        assert_eq!(scan(&driver.lsm.snapshot()), model.map, "seed {seed}");
        assert!(driver.lsm.plan().is_none(), "a pass ends");
    }
}
