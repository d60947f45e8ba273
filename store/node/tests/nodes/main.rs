//! Nodes in one process over loopback sockets: real threads, files, streams.

mod checks;
mod cluster;
mod faulty;
mod map;
mod merges;
mod sleep;
mod splits;

use std::time::Duration;

use cluster::{Cluster, target, voter};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Answer, Command, Outcome, Peer, PeerChange, Refusal, RegionEpoch, StoreId};

/// A test that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test)
        .await
        .expect("the test ends in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_survives_the_death_of_its_leader_and_its_return() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        for number in 0..50 {
            cluster.put(1, &format!("a{number}"), "first").await;
        }
        let old = cluster.leader(1).await;
        cluster.kill(old).await;
        cluster.put(1, "a1", "second").await;
        let new = cluster.leader(1).await;
        assert_ne!(old, new);
        assert_eq!(cluster.value(new, 1, "a49").as_deref(), Some(&b"first"[..]));
        cluster.start_node(old).await;
        cluster.holds(old, 1, "a1", "second").await;
        assert_eq!(cluster.value(old, 1, "a49").as_deref(), Some(&b"first"[..]));
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_the_death_of_all() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        for round in 0..3 {
            for number in 0..20 {
                cluster
                    .put(1, &format!("k{number}"), &format!("{round}"))
                    .await;
            }
            for store in 1..=3 {
                cluster.kill(store).await;
            }
            for store in 1..=3 {
                cluster.start_node(store).await;
            }
        }
        let leader = cluster.leader(1).await;
        for number in 0..20 {
            let value = cluster.value(leader, 1, &format!("k{number}"));
            assert_eq!(value.as_deref(), Some(&b"2"[..]), "k{number}");
        }
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_gets_a_snapshot_and_then_the_log() {
    in_time(async {
        let mut cluster = Cluster::start(2).await;
        cluster.create(4, &[1]);
        let large = "x".repeat(64 << 10);
        for number in 0..40 {
            cluster.put(4, &format!("k{number:02}"), &large).await;
        }
        cluster.add_learner(4, 2).await;
        cluster.holds(2, 4, "k39", &large).await;
        assert_eq!(
            cluster.value(2, 4, "k00").map(|value| value.len()),
            Some(64 << 10)
        );
        cluster.put(4, "k00", "small").await;
        cluster.holds(2, 4, "k00", "small").await;
        cluster.kill(2).await;
        cluster.start_node(2).await;
        cluster.put(4, "k01", "later").await;
        cluster.holds(2, 4, "k01", "later").await;
        assert_eq!(cluster.value(2, 4, "k00").as_deref(), Some(&b"small"[..]));
        cluster.end().await;
    })
    .await;
}

/// Three megabytes go through a log of one and a half: it is cut behind flushes while writes go
/// on, and a member that was away meanwhile comes back by a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_log_is_cut_and_who_was_away_gets_a_snapshot() {
    in_time(async {
        let mut cluster = Cluster::start_with_short_logs(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "first", "v").await;
        let away = cluster.leader(1).await % 3 + 1;
        cluster.kill(away).await;
        let large = cluster.outgrow_log(1, &["k"]).await;
        cluster.start_node(away).await;
        cluster.holds(away, 1, "k199", &large).await;
        for number in 0..200 {
            let value = cluster.value(away, 1, &format!("k{number:03}"));
            assert_eq!(
                value.map(|value| value.len()),
                Some(large.len()),
                "{number}"
            );
        }
        cluster.put(1, "last", "v").await;
        cluster.holds(away, 1, "last", "v").await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_node_hands_its_leaders_away_first() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        for group in 1..=4 {
            cluster.create(group, &[1, 2, 3]);
            cluster.put(group, "k", "v").await;
        }
        let old = cluster.leader(1).await;
        cluster.shut_down(old).await;
        for group in 1..=4 {
            assert_ne!(cluster.leader(group).await, old);
            cluster.put(group, "k", "w").await;
        }
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_answered() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "k", "v").await;
        let leader = cluster.leader(1).await;
        let node = cluster.node(leader);
        let nowhere = node.read(target(&node, 99), None).await;
        assert_eq!(nowhere, Outcome::DefinitelyNot(Refusal::RegionNotFound));
        let malformed = Command::new(RegionEpoch::FIRST, b"no equals sign");
        let malformed = node.propose(target(&node, 1), malformed).await;
        assert!(
            matches!(malformed, Outcome::DefinitelyNot(Refusal::Malformed { .. })),
            "{malformed:?}"
        );
        let read = node.read(target(&node, 1), None).await;
        assert!(matches!(read, Outcome::Ok(Answer::Read(_))), "{read:?}");
        // Without its followers the leader cannot commit; what waits is answered at its end.
        for store in (1..=3).filter(|store| *store != leader) {
            cluster.kill(store).await;
        }
        let command = Command::new(RegionEpoch::FIRST, b"g1/k=w");
        let waiting = node.propose(target(&node, 1), command);
        let (outcome, ()) = tokio::join!(waiting, cluster.kill(leader));
        assert!(!matches!(outcome, Outcome::Ok(_)), "{outcome:?}");
        let late = node.read(target(&node, 1), None).await;
        assert_eq!(late, Outcome::DefinitelyNot(Refusal::ShuttingDown));
        assert_eq!(
            node.status(GroupId(1)).await.map(|status| status.peer.id),
            None::<PeerId>
        );
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_process_and_damages_its_replicas() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "k", "v").await;
        let broken = cluster.leader(1).await;
        cluster.break_disk(broken);
        let node = cluster.node(broken);
        let doomed = async move {
            let command = Command::new(RegionEpoch::FIRST, b"g1/k=w");
            node.propose(target(&node, 1), command).await
        };
        let (outcome, failure) = tokio::join!(doomed, cluster.fails(broken));
        assert_eq!(failure.exit_code(), 74, "{failure}");
        assert!(!matches!(outcome, Outcome::DefinitelyNot(_)), "{outcome:?}");
        cluster.put(1, "k", "x").await;
        for _ in 0..2 {
            cluster.start_node(broken).await;
            let status = cluster.node(broken).status(GroupId(1)).await;
            assert!(status.is_some_and(|status| status.damaged));
            cluster.kill(broken).await;
        }
        cluster.put(1, "k", "y").await;
        cluster.start_node(broken).await;
        replace(&mut cluster, broken).await;
        cluster.end().await;
    })
    .await;
}

/// A damaged replica gets a successor under a new id, which is worth as much as any other (D6).
async fn replace(cluster: &mut Cluster, damaged: u64) {
    let damage = "tinykv_damaged_regions";
    // The shard tells of it after its first run, the node answers before.
    cluster
        .eventually("word of the damage", async || {
            (cluster.metric(damaged, damage).await == 1).then_some(())
        })
        .await;
    let remove = PeerChange::Remove(voter(damaged).id);
    cluster.change(1, remove).await;
    cluster
        .eventually("the end of the damaged replica", async || {
            let status = cluster.node(damaged).status(GroupId(1)).await;
            status.is_none().then_some(())
        })
        .await;
    assert_eq!(cluster.metric(damaged, damage).await, 0);
    let successor = Peer::learner(PeerId(99), StoreId(damaged));
    cluster.node(damaged).new_peers_from(successor.id);
    cluster.change(1, PeerChange::AddLearner(successor)).await;
    cluster.holds(damaged, 1, "k", "y").await;
    cluster.change(1, PeerChange::Promote(successor.id)).await;
    let other = damaged % 3 + 1;
    cluster.kill(other).await;
    cluster.put(1, "k", "z").await;
    cluster.holds(damaged, 1, "k", "z").await;
    let status = cluster.node(damaged).status(GroupId(1)).await;
    let status = status.expect("it lives there");
    assert_eq!((status.peer.id, status.damaged), (successor.id, false));
}

/// A store that was away while its peer was removed, and whom nobody remembers to dismiss, asks for
/// itself; the others count what they do not hear, say so on their pages, and tell it that it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_removed_is_not_heard_and_counted() {
    in_time(async {
        let mut cluster = Cluster::start(3).await;
        cluster.create(1, &[1, 2, 3]);
        cluster.put(1, "k", "v").await;
        let away = cluster.leader(1).await % 3 + 1;
        cluster.kill(away).await;
        cluster.change(1, PeerChange::Remove(voter(away).id)).await;
        for store in (1..=3).filter(|store| *store != away) {
            cluster.kill(store).await;
            cluster.start_node(store).await;
        }
        cluster.put(1, "k", "x").await;
        cluster.start_node(away).await;
        cluster
            .eventually("the end of the removed peer", async || {
                let gone = cluster.node(away).directory().group(GroupId(1)).is_none();
                gone.then_some(())
            })
            .await;
        let name = r#"tinykv_raft_messages_unprocessed_total{reason="not_member"}"#;
        let mut counted = 0;
        for store in (1..=3).filter(|store| *store != away) {
            counted += cluster.metric(store, name).await;
        }
        assert!(counted > 0, "nobody counted it");
        cluster.put(1, "k", "w").await;
        cluster.end().await;
    })
    .await;
}
