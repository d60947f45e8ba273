//! The coordinator as an owner drives it: a store that founds a cluster, and what happens then.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tinykv_raft::{PeerId, Term};
use tinykv_replica::{Peer, RegionEpoch};

mod draining;
mod histories;
mod removing;
mod scattering;

use super::history::ENDED_MAX;
use super::*;
use crate::schedule::{Change, HANDS_OFF};
use crate::state::{Command, Reply, StoreLife, StoreRecord};
use crate::view::RegionStats;

const STORES: [u64; 3] = [1_000, 1_001, 1_002];
const START: Duration = Duration::from_secs(100);

/// A replicated state and a coordinator over it.
struct World {
    state: State,
    coordinator: Coordinator,
    now: Duration,
}

impl World {
    /// Three stores; region 1003 with voters 1004, 1005, 1006, led from the first.
    fn new() -> World {
        let mut state = State::default();
        let mut world = |command| state.apply(command, &mut Vec::new());
        world(Command::Found { cluster_id: 7 });
        world(Command::ReserveIds { count: 1_000 });
        let region = |peers: &[u64], conf_ver| Region {
            id: GroupId(1_003),
            start: Bytes::new(),
            end: Bytes::new(),
            epoch: RegionEpoch {
                conf_ver,
                version: 1,
            },
            peers: peers
                .iter()
                .zip(STORES)
                .map(|(id, store)| Peer::voter(PeerId(*id), StoreId(store)))
                .collect(),
        };
        let founded = world(Command::Bootstrap {
            store: StoreRecord::serving(STORES[0]),
            regions: vec![region(&[1_004], 1)],
        });
        assert_eq!(founded, Reply::Done);
        for id in &STORES[1..] {
            assert_eq!(
                world(Command::PutStore(StoreRecord::serving(*id))),
                Reply::Done
            );
        }
        let regions = vec![region(&[1_004, 1_005, 1_006], 5)];
        let routed = world(Command::UpdateRegions { regions });
        assert!(matches!(routed, Reply::Routed { .. }));
        let mut world = World {
            coordinator: Coordinator::new(&state, START),
            state,
            now: START,
        };
        world.beat();
        world
    }

    fn beat(&mut self) {
        for id in STORES {
            let (id, stats) = (StoreId(id), StoreStats::default());
            self.coordinator
                .on_store_heartbeat(id, stats, self.state.settings(), self.now);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.beat();
    }

    fn region(&self) -> Region {
        let region = self.state.routes().region(GroupId(1_003));
        region.expect("it is known").clone()
    }

    /// What the owner does with a heartbeat.
    fn hear(&mut self, region: &Region, store: u64, term: u64) -> Result<Heard, String> {
        let leader = region.peer_on(StoreId(store)).expect("a peer leads");
        let update = self.state.route_update(std::slice::from_ref(region));
        let mut removed = Vec::new();
        if let Some(command) = update.map_err(|refusal| refusal.to_string())? {
            match self.state.apply(command, &mut Vec::new()) {
                Reply::Routed { removed: gone } => removed = gone,
                other => return Err(format!("{other:?}")),
            }
        }
        let report = RegionReport {
            region: region.clone(),
            leader,
            term: Term(term),
            pending: BTreeSet::new(),
            down: BTreeMap::new(),
            stats: RegionStats::default(),
        };
        self.coordinator
            .on_region_heartbeat(report, &removed, &self.state, self.now)
            .map_err(|stale| stale.to_string())
    }

    fn wish(&mut self, id: u64, wish: &Manual) -> Result<Option<Order>, ManualRefusal> {
        let ids = OperatorIds {
            operator: id,
            peer: PeerId(id + 1),
        };
        let settings = *self.state.settings();
        self.coordinator
            .admit_manual(GroupId(1_003), wish, ids, &settings, self.now)
    }

    /// How an operator stands: `running`, or its outcome.
    fn outcome(&self, id: u64) -> String {
        match self.coordinator.find(id) {
            None => "unknown".into(),
            Some(Found::Running(_)) => "running".into(),
            Some(Found::Ended(ended)) => format!("{}: {}", ended.ending, ended.outcome()),
        }
    }

    /// Both halves of region 1003, split at `key`.
    fn halves(&self, key: &'static [u8]) -> [Region; 2] {
        let mut left = self.region();
        left.epoch.version += 1;
        let mut right = left.clone();
        left.end = Bytes::from_static(key);
        right.id = GroupId(1_100);
        right.start = left.end.clone();
        for peer in &mut right.peers {
            peer.id = PeerId(peer.id.0 + 200);
        }
        [left, right]
    }
}

fn at(keys: &[&'static [u8]]) -> Manual {
    Manual::Split {
        keys: keys.iter().map(|key| Bytes::from_static(key)).collect(),
    }
}

#[test]
fn a_split_is_done_when_all_parts_are_there_in_whatever_order_they_come() {
    // The report brings them at once; or the left part is heard first; or the right one.
    for order in [[0, 1], [1, 0]] {
        let mut world = World::new();
        let parent = world.region();
        world.hear(&parent, STORES[0], 5).expect("heard");
        let ordered = world.wish(1_200, &at(&[b"m"])).expect("it fits");
        let ordered = ordered.expect("an order at once");
        assert_eq!(ordered.epoch, parent.epoch);
        assert!(matches!(ordered.change, Change::Split(keys) if keys == [&b"m"[..]]));
        let halves = world.halves(b"m");
        let first = world.hear(&halves[order[0]], STORES[0], 5).expect("heard");
        assert!(first.changed && first.orders.is_empty(), "{first:?}");
        assert_eq!(world.outcome(1_200), "running", "half of it is known");
        world.hear(&halves[order[1]], STORES[0], 5).expect("heard");
        assert_eq!(world.outcome(1_200), "success: ");
    }
    let mut world = World::new();
    let parent = world.region();
    world.hear(&parent, STORES[0], 5).expect("heard");
    world.wish(1_200, &at(&[])).expect("it fits");
    let mut repeats = |after| {
        world.pass(Duration::from_millis(after));
        let heard = world.hear(&parent, STORES[0], 5).expect("heard");
        heard.orders.len()
    };
    assert_eq!([0, 100, 99, 1, 0].map(&mut repeats), [0, 0, 0, 1, 0]);
    let halves = world.halves(b"x");
    let command = world.state.route_update(&halves).expect("news");
    world.state.apply(command.expect("news"), &mut Vec::new());
    let heard = world
        .coordinator
        .on_split(&halves, &[], &world.state, world.now);
    assert!(heard.changed);
    assert_eq!(world.outcome(1_200), "success: ", "anywhere in the middle");
    assert_eq!(world.coordinator.view().regions.len(), 2);
    let left_alone = &world.coordinator.view().left_alone;
    assert!(
        left_alone.is_empty(),
        "no rule could undo it: {left_alone:?}"
    );
    let again = world.hear(&parent, STORES[0], 5);
    assert!(again.expect_err("stale").contains("outdated"));
}

#[test]
fn a_split_elsewhere_or_none_at_all_is_told() {
    let mut world = World::new();
    let parent = world.region();
    world.hear(&parent, STORES[0], 5).expect("heard");
    world.wish(1_200, &at(&[b"m"])).expect("it fits");
    for half in world.halves(b"c") {
        world.hear(&half, STORES[0], 5).expect("heard");
    }
    assert_eq!(
        world.outcome(1_200),
        "cancelled: the region was split elsewhere meanwhile: the key lies inside region 1100 now"
    );

    let mut world = World::new();
    world.hear(&parent, STORES[0], 5).expect("heard");
    world.wish(1_200, &at(&[])).expect("it fits");
    for _second in 0..29 {
        world.pass(Duration::from_secs(1));
        let settings = *world.state.settings();
        let orders = world.coordinator.nudge(&settings, world.now);
        assert_eq!(orders.len(), 1, "it is repeated until its effect shows");
    }
    world.pass(Duration::from_secs(2));
    let settings = *world.state.settings();
    world.coordinator.nudge(&settings, world.now);
    let outcome = world.outcome(1_200);
    assert!(outcome.starts_with("timeout: the leader"), "{outcome}");
}

#[test]
fn a_report_that_a_newer_route_overtook_brings_nothing_back() {
    let mut world = World::new();
    let parent = world.region();
    world.hear(&parent, STORES[0], 5).expect("heard");
    let [_, right] = world.halves(b"m");
    world.hear(&right, STORES[0], 5).expect("heard");
    assert_eq!(world.coordinator.view().regions.len(), 1, "the parent went");
    // The parent's heartbeat was checked before that and arrives after it.
    let report = RegionReport {
        leader: parent.peers[0],
        region: parent,
        term: Term(5),
        pending: BTreeSet::new(),
        down: BTreeMap::new(),
        stats: RegionStats::default(),
    };
    let heard = world
        .coordinator
        .on_region_heartbeat(report, &[], &world.state, world.now);
    assert_eq!(heard, Ok(Heard::default()));
    assert_eq!(world.coordinator.view().regions.len(), 1, "no ghost");
}

#[test]
fn a_transfer_by_hand_is_not_undone_within_seconds() {
    let mut world = World::new();
    world.pass(Duration::from_secs(5));
    let region = world.region();
    world.hear(&region, STORES[0], 5).expect("heard");
    let to = Manual::TransferLeader {
        to: StoreId(STORES[1]),
    };
    let ordered = world.wish(1_200, &to).expect("it fits").expect("an order");
    assert_eq!(ordered.leader.store, StoreId(STORES[0]));
    let busy = world
        .wish(1_202, &to)
        .map_err(|refusal| refusal.to_string());
    assert!(busy.expect_err("busy").contains("operator 1200"));
    world.hear(&region, STORES[1], 6).expect("heard");
    assert_eq!(world.outcome(1_200), "success: ");
    let until = world.now + HANDS_OFF;
    let known = &world.coordinator.view().regions[&GroupId(1_003)];
    let settings = *world.state.settings();
    let alone = |now| {
        world
            .coordinator
            .view()
            .is_left_alone(known, &settings, now)
    };
    assert!(alone(world.now), "right after it");
    assert!(!alone(until), "not for ever");
}

#[test]
fn what_is_cancelled_gets_no_further_order() {
    let mut world = World::new();
    let region = world.region();
    world.hear(&region, STORES[0], 5).expect("heard");
    world.wish(1_200, &at(&[])).expect("it fits");
    let idle = Which::Region(GroupId(9));
    let refused = world.coordinator.cancel(idle, world.now);
    assert_eq!(refused, Err(CancelRefusal::Idle { region: GroupId(9) }));
    let which = Which::Region(GroupId(1_003));
    let ended = world.coordinator.cancel(which, world.now).expect("at work");
    assert_eq!(ended.ending, Ending::Cancelled(Cause::ByHand));
    world.pass(Duration::from_secs(2));
    let settings = *world.state.settings();
    assert_eq!(world.coordinator.nudge(&settings, world.now), []);
    let which = Which::Operator(1_200);
    let refused = world.coordinator.cancel(which, world.now);
    assert_eq!(refused, Err(CancelRefusal::Ended { id: 1_200 }));
    let which = Which::Operator(1_201);
    let refused = world.coordinator.cancel(which, world.now);
    assert_eq!(refused, Err(CancelRefusal::UnknownOperator { id: 1_201 }));
}

#[test]
fn the_memory_of_operators_is_bounded() {
    let mut world = World::new();
    let region = world.region();
    world.hear(&region, STORES[0], 5).expect("heard");
    let first = 2_000;
    for id in first..first + 300 {
        world.wish(id, &at(&[])).expect("it fits");
        let which = Which::Operator(id);
        world.coordinator.cancel(which, world.now).expect("at work");
    }
    assert_eq!(world.coordinator.ended().count(), ENDED_MAX);
    assert_eq!(world.outcome(first), "unknown", "the oldest is forgotten");
}
