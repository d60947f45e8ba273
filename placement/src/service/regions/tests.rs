//! Which region contains a key, and which one comes before, in every view.

use bytes::Bytes;
use tinykv_keys::{RoutingKey, bootstrap_regions, memcomparable};
use tinykv_raft::PeerId;
use tinykv_replica::{RegionEpoch, StoreId};

use super::*;

/// The six first regions, ids 1 to 6, and number 1 cut again at the encoding of "k" and at "t".
fn routes() -> Routes {
    let mut routes = Routes::default();
    let mut put = |id: u64, start: &[u8], end: &[u8], version: u64| {
        routes.insert(Region {
            id: GroupId(id),
            start: Bytes::copy_from_slice(start),
            end: Bytes::copy_from_slice(end),
            epoch: RegionEpoch {
                conf_ver: 1,
                version,
            },
            peers: vec![Peer::voter(PeerId(id), StoreId(1))],
        });
    };
    let [first, rest @ ..] = bootstrap_regions();
    let cut = memcomparable::encode(b"k");
    put(1, &first.start, &cut, 2);
    put(7, &cut, &first.end, 2);
    for (id, bounds) in (2..).zip(rest) {
        put(id, &bounds.start, &bounds.end, 1);
    }
    routes
}

fn id(region: Option<&Region>) -> Option<u64> {
    region.map(|region| region.id.0)
}

#[test]
fn a_raw_key_that_equals_a_bound_lies_before_it() {
    let routes = routes();
    let bound = memcomparable::encode(b"k");
    assert_eq!(id(containing(&routes, &bound, Asker::Encoded)), Some(7));
    assert_eq!(id(containing(&routes, &bound, Asker::Raw)), Some(1));
    let mut above = bound.clone();
    above.push(0);
    assert_eq!(id(containing(&routes, &above, Asker::Raw)), Some(7));
    assert_eq!(id(containing(&routes, b"", Asker::Raw)), Some(1));
    assert_eq!(id(containing(&routes, &[0xFF; 1000], Asker::Raw)), Some(6));
}

/// What a client continues from after each region leads to the next one, to the end.
#[test]
fn each_view_walks_the_whole_space() {
    let routes = routes();
    for (asker, first) in [
        (Asker::Raw, Vec::new()),
        (Asker::Encoded, memcomparable::encode(b"")),
        (Asker::Stored, Vec::new()),
    ] {
        let mut key = first;
        let mut walked = Vec::new();
        loop {
            let region = containing(&routes, &key, asker).expect("no gap");
            walked.push(region.id.0);
            let seen = region_to_proto(region, asker).expect("it contains a key");
            if seen.end_key.is_empty() {
                break;
            }
            assert!(seen.end_key > key, "{asker:?} makes no progress");
            key = seen.end_key.to_vec();
        }
        assert_eq!(walked, [1, 7, 2, 3, 4, 5, 6], "{asker:?}");
        let mut back = Vec::new();
        while let Some(region) = preceding(&routes, &key, asker) {
            back.push(region.id.0);
            key = region_to_proto(region, asker)
                .expect("not empty")
                .start_key
                .to_vec();
            if key.is_empty() && asker == Asker::Encoded {
                key = memcomparable::encode(b"");
            }
        }
        assert_eq!(back, [5, 4, 3, 2, 7, 1], "{asker:?}");
    }
}

#[test]
fn regions_that_are_empty_in_a_view_are_passed_over() {
    let mut routes = routes();
    // Between two plain keys that no encoding lies between.
    let region = |id: u64, start: &[u8], end: &[u8]| Region {
        id: GroupId(id),
        start: Bytes::copy_from_slice(start),
        end: Bytes::copy_from_slice(end),
        epoch: RegionEpoch {
            conf_ver: 1,
            version: 3,
        },
        peers: vec![Peer::voter(PeerId(id), StoreId(1))],
    };
    let last = RoutingKey::of_encoded(&[0xFF; 8]).into_bytes();
    routes.insert(region(6, &last, &[0xFF; 40]));
    routes.insert(region(8, &[0xFF; 40], &[0xFF; 41]));
    routes.insert(region(9, &[0xFF; 41], b""));
    let far = [0xFF; 50];
    assert_eq!(id(preceding(&routes, &far, Asker::Raw)), Some(8));
    let eight = routes.region(GroupId(8)).expect("there");
    let empty = region_to_proto(eight, Asker::Encoded).is_none();
    let before = id(preceding(&routes, &far, Asker::Encoded));
    assert_eq!(before, Some(if empty { 6 } else { 8 }));
}
