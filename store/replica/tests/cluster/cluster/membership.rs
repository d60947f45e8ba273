//! Changes of membership: one step, several at once, and leaders that die in the middle.

use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{
    AdminAction, AdminRequest, Event, MembershipRefusal, Outcome, Peer, PeerChange, PeerRole,
    Refusal, Region, StoreId, WaiterId,
};

use super::Cluster;
use crate::store::Outbox;

const GROUP: GroupId = GroupId(1);
const NEWCOMER: PeerId = PeerId(50);

impl Cluster {
    /// Four stores; the group's fourth peer is a learner that has everything.
    fn with_learner() -> Cluster {
        let mut cluster = Cluster::calm(4, 1, None);
        cluster.until("somebody leads", |it| it.leader_store(GROUP).is_some());
        cluster.pass_time(500);
        let region = cluster.region();
        let free = (1..=4).find(|store| region.peer_on(StoreId(*store)).is_none());
        let learner = Peer::learner(NEWCOMER, StoreId(free.expect("one is free")));
        cluster.change(vec![PeerChange::AddLearner(learner)]);
        cluster.until("the learner is in service", |cluster| {
            let here = |it: &crate::store::Store| it.regions.contains_key(&GROUP);
            cluster.stores.iter().filter(|store| here(store)).count() == 4
        });
        cluster.pass_time(500);
        cluster
    }

    fn pass_time(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.step();
        }
    }

    fn region(&self) -> Region {
        self.newest(GROUP).expect("it lives").region.clone()
    }

    fn change(&mut self, changes: Vec<PeerChange>) {
        let epoch = self.region().epoch;
        let leader = self.leader_store(GROUP).expect("somebody leads");
        let action = AdminAction::ChangePeers { epoch, changes };
        self.administrate(leader, GROUP, action);
    }

    /// What the leader answers at once.
    fn refusal(&mut self, changes: Vec<PeerChange>) -> Refusal {
        let leader = self.leader_store(GROUP).expect("somebody leads");
        let epoch = self.region().epoch;
        let now = self.now;
        let store = &mut self.stores[leader as usize - 1];
        let waiter = WaiterId(1_000_000);
        store.inbox.push(Event::Admin(AdminRequest {
            group: GROUP,
            action: AdminAction::ChangePeers { epoch, changes },
            deadline: store.clock(now) + Duration::from_secs(2),
            waiter: Some(waiter),
        }));
        let mut out = Outbox::default();
        store.turn(now, &mut out, &mut |_, _| {});
        let at = out.replies.iter().position(|reply| reply.0 == waiter);
        let (_, outcome) = out.replies.swap_remove(at.expect("it is answered at once"));
        self.take_outbox(leader, out);
        match outcome {
            Outcome::DefinitelyNot(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn voters(&self) -> Vec<StoreId> {
        let region = self.region();
        let voters = region
            .peers
            .iter()
            .filter(|peer| peer.role == PeerRole::Voter);
        voters.map(|peer| peer.store).collect()
    }

    fn lives_on(&self, store: StoreId) -> bool {
        let shard = self.stores[store.0 as usize - 1].shard.as_ref();
        shard.is_some_and(|shard| shard.peer(GROUP).is_some())
    }

    /// The leader's peer, and another voter.
    fn leader_and_follower(&self) -> (Peer, Peer) {
        let leader = self.leader_store(GROUP).expect("somebody leads");
        let region = self.region();
        let leader = region.peer_on(StoreId(leader)).expect("a member");
        let is_other = |peer: &&Peer| peer.id != leader.id && peer.role == PeerRole::Voter;
        (
            leader,
            *region.peers.iter().find(is_other).expect("another"),
        )
    }
}

#[test]
fn joint_change_moves_a_voter_in_one_go() {
    let mut cluster = Cluster::with_learner();
    let before = cluster.region().epoch.conf_ver;
    let (_, follower) = cluster.leader_and_follower();
    let changes = vec![
        PeerChange::Promote(NEWCOMER),
        PeerChange::Remove(follower.id),
    ];
    cluster.change(changes);
    cluster.until("it is joint", |cluster| cluster.region().is_joint());
    let region = cluster.region();
    assert_eq!(region.epoch.conf_ver, before + 2);
    let role = |id| region.peer(id).map(|peer| peer.role);
    assert_eq!(role(NEWCOMER), Some(PeerRole::IncomingVoter));
    assert_eq!(role(follower.id), Some(PeerRole::LeavingVoter));
    cluster.until("it is left", |cluster| !cluster.region().is_joint());
    let region = cluster.region();
    assert_eq!(region.epoch.conf_ver, before + 4);
    assert_eq!((region.peers.len(), cluster.voters().len()), (3, 3));
    cluster.until("the removed peer is gone", |it| {
        !it.lives_on(follower.store)
    });
    assert!(cluster.open.is_empty());
    cluster.append_until_acked(GROUP, "g1k1");
}

#[test]
fn joint_change_swaps_voter_and_learner() {
    let mut cluster = Cluster::with_learner();
    let (_, follower) = cluster.leader_and_follower();
    cluster.change(vec![
        PeerChange::Demote(follower.id),
        PeerChange::Promote(NEWCOMER),
    ]);
    cluster.until("it is over", |cluster| {
        let role = cluster.region().peer(follower.id).map(|peer| peer.role);
        role == Some(PeerRole::Learner) && !cluster.region().is_joint()
    });
    assert_eq!(cluster.voters().len(), 3);
}

#[test]
fn leader_removed_by_a_joint_change_hands_over() {
    let mut cluster = Cluster::with_learner();
    let (leader, _) = cluster.leader_and_follower();
    for number in 0..20 {
        cluster.ask(
            leader.store.0,
            GROUP,
            &format!("g1k{}", number % 5),
            number % 3 == 0,
        );
    }
    cluster.change(vec![
        PeerChange::Promote(NEWCOMER),
        PeerChange::Remove(leader.id),
    ]);
    for number in 0..20 {
        cluster.ask(
            leader.store.0,
            GROUP,
            &format!("g1k{}", number % 5),
            number % 3 == 0,
        );
    }
    cluster.until("it is joint", |cluster| cluster.region().is_joint());
    let took = cluster.until("another leads without it", |cluster| {
        let leads = cluster.leader_store(GROUP);
        let is_over = cluster.region().peer(leader.id).is_none();
        is_over && leads.is_some_and(|store| store != leader.store.0)
    });
    assert!(took <= 1_000, "{took} ms");
    cluster.append_until_acked(GROUP, "g1k1");
    cluster.until("the old leader is gone", |it| !it.lives_on(leader.store));
    cluster.until("everybody is answered", |cluster| cluster.open.is_empty());
}

/// M11: the leader dies as soon as anybody is joint, and again as soon as the next one leads.
#[test]
fn leader_dies_in_a_joint_membership_and_the_next_one_leaves_it() {
    let mut cluster = Cluster::with_learner();
    let (_, follower) = cluster.leader_and_follower();
    let changes = vec![
        PeerChange::Promote(NEWCOMER),
        PeerChange::Remove(follower.id),
    ];
    cluster.change(changes);
    cluster.until("it is joint", |cluster| cluster.region().is_joint());
    for _ in 0..3 {
        let Some(leader) = cluster.leader_store(GROUP) else {
            break;
        };
        cluster.open.retain(|(store, _), _| *store != leader);
        cluster.stores[leader as usize - 1].crash();
        let now = cluster.now;
        cluster.down_until.insert(leader, now + 700);
        cluster.until("somebody leads", |it| it.leader_store(GROUP).is_some());
    }
    cluster.until("all is over", |cluster| {
        !cluster.region().is_joint() && cluster.voters().len() == 3
    });
    cluster.pass_time(2_000);
    cluster.until("the removed peer is gone", |it| {
        !it.lives_on(follower.store)
    });
    cluster.append_until_acked(GROUP, "g1k1");
}

#[test]
fn all_crash_in_a_joint_membership_and_go_on_with_it() {
    let mut cluster = Cluster::with_learner();
    let (_, follower) = cluster.leader_and_follower();
    let changes = vec![
        PeerChange::Promote(NEWCOMER),
        PeerChange::Demote(follower.id),
    ];
    cluster.change(changes);
    cluster.until("it is joint", |cluster| cluster.region().is_joint());
    cluster.open.clear();
    for store in 1..=4 {
        cluster.stores[store as usize - 1].crash();
        cluster.down_until.insert(store, cluster.now + 20);
    }
    cluster.pass_time(50);
    cluster.until("it is left", |cluster| {
        let role = cluster.region().peer(follower.id).map(|peer| peer.role);
        role == Some(PeerRole::Learner) && !cluster.region().is_joint()
    });
}

#[test]
fn changes_that_make_no_sense_are_refused_by_name() {
    let mut cluster = Cluster::with_learner();
    let (leader, follower) = cluster.leader_and_follower();
    let region = cluster.region();
    let voters = region
        .peers
        .iter()
        .filter(|peer| peer.role == PeerRole::Voter);
    let all: Vec<PeerChange> = voters.map(|peer| PeerChange::Remove(peer.id)).collect();
    let stranger = PeerId(99);
    let cases = [
        (
            vec![],
            MembershipRefusal::StepCount {
                steps: 0,
                steps_max: 16,
            },
        ),
        (
            vec![PeerChange::Promote(NEWCOMER), PeerChange::Remove(NEWCOMER)],
            MembershipRefusal::NamedTwice(NEWCOMER),
        ),
        (
            vec![PeerChange::Remove(stranger)],
            MembershipRefusal::PeerUnknown(stranger),
        ),
        (
            vec![PeerChange::Demote(NEWCOMER)],
            MembershipRefusal::NotAVoter(NEWCOMER),
        ),
        (
            vec![PeerChange::Promote(follower.id)],
            MembershipRefusal::NotALearner(follower.id),
        ),
        (
            vec![PeerChange::Remove(leader.id)],
            MembershipRefusal::RemovesLeader(leader.id),
        ),
        (
            vec![PeerChange::Demote(leader.id)],
            MembershipRefusal::RemovesLeader(leader.id),
        ),
        (
            vec![PeerChange::AddLearner(Peer::learner(
                follower.id,
                StoreId(9),
            ))],
            MembershipRefusal::PeerExists(follower.id),
        ),
        (
            vec![
                PeerChange::AddLearner(Peer::learner(stranger, follower.store)),
                PeerChange::Remove(follower.id),
            ],
            MembershipRefusal::StoreHasPeer(follower.store),
        ),
        (all, MembershipRefusal::LastVoter),
    ];
    for (changes, expected) in cases {
        let refusal = cluster.refusal(changes.clone());
        assert_eq!(refusal, Refusal::Membership(expected), "{changes:?}");
    }
    assert_eq!(cluster.region(), region, "nothing has changed");
}
