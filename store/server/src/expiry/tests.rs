//! What leaves, and what must not yet.

use std::path::Path;

use tinykv_env::SimEnv;
use tinykv_lsm::{LsmOptions, WriteBatch};
use tinykv_replica::Region;

use super::*;
use crate::space::Space;

/// A tree with the filter, and two regions that meet at `m`.
struct Store {
    expiry: Arc<Expiry>,
    lsm: Lsm,
}

fn key(user_key: &str) -> Bytes {
    Space::Plain.engine_key(user_key.as_bytes())
}

fn value(expires_at_ms: Option<u64>) -> Bytes {
    let value = StoredValue {
        expires_at: expires_at_ms.map(PlacementTime),
        payload: Bytes::from_static(b"payload"),
    };
    value.encode()
}

impl Store {
    fn new() -> Store {
        let expiry = Arc::new(Expiry::default());
        let options = LsmOptions {
            compaction_filter: Some(Arc::<Expiry>::clone(&expiry)),
            ..LsmOptions::default()
        };
        let env = SimEnv::new(1).shared();
        let lsm = Lsm::open(env, Path::new("tree"), options).expect("open");
        Store { expiry, lsm }
    }

    fn put(&self, pairs: &[(Bytes, Bytes)]) {
        let mut batch = WriteBatch::new();
        for (key, value) in pairs {
            batch.put(key.clone(), value.clone());
        }
        self.lsm.write(&batch).expect("written");
    }

    /// The record of a region, as its peer applied it.
    fn set_time(&self, group: u64, (start, end): (&'static str, &'static str), time_ms: u64) {
        let region = Region {
            id: GroupId(group),
            start: Bytes::from_static(start.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
            ..Region::default()
        };
        let state = RegionState {
            region,
            machine: RegionTime(PlacementTime(time_ms)).encode(),
            ..RegionState::default()
        };
        let key = Bytes::copy_from_slice(&space::region_state_key(GroupId(group)));
        self.put(&[(key, state.encode())]);
    }

    /// Compacts everything with the cutoffs of now.
    fn compact(&self) {
        self.expiry.refresh(&self.lsm).expect("read");
        self.lsm.revisit();
        self.lsm.settle().expect("compacted");
    }

    /// Which of the keys are on disk or in memory, expired or not.
    fn there<'a>(&self, keys: &[&'a str]) -> Vec<&'a str> {
        let snapshot = self.lsm.snapshot();
        let is_there = |user_key: &&&str| snapshot.get(&key(user_key)).expect("read").is_some();
        keys.iter().filter(is_there).copied().collect()
    }
}

const ALL: [&str; 4] = ["a", "b", "c", "x"];

/// `a` expires at 100, `b` at 300, `c` never; `x`, of the other region, at 100.
fn filled() -> Store {
    let store = Store::new();
    store.put(&[
        (key("a"), value(Some(100))),
        (key("b"), value(Some(300))),
        (key("c"), value(None)),
        (key("x"), value(Some(100))),
    ]);
    store.set_time(1, ("", "m"), 0);
    store.set_time(2, ("m", ""), 99);
    store.lsm.flush().expect("flushed");
    store
}

#[test]
fn what_expired_by_the_flushed_time_of_its_region_leaves() {
    let store = filled();
    store.compact();
    assert_eq!(store.there(&ALL), ALL, "nothing has expired");

    store.set_time(1, ("", "m"), 200);
    store.compact();
    // After a crash now the log is applied from an earlier time on, and may read `a`.
    assert_eq!(store.there(&ALL), ALL, "the time is not flushed");

    let before = store.lsm.snapshot();
    store.lsm.flush().expect("flushed");
    store.compact();
    assert_eq!(store.there(&ALL), ["b", "c", "x"]);
    assert!(before.get(&key("a")).expect("read").is_some());
}

#[test]
fn a_newer_value_stays_whatever_was_before_it() {
    let store = filled();
    store.set_time(1, ("", "m"), 200);
    store.put(&[(key("a"), value(Some(201)))]);
    store.lsm.flush().expect("flushed");
    store.compact();
    assert_eq!(store.there(&["a"]), ["a"]);
}

#[test]
fn what_is_no_raw_value_of_a_region_stays() {
    let store = filled();
    store.set_time(1, ("", "b"), 1_000);
    store.set_time(2, ("m", ""), 1_000);
    store.lsm.flush().expect("flushed");
    store.compact();
    // `b` lies in no region, as while a snapshot of it is awaited.
    assert_eq!(store.there(&ALL), ["b", "c"]);
    let record = space::region_state_key(GroupId(1));
    let snapshot = store.lsm.snapshot();
    assert!(snapshot.get(&record).expect("read").is_some());
}
