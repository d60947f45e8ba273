//! Groups that sleep: what it costs, what wakes them, and how soon they serve again.

use tinykv_raft::{GroupId, Willingness};
use tinykv_replica::{AdminAction, Event, PeerChange, StoreId};

use super::{Cluster, STEP_MS};
use crate::store::{Outbox, Store};

const GROUPS: u64 = 6;

impl Cluster {
    /// Three stores, whose groups all sleep.
    fn asleep() -> Cluster {
        let mut cluster = Cluster::calm(3, GROUPS, Some(10));
        cluster.until("every group leads", |cluster| {
            (1..=GROUPS).all(|group| cluster.leader_store(GroupId(group)).is_some())
        });
        cluster.until("all groups sleep", Cluster::all_sleep);
        cluster
    }

    fn all_sleep(&self) -> bool {
        let mut stores = self.stores.iter().filter_map(|store| store.shard.as_ref());
        stores.all(|shard| shard.asleep() == shard.groups().count())
    }

    fn sleeps(&self, store: u64, group: GroupId) -> bool {
        let shard = self.stores[store as usize - 1].shard.as_ref();
        let status = shard.and_then(|shard| shard.status(group));
        status.is_some_and(|status| status.hibernating)
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.step();
        }
    }

    fn led_by(&self, store: u64) -> Vec<GroupId> {
        let groups = (1..=GROUPS).map(GroupId);
        groups
            .filter(|group| self.leader_store(*group) == Some(store))
            .collect()
    }

    /// The store with the most leaders is gone for good.
    fn kill_a_leader(&mut self) -> (u64, Vec<GroupId>) {
        let victim = (1..=3).max_by_key(|store| self.led_by(*store).len());
        let victim = victim.expect("there are stores");
        let led = self.led_by(victim);
        assert!(led.len() > 1, "a killed leader of several groups");
        self.stores[victim as usize - 1].crash();
        (victim, led)
    }

    fn serve_elsewhere(&self, led: &[GroupId]) -> bool {
        let is_led = |group: &GroupId| {
            let leader = self.leader_store(*group);
            leader.is_some_and(|store| self.holds_lease(store, *group))
        };
        led.iter().all(is_led)
    }

    fn holds_lease(&self, store: u64, group: GroupId) -> bool {
        let store = &self.stores[store as usize - 1];
        let lease = store.leases.get(&group);
        lease.is_some_and(|lease| store.clock(self.now) < lease.valid_until)
    }

    fn read(&mut self, store: u64, group: GroupId) {
        self.patience = (5_000, 5_000);
        self.ask(store, group, &format!("g{group}k1"), true);
    }
}

#[test]
fn idle_groups_sleep_and_say_nothing() {
    let mut cluster = Cluster::asleep();
    cluster.pass(1_000);
    let before = cluster.figures.messages;
    cluster.pass(10_000);
    assert_eq!(cluster.figures.messages, before, "sleeping groups talk");
    assert!(cluster.all_sleep());
    for group in (1..=GROUPS).map(GroupId) {
        let leader = cluster.leader_store(group).expect("it sleeps in office");
        assert!(!cluster.holds_lease(leader, group), "its lease has lapsed");
        let shard = cluster.stores[leader as usize - 1].shard.as_ref();
        let status = shard.and_then(|shard| shard.status(group)).expect("here");
        assert!(
            status.silent.iter().all(|(_, silence)| silence.is_zero()),
            "nobody is reported as down because his group sleeps"
        );
    }
}

#[test]
fn first_read_of_a_sleeping_group_takes_one_round() {
    let mut cluster = Cluster::asleep();
    cluster.pass(5_000);
    for group in (1..=GROUPS).map(GroupId) {
        let leader = cluster.leader_store(group).expect("it sleeps in office");
        cluster.read(leader, group);
        let took = cluster.until("the read is answered", |cluster| cluster.open.is_empty());
        // A message is under way for up to 15 ms here, and stores look every 5.
        assert!(took <= 50, "{took} ms");
        cluster.until("it has a lease again", |cluster| {
            cluster.holds_lease(leader, group)
        });
    }
    assert_eq!(cluster.figures.reads, GROUPS as usize);
    cluster.until("all groups sleep again", Cluster::all_sleep);
}

/// Reads in the lease pass the shard by; its shell says at each renewal that there were some.
#[test]
fn group_that_is_only_read_in_its_lease_stays_awake() {
    let mut cluster = Cluster::asleep();
    let (used, idle) = (GroupId(1), GroupId(2));
    let leader = |cluster: &Cluster, group| cluster.leader_store(group).expect("in office");
    for group in [used, idle] {
        let leader = leader(&cluster, group);
        cluster.read(leader, group);
    }
    cluster.until("both are read", |cluster| cluster.open.is_empty());
    for _ in 0..100 {
        let reader = leader(&cluster, used) as usize - 1;
        cluster.stores[reader].inbox.push(Event::ReadInLease(used));
        cluster.pass(50);
    }
    let sleeps = |group| cluster.sleeps(leader(&cluster, group), group);
    assert!(!sleeps(used) && sleeps(idle));
    cluster.until("it sleeps when nobody reads", Cluster::all_sleep);
    let reader = leader(&cluster, used);
    let event = Event::ReadInLease(used);
    cluster.stores[reader as usize - 1].inbox.push(event);
    cluster.pass(50);
    assert!(cluster.sleeps(reader, used), "that wakes nobody");
}

#[test]
fn follower_that_is_asked_wakes_its_leader() {
    let mut cluster = Cluster::asleep();
    let group = GroupId(1);
    let leader = cluster.leader_store(group).expect("it sleeps in office");
    let follower = (1..=3).find(|store| *store != leader).expect("another");
    cluster.read(follower, group);
    cluster.until("the leader wakes", |cluster| !cluster.sleeps(leader, group));
    cluster.until("it has a lease", |cluster| {
        cluster.holds_lease(leader, group)
    });
    assert!(cluster.open.is_empty(), "who asked was sent to the leader");
}

#[test]
fn killed_store_s_sleeping_groups_elect_in_time() {
    for is_break_seen in [true, false] {
        let mut cluster = Cluster::asleep();
        cluster.pass(3_000);
        let (victim, led) = cluster.kill_a_leader();
        let now = cluster.now;
        for store in cluster.stores.iter_mut().filter(|_| is_break_seen) {
            store.lose_connection(StoreId(victim), now);
        }
        let took = cluster.until("all are led elsewhere", |it| it.serve_elsewhere(&led));
        let limit = if is_break_seen { 1_500 } else { 3_000 };
        assert!(took <= limit, "{took} ms, the break seen: {is_break_seen}");
    }
}

#[test]
fn restarted_store_s_groups_are_led_again() {
    let mut cluster = Cluster::asleep();
    let (victim, led) = cluster.kill_a_leader();
    let now = cluster.now;
    cluster.down_until.insert(victim, now + 100);
    let took = cluster.until("all are led", |it| it.serve_elsewhere(&led));
    assert!(took <= 3_000, "{took} ms");
    cluster.until("all groups sleep again", Cluster::all_sleep);
}

#[test]
fn everything_wakes_when_all_have_crashed() {
    let mut cluster = Cluster::asleep();
    for store in 1..=3 {
        cluster.stores[store as usize - 1].crash();
        cluster.down_until.insert(store, cluster.now + 50 * store);
    }
    cluster.pass(200);
    let all: Vec<GroupId> = (1..=GROUPS).map(GroupId).collect();
    cluster.until("all are led", |it| it.serve_elsewhere(&all));
    cluster.until("all groups sleep again", Cluster::all_sleep);
}

#[test]
fn store_that_comes_back_finds_sleeping_groups_and_fits_in() {
    let mut cluster = Cluster::asleep();
    let group = GroupId(1);
    let leader = cluster.leader_store(group).expect("it sleeps in office");
    let follower = (1..=3).find(|store| *store != leader).expect("another");
    cluster.stores[follower as usize - 1].crash();
    // With a peer down nobody sleeps: somebody has to notice how long it is silent.
    cluster.until("the leader wakes", |it| !it.sleeps(leader, group));
    cluster.pass(5_000);
    assert!(!cluster.sleeps(leader, group));
    let now = cluster.now;
    cluster.down_until.insert(follower, now);
    cluster.until("all groups sleep again", Cluster::all_sleep);
}

/// Every word of its removal is lost, and by the time the line is mended nobody would say another.
#[test]
fn who_slept_through_its_removal_is_told_before_the_others_sleep_again() {
    let mut cluster = Cluster::asleep();
    let group = GroupId(1);
    let leader = cluster.leader_store(group).expect("it sleeps in office");
    let other = (1..=3).find(|store| *store != leader).expect("another");
    let until = cluster.now + 400;
    cluster.cut.insert((leader, other), until);
    cluster.cut.insert((other, leader), until);
    let region = cluster.newest(group).expect("it lives").region.clone();
    let removed = region.peer_on(StoreId(other)).expect("a member");
    let action = AdminAction::ChangePeers {
        epoch: region.epoch,
        changes: vec![PeerChange::Remove(removed.id)],
    };
    cluster.administrate(leader, group, action);
    cluster.pass(400);
    cluster.cut.clear();
    assert!(cluster.open.is_empty(), "it is removed");
    assert!(cluster.sleeps(other, group), "and knows nothing of it");
    cluster.until("it is gone", |cluster| {
        let shard = cluster.stores[other as usize - 1].shard.as_ref();
        shard.is_some_and(|shard| shard.peer(group).is_none())
    });
}

#[test]
fn cut_off_pair_of_stores_wakes_what_they_share() {
    let mut cluster = Cluster::asleep();
    let until = cluster.now + 6_000;
    for (from, to) in [(1, 2), (2, 1)] {
        cluster.cut.insert((from, to), until);
    }
    cluster.pass(6_000);
    cluster.cut.clear();
    let all: Vec<GroupId> = (1..=GROUPS).map(GroupId).collect();
    cluster.until("all are led", |it| it.serve_elsewhere(&all));
    cluster.until("all groups sleep again", Cluster::all_sleep);
}

#[test]
fn going_down_asleep_leaves_nobody_waiting() {
    let mut cluster = Cluster::asleep();
    let leader = cluster
        .leader_store(GroupId(1))
        .expect("it sleeps in office");
    cluster.read(leader, GroupId(1));
    let mut out = Outbox::default();
    let store: &mut Store = &mut cluster.stores[leader as usize - 1];
    store.inbox.push(Event::Shutdown);
    store.turn(cluster.now, &mut out, &mut |_, _| {});
    cluster.take_outbox(leader, out);
    assert!(cluster.open.is_empty());
}

#[test]
fn reluctant_store_hands_over_what_it_leads_asleep() {
    let mut cluster = Cluster::asleep();
    let store = (1..=3).max_by_key(|store| cluster.led_by(*store).len());
    let store = store.expect("there are stores");
    let inbox = &mut cluster.stores[store as usize - 1].inbox;
    inbox.push(Event::SetWillingness(Willingness::Reluctant));
    cluster.until("others lead all", |cluster| {
        let others = (1..=3).filter(|other| *other != store);
        let led: usize = others.map(|other| cluster.led_by(other).len()).sum();
        led == GROUPS as usize
    });
    cluster.until("all groups sleep again", Cluster::all_sleep);
    assert!(cluster.led_by(store).is_empty());
    // Alone with it, the others' groups still elect; and it leads what nobody else can.
    for other in (1..=3).filter(|other| *other != store).take(1) {
        cluster.stores[other as usize - 1].crash();
    }
    let all: Vec<GroupId> = (1..=GROUPS).map(GroupId).collect();
    cluster.until("all are led", |it| it.serve_elsewhere(&all));
}
