//! A group under faults, with every invariant checked after every event.
//!
//! Each seed draws its own environment: how many voters, how lossy the network, how slow the
//! disks, how wrong the clocks. `TINYKV_SEEDS=n` runs n seeds, `TINYKV_SEED=s` replays one.

mod checks;
mod environment;
mod faults;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use environment::Counts;
use world::World;

const SEEDS: u64 = 200;
const STEPS: u32 = 8_000;

#[test]
fn invariants_hold_under_faults() {
    if let Some(seed) = number("TINYKV_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let seeds = number("TINYKV_SEEDS").unwrap_or(SEEDS);
    let mut total = Counts::default();
    for seed in 0..seeds {
        total.add(&run(seed));
    }
    println!("{seeds} seeds: {total:?}");
    let missing: Vec<_> = total
        .iter()
        .filter(|(_, count)| *count < seeds / 8)
        .collect();
    assert!(
        missing.is_empty(),
        "hardly ever happened in {seeds} seeds: {missing:?}"
    );
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..5 {
        assert_eq!(
            run(seed),
            run(seed),
            "seed {seed} runs differently the second time"
        );
    }
}

fn run(seed: u64) -> Counts {
    let simulate = || {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.heal_and_converge();
        world.into_counts()
    };
    catch_unwind(AssertUnwindSafe(simulate)).unwrap_or_else(|panic| {
        println!(
            "seed {seed} failed; replay: \
             TINYKV_SEED={seed} cargo test -p tinykv-raft --test raft invariants -- --nocapture"
        );
        resume_unwind(panic)
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}
