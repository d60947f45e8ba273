use tinykv_proto::placement::{OverviewResponse, RegionStatus, Settings, StoreStatus};
use tinykv_proto::{metapb, pdpb};

use super::{Overview, region};

fn store(id: u64, state: &str, silent_ms: Option<u64>) -> StoreStatus {
    StoreStatus {
        store: Some(metapb::Store {
            id,
            address: format!("127.0.0.1:{}", 20159 + id),
            ..metapb::Store::default()
        }),
        state: state.to_owned(),
        silent_ms,
        ..StoreStatus::default()
    }
}

fn answer(stores: Vec<StoreStatus>, total: u64, complete: u64) -> OverviewResponse {
    OverviewResponse {
        settings: Some(Settings {
            replica_count: 3,
            replicas_wanted: 3,
            ..Settings::default()
        }),
        members: vec![pdpb::Member {
            member_id: 9,
            name: "p".to_owned(),
            client_urls: vec!["http://127.0.0.1:2379".to_owned()],
            ..pdpb::Member::default()
        }],
        leader_member_id: 9,
        stores,
        regions_total: total,
        regions_complete: complete,
        ..OverviewResponse::default()
    }
}

#[test]
fn a_whole_cluster_is_healthy() {
    let stores = (1..=3).map(|id| store(id, "up", Some(10))).collect();
    let overview = Overview::of(&answer(stores, 6, 6));
    assert!(overview.healthy, "{:?}", overview.problems);
    assert!(overview.members[0].leader);
    assert_eq!(
        overview.one_line(),
        "3 of 3 stores up, 6 of 6 regions have their 3 replicas"
    );
}

#[test]
fn what_is_wrong_is_said() {
    let stores = vec![
        store(1, "up", Some(10)),
        store(2, "disconnected", Some(21_000)),
        store(3, "joined", None),
    ];
    let overview = Overview::of(&answer(stores, 6, 4));
    assert!(!overview.healthy);
    assert_eq!(
        overview.problems,
        [
            "store 2 (127.0.0.1:20161) is disconnected: silent for 21 s",
            "store 3 (127.0.0.1:20162) is joined: no heartbeat yet",
            "2 of 6 regions lack a leader or some of their replicas",
        ]
    );
    let overview = Overview::of(&OverviewResponse::default());
    assert_eq!(
        overview.problems,
        ["the placement driver has no leader", "no store has joined"]
    );
}

#[test]
fn peers_are_shown_by_their_stores() {
    let peer = |id, store_id, role| metapb::Peer {
        id,
        store_id,
        role,
        ..metapb::Peer::default()
    };
    let region = region(&RegionStatus {
        region: Some(metapb::Region {
            id: 2,
            start_key: bytes::Bytes::from_static(b"a\0"),
            peers: vec![peer(12, 3, 0), peer(10, 1, 0), peer(11, 2, 1)],
            ..metapb::Region::default()
        }),
        leader: Some(peer(10, 1, 0)),
        ..RegionStatus::default()
    });
    assert_eq!(region.peers_line(), "1* 2(learner) 3");
    assert_eq!(region.start_key, "a\\x00");
}

#[test]
fn a_member_that_does_not_answer_is_a_problem() {
    let stores = (1..=3).map(|id| store(id, "up", Some(10))).collect();
    let mut overview = Overview::of(&answer(stores, 6, 6));
    overview.take_probes(vec![Ok(())]);
    assert!(overview.healthy);
    assert_eq!(overview.members[0].state, Some("up"));
    overview.take_probes(vec![Err("refused".to_owned())]);
    assert!(!overview.healthy);
    assert_eq!(
        overview.problems,
        ["placement member p (127.0.0.1:2379) does not answer: refused"]
    );
}
