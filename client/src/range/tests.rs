//! Visits of a range whose regions are cut anew before every request, against a map.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::walk::tests::region_of;

type Data = BTreeMap<Vec<u8>, Vec<u8>>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(0_u8..4, 1..4)
}

fn bound() -> impl Strategy<Value = Vec<u8>> {
    vec(0_u8..4, 0..3)
}

fn data() -> impl Strategy<Value = Data> {
    btree_map(key(), vec(any::<u8>(), 1..3), 0..30)
}

/// How regions are cut when a request is made, and after how many keys the store cuts its answer.
fn weather() -> impl Strategy<Value = Vec<(BTreeSet<Vec<u8>>, usize)>> {
    vec((btree_set(key(), 0..5), 1_usize..5), 1..8)
}

fn bytes(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key)
}

/// The keys of a range; an empty end is none.
fn within(data: &Data, lower: &[u8], upper: &[u8]) -> Vec<Vec<u8>> {
    let inside = |key: &&Vec<u8>| &key[..] >= lower && (upper.is_empty() || &key[..] < upper);
    data.keys().filter(inside).cloned().collect()
}

/// Makes all requests of a visit; `answer` gets each with the number of keys after which to cut.
fn visit<V: Visit>(
    visit: &mut V,
    weather: &[(BTreeSet<Vec<u8>>, usize)],
    mut answer: impl FnMut(V::Request, usize) -> <V::Request as Ask>::Response,
    mut after: impl FnMut(&mut V),
) {
    let mut requests = 0;
    while let Some(point) = visit.point() {
        requests += 1;
        assert!(requests < 1_000, "the visit ends");
        let (cuts, cut_after) = &weather[requests % weather.len()];
        let route = region_of(cuts, &point);
        let response = answer(visit.request(&route), *cut_after);
        visit.on_answer(&route, response);
        after(visit);
    }
}

/// What a store says to a scan that it cuts after so many keys.
fn scanned(data: &Data, asked: &kvrpcpb::RawScanRequest, cut: usize) -> kvrpcpb::RawScanResponse {
    let mut keys = match asked.reverse {
        false => within(data, &asked.start_key, &asked.end_key),
        true => within(data, &asked.end_key, &asked.start_key),
    };
    if asked.reverse {
        keys.reverse();
    }
    keys.truncate(asked.limit as usize);
    let resume_key = match (keys.get(cut), asked.reverse) {
        (None, _) => Bytes::new(),
        (Some(next), false) => bytes(next),
        (Some(_), true) => bytes(&keys[cut - 1]),
    };
    keys.truncate(cut);
    let pair = |key: &Vec<u8>| KvPair {
        error: None,
        key: bytes(key),
        value: bytes(&data[key]),
    };
    kvrpcpb::RawScanResponse {
        region_error: None,
        kvs: keys.iter().map(pair).collect(),
        resume_key,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// C4: every pair once, in order, up to the limit.
    #[test]
    fn a_scan_brings_every_pair_once(
        data in data(),
        (lower, upper) in (bound(), bound()),
        reverse in any::<bool>(),
        limit in proptest::option::of(0_u64..10),
        weather in weather(),
    ) {
        let mut pages = Pages::new(Scan {
            lower: bytes(&lower),
            upper: bytes(&upper),
            direction: if reverse { Direction::Reverse } else { Direction::Forward },
            keys_only: false,
            limit,
        });
        let mut seen = Vec::new();
        visit(
            &mut pages,
            &weather,
            |asked, cut| scanned(&data, &asked, cut),
            |pages| seen.extend(pages.page.drain(..).map(|pair| pair.key.to_vec())),
        );
        let mut expected = within(&data, &lower, &upper);
        if reverse {
            expected.reverse();
        }
        expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        prop_assert_eq!(seen, expected);
    }

    /// Each key is counted once, and a removal leaves exactly what lies outside.
    #[test]
    fn a_range_is_counted_and_removed_exactly(
        data in data(),
        (lower, upper) in (bound(), bound()),
        weather in weather(),
    ) {
        let expected = within(&data, &lower, &upper);
        let mut count = Count::new(bytes(&lower), bytes(&upper));
        let counted = |asked: RawCountRequest, cut: usize| {
            let keys = within(&data, &asked.start_key, &asked.end_key);
            RawCountResponse {
                count: keys.len().min(cut) as u64,
                resume_key: keys.get(cut).map(|key| bytes(key)).unwrap_or_default(),
                ..Default::default()
            }
        };
        visit(&mut count, &weather, counted, |_| {});
        prop_assert_eq!(count.count, expected.len() as u64);

        let mut left = data.clone();
        let mut removal = Removal::new(bytes(&lower), bytes(&upper));
        let removed = |asked: kvrpcpb::RawDeleteRangeRequest, _: usize| {
            for key in within(&left, &asked.start_key, &asked.end_key) {
                left.remove(&key);
            }
            kvrpcpb::RawDeleteRangeResponse::default()
        };
        visit(&mut removal, &weather, removed, |_| {});
        let outside: Vec<_> = data.keys().filter(|key| !expected.contains(key)).collect();
        prop_assert_eq!(left.keys().collect::<Vec<_>>(), outside);
    }
}
