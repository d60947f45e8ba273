//! Reads of a real tree against a map.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use tinykv_env::OsEnv;
use tinykv_lsm::{Lsm, LsmOptions, WriteBatch};
use tinykv_raft::GroupId;

use super::*;
use crate::raw::ranges::{Each, Range};

const NOW: PlacementTime = PlacementTime(100);

/// A tree with values of one region and its record.
struct Tree {
    lsm: Lsm,
    region: Region,
    _dir: tempfile::TempDir,
}

type Values = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

impl Tree {
    fn new(region: Region, time: u64, values: &Values) -> Tree {
        let dir = tempfile::tempdir().expect("temp dir");
        let lsm = open(dir.path());
        let mut batch = WriteBatch::new();
        for (key, (payload, expires_at)) in values {
            let value = StoredValue {
                expires_at: expires_at.map(PlacementTime),
                payload: Bytes::copy_from_slice(payload),
            };
            batch.put(Space::Plain.engine_key(key), value.encode());
        }
        let mut machine = vec![1];
        machine.extend_from_slice(&time.to_le_bytes());
        let state = RegionState {
            region: region.clone(),
            open: true,
            machine: Bytes::from(machine),
            ..RegionState::default()
        };
        let key = space::region_state_key(region.id);
        batch.put(Bytes::copy_from_slice(&key), state.encode());
        lsm.write(&batch).expect("write");
        Tree {
            lsm,
            region,
            _dir: dir,
        }
    }

    fn view<T>(&self, depth: Depth, read: impl FnOnce(&View<'_>) -> T) -> T {
        let snapshot = self.lsm.snapshot();
        read(&View {
            snapshot: &snapshot,
            region: &self.region,
            now: NOW,
            depth,
        })
    }

    /// Scans to the end as an asker does that knows how to continue.
    fn scan_all(&self, mut scan: Wanted) -> Vec<(Bytes, Bytes)> {
        let mut all = Vec::new();
        loop {
            let scanned = self
                .view(Depth::Disk, |view| view.scan(Space::Plain, &scan.borrow()))
                .expect("scan");
            all.extend(scanned.pairs);
            match scanned.resume {
                None => return all,
                Some(resume) if scan.order == Order::Forward => scan.lower = resume.to_vec(),
                Some(resume) => scan.upper = resume.to_vec(),
            }
        }
    }
}

fn open(dir: &Path) -> Lsm {
    Lsm::open(OsEnv::shared(), dir, LsmOptions::default()).expect("open")
}

/// A scan that owns its bounds.
#[derive(Clone, Debug)]
struct Wanted {
    lower: Vec<u8>,
    upper: Vec<u8>,
    order: Order,
    keys_max: usize,
    bytes_max: Option<usize>,
}

impl Wanted {
    fn borrow(&self) -> Scan<'_> {
        Scan {
            lower: &self.lower,
            upper: &self.upper,
            order: self.order,
            keys_max: self.keys_max,
            values: super::Values::Included,
            bytes_max: self.bytes_max,
        }
    }
}

fn region(start: &[u8], end: &[u8]) -> Region {
    Region {
        id: GroupId(7),
        start: Bytes::copy_from_slice(start),
        end: Bytes::copy_from_slice(end),
        ..Region::default()
    }
}

/// What the scan should find: live keys of the range inside the region, in order.
fn expected(values: &Values, region: &Region, time: u64, scan: &Wanted) -> Vec<(Bytes, Bytes)> {
    let live = values.iter().filter(|(key, (_, expires_at))| {
        expires_at.is_none_or(|expires_at| expires_at > time)
            && region.contains(key)
            && **key >= scan.lower
            && (scan.upper.is_empty() || **key < scan.upper)
    });
    let pair = |(key, (payload, _)): (&Vec<u8>, &(Vec<u8>, Option<u64>))| {
        (Bytes::copy_from_slice(key), Bytes::copy_from_slice(payload))
    };
    let mut found: Vec<_> = live.map(pair).collect();
    if scan.order == Order::Reverse {
        found.reverse();
    }
    found
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(255_u8)],
        0..4,
    )
}

/// Expiries on either side of the region's time (50), none between it and `NOW`.
fn values() -> impl Strategy<Value = Values> {
    let expiry = of(prop_oneof![Just(10_u64), Just(50), Just(200)]);
    let key = key().prop_filter("keys are not empty", |key| !key.is_empty());
    btree_map(key, (vec(any::<u8>(), 0..8), expiry), 0..24)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let order = prop_oneof![Just(Order::Forward), Just(Order::Reverse)];
    (key(), key(), order, of(0_usize..60)).prop_map(|(lower, upper, order, bytes_max)| Wanted {
        lower,
        upper,
        order,
        keys_max: usize::MAX,
        bytes_max,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn scans_and_counts_find_what_is_live(values in values(), scan in wanted(), limit in 0_usize..6) {
        let region = region(b"a", b"b\xFF");
        let tree = Tree::new(region.clone(), 50, &values);
        let all = expected(&values, &region, 50, &scan);
        prop_assert_eq!(&tree.scan_all(scan.clone()), &all);
        let counted = tree.view(Depth::Disk, |view| view.count(Space::Plain, &scan.lower, &scan.upper));
        prop_assert_eq!(counted.expect("count").count, all.len() as u64);
        let some = Wanted { keys_max: limit, bytes_max: None, ..scan.clone() };
        let first = tree.view(Depth::Disk, |view| view.scan(Space::Plain, &some.borrow()));
        let first = first.expect("scan");
        prop_assert_eq!(&first.pairs[..], &all[..limit.min(all.len())]);
        prop_assert_eq!(first.resume, None);
        let whole = Wanted { lower: Vec::new(), upper: Vec::new(), ..scan.clone() };
        let ranges = [&scan, &whole].map(|scan| Range {
            lower: Bytes::copy_from_slice(&scan.lower),
            upper: Bytes::copy_from_slice(&scan.upper),
        });
        let each = Each { order: scan.order, keys_max: limit, values: super::Values::Included };
        let found = tree.view(Depth::Disk, |view| view.batch_scan(Space::Plain, &ranges, each));
        let every = expected(&values, &region, 50, &whole);
        let limited = |pairs: &[(Bytes, Bytes)]| pairs[..limit.min(pairs.len())].to_vec();
        prop_assert_eq!(found.expect("scan"), [limited(&all), limited(&every)].concat());
    }

    #[test]
    fn gets_find_what_is_live(values in values(), keys in vec(key(), 0..8)) {
        let tree = Tree::new(region(b"", b""), 50, &values);
        let keys: Vec<Bytes> = keys.into_iter().map(Bytes::from).collect();
        let live = |key: &Bytes| {
            let (payload, expires_at) = values.get(key.as_ref())?;
            let live = expires_at.is_none_or(|expires_at| expires_at > 50);
            live.then(|| (key.clone(), Bytes::copy_from_slice(payload)))
        };
        let expected: Vec<_> = keys.iter().filter_map(live).collect();
        let found = tree.view(Depth::Memory, |view| view.batch_get(Space::Plain, &keys));
        prop_assert_eq!(found.expect("in memory"), expected);
        for key in &keys {
            let found = tree.view(Depth::Disk, |view| view.get(Space::Plain, key));
            let found = found.expect("get").map(|value| (key.clone(), value.payload));
            prop_assert_eq!(found, live(key));
        }
    }
}

#[test]
fn a_value_that_expired_only_by_our_own_clock_is_not_decided() {
    let mut values = Values::new();
    values.insert(b"k".to_vec(), (b"v".to_vec(), Some(80)));
    let tree = Tree::new(region(b"", b""), 50, &values);
    let behind = tree.view(Depth::Disk, |view| view.get(Space::Plain, b"k"));
    assert!(
        matches!(behind, Err(Unanswered::TimeBehind(NOW))),
        "{behind:?}"
    );
    let moved = Tree::new(region(b"", b""), 80, &values);
    let gone = moved.view(Depth::Disk, |view| view.get(Space::Plain, b"k"));
    assert_eq!(gone.expect("decided"), None);
}

/// Pinned: clients compare these sums with those of other clusters.
#[test]
fn a_checksum_covers_live_pairs_in_any_order() {
    let mut values = Values::new();
    values.insert(b"1234".to_vec(), (b"56789".to_vec(), None));
    values.insert(b"gone".to_vec(), (b"v".to_vec(), Some(40)));
    let tree = Tree::new(region(b"", b""), 50, &values);
    let whole = [Range::default()];
    let sum = tree.view(Depth::Disk, |view| view.checksum(Space::Plain, &whole));
    let sum = sum.expect("read");
    assert_eq!(sum.checksum, 0x995D_C9BB_DF19_39FA);
    assert_eq!((sum.pairs, sum.bytes), (1, 9));
    let parts = ["", "k"].map(|lower| Range {
        lower: Bytes::from_static(lower.as_bytes()),
        upper: Bytes::from_static(if lower.is_empty() { b"k" } else { b"" }),
    });
    let again = tree.view(Depth::Disk, |view| view.checksum(Space::Plain, &parts));
    assert_eq!(again.expect("read"), sum);
    // The same pairs twice cancel each other out.
    let twice = [Range::default(), Range::default()];
    let none = tree.view(Depth::Disk, |view| view.checksum(Space::Plain, &twice));
    assert_eq!(none.expect("read").checksum, 0);
}

#[test]
fn keys_alone_leave_the_values_out() {
    let mut values = Values::new();
    values.insert(b"k".to_vec(), (b"v".to_vec(), None));
    let tree = Tree::new(region(b"", b""), 0, &values);
    let scan = Scan {
        lower: b"",
        upper: b"",
        order: Order::Forward,
        keys_max: 10,
        values: super::Values::LeftOut,
        bytes_max: None,
    };
    let scanned = tree.view(Depth::Disk, |view| view.scan(Space::Plain, &scan));
    let pair = (Bytes::from_static(b"k"), Bytes::new());
    assert_eq!(scanned.expect("scan").pairs, vec![pair]);
}

#[test]
fn what_others_of_the_store_keep_is_not_seen() {
    let tree = Tree::new(region(b"", b""), 0, &Values::new());
    let counted = tree.view(Depth::Disk, |view| view.count(Space::Plain, b"", b""));
    assert_eq!(counted.expect("count").count, 0);
    let counted = tree.view(Depth::Disk, |view| {
        view.count(Space::Keyspace, b"r\0\0\0", b"r\0\0\x01")
    });
    assert_eq!(counted.expect("count").count, 0);
}
