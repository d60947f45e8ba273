//! Whoever waits for work hears of all of it, so nobody has to look again and again.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tinykv_env::{Prng, SimEnv};
use tinykv_lsm::{Changes, JobKind, Lsm, Snapshot};

use crate::support::{Driver, cases, history, tiny};

/// Longer than any test may take: who waits for so long was not told.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// What a waiter would find: whether there is brief work, or any.
fn due(lsm: &Lsm) -> [bool; 2] {
    [lsm.plan_brief().is_some(), lsm.plan().is_some()]
}

#[test]
fn no_work_becomes_due_and_no_index_durable_in_silence() {
    let mut heard = [0; 2];
    for seed in 0..cases(20) {
        let env = SimEnv::new(seed).shared();
        let mut driver = Driver::open(&env, Path::new("/db"), tiny()).expect("open");
        let mut random = Prng::new(seed);
        let mut readers: Vec<Snapshot> = Vec::new();
        for (number, step) in history(seed, 300, 30).iter().enumerate() {
            let (due_before, flushed) = (due(&driver.lsm), driver.lsm.flushed());
            let seen = driver.lsm.changes().count();
            driver.step(step).expect("step");
            // The last reader of a file that is obsolete makes its removal due.
            match random.below(4) {
                0 => readers.push(driver.lsm.snapshot()),
                1 => readers.clear(),
                _ => {}
            }
            let is_told = driver.lsm.changes().count() != seen;
            let is_moved = driver.lsm.flushed() != flushed;
            assert!(is_told || !is_moved, "seed {seed}, step {number}: {step:?}");
            for (kind, now) in due(&driver.lsm).into_iter().enumerate() {
                let is_new = now && !due_before[kind];
                assert!(is_told || !is_new, "seed {seed}, step {number}: {step:?}");
                heard[kind] += u64::from(is_new);
            }
        }
    }
    assert!(heard.iter().all(|times| *times > 100), "{heard:?}");
}

#[test]
fn what_is_given_back_unrun_is_told() {
    let env = SimEnv::new(1).shared();
    let mut driver = Driver::open(&env, Path::new("/db"), tiny()).expect("open");
    let mut given_back = BTreeSet::new();
    for step in history(1, 300, 30) {
        driver.step(&step).expect("step");
        let Some(job) = driver.lsm.plan() else {
            continue;
        };
        let kind = job.kind();
        // Nobody finds it while it is held.
        let others = due(&driver.lsm);
        let seen = driver.lsm.changes().count();
        drop(job);
        let is_told = driver.lsm.changes().count() != seen;
        if due(&driver.lsm) != others {
            assert!(is_told, "{kind:?}");
            given_back.insert(matches!(kind, JobKind::Flush));
        }
    }
    assert_eq!(given_back.len(), 2, "flushes and compactions");
}

#[test]
fn who_waits_is_woken_and_who_is_late_does_not_wait() {
    const TURNS: u64 = 1_000;
    let (there, back) = (Changes::default(), Changes::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..TURNS {
                until(&there, turn + 1);
                back.note();
            }
        });
        for turn in 0..TURNS {
            there.note();
            until(&back, turn + 1);
        }
    });
}

fn until(changes: &Changes, wanted: u64) {
    loop {
        let seen = changes.count();
        if seen >= wanted {
            return;
        }
        changes.wait(seen, FOR_EVER);
    }
}
