//! Merges: what everybody is told, and what becomes of one that is disturbed at any moment.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{
    AdminAction, AdminRequest, BusyReason, Command, Event, MergeRefusal, Outcome, Peer, PeerChange,
    Proposal, ReadRequest, Refusal, Region, RegionEpoch, SplitIds, StoreId, WaiterId,
};

use super::Cluster;
use crate::lists::encode_append;
use crate::store::{Habits, Outbox, Store};

const LEFT: GroupId = GroupId(1);
const RIGHT: GroupId = GroupId(2);
const BOTH_WAYS: [(GroupId, GroupId); 2] = [(LEFT, RIGHT), (RIGHT, LEFT)];
const ASKER: WaiterId = WaiterId(1_000_000);

impl Cluster {
    /// Stores with some groups of three peers each, all of them led.
    fn with_leaders(stores: u64, groups: u64, hibernate_after: Option<u32>) -> Cluster {
        let mut cluster = Cluster::calm(stores, groups, hibernate_after);
        cluster.until("all groups are led", |cluster| {
            (1..=groups).all(|group| cluster.leader_store(GroupId(group)).is_some())
        });
        cluster.run_for(600);
        for group in 1..=groups {
            for key in 0..3 {
                cluster.append_until_acked(GroupId(group), &format!("g{group}k{key}"));
            }
        }
        cluster
    }

    pub(super) fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn region_of(&self, group: GroupId) -> Region {
        self.newest(group).expect("it lives").region.clone()
    }

    pub(super) fn merge_action(&self, source: GroupId, target: GroupId) -> AdminAction {
        AdminAction::Merge {
            epoch: self.region_of(source).epoch,
            target: self.region_of(target),
        }
    }

    fn ask_merge(&mut self, source: GroupId, target: GroupId) {
        let action = self.merge_action(source, target);
        let leader = self.leader_store(source).expect("it is led");
        self.administrate(leader, source, action);
    }

    /// What the leader says to an event, at once.
    pub(super) fn answer(&mut self, leader: u64, event: Event) -> Option<Outcome<Vec<u32>>> {
        let now = self.now;
        let store = &mut self.stores[leader as usize - 1];
        store.inbox.push(event);
        let mut out = Outbox::default();
        store.turn(now, &mut out, &mut |_, _| {});
        let at = out.replies.iter().position(|reply| reply.0 == ASKER);
        let answer = at.map(|at| out.replies.swap_remove(at).1);
        self.take_outbox(leader, out);
        answer
    }

    fn refusal_to(&mut self, leader: u64, event: Event) -> Refusal {
        match self.answer(leader, event) {
            Some(Outcome::DefinitelyNot(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn admin_event(&self, leader: u64, group: GroupId, action: AdminAction) -> Event {
        let store = &self.stores[leader as usize - 1];
        Event::Admin(AdminRequest {
            group,
            action,
            deadline: store.clock(self.now) + Duration::from_secs(2),
            waiter: Some(ASKER),
        })
    }

    fn merge_refusal(&mut self, source: GroupId, action: AdminAction) -> Refusal {
        let leader = self.leader_store(source).expect("it is led");
        let event = self.admin_event(leader, source, action);
        self.refusal_to(leader, event)
    }

    pub(super) fn lives_anywhere(&self, group: GroupId) -> bool {
        let shards = self.stores.iter().filter_map(|it| it.shard.as_ref());
        shards.into_iter().any(|shard| shard.peer(group).is_some())
    }

    fn until_merged(&mut self, source: GroupId, target: GroupId) {
        self.until("the merge is over", |cluster| {
            !cluster.lives_anywhere(source)
                && cluster
                    .newest(target)
                    .is_some_and(|state| state.merges.has_absorbed(source))
        });
    }

    fn split_at(&mut self, group: GroupId, key: &str) -> GroupId {
        let region = self.region_of(group);
        self.next_group += 1;
        let child = GroupId(self.next_group);
        let peers = region.peers.iter().map(|_| {
            self.next_peer += 1;
            PeerId(1_000 + self.next_peer)
        });
        let ids = vec![SplitIds {
            region: child,
            peers: peers.collect(),
        }];
        let leader = self.leader_store(group).expect("it is led");
        let action = AdminAction::Split {
            epoch: region.epoch,
            keys: vec![Bytes::copy_from_slice(key.as_bytes())],
            ids,
        };
        self.administrate(leader, group, action);
        child
    }

    pub(super) fn hand_to(&mut self, group: GroupId, store: u64) {
        let to = self.region_of(group).peer_on(StoreId(store));
        let to = to.map(|peer| peer.id);
        let leader = self.leader_store(group).expect("it is led");
        self.administrate(leader, group, AdminAction::TransferLeader { to });
        self.until("it is handed over", |cluster| {
            let leads = cluster.leader_store(group) == Some(store);
            leads
                && cluster.stores[store as usize - 1]
                    .leases
                    .contains_key(&group)
        });
    }

    /// Whether all peers of a source have the freeze in their logs; its leader is on the first store.
    fn has_freeze_everywhere(&self, source: GroupId) -> bool {
        let shard = self.stores[0].shard.as_ref();
        let status = shard.and_then(|it| it.status(source));
        let is_complete = status.is_some_and(|status| {
            let last = status.raft.last.index;
            let mut peers = status.raft.peers.values();
            peers.all(|it| it.matched == last)
        });
        is_complete && self.figures.frozen > 0
    }

    /// In the end everything is as it should be, whichever way the merge went.
    pub(super) fn conclude(&mut self) {
        self.heal();
        let healed = self.now;
        while self.now < healed + 3_000 {
            self.ask_something();
            if self.now.is_multiple_of(500) && self.now > healed + 1_500 {
                self.sweep_ghosts();
            }
            self.step();
        }
        self.settle();
        if let Err(problem) = self.history.check(&self.finals()) {
            panic!("{problem}");
        }
    }
}

#[test]
fn two_neighbours_become_one_whichever_is_the_source() {
    for (source, target) in BOTH_WAYS {
        let mut cluster = Cluster::with_leaders(3, 2, None);
        let (before, other) = (cluster.region_of(target), cluster.region_of(source));
        cluster.ask_merge(source, target);
        cluster.until_merged(source, target);
        let after = cluster.region_of(target);
        assert_eq!((&after.start[..], &after.end[..]), (&b"g1"[..], &b"g3"[..]));
        assert_eq!(after.peers, before.peers);
        let expected = RegionEpoch {
            conf_ver: before.epoch.conf_ver,
            version: before.epoch.version.max(other.epoch.version + 1) + 1,
        };
        assert_eq!(after.epoch, expected);
        for key in ["g1k1", "g2k1"] {
            cluster.append_until_acked(target, key);
        }
        assert_eq!((cluster.figures.frozen, cluster.figures.thawed), (1, 0));
        cluster.conclude();
    }
}

/// M5: the lease is void before anybody can know of the freeze, and everybody is told why.
#[test]
fn from_its_proposal_on_the_source_serves_nothing_and_says_why() {
    let mut cluster = Cluster::with_leaders(3, 2, None);
    let leader = cluster.leader_store(LEFT).expect("it is led");
    let action = cluster.merge_action(LEFT, RIGHT);
    let region = cluster.region_of(LEFT);
    let at = leader as usize - 1;
    assert!(cluster.stores[at].leases.contains_key(&LEFT));
    // Nobody hears anything: the freeze is proposed and cannot be committed.
    for other in (1..=3).filter(|other| *other != leader) {
        cluster.cut.insert((leader, other), u64::MAX);
    }
    let merge = cluster.admin_event(leader, LEFT, action.clone());
    assert_eq!(cluster.answer(leader, merge), None);
    assert!(!cluster.stores[at].leases.contains_key(&LEFT));
    let busy = |reason| Refusal::Busy {
        reason,
        wait: Duration::from_millis(20),
    };
    let deadline = cluster.stores[at].clock(cluster.now) + Duration::from_secs(2);
    let write = |out: &mut _| encode_append(b"g1k1", 7, out);
    let questions = [
        Event::Read(ReadRequest {
            group: LEFT,
            peer: None,
            epoch: Some(region.epoch),
            deadline,
            waiter: ASKER,
        }),
        Event::Propose(Proposal {
            group: LEFT,
            peer: None,
            term: None,
            command: Command::build(region.epoch, 16, write),
            deadline,
            waiter: ASKER,
        }),
        cluster.admin_event(leader, LEFT, action),
        cluster.admin_event(
            leader,
            LEFT,
            AdminAction::ChangePeers {
                epoch: region.epoch,
                changes: vec![PeerChange::AddLearner(Peer::learner(
                    PeerId(77),
                    StoreId(9),
                ))],
            },
        ),
        cluster.admin_event(
            leader,
            LEFT,
            AdminAction::Split {
                epoch: region.epoch,
                keys: vec![Bytes::from_static(b"g1k3")],
                ids: Vec::new(),
            },
        ),
    ];
    for question in questions {
        let shown = format!("{question:?}");
        let refusal = cluster.refusal_to(leader, question);
        assert_eq!(refusal, busy(BusyReason::Merging), "{shown}");
    }
}

/// A read that waits for its index when the freeze is proposed is not served any more.
#[test]
fn waiting_reads_are_refused_by_the_freeze() {
    let mut cluster = Cluster::with_leaders(3, 2, None);
    let leader = cluster.leader_store(LEFT).expect("it is led");
    let at = leader as usize - 1;
    let read = Event::Read(ReadRequest {
        group: LEFT,
        peer: None,
        epoch: None,
        deadline: cluster.stores[at].clock(cluster.now) + Duration::from_secs(2),
        waiter: ASKER,
    });
    assert_eq!(cluster.answer(leader, read), None);
    cluster.ask_merge(LEFT, RIGHT);
    let refusal = cluster.refusal_to(leader, Event::Tick);
    let expected = Refusal::Busy {
        reason: BusyReason::Merging,
        wait: Duration::from_millis(20),
    };
    assert_eq!(refusal, expected);
}

#[test]
fn merges_that_make_no_sense_are_refused_by_name() {
    let mut cluster = Cluster::with_leaders(3, 3, None);
    let refused = |cluster: &mut Cluster, action| cluster.merge_refusal(LEFT, action);
    let to = |cluster: &Cluster, target| cluster.merge_action(LEFT, target);
    let itself = to(&cluster, LEFT);
    let far = to(&cluster, GroupId(3));
    let fits = to(&cluster, RIGHT);
    let changed = |change: &dyn Fn(&mut RegionEpoch, &mut Region)| {
        let AdminAction::Merge {
            mut epoch,
            mut target,
        } = fits.clone()
        else {
            panic!("it is one");
        };
        change(&mut epoch, &mut target);
        AdminAction::Merge { epoch, target }
    };
    let learner = changed(&|_, it| it.peers[0].role = tinykv_replica::PeerRole::Learner);
    let elsewhere = changed(&|_, it| it.peers[0].store = StoreId(9));
    let fewer = changed(&|_, it| it.peers.truncate(2));
    let stays = changed(&|_, it| it.start = Bytes::from_static(b"stays"));
    let cases = [
        (itself, MergeRefusal::SameRegion),
        (far, MergeRefusal::NotNeighbours),
        (stays, MergeRefusal::NotNeighbours),
        (learner, MergeRefusal::MembershipUnsettled),
        (elsewhere, MergeRefusal::OtherStores),
        (fewer, MergeRefusal::OtherStores),
    ];
    for (action, expected) in cases {
        let shown = format!("{action:?}");
        let refusal = refused(&mut cluster, action);
        assert_eq!(refusal, Refusal::Merge(expected), "{shown}");
    }
    let outdated = changed(&|epoch, _| epoch.conf_ver += 1);
    let refusal = refused(&mut cluster, outdated);
    assert!(matches!(refusal, Refusal::EpochNotMatch { .. }));
    let before = cluster.region_of(LEFT);
    cluster.run_for(500);
    assert_eq!(cluster.region_of(LEFT), before, "nothing has happened");
}

#[test]
fn boundaries_that_stay_are_not_merged_away() {
    let mut cluster = Cluster::with_leaders(3, 1, None);
    let child = cluster.split_at(LEFT, "g1k3!");
    cluster.until("the child is led", |it| it.leader_store(child).is_some());
    cluster.run_for(600);
    for (source, target) in [(LEFT, child), (child, LEFT)] {
        let action = cluster.merge_action(source, target);
        let refusal = cluster.merge_refusal(source, action);
        let key = Bytes::from_static(b"g1k3!");
        assert_eq!(refusal, Refusal::Merge(MergeRefusal::BorderStays { key }));
    }
}

#[test]
fn no_merge_begins_while_a_peer_is_away() {
    let mut cluster = Cluster::with_leaders(3, 2, None);
    let leader = cluster.leader_store(LEFT).expect("it is led");
    let away = leader % 3 + 1;
    cluster.stores[away as usize - 1].paused_until = u64::MAX;
    cluster.run_for(2_500);
    let action = cluster.merge_action(LEFT, RIGHT);
    let refusal = cluster.merge_refusal(LEFT, action);
    let expected = Refusal::Busy {
        reason: BusyReason::PeerBehind,
        wait: Duration::from_millis(20),
    };
    assert_eq!(refusal, expected);
}

/// A peer of the source dies with the freeze: the merge cannot be, and both go on.
#[test]
fn a_source_whose_peer_is_away_thaws() {
    for (source, target) in BOTH_WAYS {
        let mut cluster = Cluster::with_leaders(3, 2, None);
        let leader = cluster.leader_store(source).expect("it is led");
        let away = leader % 3 + 1;
        cluster.stores[away as usize - 1].paused_until = u64::MAX;
        let (before, other) = (cluster.region_of(source), cluster.region_of(target));
        cluster.ask_merge(source, target);
        cluster.until("it is frozen", |it| it.figures.frozen == 1);
        let took = cluster.until("it thaws", |it| it.figures.thawed == 1);
        assert!(took < 8_000, "{took} ms");
        let thawed = cluster.region_of(source);
        let expected = RegionEpoch {
            conf_ver: before.epoch.conf_ver + 1,
            version: before.epoch.version + 2,
        };
        assert_eq!(thawed.epoch, expected);
        assert_eq!(
            cluster.region_of(target).epoch.version,
            other.epoch.version + 1
        );
        cluster.append_until_acked(source, &format!("g{source}k1"));
        cluster.append_until_acked(target, &format!("g{target}k1"));
        // The second attempt, with all of them, is another one.
        cluster.heal();
        cluster.run_for(1_000);
        cluster.ask_merge(source, target);
        cluster.until_merged(source, target);
        cluster.conclude();
    }
}

#[test]
fn a_target_that_is_split_meanwhile_declines() {
    for (source, target) in BOTH_WAYS {
        let mut cluster = Cluster::with_leaders(3, 2, None);
        let action = cluster.merge_action(source, target);
        cluster.split_at(target, &format!("g{target}k3"));
        cluster.run_for(100);
        let leader = cluster.leader_store(source).expect("it is led");
        cluster.administrate(leader, source, action);
        cluster.until("it is frozen", |it| it.figures.frozen == 1);
        cluster.until("it thaws", |it| it.figures.thawed == 1);
        assert_eq!(cluster.figures.merged, 0);
        cluster.conclude();
    }
}

#[test]
fn merged_regions_are_merged_and_split_again() {
    let mut cluster = Cluster::with_leaders(3, 3, None);
    cluster.ask_merge(LEFT, RIGHT);
    cluster.until_merged(LEFT, RIGHT);
    cluster.ask_merge(RIGHT, GroupId(3));
    cluster.until_merged(RIGHT, GroupId(3));
    let child = cluster.split_at(GroupId(3), "g2");
    cluster.until("the child is led", |it| it.leader_store(child).is_some());
    cluster.run_for(600);
    cluster.ask_merge(GroupId(3), child);
    cluster.until_merged(GroupId(3), child);
    let state = cluster.newest(child).expect("it lives");
    for group in [LEFT, RIGHT, GroupId(3)] {
        assert!(state.merges.has_absorbed(group), "{:?}", state.merges);
    }
    cluster.conclude();
}

/// Two sources for one target: one after the other, whatever the order.
#[test]
fn of_two_sources_for_one_target_both_end_well() {
    let mut cluster = Cluster::with_leaders(3, 3, None);
    cluster.ask_merge(LEFT, RIGHT);
    cluster.ask_merge(GroupId(3), RIGHT);
    cluster.until("both are decided", |cluster| {
        cluster.figures.merged + cluster.figures.thawed == 2
    });
    assert_eq!(cluster.figures.merged, 1, "the other named an older epoch");
    cluster.conclude();
}

/// Both want to become part of the other: neither may vanish.
#[test]
fn two_that_want_each_other_do_not_both_go() {
    let mut cluster = Cluster::with_leaders(3, 2, None);
    cluster.ask_merge(LEFT, RIGHT);
    cluster.ask_merge(RIGHT, LEFT);
    cluster.until("both are frozen", |it| it.figures.frozen == 2);
    cluster.until("both thaw", |it| it.figures.thawed == 2);
    cluster.conclude();
}

#[test]
fn sleeping_regions_wake_to_merge() {
    let mut cluster = Cluster::with_leaders(3, 2, Some(2));
    cluster.until("all sleep", |cluster| {
        let asleep = |store: &Store| store.shard.as_ref().map(|it| it.asleep());
        cluster.stores.iter().all(|store| asleep(store) == Some(2))
    });
    cluster.ask_merge(LEFT, RIGHT);
    cluster.until_merged(LEFT, RIGHT);
    cluster.conclude();
}

/// Nobody was heard for long, so it is refused; but whoever asks again finds them awake.
#[test]
fn regions_that_have_slept_for_long_merge_when_asked_again() {
    let mut cluster = Cluster::with_leaders(3, 2, Some(2));
    cluster.until("all sleep", |cluster| {
        let asleep = |store: &Store| store.shard.as_ref().map(|it| it.asleep());
        cluster.stores.iter().all(|store| asleep(store) == Some(2))
    });
    cluster.run_for(10_000);
    for _ in 0..2 {
        cluster.ask_merge(LEFT, RIGHT);
        cluster.run_for(20);
    }
    cluster.until_merged(LEFT, RIGHT);
    cluster.conclude();
}

/// A store is cut off from the freeze on, and the target's log is cut meanwhile: it gets a snapshot of
/// what came of the merge, and its peer of the source dies with that. Or with the power in between.
#[test]
fn a_snapshot_of_the_merged_region_takes_the_source_with_it() {
    let mut overtaken = 0;
    for (source, target) in BOTH_WAYS {
        for crash_after in [0, 10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100, 150] {
            overtaken += overtaken_source(source, target, crash_after, false);
        }
        for crash_after in [0, 100, 400, 1_000] {
            overtaken += overtaken_source(source, target, crash_after, true);
        }
    }
    println!("{overtaken} overtaken");
    assert!(overtaken > 5, "{overtaken}");
}

/// The third store is cut off, or so slow that its peer of the target stands before the merge, waiting
/// for the source's, while others go on.
fn overtaken_source(source: GroupId, target: GroupId, crash_after: u64, is_slow: bool) -> usize {
    let mut cluster = Cluster::empty(crate::random::Random::new(crash_after), Default::default());
    for id in 1..=3 {
        let habits = Habits {
            sync_ms_max: 5,
            job_ms_max: 10,
            notice_ms_max: 0,
            miss_one_in: 0,
            tail_max: 1_000,
            flush_one_in: 3,
            log_bytes_max: 200,
            clock_rate: 1_000,
            hibernate_after: None,
        };
        cluster.stores.push(Store::new(StoreId(id), habits, id));
    }
    cluster.founded = 2;
    for group in [LEFT, RIGHT] {
        cluster.found_group_on(group, &[1, 2, 3]);
    }
    cluster.until("both are led", |it| {
        it.leader_store(LEFT).is_some() && it.leader_store(RIGHT).is_some()
    });
    cluster.run_for(600);
    cluster.hand_to(source, 1);
    cluster.hand_to(target, 2);
    if is_slow {
        let habits = &mut cluster.stores[2].habits;
        (habits.job_ms_max, habits.miss_one_in) = (600_000, 1);
        cluster.append_until_acked(source, &format!("g{source}k1"));
        cluster.run_for(200);
        let habits = &mut cluster.stores[2].habits;
        (habits.job_ms_max, habits.miss_one_in) = (10, 0);
    }
    cluster.ask_merge(source, target);
    cluster.until("the third store has the freeze", |it| {
        it.has_freeze_everywhere(source)
    });
    if is_slow {
        cluster.until("the others merge", |it| it.figures.merged > 0);
        cluster.run_for(200);
    }
    for other in [1, 2] {
        cluster.cut.insert((3, other), u64::MAX);
        cluster.cut.insert((other, 3), u64::MAX);
    }
    cluster.until("the others merge", |it| it.figures.merged > 0);
    cluster.run_for(600);
    for number in 0..60 {
        cluster.append_until_acked(target, &format!("g{target}k{}", number % 5));
    }
    cluster.cut.clear();
    if crash_after > 0 {
        cluster.run_for(crash_after);
        cluster.crash(3);
    }
    cluster.conclude();
    cluster.figures.overtaken
}

/// On one store the target has yet to be split from its parent when the others have merged: its source
/// there, told so by the dead, waits until it is there, by the split or by a snapshot.
#[test]
fn a_source_waits_for_a_target_that_is_yet_to_be_born() {
    for is_overtaken in [false, true] {
        let mut cluster = Cluster::with_leaders(3, 2, None);
        let target = {
            cluster.hand_to(LEFT, 1);
            cluster.hand_to(RIGHT, 1);
            cluster.deaf.insert((3, LEFT));
            cluster.split_at(LEFT, "g1k2")
        };
        cluster.until("the target is led", |it| it.leader_store(target).is_some());
        cluster.run_for(600);
        cluster.ask_merge(RIGHT, target);
        cluster.until("the others merge", |it| {
            it.newest(target)
                .is_some_and(|state| state.merges.has_absorbed(RIGHT))
        });
        cluster.run_for(3_000);
        assert!(cluster.stores[2].regions.contains_key(&RIGHT), "it waits");
        if is_overtaken {
            for number in 0..60 {
                cluster.append_until_acked(LEFT, &format!("g1k{}", number % 2));
            }
            cluster.run_for(2_000);
        }
        cluster.deaf.clear();
        cluster.until_merged(RIGHT, target);
        cluster.conclude();
    }
}

/// A store is away from the freeze until the target has moved from it: nobody will absorb its peer of
/// the source, which learns from those that died of the merge that it is a ghost.
#[test]
fn a_source_without_a_target_learns_of_the_merge() {
    for (source, target) in BOTH_WAYS {
        let mut cluster = Cluster::with_leaders(4, 0, None);
        cluster.founded = 2;
        for group in [LEFT, RIGHT] {
            cluster.found_group_on(group, &[1, 2, 3]);
        }
        cluster.until("both are led", |it| {
            it.leader_store(LEFT).is_some() && it.leader_store(RIGHT).is_some()
        });
        cluster.run_for(600);
        cluster.hand_to(source, 1);
        cluster.hand_to(target, 2);
        cluster.ask_merge(source, target);
        cluster.until("the third store has the freeze", |it| {
            it.has_freeze_everywhere(source)
        });
        for other in [1, 2, 4] {
            cluster.cut.insert((3, other), u64::MAX);
            cluster.cut.insert((other, 3), u64::MAX);
        }
        cluster.until("the others merge", |it| it.figures.merged > 0);
        cluster.run_for(600);
        let elder = cluster
            .region_of(target)
            .peer_on(StoreId(3))
            .expect("a member");
        let learner = Peer::learner(PeerId(900), StoreId(4));
        for change in [
            PeerChange::AddLearner(learner),
            PeerChange::Promote(learner.id),
            PeerChange::Remove(elder.id),
        ] {
            let epoch = cluster.region_of(target).epoch;
            let action = AdminAction::ChangePeers {
                epoch,
                changes: vec![change],
            };
            let leader = cluster.leader_store(target).expect("it is led");
            cluster.administrate(leader, target, action);
            cluster.run_for(2_000);
            assert_ne!(cluster.region_of(target).epoch, epoch, "{change:?}");
        }
        cluster.cut.clear();
        cluster.until("nothing is left on the third store", |cluster| {
            let shard = cluster.stores[2].shard.as_ref();
            shard.is_some_and(|shard| shard.groups().count() == 0)
        });
        cluster.conclude();
    }
}

/// What may come between.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Crash(u64),
    CrashAll,
    CrashTwice(u64),
    Pause(u64),
    Cut(u64),
    HandSourceTo(u64),
    HandTargetTo(u64),
    SplitTarget,
    SplitSource,
    GrowTarget,
    GrowSource,
    /// Placement takes the source's peer there for a ghost.
    DestroySource(u64),
}

impl Cluster {
    fn disturb(&mut self, what: Disturbance, source: GroupId, target: GroupId) {
        let grow = |region: &Region| AdminAction::ChangePeers {
            epoch: region.epoch,
            changes: vec![PeerChange::AddLearner(Peer::learner(
                PeerId(900 + region.id.0),
                StoreId(4),
            ))],
        };
        let to = |region: &Region, store| AdminAction::TransferLeader {
            to: region.peer_on(StoreId(store)).map(|peer| peer.id),
        };
        let order = |cluster: &mut Cluster, group, action: &dyn Fn(&Region) -> AdminAction| {
            let leader = cluster.leader_store(group);
            if let (Some(leader), Some(state)) = (leader, cluster.newest(group)) {
                cluster.administrate(leader, group, action(&state.region));
            }
        };
        match what {
            Disturbance::Crash(store) | Disturbance::CrashTwice(store) => self.crash(store),
            Disturbance::CrashAll => (1..=3).for_each(|store| self.crash(store)),
            Disturbance::Pause(store) => {
                self.stores[store as usize - 1].paused_until = self.now + 1_500;
            }
            Disturbance::Cut(store) => {
                for other in (1..=4).filter(|other| *other != store) {
                    self.cut.insert((store, other), self.now + 1_500);
                    self.cut.insert((other, store), self.now + 1_500);
                }
            }
            Disturbance::HandSourceTo(store) => order(self, source, &|it| to(it, store)),
            Disturbance::HandTargetTo(store) => order(self, target, &|it| to(it, store)),
            Disturbance::SplitTarget if self.leader_store(target).is_some() => {
                self.split_at(target, &format!("g{target}k3"));
            }
            Disturbance::SplitSource if self.leader_store(source).is_some() => {
                self.split_at(source, &format!("g{source}k3"));
            }
            Disturbance::SplitTarget | Disturbance::SplitSource => {}
            Disturbance::GrowTarget => order(self, target, &grow),
            Disturbance::GrowSource => order(self, source, &grow),
            Disturbance::DestroySource(store) => {
                let store = &mut self.stores[store as usize - 1];
                let peer = store.shard.as_ref().and_then(|it| it.peer(source));
                let frozen = store.regions.get(&source);
                let frozen = frozen.filter(|it| it.1.merges.freeze().is_some());
                if let (Some(peer), Some(_)) = (peer, frozen) {
                    let (group, peer) = (source, peer.id);
                    store.inbox.push(Event::Destroy { group, peer });
                }
            }
        }
    }
}

/// One merge, disturbed after so many turns of the stores. Says whether it came about.
fn disturbed(what: Disturbance, turns: u64, way: (GroupId, GroupId), leaders: (u64, u64)) -> bool {
    let (source, target) = way;
    let mut cluster = Cluster::with_leaders(4, 0, None);
    cluster.random = crate::random::Random::new(turns * 31 + leaders.0);
    cluster.founded = 2;
    for group in [LEFT, RIGHT] {
        cluster.found_group_on(group, &[1, 2, 3]);
    }
    cluster.until("both are led", |it| {
        it.leader_store(LEFT).is_some() && it.leader_store(RIGHT).is_some()
    });
    cluster.run_for(600);
    for store in &mut cluster.stores {
        store.habits.flush_one_in = [1, 20, 1_000][turns as usize % 3];
        store.habits.sync_ms_max = [1, 8][turns as usize % 2];
        store.habits.job_ms_max = 20;
    }
    cluster.hand_to(source, leaders.0);
    cluster.hand_to(target, leaders.1);
    for group in [1, 2] {
        cluster.append_until_acked(GroupId(group), &format!("g{group}k1"));
    }
    cluster.ask_merge(source, target);
    for _ in 0..turns {
        cluster.ask_something();
        cluster.step();
    }
    cluster.disturb(what, source, target);
    for _ in 0..60 {
        cluster.ask_something();
        cluster.step();
    }
    if let Disturbance::CrashTwice(_) = what {
        cluster.heal();
        cluster.run_for(30 + turns * 3);
        cluster.disturb(what, source, target);
    }
    cluster.run_for(700);
    cluster.conclude();
    cluster.figures.merged > 0
}

/// Whatever comes between, at whatever moment, the merge comes about or it does not; never half of it,
/// and never both.
fn whatever_comes_between(what: impl Fn(u64) -> Disturbance, leaders: &[(u64, u64)]) {
    const TURNS: u64 = 26;
    let mut merged = 0;
    let mut stories = 0;
    for way in BOTH_WAYS {
        for leaders in leaders {
            for turns in 0..TURNS {
                let what = what(turns);
                let story = std::panic::catch_unwind(|| disturbed(what, turns, way, *leaders));
                let is_merged = story.unwrap_or_else(|_| {
                    panic!("{what:?} after {turns} turns of {way:?}, led by {leaders:?}")
                });
                merged += u64::from(is_merged);
                stories += 1;
            }
        }
    }
    println!("{stories} stories, {merged} merges");
    assert!(merged > 0, "the disturbance came too early every time");
}

#[test]
fn a_store_dies_in_a_merge() {
    whatever_comes_between(|turns| Disturbance::Crash(turns % 3 + 1), &[(1, 2), (2, 2)]);
    whatever_comes_between(|turns| Disturbance::CrashTwice(turns % 3 + 1), &[(3, 1)]);
}

#[test]
fn all_stores_die_in_a_merge() {
    whatever_comes_between(|_| Disturbance::CrashAll, &[(1, 1), (1, 2)]);
}

#[test]
fn a_store_stands_still_in_a_merge() {
    whatever_comes_between(|turns| Disturbance::Pause(turns % 3 + 1), &[(1, 2), (2, 2)]);
    whatever_comes_between(|turns| Disturbance::Cut(turns % 3 + 1), &[(1, 2), (2, 2)]);
}

#[test]
fn leaders_change_in_a_merge() {
    whatever_comes_between(|turns| Disturbance::HandSourceTo(turns % 3 + 1), &[(1, 2)]);
    whatever_comes_between(|turns| Disturbance::HandTargetTo(turns % 3 + 1), &[(1, 2)]);
}

#[test]
fn regions_are_split_in_a_merge() {
    whatever_comes_between(|_| Disturbance::SplitTarget, &[(1, 2), (3, 3)]);
    whatever_comes_between(|_| Disturbance::SplitSource, &[(1, 2), (3, 3)]);
}

#[test]
fn memberships_change_in_a_merge() {
    whatever_comes_between(|_| Disturbance::GrowTarget, &[(1, 2), (3, 3)]);
    whatever_comes_between(|_| Disturbance::GrowSource, &[(1, 2), (3, 3)]);
}

#[test]
fn a_source_that_is_taken_for_a_ghost_waits_for_its_target() {
    whatever_comes_between(|turns| Disturbance::DestroySource(turns % 3 + 1), &[(1, 2)]);
}
