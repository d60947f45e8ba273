//! What heartbeats and silence make of stores and regions.

use std::collections::BTreeMap;

use tinykv_raft::{PeerId, Term};
use tinykv_replica::{Peer, RegionEpoch};

use super::*;
use crate::state::StoreLife;

const SECOND: Duration = Duration::from_secs(1);

fn region() -> Region {
    Region {
        id: GroupId(1),
        epoch: RegionEpoch {
            conf_ver: 3,
            version: 1,
        },
        peers: [1, 2, 3]
            .map(|n| Peer::voter(PeerId(n * 10), StoreId(n)))
            .to_vec(),
        ..Region::default()
    }
}

fn report(leader: u64, term: u64) -> RegionReport {
    RegionReport {
        region: region(),
        leader: Peer::voter(PeerId(leader * 10), StoreId(leader)),
        term: Term(term),
        pending: Default::default(),
        down: BTreeMap::new(),
        stats: RegionStats::default(),
    }
}

fn view() -> ClusterView {
    let mut view = ClusterView {
        since: 100 * SECOND,
        replicas_wanted: 3,
        ..ClusterView::default()
    };
    for id in 1..=3 {
        view.follow_store(&StoreRecord::serving(id));
    }
    view.follow_region(&region(), &[], SECOND);
    view
}

#[test]
fn silence_decides_the_state_of_a_store() {
    let settings = Settings::default();
    let mut view = view();
    let id = StoreId(1);
    let state = |view: &ClusterView, now| view.store_state(id, &settings, now);
    assert_eq!(
        view.store_state(StoreId(9), &settings, 100 * SECOND),
        StoreState::Unknown
    );
    assert_eq!(state(&view, 100 * SECOND), StoreState::Joined);
    assert_eq!(
        state(&view, 200 * SECOND),
        StoreState::Joined,
        "not heard, not yet down"
    );
    assert_eq!(
        state(&view, 701 * SECOND),
        StoreState::Down,
        "never heard for down_after"
    );
    view.on_store_heartbeat(id, StoreStats::default(), &settings, 110 * SECOND);
    assert_eq!(state(&view, 115 * SECOND), StoreState::Up);
    assert_eq!(state(&view, 116 * SECOND), StoreState::Disconnected);
    assert_eq!(state(&view, 711 * SECOND), StoreState::Down);
    view.on_store_heartbeat(id, StoreStats::default(), &settings, 800 * SECOND);
    assert_eq!(state(&view, 800 * SECOND), StoreState::Up);
    for (life, expected) in [
        (StoreLife::Leaving, StoreState::Offline),
        (StoreLife::Tombstone, StoreState::Tombstone),
    ] {
        view.follow_store(&StoreRecord {
            life,
            ..StoreRecord::serving(1)
        });
        assert_eq!(state(&view, 800 * SECOND), expected);
    }
}

#[test]
fn a_gap_makes_a_store_unsteady_again() {
    let settings = Settings::default();
    let mut view = view();
    let id = StoreId(1);
    let beat = |view: &mut ClusterView, at| {
        view.on_store_heartbeat(id, StoreStats::default(), &settings, at * SECOND)
    };
    let steady = |view: &ClusterView, at| view.stores[&id].is_steady(&settings, at * SECOND);
    assert!(beat(&mut view, 100));
    assert!(beat(&mut view, 104));
    assert!(!steady(&view, 102) && steady(&view, 104));
    assert!(beat(&mut view, 110), "after more than disconnected_after");
    assert!(!steady(&view, 111) && steady(&view, 113));
    assert!(!view.on_store_heartbeat(StoreId(9), StoreStats::default(), &settings, 110 * SECOND));
}

/// M8: a stale heartbeat never moves a leader back.
#[test]
fn an_earlier_term_is_refused() {
    let mut view = view();
    view.on_region_heartbeat(report(1, 5), SECOND)
        .expect("the first");
    view.on_region_heartbeat(report(2, 6), 2 * SECOND)
        .expect("a later term");
    let stale = view
        .on_region_heartbeat(report(1, 5), 3 * SECOND)
        .expect_err("deposed");
    assert_eq!((stale.known, stale.found), (Term(6), Term(5)));
    let twin = view
        .on_region_heartbeat(report(3, 6), 3 * SECOND)
        .expect_err("two in one term");
    assert_eq!(twin.found, Term(6));
    let region = &view.regions[&GroupId(1)];
    assert_eq!(region.leader.map(|leader| leader.store), Some(StoreId(2)));
    assert_eq!(
        (region.leader_since, region.heard_at),
        (2 * SECOND, Some(2 * SECOND))
    );
}

#[test]
fn an_older_description_does_not_replace_a_newer_one() {
    let mut view = view();
    let mut newer = region();
    newer.epoch.conf_ver = 4;
    newer.peers.pop();
    view.follow_region(&newer, &[], SECOND);
    view.on_region_heartbeat(report(1, 5), SECOND)
        .expect("overtaken, but of the right term");
    assert_eq!(view.regions[&GroupId(1)].region, newer);
}

#[test]
fn a_lost_stream_leaves_nobody_on_a_stale_leader() {
    let mut view = view();
    view.on_region_heartbeat(report(1, 5), SECOND)
        .expect("the first");
    view.on_stream_ended(StoreId(2));
    assert!(
        view.regions[&GroupId(1)].leader.is_some(),
        "another store's stream"
    );
    view.on_stream_ended(StoreId(1));
    assert_eq!(view.regions[&GroupId(1)].leader, None);
    assert_eq!(
        view.regions[&GroupId(1)].term,
        Term(5),
        "the term is remembered"
    );
    view.on_region_heartbeat(report(1, 4), SECOND)
        .expect_err("an earlier term");
    view.on_region_heartbeat(report(1, 5), SECOND)
        .expect("it reports again");
}

/// A store that was killed looks idle: it leads nothing any more. Nothing may be given to it.
#[test]
fn a_lost_stream_makes_a_store_suspect_until_it_is_heard() {
    let settings = Settings::default();
    let id = StoreId(1);
    let mut view = view();
    let beat = |view: &mut ClusterView, at| {
        view.on_store_heartbeat(id, StoreStats::default(), &settings, at * SECOND)
    };
    for at in 100..110 {
        assert!(beat(&mut view, at));
    }
    assert!(view.stores[&id].is_steady(&settings, 109 * SECOND));
    view.on_stream_ended(id);
    assert_eq!(
        view.store_state(id, &settings, 109 * SECOND),
        StoreState::Disconnected
    );
    assert!(!view.stores[&id].is_steady(&settings, 109 * SECOND));
    view.on_region_heartbeat(report(1, 5), 109 * SECOND)
        .expect("the first");
    assert_eq!(
        view.store_state(id, &settings, 109 * SECOND),
        StoreState::Up
    );
    view.on_stream_ended(id);
    assert!(beat(&mut view, 110));
    assert_eq!(
        view.store_state(id, &settings, 110 * SECOND),
        StoreState::Up
    );
    assert!(
        !view.stores[&id].is_steady(&settings, 112 * SECOND),
        "it begins anew"
    );
    assert!(view.stores[&id].is_steady(&settings, 113 * SECOND));
}

#[test]
fn a_replaced_region_goes() {
    let mut view = view();
    let mut merged = region();
    merged.id = GroupId(2);
    view.follow_region(&merged, &[GroupId(1)], SECOND);
    assert_eq!(
        view.regions.keys().copied().collect::<Vec<_>>(),
        [GroupId(2)]
    );
    let counts = view.counts();
    assert_eq!(
        counts[&StoreId(3)],
        Counts {
            regions: 1,
            leaders: 0
        }
    );
}
