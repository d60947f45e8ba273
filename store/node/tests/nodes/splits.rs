//! Regions split over the shards of several processes that end and come back.

use tinykv_raft::GroupId;
use tinykv_replica::{Outcome, Refusal, RegionEpoch, StoreId};

use crate::cluster::{Cluster, target};
use crate::in_time;
use crate::map::routing_key;

const KEYS: [&str; 6] = ["a", "c", "e", "g", "i", "k"];

/// Every key has its own last value on every store.
async fn all_hold(cluster: &Cluster, stores: &[u64], round: &str) {
    for key in KEYS {
        for store in stores {
            cluster.holds(*store, 1, key, round).await;
        }
    }
}

/// Children of a group with an odd id have even ids, so that they live on another shard than their
/// ids say; after each restart parents and children find each other again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_live_through_restarts_of_everybody() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        for (round, cut) in ["c", "g", "e", "k"].iter().enumerate() {
            for key in KEYS {
                cluster.put(1, key, &format!("before {round}")).await;
            }
            cluster.split(1, cut, 100 + round as u64).await;
            for store in 1..=3 {
                cluster.kill(store).await;
            }
            for store in 1..=3 {
                cluster.start_node(store).await;
            }
            let value = format!("after {round}");
            for key in KEYS {
                cluster.put(1, key, &value).await;
            }
            all_hold(&cluster, &[1, 2, 3], &value).await;
            let (_, group) = cluster.server_of(&routing_key(1, cut)).await;
            assert_eq!(group, 100 + round as u64);
        }
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_while_regions_split_and_stores_die() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(2, &[1, 2, 3]);
        cluster.put(2, "key0", "first").await;
        for round in 0..6_u64 {
            let victim = round % 3 + 1;
            cluster
                .split(2, &format!("key{}", 2 * round + 1), 51 + round)
                .await;
            cluster.kill(victim).await;
            for number in 0..12 {
                let value = format!("{round}");
                cluster.put(2, &format!("key{number}"), &value).await;
            }
            cluster.start_node(victim).await;
            cluster.holds(victim, 2, "key11", &format!("{round}")).await;
        }
        for number in 0..12 {
            for store in 1..=3 {
                cluster.holds(store, 2, &format!("key{number}"), "5").await;
            }
        }
        cluster.end().await;
    })
    .await;
}

/// A store that was away while a region was split and its log cut gets both parts by snapshots: the
/// child's is refused until the parent here has given its keys away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_missed_a_split_gets_both_parts_by_snapshots() {
    in_time(async {
        let mut cluster = Cluster::start_with_short_logs(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "a", "old").await;
        cluster.put(1, "z", "old").await;
        let away = cluster.leader(1).await % 3 + 1;
        cluster.kill(away).await;
        cluster.split(1, "m", 6).await;
        let large = cluster.outgrow_log(1, &["b", "n"]).await;
        cluster.start_node(away).await;
        cluster.holds(away, 1, "b198", &large).await;
        cluster.holds(away, 1, "n199", &large).await;
        cluster.put(1, "a", "new").await;
        cluster.put(1, "z", "new").await;
        cluster.holds(away, 1, "a", "new").await;
        cluster.holds(away, 1, "z", "new").await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outdated_request_learns_of_the_children() {
    in_time(async {
        let cluster = Cluster::start(1).await;
        cluster.create(1, &[1]);
        cluster.put(1, "a", "v").await;
        cluster.split(1, "m", 8).await;
        cluster.split(1, "t", 9).await;
        let node = cluster.node(1);
        let read = node.read(target(&node, 1), Some(RegionEpoch::FIRST)).await;
        let Outcome::DefinitelyNot(Refusal::EpochNotMatch { regions }) = read else {
            panic!("an outdated read is answered with {read:?}");
        };
        let ids: Vec<GroupId> = regions.iter().map(|region| region.id).collect();
        assert_eq!(ids, [GroupId(1), GroupId(8), GroupId(9)]);
        assert!(node.is_connected(StoreId(1)), "a store reaches itself");
        assert!(!node.is_connected(StoreId(2)), "there is no such store");
        cluster.end().await;
    })
    .await;
}

/// Children split from a region go to another store, with their parent gone from there meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_moves_on_its_own() {
    in_time(async {
        let cluster = Cluster::start(2).await;
        cluster.create(1, &[1]);
        for key in KEYS {
            cluster.put(1, key, "v").await;
        }
        cluster.split(1, "e", 4).await;
        cluster.add_learner(4, 2).await;
        cluster.holds(2, 1, "k", "v").await;
        cluster.holds(2, 1, "e", "v").await;
        assert_eq!(cluster.value(2, 1, "c"), None, "it was not the child's");
        cluster.end().await;
    })
    .await;
}
