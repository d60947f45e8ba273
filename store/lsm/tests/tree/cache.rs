//! The block cache is bounded, and a scan does not empty it.

use std::path::Path;

use tinykv_env::{Prng, SimEnv};
use tinykv_lsm::{Lsm, LsmOptions, Snapshot, WriteBatch};

/// Room for about a tenth of the data.
const CACHE_BYTES: u64 = 256 << 10;
const KEYS: u64 = 20_000;
const HOT: u64 = 200;

fn key(number: u64) -> String {
    format!("k{number:06}")
}

fn open() -> Lsm {
    let options = LsmOptions {
        block_bytes: 1 << 10,
        index_partition_bytes: 1 << 10,
        cache_bytes_max: CACHE_BYTES,
        ..LsmOptions::default()
    };
    let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), options).expect("open");
    let random = &mut Prng::new(1);
    for number in 0..KEYS {
        let mut value = vec![0; 120];
        random.fill(&mut value);
        let mut batch = WriteBatch::new();
        batch.put(key(number), value);
        lsm.write(&batch).expect("write");
    }
    lsm.flush().expect("flush");
    lsm
}

/// Reads the hot keys, which stand all over the tree; answers the part of lookups in blocks that
/// the cache did not know.
fn read_hot(lsm: &Lsm, snapshot: &Snapshot) -> f64 {
    let before = lsm.statistics();
    for number in 0..HOT / 4 {
        let found = snapshot.get(key(number * (KEYS / HOT) * 4).as_bytes());
        assert!(found.expect("get").is_some());
    }
    let after = lsm.statistics();
    let misses = after.cache_misses - before.cache_misses;
    let hits = after.cache_hits - before.cache_hits;
    misses as f64 / (hits + misses) as f64
}

#[test]
fn it_stays_within_its_bytes_and_keeps_what_is_read_often() {
    let lsm = open();
    assert!(lsm.statistics().levels[0].bytes > 8 * CACHE_BYTES);
    let snapshot = lsm.snapshot();
    for _ in 0..10 {
        read_hot(&lsm, &snapshot);
    }
    assert!(read_hot(&lsm, &snapshot) < 0.05, "it is warm");
    let mut iter = snapshot.iter(&[], &[]).expect("iterate");
    let mut seen = 0;
    while iter.next().expect("next") {
        seen += 1;
        if seen % 100 == 0 {
            let bytes = lsm.statistics().cache_bytes;
            assert!(bytes <= CACHE_BYTES, "{bytes}");
        }
    }
    assert_eq!(seen, KEYS);
    let missed = read_hot(&lsm, &snapshot);
    assert!(missed < 0.3, "the scan took {missed} of what was hot");
}

/// A cache too small for anything is no cache, and not wrong.
#[test]
fn without_room_everything_is_read() {
    let options = LsmOptions {
        cache_bytes_max: 0,
        ..LsmOptions::default()
    };
    let lsm = Lsm::open(SimEnv::new(1).shared(), Path::new("/tree"), options).expect("open");
    let mut batch = WriteBatch::new();
    batch.put("a", "1");
    lsm.write(&batch).expect("write");
    lsm.flush().expect("flush");
    for _ in 0..3 {
        let found = lsm.snapshot().get(b"a").expect("get");
        assert_eq!(found.as_deref(), Some(&b"1"[..]));
    }
    let statistics = lsm.statistics();
    assert_eq!((statistics.cache_bytes, statistics.cache_hits), (0, 0));
}

/// Keys that stand in one block are found with one look into it, and so are the partitions of index
/// and filter that lead there.
#[test]
fn many_keys_at_once_look_once_into_a_block() {
    let lsm = open();
    let snapshot = lsm.snapshot();
    let keys: Vec<String> = (5000..5200).map(key).collect();
    let lookups = || {
        let statistics = lsm.statistics();
        statistics.cache_hits + statistics.cache_misses
    };
    let before = lookups();
    let one_by_one: Vec<_> = keys
        .iter()
        .map(|key| snapshot.get(key.as_bytes()).expect("get"))
        .collect();
    let alone = lookups() - before;
    let mut shuffled = keys.clone();
    shuffled.reverse();
    let before = lookups();
    let mut together = snapshot.multi_get(&shuffled).expect("multi_get");
    let grouped = lookups() - before;
    together.reverse();
    assert_eq!(together, one_by_one);
    assert!(together.iter().all(Option::is_some));
    assert!(alone >= keys.len() as u64, "{alone}");
    // Some seven of these keys fill a block.
    assert!(grouped <= keys.len() as u64 / 2, "{grouped} of {alone}");
}
