//! M1 and M8: which description of a range wins.

use super::*;

/// Regions 1 ["", "d") at 2.2, 2 ["d", "m") at 3.5, 3 ["m", "") at 1.1.
fn known() -> Routes {
    let mut routes = Routes::default();
    routes.insert(at(region(1, "", "d", &[1, 2]), 2, 2));
    routes.insert(at(region(2, "d", "m", &[1, 2]), 3, 5));
    routes.insert(region(3, "m", "", &[1]));
    routes
}

fn is_stale(region: &Region) -> bool {
    match known().check(region) {
        Ok(()) => false,
        Err(Refusal::StaleRegion { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_older_epoch_is_stale_in_either_half() {
    assert!(
        !is_stale(&at(region(2, "d", "m", &[1, 2]), 3, 5)),
        "the same again"
    );
    assert!(!is_stale(&at(region(2, "d", "m", &[1, 3]), 4, 5)));
    assert!(!is_stale(&at(region(2, "d", "k", &[1, 2]), 3, 6)));
    assert!(is_stale(&at(region(2, "d", "m", &[1]), 2, 5)));
    assert!(is_stale(&at(region(2, "d", "z", &[1, 2]), 3, 4)));
    assert!(
        is_stale(&at(region(2, "d", "m", &[1]), 2, 6)),
        "newer range, older peers"
    );
    assert!(
        is_stale(&at(region(2, "d", "k", &[1]), 9, 4)),
        "older range, newer peers"
    );
}

#[test]
fn the_same_epoch_with_other_contents_is_stale() {
    assert!(is_stale(&at(region(2, "d", "m", &[1, 3]), 3, 5)));
    assert!(is_stale(&at(region(2, "d", "n", &[1, 2]), 3, 5)));
}

#[test]
fn a_version_not_above_an_overlapped_region_is_stale() {
    assert!(is_stale(&at(region(9, "e", "f", &[1]), 9, 4)));
    assert!(
        is_stale(&at(region(9, "e", "f", &[1]), 9, 5)),
        "equal is another cluster's"
    );
    assert!(!is_stale(&at(region(9, "e", "f", &[1]), 1, 6)));
    assert!(
        is_stale(&at(region(9, "a", "", &[1]), 9, 5)),
        "one of the overlapped is not older"
    );
    assert!(!is_stale(&at(region(9, "n", "", &[1]), 1, 2)));
    // A parent that has not heard of its split yet.
    assert!(is_stale(&at(region(3, "d", "", &[1]), 1, 1)));
}

#[test]
fn a_split_replaces_its_parent_whichever_half_is_heard_first() {
    let left = at(region(3, "m", "t", &[1]), 1, 2);
    let right = at(region(8, "t", "", &[1]), 1, 2);
    for order in [[&left, &right], [&right, &left]] {
        let mut routes = known();
        for part in order {
            routes.check(part).expect("newer than the parent");
            routes.insert(part.clone());
        }
        assert_eq!(routes.at(b"n").map(|found| found.id), Some(GroupId(3)));
        assert_eq!(routes.at(b"z").map(|found| found.id), Some(GroupId(8)));
        assert_eq!(routes.len(), 4);
    }
}

#[test]
fn a_merge_removes_its_source() {
    let mut routes = known();
    let merged = at(region(2, "d", "", &[1, 2]), 4, 6);
    routes.check(&merged).expect("newer than both");
    let replaced = routes.insert(merged);
    assert_eq!(replaced.removed, [GroupId(3)]);
    assert_eq!(routes.len(), 2);
    let late = at(region(3, "m", "", &[1]), 2, 2);
    assert!(
        routes.check(&late).is_err(),
        "a late heartbeat of the source"
    );
}

#[test]
fn look_ups_meet_the_bounds() {
    let routes = known();
    let id = |found: Option<&Region>| found.map(|region| region.id.0);
    assert_eq!(id(routes.at(b"")), Some(1));
    assert_eq!(id(routes.at(b"c")), Some(1));
    assert_eq!(id(routes.at(b"d")), Some(2));
    assert_eq!(id(routes.at(b"zz")), Some(3));
    assert_eq!(id(routes.before(b"d")), Some(1));
    assert_eq!(id(routes.before(b"")), None);
    let from = |key: &[u8]| {
        routes
            .from(key)
            .map(|region| region.id.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(from(b""), [1, 2, 3]);
    assert_eq!(from(b"e"), [2, 3]);
    assert_eq!(from(b"zz"), [3]);
}

#[test]
fn a_hole_is_no_region() {
    let mut routes = known();
    routes.insert(at(region(8, "t", "", &[1]), 1, 2));
    assert_eq!(
        routes.at(b"n"),
        None,
        "the other half of the split is not heard yet"
    );
    assert_eq!(
        routes
            .from(b"n")
            .map(|region| region.id.0)
            .collect::<Vec<_>>(),
        [8]
    );
}

#[test]
fn malformed_descriptions_are_refused() {
    let routes = known();
    let mut twice = region(9, "a", "b", &[1]);
    twice.peers.push(twice.peers[0]);
    let mut nameless = region(9, "a", "b", &[1]);
    nameless.peers[0].id = PeerId(0);
    let cases = [
        region(0, "a", "b", &[1]),
        region(9, "b", "b", &[1]),
        region(9, "c", "b", &[1]),
        region(9, "a", "b", &[]),
        at(region(9, "a", "b", &[1]), 0, 1),
        at(region(9, "a", "b", &[1]), 1, 0),
        twice,
        nameless,
    ];
    for case in cases {
        let refusal = routes.check(&case).expect_err("malformed");
        assert!(matches!(refusal, Refusal::BadRegion { .. }), "{refusal}");
    }
}
