//! Each rule, and what no rule may do.

mod balancing;
mod damage;
mod draining;
mod driving;
mod evicting;
mod exchanging;
mod heat;
mod isolation;
mod manual;
mod merging;
mod planning;
mod safety;
mod scattering;

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_raft::Term;
use tinykv_replica::{Peer, PeerRole, Region};

use super::*;
use crate::state::{StoreLife, StoreRecord};
use crate::view::{RegionReport, RegionStats, StoreStats};

/// Everything in these tests happens around this time.
const NOW: Duration = Duration::from_secs(10_000);

/// A cluster in which every store is up and steady and every region has led for long.
#[derive(Clone)]
struct World {
    view: ClusterView,
    settings: Settings,
    next_peer: u64,
}

impl World {
    /// Stores 1 to `stores`, all up; `wanted` voters per region.
    fn new(stores: u64, wanted: u32) -> World {
        let mut world = World {
            view: ClusterView {
                since: Duration::ZERO,
                replicas_wanted: wanted,
                ..ClusterView::default()
            },
            // Regions of these tests are all empty; merges are tested by those who want them.
            settings: Settings {
                merge_limit: 0,
                ..Settings::default()
            },
            next_peer: 10_000,
        };
        for id in 1..=stores {
            world.join(id, StoreLife::Serving);
            world.beat(id);
        }
        world
    }

    fn join(&mut self, id: u64, life: StoreLife) {
        let record = StoreRecord {
            life,
            ..StoreRecord::serving(id)
        };
        let known = self
            .view
            .stores
            .entry(StoreId(id))
            .or_insert_with(|| crate::view::StoreView {
                record: record.clone(),
                heard_at: None,
                steady_since: None,
                is_suspect: false,
                stats: StoreStats::default(),
                damaged: BTreeMap::new(),
                allowance: crate::view::Allowance::default(),
            });
        known.record = record;
    }

    /// Heard from [`World::new`]'s beginning until `NOW`, without a gap.
    fn beat(&mut self, id: u64) {
        let store = self.view.stores.get_mut(&StoreId(id)).expect("joined");
        store.heard_at = Some(NOW);
        store.steady_since = Some(Duration::from_secs(1));
    }

    fn silent_for(&mut self, id: u64, seconds: u64) {
        let store = self.view.stores.get_mut(&StoreId(id)).expect("joined");
        store.heard_at = Some(NOW - Duration::from_secs(seconds));
    }

    /// The store reports what it has of these regions as damaged.
    fn damage(&mut self, id: u64, regions: impl IntoIterator<Item = u64>) {
        let stats = StoreStats {
            damaged_regions: regions.into_iter().collect(),
            ..StoreStats::default()
        };
        let (settings, id) = (self.settings, StoreId(id));
        self.view.on_store_heartbeat(id, stats, &settings, NOW);
    }

    fn stats(&mut self, id: u64, edit: impl FnOnce(&mut StoreStats)) {
        edit(
            &mut self
                .view
                .stores
                .get_mut(&StoreId(id))
                .expect("joined")
                .stats,
        );
    }

    /// A region with voters on the stores, led from the first; peer ids are `id * 100 + store`.
    fn region(&mut self, id: u64, stores: &[u64]) {
        let peers: Vec<Peer> = stores
            .iter()
            .map(|store| Peer::voter(PeerId(id * 100 + store), StoreId(*store)))
            .collect();
        let region = Region {
            id: GroupId(id),
            start: Bytes::copy_from_slice(&id.to_be_bytes()),
            end: Bytes::copy_from_slice(&(id + 1).to_be_bytes()),
            epoch: RegionEpoch {
                conf_ver: 1,
                version: 1,
            },
            peers: peers.clone(),
        };
        self.view.follow_region(&region, &[], Duration::ZERO);
        self.report(id, stores[0], |_| ());
        self.known(id).leader_since = Duration::from_secs(1);
    }

    fn known(&mut self, id: u64) -> &mut crate::view::RegionView {
        self.view.regions.get_mut(&GroupId(id)).expect("a region")
    }

    fn learner(&mut self, id: u64, store: u64) -> PeerId {
        let peer = PeerId(id * 100 + store);
        let region = &mut self.known(id).region;
        region.peers.push(Peer::learner(peer, StoreId(store)));
        region.epoch.conf_ver += 1;
        peer
    }

    /// A heartbeat of the region from its peer on `leader`, one term later if the leader changed.
    fn report(&mut self, id: u64, leader: u64, edit: impl FnOnce(&mut RegionReport)) {
        let known = self.known(id);
        let same = known
            .leader
            .is_some_and(|peer| peer.store == StoreId(leader));
        let term = Term(known.term.0 + u64::from(!same));
        let mut report = RegionReport {
            region: known.region.clone(),
            leader: known.region.peer_on(StoreId(leader)).expect("a peer leads"),
            term,
            pending: known.pending.clone(),
            down: known.down.clone(),
            stats: RegionStats::default(),
        };
        edit(&mut report);
        self.view
            .on_region_heartbeat(report, NOW)
            .expect("not stale");
    }

    fn plan(&self) -> Vec<Decision> {
        let first = plan(&self.view, &self.settings, NOW);
        assert_eq!(
            first,
            plan(&self.view, &self.settings, NOW),
            "equal arguments, equal answer"
        );
        first
    }

    /// The plan as lines: `region: action (rule)`.
    fn planned(&self) -> Vec<String> {
        self.plan()
            .iter()
            .map(|decision| {
                let rule = decision.reason.rule;
                let action = match &decision.action {
                    Action::AddReplica { to } => format!("add on {to}"),
                    Action::ReplaceReplica { from, to, .. } => format!("move {from} to {to}"),
                    Action::PromoteLearner { store, .. } => format!("promote on {store}"),
                    Action::RemovePeer {
                        from,
                        leader_to: None,
                        ..
                    } => format!("remove from {from}"),
                    Action::RemovePeer {
                        from,
                        leader_to: Some(to),
                        ..
                    } => {
                        format!("remove from {from}, leader to {to}")
                    }
                    Action::TransferLeader { from, to } => format!("leader {from} to {to}"),
                    Action::Split { keys } => format!("split at {keys:?}"),
                    Action::Merge { target } => format!("merge into {target}"),
                };
                format!("{}: {action} ({rule})", decision.region)
            })
            .collect()
    }

    /// The plan without transfers for balance.
    fn repairs(&self) -> Vec<String> {
        let mut lines = self.planned();
        lines.retain(|line| !line.contains("balance"));
        lines
    }

    /// Turns the plan into running operators.
    fn admit(&mut self) {
        for decision in self.plan() {
            self.begin(decision);
        }
    }

    /// The operator of a decision begins; the peers it adds are numbered from the next one on.
    fn begin(&mut self, decision: Decision) {
        self.next_peer += 1;
        let ids = OperatorIds {
            operator: self.next_peer,
            peer: PeerId(self.next_peer),
        };
        let operator = Operator::new(ids, decision, &self.view, &self.settings, NOW);
        let operator = operator.expect("it was decided just now");
        self.view.operators.begin(operator);
    }

    /// The operator of region 1.
    fn operator(&self) -> &Operator {
        let operator = self.view.operators.get(&GroupId(1));
        operator.expect("under way")
    }

    /// Its steps.
    fn steps(&self) -> Vec<String> {
        self.operator().steps.iter().map(Step::to_string).collect()
    }
}
