//! Regions merged over the shards of several processes that end and come back.

use crate::cluster::Cluster;
use crate::in_time;
use crate::map::routing_key;

const KEYS: [&str; 6] = ["a", "c", "e", "g", "i", "k"];

impl Cluster {
    async fn put_all(&self, value: &str) {
        for key in KEYS {
            self.put(1, key, value).await;
        }
    }

    async fn all_hold(&self, value: &str) {
        for key in KEYS {
            for store in 1..=3 {
                self.holds(store, 1, key, value).await;
            }
        }
    }

    async fn restart_all(&mut self) {
        for store in 1..=3 {
            self.kill(store).await;
        }
        for store in 1..=3 {
            self.start_node(store).await;
        }
    }
}

/// A group's id says on which of the two shards it lives after a restart: source and target meet on
/// one, and from one to the other, in either direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_of_two_shards_become_one() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        let mut left = 1;
        for (round, child) in [102, 203, 304, 406].into_iter().enumerate() {
            cluster.put_all(&format!("before {round}")).await;
            cluster.split(1, "e", child).await;
            if round > 0 {
                cluster.restart_all().await;
            }
            let value = format!("between {round}");
            cluster.put_all(&value).await;
            // Every other time the left one is the source.
            let (source, target) = match round % 2 {
                0 => (child, left),
                _ => (left, child),
            };
            cluster.merge(source, target).await;
            cluster.all_hold(&value).await;
            left = target;
            for key in ["a", "k"] {
                let (_, group) = cluster.server_of(&routing_key(1, key)).await;
                assert_eq!(group, left);
            }
            cluster.restart_all().await;
            cluster.all_hold(&value).await;
        }
        cluster.put_all("last").await;
        cluster.all_hold("last").await;
        cluster.end().await;
    })
    .await;
}

/// Stores end in the middle of merges: each comes about, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_come_about_though_stores_end() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        for round in 0..6_u64 {
            let child = 50 + round;
            cluster.put_all(&format!("before {round}")).await;
            cluster.split(1, "g", child).await;
            let value = format!("{round}");
            cluster.put_all(&value).await;
            let victim = round % 3 + 1;
            cluster.freeze(child, 1).await;
            cluster.kill(victim).await;
            cluster.start_node(victim).await;
            // It may have thawed, if the store ended before it had the freeze.
            cluster.merge(child, 1).await;
            cluster.all_hold(&value).await;
        }
        cluster.end().await;
    })
    .await;
}
