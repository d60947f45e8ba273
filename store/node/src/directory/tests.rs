//! Regions come, change, and go.

use tinykv_replica::{Region, RegionEpoch};

use super::*;

fn region(group: u64, peer: u64, start: &'static str, end: &'static str) -> RegionChange {
    let region = Region {
        id: GroupId(group),
        start: Bytes::from_static(start.as_bytes()),
        end: Bytes::from_static(end.as_bytes()),
        epoch: RegionEpoch::FIRST,
        peers: Vec::new(),
    };
    let state = RegionState {
        region,
        open: true,
        machine: Bytes::new(),
        ..RegionState::default()
    };
    RegionChange::Region {
        peer: PeerId(peer),
        state: Arc::new(state),
    }
}

fn leader(group: u64, peer: u64) -> RegionChange {
    RegionChange::Leader {
        group: GroupId(group),
        peer: PeerId(peer),
        leader: Some(PeerId(peer)),
        term: Term(3),
        is_here: true,
    }
}

fn found(directory: &Directory, key: &str) -> Option<u64> {
    directory.find(key.as_bytes()).map(|entry| entry.group().0)
}

#[test]
fn keys_find_the_region_that_holds_them() {
    let directory = Directory::default();
    directory.apply(&region(1, 10, "", "k"));
    directory.apply(&region(2, 20, "m", ""));
    assert_eq!(found(&directory, ""), Some(1));
    assert_eq!(found(&directory, "jzz"), Some(1));
    assert_eq!(found(&directory, "k"), None);
    assert_eq!(found(&directory, "m"), Some(2));
    assert_eq!(found(&directory, "zz"), Some(2));
    directory.apply(&region(2, 20, "k", ""));
    assert_eq!(found(&directory, "k"), Some(2));
    assert_eq!(directory.all().len(), 2);
}

#[test]
fn leadership_and_region_are_known_in_either_order() {
    let directory = Directory::default();
    directory.apply(&leader(1, 10));
    assert_eq!(found(&directory, "a"), None);
    directory.apply(&region(1, 10, "", ""));
    let entry = directory.find(b"a").expect("known now");
    assert!(entry.view().leads);
    assert_eq!(entry.view().term, Term(3));
    assert_eq!(directory.leaders(), 1);
}

#[test]
fn a_removed_peer_takes_its_lease_along_and_a_younger_one_stays() {
    let directory = Directory::default();
    directory.apply(&region(1, 10, "", ""));
    directory.apply(&leader(1, 10));
    let entry = directory.find(b"a").expect("known");
    let gone = RegionChange::Gone {
        group: GroupId(1),
        peer: PeerId(10),
    };
    directory.apply(&gone);
    assert_eq!(entry.lease().load(), None);
    assert_eq!(found(&directory, "a"), None);
    directory.apply(&region(1, 11, "", ""));
    directory.apply(&gone);
    assert_eq!(found(&directory, "a"), Some(1));
    assert!(!directory.find(b"a").expect("known").view().leads);
}
