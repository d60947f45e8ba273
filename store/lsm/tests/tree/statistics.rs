//! Figures that must follow from what was done.

use std::path::Path;
use std::time::Duration;

use tinykv_env::SimEnv;
use tinykv_lsm::{Lsm, LsmOptions, PressureCause, Statistics, WriteBatch};

use crate::support::tiny;

fn put(lsm: &Lsm, key: &str, value: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.put(key.to_owned(), value.to_vec());
    lsm.write(&batch).expect("write");
}

#[test]
fn of_nothing() {
    let none = Statistics::default();
    assert_eq!(none.write_amplification(), 0.0);
    assert_eq!(none.space_amplification(), 0.0);
    assert_eq!(none.cache_hit_rate(), 0.0);
    assert_eq!(none.filter_hit_rate(), 0.0);
}

#[test]
fn amplification_is_what_was_written_and_what_is_kept() {
    let options = LsmOptions {
        levels: 2,
        l0_compaction_files: 4,
        l0_slowdown_files: 4,
        ..tiny()
    };
    let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), options).expect("open");
    for round in 0..4u8 {
        for number in 0..50 {
            put(&lsm, &format!("k{number:02}"), &[round, number]);
        }
        lsm.flush().expect("flush");
    }
    let before = lsm.statistics();
    assert_eq!(before.bytes_in, 4 * 50 * 5);
    let level_zero = before.levels[0].bytes;
    assert_eq!(before.flush_bytes, level_zero);
    let flushed = level_zero as f64 / before.bytes_in as f64;
    assert_eq!(before.write_amplification(), flushed);
    lsm.settle().expect("settle");
    let after = lsm.statistics();
    assert_eq!(after.compaction_write_bytes, after.levels[1].bytes);
    assert!(after.write_amplification() > flushed);
    assert_eq!(after.space_amplification(), 1.0);
    put(&lsm, "k00", b"newer");
    lsm.flush().expect("flush");
    assert!(lsm.statistics().space_amplification() > 1.0);
}

#[test]
fn filters_prevent_nearly_all_needless_lookups() {
    let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), tiny()).expect("open");
    for number in 0..400 {
        put(&lsm, &format!("k{number:03}"), b"value");
    }
    lsm.flush().expect("flush");
    lsm.settle().expect("settle");
    let snapshot = lsm.snapshot();
    for number in 0..399 {
        let found = snapshot.get(format!("k{number:03}").as_bytes());
        assert!(found.expect("get").is_some());
        let found = snapshot.get(format!("k{number:03}-").as_bytes());
        assert!(found.expect("get").is_none());
    }
    let statistics = lsm.statistics();
    let asked = statistics.filter_skips + statistics.filter_misses;
    assert!(asked >= 399, "{statistics:?}");
    assert_eq!(statistics.filter_checks, asked + 399);
    assert!(statistics.filter_hit_rate() > 0.9, "{statistics:?}");
    assert!(statistics.cache_hit_rate() > 0.0);
}

#[test]
fn time_at_the_limit_is_counted() {
    let env = SimEnv::new(1);
    let lsm = Lsm::open(env.shared(), Path::new("/tree"), tiny()).expect("open");
    let mut number = 0;
    let mut last = 0.0;
    while lsm.pressure().fraction < 1.0 {
        put(&lsm, &format!("k{number:04}"), &[0; 100]);
        number += 1;
        let fraction = lsm.pressure().fraction;
        assert!(
            (0.0..0.2).contains(&(fraction - last)),
            "it begins smoothly"
        );
        last = fraction;
        env.advance(Duration::from_millis(1));
    }
    assert_eq!(lsm.pressure().cause, PressureCause::Memtables);
    // The limit is noticed when the memtable is closed at the latest.
    put(&lsm, "more", b"");
    lsm.rotate().expect("rotate");
    let before = lsm.statistics().stalled;
    env.advance(Duration::from_secs(3));
    let during = lsm.statistics().stalled;
    assert_eq!(during - before, Duration::from_secs(3));
    lsm.settle().expect("settle");
    env.advance(Duration::from_secs(3));
    assert_eq!(lsm.statistics().stalled, during);
    assert_eq!(lsm.pressure().cause, PressureCause::None);
}

/// Told to pause by the clock, a compaction takes as long as its rate says; in a hurry, or run
/// without pauses, it takes no time at all.
#[test]
fn a_paced_compaction_keeps_its_rate() {
    let rate = 1 << 20;
    for (files, hurry) in [(8, false), (1, true)] {
        let env = SimEnv::new(1);
        let options = LsmOptions {
            l0_compaction_files: 1,
            l0_slowdown_files: files,
            l0_stop_files: files + 1,
            compaction_bytes_per_second_min: rate,
            ..LsmOptions::default()
        };
        let lsm = Lsm::open(env.shared(), Path::new("/tree"), options).expect("open");
        for number in 0..4000 {
            put(&lsm, &format!("k{number:04}"), &[number as u8; 1000]);
        }
        lsm.flush().expect("flush");
        let job = lsm.plan().expect("level 0 is due");
        let mut paused = Duration::ZERO;
        let mut pauses = 0;
        let report = job.run_paced(|time| {
            paused += time;
            pauses += 1;
            env.advance(time);
        });
        assert!(report.expect("compaction").bytes_written > 0);
        let full = Duration::from_secs_f64(4_000_000.0 / rate as f64);
        if hurry {
            assert_eq!(paused, Duration::ZERO, "pressure has begun");
        } else {
            // One of eight files lets it write a little faster.
            assert!(paused > full / 2 && paused < full, "{paused:?}");
            assert!(pauses >= 10, "{pauses}");
        }
    }
}

/// Whoever has one thread for everything flushes in the middle of a compaction, in a hurry too.
#[test]
fn a_pause_is_time_for_a_flush() {
    for rate in [1 << 20, 0] {
        let env = SimEnv::new(1);
        let options = LsmOptions {
            l0_compaction_files: 1,
            compaction_bytes_per_second_min: rate,
            ..LsmOptions::default()
        };
        let lsm = Lsm::open(env.shared(), Path::new("/tree"), options).expect("open");
        for number in 0..1000 {
            put(&lsm, &format!("k{number:04}"), &[number as u8; 1000]);
        }
        lsm.flush().expect("flush");
        let job = lsm.plan().expect("level 0 is due");
        let mut flushes = 0;
        let report = job.run_paced(|_| {
            put(&lsm, "meanwhile", &[flushes; 10]);
            assert!(lsm.rotate().expect("rotate"));
            let flush = lsm.plan_brief().expect("it is due and nobody runs it");
            flush.run().expect("flush");
            flushes += 1;
        });
        assert!(report.expect("compaction").bytes_written > 0);
        assert!(flushes >= 3, "{flushes}");
        let found = lsm.snapshot().get(b"meanwhile").expect("get");
        assert_eq!(found.as_deref(), Some(&[flushes - 1; 10][..]));
        lsm.settle().expect("settle");
        assert!(lsm.verify().is_empty());
    }
}

/// A range delete is one entry, however many keys it deletes.
#[test]
fn a_range_delete_costs_nothing_per_key() {
    let cost = |keys: u64| {
        let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), tiny()).expect("open");
        let mut batch = WriteBatch::new();
        for number in 0..keys {
            batch.put(format!("k{number:06}"), "value");
        }
        lsm.write(&batch).expect("write");
        lsm.flush().expect("flush");
        let before = lsm.statistics();
        let mut batch = WriteBatch::new();
        batch.delete_range("k", "l");
        lsm.write(&batch).expect("delete");
        assert_eq!(lsm.snapshot().get(b"k000001").expect("get"), None);
        let after = lsm.statistics();
        (
            after.bytes_in - before.bytes_in,
            after.memtable_bytes - before.memtable_bytes,
        )
    };
    let (bytes, memory) = cost(10);
    assert!(bytes > 0 && memory > 0, "{bytes} and {memory}");
    assert_eq!(cost(5000), (bytes, memory));
}
