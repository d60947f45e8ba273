//! Whole clusters of shards over a log and an engine in memory, one story per seed.
//!
//! `TINYKV_SEEDS=A..B` (or a count) chooses the seeds. A failing one is printed with the command
//! that repeats it.

mod cluster;
mod damaged;
mod disk;
mod endings;
mod history;
mod lists;
mod random;
mod single;
mod situations;
mod store;

use std::ops::Range;

use cluster::{Cluster, Figures};

const SEEDS_DEFAULT: u64 = 150;
const CHAOS_MS: u64 = 6_000;

#[test]
fn clusters_keep_their_word() {
    let mut total = Figures::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        let figures = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| {
            panic!(
                "seed {seed} failed; repeat it with: TINYKV_SEEDS={seed}..{} \
                 cargo test -p tinykv-replica --test cluster",
                seed + 1
            )
        });
        add(&mut total, &figures);
    }
    println!("{} seeds: {total:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= SEEDS_DEFAULT {
        let must_hit = [
            total.acked,
            total.reads,
            total.lease_reads,
            total.undetermined,
            total.refused,
            total.crashes,
            total.changes,
            total.transfers,
            total.snapshots,
            total.superseded,
            total.splits,
            total.split_under_fire,
            total.children_waited,
            total.outdated,
            total.slept,
            total.compared,
            total.joint_seen,
            total.frozen,
            total.merged,
            total.thawed,
        ];
        assert!(
            must_hit.iter().all(|count| *count > 0),
            "something never happened: {total:?}"
        );
    }
}

#[test]
fn same_seed_same_story() {
    for seed in 1..4 {
        let trace = || {
            let mut cluster = Cluster::new(seed);
            cluster.run(CHAOS_MS);
            cluster.trace
        };
        assert_eq!(trace(), trace(), "seed {seed} tells two stories");
    }
}

/// A transfer stops proposing, applies and answers what is in flight, and only then hands over: who
/// asked is answered, whether the transfer succeeds or its target stands still.
#[test]
fn a_transfer_leaves_nobody_in_doubt() {
    let mut transfers = 0;
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed);
        cluster.transfer_under_load(12);
        assert_eq!(cluster.figures.undetermined, 0, "seed {seed}");
        transfers += cluster.figures.transfers;
    }
    assert!(transfers > 50, "only {transfers} transfers came about");
}

fn run(seed: u64) -> Figures {
    let mut cluster = Cluster::new(seed);
    cluster.run(CHAOS_MS);
    let finals = cluster.finals();
    if let Err(problem) = cluster.history.check(&finals) {
        panic!("{problem}");
    }
    assert!(
        cluster.figures.acked > 20,
        "hardly anything was acknowledged: {:?}",
        cluster.figures
    );
    cluster.figures.slept = cluster.stores.iter().map(|it| it.slept).sum();
    cluster.figures.children_waited = cluster.stores.iter().map(|it| it.children_waited).sum();
    cluster.figures
}

fn add(total: &mut Figures, figures: &Figures) {
    total.acked += figures.acked;
    total.reads += figures.reads;
    total.lease_reads += figures.lease_reads;
    total.undetermined += figures.undetermined;
    total.refused += figures.refused;
    total.crashes += figures.crashes;
    total.changes += figures.changes;
    total.transfers += figures.transfers;
    total.snapshots += figures.snapshots;
    total.superseded += figures.superseded;
    total.gone += figures.gone;
    total.splits += figures.splits;
    total.split_under_fire += figures.split_under_fire;
    total.children_waited += figures.children_waited;
    total.outdated += figures.outdated;
    total.messages += figures.messages;
    total.slept += figures.slept;
    total.compared += figures.compared;
    total.joint += figures.joint;
    total.joint_seen += figures.joint_seen;
    total.frozen += figures.frozen;
    total.merged += figures.merged;
    total.thawed += figures.thawed;
    total.overtaken += figures.overtaken;
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("TINYKV_SEEDS") else {
        return 0..SEEDS_DEFAULT;
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .expect("TINYKV_SEEDS is A..B or a count")
    };
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}
