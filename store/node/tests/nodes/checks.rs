//! Replicas are summed up at one entry, and what differs is found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tinykv_lsm::WriteBatch;
use tinykv_node::checksum::Sum;
use tinykv_raft::GroupId;
use tinykv_replica::{AdminAction, AdminCommand, Answer, Outcome};

use crate::cluster::{Cluster, target};
use crate::in_time;
use crate::map::{engine_key, routing_key};

static LAST_CHECK: AtomicU64 = AtomicU64::new(0);

/// Orders a check of group 1; its id.
async fn order(cluster: &Cluster) -> u64 {
    let id = LAST_CHECK.fetch_add(1, Ordering::Relaxed) + 1;
    loop {
        let leader = cluster.node(cluster.leader(1).await);
        let entry = leader.directory().group(GroupId(1)).expect("it leads");
        let epoch = entry.view().state.as_ref().expect("it serves").region.epoch;
        let command = AdminCommand::Check { id };
        let action = AdminAction::Command { epoch, command };
        let deadline = target(&leader, 1).deadline;
        match leader.admin(GroupId(1), action, deadline).await {
            Outcome::Ok(Answer::Changed(_)) => return id,
            Outcome::DefinitelyNot(_) => {}
            other => panic!("a strange answer to a check: {other:?}"),
        }
    }
}

/// What stores sum group 1 up to for a check.
async fn sums_of(cluster: &Cluster, stores: &[u64], check: u64) -> BTreeMap<u64, Sum> {
    let mut sums = BTreeMap::new();
    for store in stores {
        let node = cluster.node(*store);
        let sum = node.checksums().wait(GroupId(1), check).await;
        sums.insert(*store, sum.expect("it is readable"));
    }
    sums
}

async fn sums(cluster: &Cluster) -> BTreeMap<u64, Sum> {
    let check = order(cluster).await;
    sums_of(cluster, &[1, 2, 3], check).await
}

fn are_alike(sums: &BTreeMap<u64, Sum>) -> bool {
    let first = sums.values().next();
    sums.values().all(|sum| Some(sum) == first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_alike_at_one_entry_while_writes_go_on() {
    in_time(async {
        let cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "first", "0").await;
        let writes = async {
            for number in 0..200 {
                let key = format!("k{:02}", number % 50);
                cluster.put(1, &key, &format!("{number}")).await;
            }
        };
        let checks = async {
            let mut indexes = Vec::new();
            for _ in 0..10 {
                let sums = sums(&cluster).await;
                assert!(are_alike(&sums), "{sums:?}");
                indexes.push(sums[&1].entry.index);
            }
            assert!(indexes.is_sorted_by(|one, next| one < next), "{indexes:?}");
        };
        tokio::join!(writes, checks);
        let last = sums(&cluster).await;
        assert!(are_alike(&last), "{last:?}");
        assert_eq!(last[&2].pairs, 51);
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_value_on_one_store_shows() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        for number in 0..20 {
            cluster.put(1, &format!("k{number:02}"), "right").await;
        }
        let before = sums(&cluster).await;
        assert!(are_alike(&before), "{before:?}");
        let node = cluster.node(3);
        // Nothing that a replay brings back: what is changed lies below what is flushed.
        node.lsm().flush().expect("flushed");
        let mut batch = WriteBatch::new();
        let key = engine_key(&routing_key(1, "k07"));
        batch.put(key, Bytes::from_static(b"wrong"));
        node.lsm().write(&batch).expect("written");
        node.lsm().flush().expect("flushed");
        drop(node);
        cluster.kill(3).await;
        cluster.start_node(3).await;
        let after = sums(&cluster).await;
        assert_eq!(after[&1], after[&2]);
        assert_ne!(after[&1].crc32c, after[&3].crc32c);
        assert_eq!(
            (after[&1].entry, after[&1].pairs),
            (after[&3].entry, after[&3].pairs)
        );
        cluster.end().await;
    })
    .await;
}

/// Who was away applies the check late, to the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_back_is_summed_up_where_the_others_were() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "k", "before").await;
        let away = cluster.leader(1).await % 3 + 1;
        cluster.kill(away).await;
        let check = order(&cluster).await;
        cluster.put(1, "k", "after").await;
        cluster.start_node(away).await;
        let sums = sums_of(&cluster, &[away, away % 3 + 1], check).await;
        assert!(are_alike(&sums), "{sums:?}");
        cluster.end().await;
    })
    .await;
}
