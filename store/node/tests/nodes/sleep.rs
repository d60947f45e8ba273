//! Groups that nobody wants anything of sleep, and are there when somebody does.

use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Answer, Outcome};

use crate::cluster::{Cluster, target};
use crate::in_time;

const GROUPS: u64 = 4;

/// All groups have a value, and sleep.
async fn sleepers() -> Cluster {
    let cluster = Cluster::start_sleepy(3).await;
    for group in 1..=GROUPS {
        cluster.create(group, &[1, 2, 3]);
        cluster.put(group, "k", "first").await;
    }
    cluster.asleep(&[1, 2, 3], GROUPS as usize).await;
    cluster
}

/// Raft messages and heartbeats that the stores have sent.
async fn sent(cluster: &Cluster) -> (u64, u64) {
    let (mut messages, mut heartbeats) = (0, 0);
    for store in 1..=3 {
        messages += cluster.metric(store, "tinykv_transport_sent_total").await;
        let name = r#"tinykv_peer_heartbeats_total{direction="sent"}"#;
        heartbeats += cluster.metric(store, name).await;
    }
    (messages, heartbeats)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_groups_cost_nothing_until_a_request_wakes_them() {
    in_time(async {
        let cluster = sleepers().await;
        let (messages, heartbeats) = sent(&cluster).await;
        // Nothing is to happen in this time; should a group wake, the wait ends early.
        let mut asleep = cluster.node(1).asleep();
        let woken = asleep.wait_for(|asleep| *asleep != GROUPS as usize);
        let woken = tokio::time::timeout(Duration::from_secs(2), woken).await;
        assert!(woken.is_err(), "a group woke by itself");
        let (messages_after, heartbeats_after) = sent(&cluster).await;
        assert_eq!(messages_after, messages, "sleeping groups talk");
        assert!(heartbeats_after > heartbeats, "their stores are silent");
        for store in 1..=3 {
            let name = "tinykv_hibernating_regions";
            assert_eq!(cluster.metric(store, name).await, GROUPS);
        }

        cluster.put(1, "k", "second").await;
        for store in 1..=3 {
            cluster.holds(store, 1, "k", "second").await;
        }
        let leader = cluster.leader(2).await;
        let node = cluster.node(leader);
        let read = node.read(target(&node, 2), None).await;
        assert!(matches!(read, Outcome::Ok(Answer::Read(_))), "{read:?}");
        cluster.asleep(&[1, 2, 3], GROUPS as usize).await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleepers_whose_leaders_store_dies_elect_another() {
    in_time(async {
        let mut cluster = sleepers().await;
        let old = cluster.leader(1).await;
        cluster.asleep(&[1, 2, 3], GROUPS as usize).await;
        cluster.kill(old).await;
        // Nobody asks for anything: the other stores notice by themselves.
        let others: Vec<u64> = (1..=3).filter(|store| *store != old).collect();
        cluster
            .eventually("leaders elsewhere", async || {
                let led = (1..=GROUPS).all(|group| {
                    others.iter().any(|store| {
                        let node = cluster.node(*store);
                        let entry = node.directory().group(GroupId(group));
                        entry.is_some_and(|entry| entry.view().leads)
                    })
                });
                led.then_some(())
            })
            .await;
        for group in 1..=GROUPS {
            cluster.put(group, "k", "second").await;
        }
        cluster.start_node(old).await;
        for group in 1..=GROUPS {
            cluster.holds(old, group, "k", "second").await;
        }
        cluster.asleep(&[1, 2, 3], GROUPS as usize).await;
        cluster.put(1, "k", "third").await;
        cluster.holds(old, 1, "k", "third").await;
        cluster.end().await;
    })
    .await;
}
