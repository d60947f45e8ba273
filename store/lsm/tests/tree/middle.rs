//! The middle of a range, in memory, in tables, and in both.

use std::path::Path;

use tinykv_env::{Prng, SimEnv};
use tinykv_lsm::{Lsm, LsmOptions, WriteBatch};

use crate::support::tiny;

fn open(options: LsmOptions) -> Lsm {
    Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), options).expect("open")
}

fn key(number: u64) -> Vec<u8> {
    format!("k{number:06}").into_bytes()
}

/// Writes these keys in random order with values of 100 bytes that do not compress.
fn fill(lsm: &Lsm, keys: std::ops::Range<u64>, seed: u64) {
    let random = &mut Prng::new(seed);
    let mut order: Vec<u64> = keys.collect();
    for index in (1..order.len()).rev() {
        order.swap(index, random.below(index as u64 + 1) as usize);
    }
    for number in order {
        let mut value = vec![0; 100];
        random.fill(&mut value);
        let mut batch = WriteBatch::new();
        batch.put(key(number), value);
        lsm.write(&batch).expect("write");
    }
}

/// The number of the middle key of a range of numbers; checks that it is strictly inside.
fn middle(lsm: &Lsm, start: &[u8], end: &[u8]) -> u64 {
    let middle = lsm.approximate_middle(start, end).expect("a middle");
    assert!(middle.as_ref() > start, "{middle:?}");
    assert!(end.is_empty() || middle.as_ref() < end, "{middle:?}");
    let digits = std::str::from_utf8(&middle[1..7]).expect("digits");
    digits.parse().expect("a number")
}

fn assert_near(found: u64, expected: u64, off: u64) {
    assert!(
        found.abs_diff(expected) <= off,
        "{found} instead of about {expected}"
    );
}

#[test]
fn of_a_tree_with_nothing_in_it() {
    let lsm = open(tiny());
    assert_eq!(lsm.approximate_middle(b"", b""), None);
    fill(&lsm, 5..6, 1);
    assert_eq!(lsm.approximate_middle(b"", b""), None, "one key in memory");
    lsm.flush().expect("flush");
    assert_eq!(lsm.approximate_middle(b"", b""), None, "one key in a table");
    assert_eq!(lsm.approximate_middle(b"x", b"z"), None);
    assert_eq!(lsm.approximate_middle(b"z", b"x"), None);
    assert_eq!(lsm.approximate_middle(&key(5), &key(5)), None);
}

/// Overwritten again and again, one key is still no place to divide.
#[test]
fn one_key_of_many_versions_has_no_middle() {
    let lsm = open(tiny());
    for round in 0..4 {
        fill(&lsm, 5..6, round);
        assert_eq!(lsm.approximate_middle(b"", b""), None);
        lsm.flush().expect("flush");
        assert_eq!(lsm.approximate_middle(b"", b""), None);
    }
}

#[test]
fn in_memory() {
    for count in [100u64, 20_000] {
        let lsm = open(LsmOptions::default());
        fill(&lsm, 0..count, count);
        assert_near(middle(&lsm, b"", b""), count / 2, count / 10);
        let (start, end) = (key(count / 2), key(count));
        let quarter = middle(&lsm, &start, &end);
        assert_near(quarter, count * 3 / 4, count / 10);
        let end = key(count / 4);
        assert_near(middle(&lsm, b"", &end), count / 8, count / 10);
    }
}

#[test]
fn in_tables_of_every_level() {
    let lsm = open(tiny());
    for round in 0..4 {
        fill(&lsm, 0..2000, round);
        lsm.flush().expect("flush");
        assert_near(middle(&lsm, b"", b""), 1000, 100);
        if round == 2 {
            lsm.settle().expect("settle");
        }
    }
    let random = &mut Prng::new(4);
    for _ in 0..50 {
        let (start, len) = (random.below(1500), random.between(100, 500));
        let end = key(start + len);
        let found = middle(&lsm, &key(start), &end);
        assert_near(found, start + len / 2, 10 + len / 6);
    }
}

/// What is in memory moves the middle when it is much, and is left out when it is little.
#[test]
fn in_memory_and_in_tables() {
    let options = LsmOptions {
        memtable_bytes_max: 64 << 20,
        ..LsmOptions::default()
    };
    let lsm = open(options);
    fill(&lsm, 0..4000, 1);
    lsm.flush().expect("flush");
    assert_near(middle(&lsm, b"", b""), 2000, 300);
    fill(&lsm, 10_000..10_010, 2);
    assert_near(middle(&lsm, b"", b""), 2000, 300);
    fill(&lsm, 10_010..20_000, 2);
    let found = middle(&lsm, b"", b"");
    assert!((10_500..16_000).contains(&found), "{found}");
}

/// A range far smaller than the tables around it is still divided by blocks.
#[test]
fn a_small_part_of_large_tables() {
    let lsm = open(LsmOptions::default());
    fill(&lsm, 0..30_000, 1);
    lsm.flush().expect("flush");
    lsm.settle().expect("settle");
    let found = middle(&lsm, &key(20_000), &key(20_600));
    assert_near(found, 20_300, 120);
}

/// No data block is read: with those damaged the answer is the same.
#[test]
fn data_blocks_are_not_read() {
    let env = SimEnv::new(1);
    let dir = Path::new("/tree");
    let lsm = Lsm::open(env.shared(), dir, LsmOptions::default()).expect("open");
    fill(&lsm, 0..3000, 1);
    lsm.flush().expect("flush");
    let expected = lsm.approximate_middle(b"", b"");
    drop(lsm);
    use tinykv_env::Env;
    for entry in env.list_dir(dir).expect("list") {
        if entry.name.ends_with(".sst") {
            for offset in (0..100_000).step_by(1000) {
                env.flip(&dir.join(&entry.name), offset, 1).expect("flip");
            }
        }
    }
    let lsm = Lsm::open(env.shared(), dir, LsmOptions::default()).expect("open");
    assert!(lsm.snapshot().get(&key(1)).is_err(), "damaged");
    assert!(expected.is_some());
    assert_eq!(lsm.approximate_middle(b"", b""), expected);
}
