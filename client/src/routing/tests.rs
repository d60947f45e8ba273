use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn route(region: u64, version: u64, start: &'static str, end: &'static str) -> Route {
    let peers = (1..=3).map(|store| Peer {
        id: PeerId(region * 10 + store),
        store: StoreId(store),
        votes: true,
    });
    Route {
        region: RegionId(region),
        epoch: Epoch {
            conf_ver: 1,
            version,
        },
        start: Bytes::from(start),
        end: Bytes::from(end),
        peers: peers.collect(),
        leader: None,
    }
}

fn at(key: &'static str) -> Point {
    Point::At(Bytes::from(key))
}

fn below(key: &'static str) -> Point {
    Point::Below(Bytes::from(key))
}

fn found(routes: &Routes, point: &Point) -> Option<u64> {
    routes.find(point).map(|route| route.region.0)
}

#[test]
fn keys_are_found_in_their_region() {
    let mut routes = Routes::new();
    routes.insert(route(1, 1, "", "m"));
    routes.insert(route(2, 1, "m", ""));
    assert_eq!(found(&routes, &at("")), Some(1));
    assert_eq!(found(&routes, &at("l")), Some(1));
    assert_eq!(found(&routes, &at("m")), Some(2));
    assert_eq!(found(&routes, &below("m")), Some(1));
    assert_eq!(found(&routes, &below("m\0")), Some(2));
    assert_eq!(found(&routes, &below("")), Some(2));
}

#[test]
fn gaps_are_not_found() {
    let mut routes = Routes::new();
    routes.insert(route(1, 1, "b", "d"));
    assert_eq!(found(&routes, &at("a")), None);
    assert_eq!(found(&routes, &at("d")), None);
    assert_eq!(found(&routes, &below("b")), None);
    assert_eq!(found(&routes, &below("d")), Some(1));
    assert_eq!(found(&routes, &below("")), None);
}

#[test]
fn a_split_replaces_the_parent() {
    let mut routes = Routes::new();
    routes.insert(route(1, 1, "", ""));
    routes.insert(route(2, 2, "", "m"));
    assert_eq!(
        found(&routes, &at("z")),
        None,
        "the parent is gone as a whole"
    );
    routes.insert(route(1, 2, "m", ""));
    assert_eq!(found(&routes, &at("a")), Some(2));
    assert_eq!(found(&routes, &at("z")), Some(1));
}

#[test]
fn an_older_picture_does_not_replace_a_newer_one() {
    let mut routes = Routes::new();
    routes.insert(route(2, 2, "", "m"));
    routes.insert(route(1, 2, "m", ""));
    routes.insert(route(1, 1, "", ""));
    assert_eq!(found(&routes, &at("a")), Some(2));
    assert_eq!(found(&routes, &at("z")), Some(1));
}

#[test]
fn a_region_that_moved_its_bounds_leaves_nothing_behind() {
    let mut routes = Routes::new();
    routes.insert(route(1, 1, "a", "c"));
    routes.insert(route(1, 2, "x", "z"));
    assert_eq!(found(&routes, &at("b")), None);
    assert_eq!(found(&routes, &at("y")), Some(1));
    assert_eq!(routes.len(), 1);
}

#[test]
fn a_leader_that_is_no_peer_spoils_the_route() {
    let mut routes = Routes::new();
    routes.insert(route(1, 1, "", ""));
    routes.set_leader(RegionId(1), Some(PeerId(12)));
    assert_eq!(
        routes.region(RegionId(1)).and_then(|it| it.leader),
        Some(PeerId(12))
    );
    routes.set_leader(RegionId(1), Some(PeerId(99)));
    assert!(routes.is_empty());
}

proptest! {
    /// Whatever is learnt in whatever order: routes never overlap, both indexes agree, and a
    /// point is found in a route that contains it.
    #[test]
    fn routes_never_overlap(
        learnt in vec((1_u64..6, 1_u64..5, vec(0_u8..4, 0..3), vec(0_u8..4, 0..3)), 0..30),
        key in vec(0_u8..4, 0..3),
    ) {
        let mut routes = Routes::new();
        for (region, version, start, end) in learnt {
            let new = Route { start: start.into(), end: end.into(), ..route(region, version, "", "") };
            routes.insert(new);
        }
        let known: Vec<_> = (1..6).filter_map(|id| routes.region(RegionId(id))).collect();
        prop_assert_eq!(known.len(), routes.len());
        for (index, one) in known.iter().enumerate() {
            for two in &known[index + 1..] {
                prop_assert!(!one.bounds().overlaps(&two.bounds()));
            }
        }
        for point in [Point::At(key.clone().into()), Point::Below(key.into())] {
            let expected = known.iter().find(|route| route.contains(&point)).map(|it| it.region);
            prop_assert_eq!(routes.find(&point).map(|it| it.region), expected);
        }
    }
}
