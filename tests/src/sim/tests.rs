//! The simulator itself: the same seed gives the same run, and a batch is real work.

use std::time::Duration;

use tinykv_env::Prng;

use super::{Network, Profile, Report, Schedule, Trace, Weather, judge_batch, run};

/// A world of nothing but messages: what the event loop alone must get right.
fn toy_trace(seed: u64) -> u64 {
    let mut random = Prng::new(seed);
    let mut network = Network::new(Weather::draw(&mut random));
    let mut schedule = Schedule::new();
    let mut trace = Trace::new(false);
    for node in 0..5u64 {
        schedule.after(Duration::ZERO, (node, 0u64));
    }
    while let Some((node, hops)) = schedule.next(Duration::from_secs(1)) {
        trace.line(schedule.now(), format_args!("node {node} hop {hops}"));
        let to = random.below(5);
        for delay in network.send(node, to, &mut random) {
            schedule.after(delay + Duration::from_micros(1), (to, hops + 1));
        }
        if trace.lines() > 10_000 {
            break;
        }
    }
    trace.hash()
}

#[test]
fn the_event_loop_gives_the_same_trace_for_the_same_seed() {
    for seed in 0..20 {
        assert_eq!(toy_trace(seed), toy_trace(seed), "seed {seed}");
    }
    assert_ne!(toy_trace(1), toy_trace(2));
}

#[test]
fn events_come_in_the_order_of_time_and_then_of_scheduling() {
    let mut schedule = Schedule::new();
    schedule.after(Duration::from_millis(2), "c");
    schedule.after(Duration::from_millis(1), "a");
    schedule.after(Duration::from_millis(1), "b");
    let mut next = || schedule.next(Duration::from_secs(1));
    assert_eq!(
        [next(), next(), next(), next()],
        [Some("a"), Some("b"), Some("c"), None]
    );
    assert_eq!(schedule.now(), Duration::from_secs(1));
}

#[test]
fn a_cluster_gives_the_same_trace_for_the_same_seed() {
    for seed in 0..3 {
        let (first, second) = (
            run(seed, Profile::Quick, false),
            run(seed, Profile::Quick, false),
        );
        assert_eq!(first.violation, None, "seed {seed}");
        assert_eq!(first.report, second.report, "seed {seed}");
    }
}

#[test]
fn a_batch_of_seeds_is_clean_and_real_work() {
    let mut total = Report::default();
    for seed in 1_000..1_100 {
        let outcome = run(seed, Profile::Quick, false);
        assert_eq!(
            outcome.violation, None,
            "replay: cargo run --release -p tinykv-tests --bin sim -- --seed {seed}"
        );
        total.add(&outcome.report);
    }
    judge_batch(&total, Profile::Quick).unwrap_or_else(|problem| panic!("{problem}\n{total}"));
}

#[test]
fn a_batch_that_did_nothing_is_refused() {
    assert!(judge_batch(&Report::default(), Profile::Quick).is_err());
}
