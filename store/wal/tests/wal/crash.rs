//! Crash at every I/O of generated lives, in every mode (invariants 2, 4 and 9; D1 to D3, D5).

use serde_json::json;
use tinykv_env::CrashMode;

use crate::ledger::append_if_asked;
use crate::trace::Life;

const STEPS: u32 = 60;

/// Multiplies the number of generated cases.
fn cases(base: u64) -> u64 {
    let factor = std::env::var("TINYKV_CASES").ok();
    base * factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

#[test]
fn crash_at_every_io_in_every_mode() {
    let (mut recoveries, mut recycled) = (0u64, 0);
    for seed in 0..cases(8) {
        let mut whole = Life::new(seed);
        whole.live(STEPS);
        recycled += whole.recycled;
        for crash_at in 1..=whole.env.io_count() {
            let mut life = Life::new(seed);
            life.crash_at(crash_at);
            life.live(STEPS);
            assert!(
                life.env.is_stopped(),
                "seed {seed}: {crash_at} was not reached"
            );
            for mode in CrashMode::ALL {
                recover_twice(&life, mode);
                recoveries += 2;
            }
        }
    }
    println!("{recoveries} recoveries, {recycled} segments recycled");
    assert!(recoveries >= 10_000, "only {recoveries} recoveries");
    assert!(recycled >= 10, "only {recycled} segments recycled");
    let figures = json!({ "traces": cases(8), "recoveries": recoveries, "violations": 0 });
    append_if_asked("wal_crash", &figures).expect("ledger");
}

/// Recovers, goes on a little, crashes again without any I/O failing, and recovers again: what
/// was cut off the first time may not come back.
fn recover_twice(stopped: &Life, mode: CrashMode) {
    let env = stopped.env.duplicate();
    env.crash(mode);
    let mut life = stopped.fork(env);
    assert!(life.open());
    life.append();
    life.sync();
    life.append();
    life.wal = None;
    life.env.crash(mode);
    assert!(life.open());
}

/// Frames of the next segment may survive when the end of the one before did not. They are void,
/// and whatever is written into their file later, none of them may come back with it.
#[test]
fn what_was_torn_over_a_border_stays_away() {
    let mut torn = 0;
    for seed in 0..cases(300) {
        let mut life = Life::new(seed);
        assert!(life.open());
        for _ in 0..life.random.between(1, 8) {
            assert!(life.append() && life.sync());
        }
        for _ in 0..12 {
            assert!(life.append());
        }
        for mode in [CrashMode::KeepRandomPages, CrashMode::KeepAll] {
            for _ in 0..2 {
                life.wal = None;
                life.env.crash(mode);
                assert!(life.open());
                torn += life.torn_frames;
                for _ in 0..life.random.between(1, 3) {
                    assert!(life.append());
                }
            }
        }
    }
    assert!(torn >= 100, "only {torn} frames were void");
}

#[test]
fn long_lives_with_random_crashes() {
    let mut recycled = 0;
    for seed in 1000..1000 + cases(30) {
        let mut life = Life::new(seed);
        life.live(400);
        recycled += life.recycled;
    }
    assert!(recycled >= 500, "only {recycled} segments recycled");
}
