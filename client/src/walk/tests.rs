use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::routing::{Epoch, RegionId};

/// The region that a point lies in, when the space is cut at these keys.
pub(crate) fn region_of(cuts: &BTreeSet<Vec<u8>>, point: &Point) -> Route {
    let starts = std::iter::once(&[][..]).chain(cuts.iter().map(Vec::as_slice));
    let ends = cuts
        .iter()
        .map(Vec::as_slice)
        .chain(std::iter::once(&[][..]));
    let routes = starts.zip(ends).map(|(start, end)| Route {
        region: RegionId(1),
        epoch: Epoch::default(),
        start: Bytes::copy_from_slice(start),
        end: Bytes::copy_from_slice(end),
        peers: Vec::new(),
        leader: None,
    });
    let mut holders: Vec<_> = routes.filter(|route| route.contains(point)).collect();
    assert_eq!(holders.len(), 1, "exactly one region holds {point:?}");
    holders.remove(0)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(0_u8..4, 1..4)
}

fn bound() -> impl Strategy<Value = Vec<u8>> {
    vec(0_u8..4, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// C4: regions are cut anew before every page, pages end early, and yet every key comes once,
    /// in order.
    #[test]
    fn every_key_once_whatever_is_split_and_merged(
        data in btree_set(key(), 0..30),
        lower in bound(),
        upper in bound(),
        reverse in any::<bool>(),
        pages in vec((btree_set(key(), 0..5), 1_usize..5), 1..8),
    ) {
        let direction = if reverse { Direction::Reverse } else { Direction::Forward };
        let bytes = |key: &Vec<u8>| Bytes::copy_from_slice(key);
        let mut walk = Walk::new(direction, bytes(&lower), bytes(&upper));
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let mut visits = 0;
        while !walk.is_done() {
            visits += 1;
            prop_assert!(visits < 1_000, "the walk ends");
            let (cuts, limit) = &pages[visits % pages.len()];
            let route = region_of(cuts, &walk.point());
            let (from, to) = walk.rest_in(&route);
            let mut there: Vec<_> = data
                .iter()
                .filter(|key| ***key >= *from && (to.is_empty() || ***key < *to))
                .cloned()
                .collect();
            if reverse {
                there.reverse();
            }
            let cut_short = there.len() > *limit;
            there.truncate(*limit);
            match there.last() {
                Some(last) if cut_short => walk.go_on_from(match direction {
                    Direction::Forward => successor(last),
                    Direction::Reverse => bytes(last),
                }),
                _ => walk.finish_region(&route),
            }
            seen.extend(there);
        }
        let mut expected: Vec<_> = data
            .into_iter()
            .filter(|key| *key >= lower && (upper.is_empty() || *key < upper))
            .collect();
        if reverse {
            expected.reverse();
        }
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn an_empty_range_is_done_at_once() {
    let key = Bytes::from_static(b"k");
    assert!(Walk::new(Direction::Forward, key.clone(), key.clone()).is_done());
    assert!(Walk::new(Direction::Reverse, successor(&key), key.clone()).is_done());
    assert!(!Walk::new(Direction::Forward, key.clone(), Bytes::new()).is_done());
}
