//! Flushes that are forced leave many small tables in level 0: they are merged with each other, and
//! what they delete stays deleted.

use std::path::Path;

use tinykv_env::SimEnv;
use tinykv_lsm::{JobKind, Lsm, LsmOptions, WriteBatch};

use crate::support::tiny;

/// Small is up to 4 KiB; four tables make level 0 due.
fn options() -> LsmOptions {
    LsmOptions {
        memtable_bytes_max: 64 << 10,
        table_bytes_max: 64 << 10,
        l0_compaction_files: 4,
        l0_slowdown_files: 8,
        l0_stop_files: 16,
        ..tiny()
    }
}

fn flushed(lsm: &Lsm, change: impl FnOnce(&mut WriteBatch) -> &mut WriteBatch) {
    let mut batch = WriteBatch::new();
    change(&mut batch);
    lsm.write(&batch).expect("write");
    lsm.flush().expect("flush");
}

fn get(lsm: &Lsm, key: &str) -> Option<Vec<u8>> {
    let found = lsm.snapshot().get(key.as_bytes()).expect("get");
    found.map(|value| value.to_vec())
}

/// 20 KiB that do not compress, of keys from `a000` on.
fn large(batch: &mut WriteBatch) -> &mut WriteBatch {
    let mut word = 1u64;
    for number in 0..200 {
        let mut value = Vec::new();
        while value.len() < 100 {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            value.extend_from_slice(&word.to_be_bytes()[..4]);
        }
        batch.put(format!("a{number:03}"), value);
    }
    batch
}

#[test]
fn they_are_merged_above_an_older_one_whose_keys_they_delete() {
    let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), options()).expect("open");
    flushed(&lsm, large);
    flushed(&lsm, |batch| batch.delete("a000"));
    flushed(&lsm, |batch| batch.delete_range("a100", "a200"));
    flushed(&lsm, |batch| batch.put("a150", "again"));
    flushed(&lsm, |batch| batch.put("a001", "newer"));
    assert_eq!(lsm.statistics().levels[0].files, 5);
    let job = lsm.plan().expect("level 0 is due");
    assert_eq!(job.kind(), JobKind::Compaction { from: 0, to: 0 });
    job.run().expect("merge");
    assert_eq!(lsm.statistics().levels[0].files, 2);
    let check = |lsm: &Lsm| {
        assert_eq!(get(lsm, "a000"), None);
        assert_eq!(get(lsm, "a001"), Some(b"newer".to_vec()));
        assert!(get(lsm, "a099").is_some());
        assert_eq!(get(lsm, "a100"), None);
        assert_eq!(get(lsm, "a150"), Some(b"again".to_vec()));
        assert_eq!(get(lsm, "a199"), None);
    };
    check(&lsm);
    lsm.settle().expect("settle");
    check(&lsm);
}

#[test]
fn they_make_no_pressure_while_a_large_compaction_runs() {
    let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), options()).expect("open");
    for _ in 0..4 {
        flushed(&lsm, large);
    }
    let down = lsm.plan().expect("level 0 is due");
    assert!(matches!(down.kind(), JobKind::Compaction { from: 0, to } if to > 0));
    // Claimed, and not run before a hundred more have come.
    for number in 0..100 {
        flushed(&lsm, |batch| batch.put(format!("b{number:03}"), "small"));
        if let Some(job) = lsm.plan_brief() {
            assert_eq!(job.kind(), JobKind::Compaction { from: 0, to: 0 });
            job.run().expect("merge");
        }
        assert!(lsm.pressure().fraction < 1.0, "after {number} flushes");
    }
    down.run().expect("compaction");
    for number in 0..100 {
        assert!(get(&lsm, &format!("b{number:03}")).is_some());
    }
    assert!(get(&lsm, "a007").is_some());
}
