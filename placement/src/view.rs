//! What the leader of the placement group hears: stores and regions as of their last heartbeats.
//!
//! The view is volatile. A new leader begins with the routes of the replicated state and knows no
//! leader and no store's health until they are heard; routes are served meanwhile. All times are
//! the monotonic clock's.
//!
//! A heartbeat never moves a leader back (M8): a lower term than heard before is refused here, an
//! older epoch by [`Routes::check`](crate::state::Routes::check) before it gets here.

mod allowance;
mod flow;
mod regions;
mod stores;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Region, StoreId};

use crate::schedule::{self, HANDS_OFF, Operators};
use crate::state::{Settings, State, StoreRecord};

pub use allowance::Allowance;
pub use flow::{Amount, Counted, Flow};
pub use regions::{RegionReport, RegionStats, RegionView, StaleTerm};
pub use stores::{SplitThresholds, StoreState, StoreStats, StoreView};

/// Stores, regions and running operators, as the leader knows them.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// When this leadership began to listen. Silence counts from here for a store not yet heard.
    pub since: Duration,
    /// Voters every region should have.
    pub replicas_wanted: u32,
    /// Every store that joined.
    pub stores: BTreeMap<StoreId, StoreView>,
    /// Stores that are to lead nothing.
    pub evicted: BTreeSet<StoreId>,
    /// Every region of the routes.
    pub regions: BTreeMap<GroupId, RegionView>,
    /// Operators under way, at most one at work on a region by construction.
    pub operators: Operators,
    /// Regions that are to be spread evenly, and how many operators that may still come to.
    /// Forgotten with the leadership.
    pub scattering: BTreeMap<GroupId, u32>,
    /// Regions something was done to by hand. Forgotten with the leadership.
    pub left_alone: BTreeMap<GroupId, LeftAlone>,
}

/// What keeps the rules from a region that something was done to by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Until when no rule touches it while it is healthy.
    pub until: Duration,
    /// A peer was taken from it: what it lacks it lacks on purpose.
    pub lacks_on_purpose: bool,
}

impl ClusterView {
    /// The view of a leadership that begins now and has heard nobody.
    pub fn new(state: &State, now: Duration) -> ClusterView {
        let mut view = ClusterView {
            since: now,
            ..ClusterView::default()
        };
        view.follow_stores(state);
        for region in state.routes().regions() {
            view.regions
                .insert(region.id, RegionView::unheard(region.clone()));
        }
        view
    }

    /// Takes over stores and the wanted replica count from the replicated state.
    pub fn follow_stores(&mut self, state: &State) {
        self.replicas_wanted = state.replicas_wanted();
        self.evicted.clone_from(state.evicted());
        self.stores.retain(|id, _| state.stores().contains_key(id));
        for record in state.stores().values() {
            self.follow_store(record);
        }
    }

    fn follow_store(&mut self, record: &StoreRecord) {
        match self.stores.get_mut(&record.id) {
            Some(known) => known.record = record.clone(),
            None => {
                self.stores
                    .insert(record.id, StoreView::unheard(record.clone()));
            }
        }
    }

    /// Takes over the description of a region from the replicated state; `removed` are those it
    /// took the place of; their operators notice when they are asked next. An older description
    /// that was overtaken on its way here changes nothing (M8).
    pub fn follow_region(&mut self, region: &Region, removed: &[GroupId], now: Duration) {
        for id in removed {
            self.regions.remove(id);
        }
        match self.regions.get_mut(&region.id) {
            Some(known) if region.epoch.is_behind(known.region.epoch) => {}
            Some(known) => known.follow(region, now),
            None => {
                let born = RegionView {
                    cut_at: Some(now),
                    ..RegionView::unheard(region.clone())
                };
                self.regions.insert(region.id, born);
            }
        }
    }

    /// A store's heartbeat. False if the store is unknown.
    pub fn on_store_heartbeat(
        &mut self,
        store: StoreId,
        stats: StoreStats,
        settings: &Settings,
        now: Duration,
    ) -> bool {
        let damaged = self.damaged_peers(store, &stats);
        match self.stores.get_mut(&store) {
            Some(known) => {
                known.on_heartbeat(stats, settings, now);
                known.damaged = damaged;
                true
            }
            None => false,
        }
    }

    /// Which peers the store means: those it had when it reported their regions first. Once such a
    /// peer is a member no more, the report may still be of it, or of its successor already: then
    /// the next heartbeat tells.
    fn damaged_peers(&self, store: StoreId, stats: &StoreStats) -> BTreeMap<GroupId, PeerId> {
        let before = self.stores.get(&store).map(|known| &known.damaged);
        let regions = stats.damaged_regions.iter().map(|id| GroupId(*id));
        let meant = regions.filter_map(|region| {
            let reported = before.and_then(|before| before.get(&region).copied());
            let there = self.regions.get(&region)?.region.peer_on(store)?.id;
            let is_new = reported.is_some_and(|reported| reported != there);
            (!is_new).then_some((region, there))
        });
        meant.collect()
    }

    /// A region's heartbeat whose description is in the routes by now.
    pub fn on_region_heartbeat(
        &mut self,
        report: RegionReport,
        now: Duration,
    ) -> Result<(), StaleTerm> {
        let id = report.region.id;
        let store = report.leader.store;
        let unheard = || RegionView::unheard(report.region.clone());
        let known = self.regions.entry(id).or_insert_with(unheard);
        known.on_heartbeat(report, now)?;
        if let Some(store) = self.stores.get_mut(&store) {
            store.on_sign_of_life(now);
        }
        Ok(())
    }

    /// The stream of a store ended: whoever it led may have another leader by now, and nobody is
    /// sent to it on a stale hint (WIRE A2). It reports again on its next stream.
    pub fn on_stream_ended(&mut self, store: StoreId) {
        if let Some(known) = self.stores.get_mut(&store) {
            known.on_stream_ended();
        }
        for region in self.regions.values_mut() {
            region.forget_leader_on(store);
        }
    }

    /// How a store does.
    pub fn store_state(&self, store: StoreId, settings: &Settings, now: Duration) -> StoreState {
        match self.stores.get(&store) {
            Some(known) => known.state(settings, self.since, now),
            None => StoreState::Unknown,
        }
    }

    /// Something was done to the region by hand: rules leave it alone for a while.
    pub fn leave_alone(&mut self, region: GroupId, now: Duration) {
        self.left_alone.retain(|_, alone| alone.until > now);
        let alone = LeftAlone {
            until: now + HANDS_OFF,
            lacks_on_purpose: false,
        };
        self.left_alone.insert(region, alone);
    }

    /// As [`ClusterView::leave_alone`], and what the region lacks now it lacks on purpose.
    pub fn leave_lacking(&mut self, region: GroupId, now: Duration) {
        self.leave_alone(region, now);
        if let Some(alone) = self.left_alone.get_mut(&region) {
            alone.lacks_on_purpose = true;
        }
    }

    /// Whether no rule may touch the region now. One with a voter that is not healthy or with any
    /// damaged peer is never left alone, nor is one that lacks voters that nobody took from it:
    /// until it has them it takes no writes.
    pub fn is_left_alone(&self, region: &RegionView, settings: &Settings, now: Duration) -> bool {
        let Some(alone) = self.left_alone.get(&region.region.id) else {
            return false;
        };
        let is_whole = region.voters().count() >= self.replicas_wanted as usize;
        now < alone.until
            && (is_whole || alone.lacks_on_purpose)
            && schedule::all_healthy(self, region, settings, now)
            && schedule::first_damaged(self, region).is_none()
    }

    /// How many regions have a peer on each store, and how many are led from it.
    pub fn counts(&self) -> BTreeMap<StoreId, Counts> {
        self.count(self.regions.values())
    }

    /// As [`ClusterView::counts`], of these regions alone.
    pub fn count<'a>(
        &self,
        regions: impl Iterator<Item = &'a RegionView>,
    ) -> BTreeMap<StoreId, Counts> {
        let mut counts: BTreeMap<StoreId, Counts> = self
            .stores
            .keys()
            .map(|id| (*id, Counts::default()))
            .collect();
        for region in regions {
            for peer in &region.region.peers {
                counts.entry(peer.store).or_default().regions += 1;
            }
            if let Some(leader) = &region.leader {
                counts.entry(leader.store).or_default().leaders += 1;
            }
        }
        counts
    }
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Regions with a peer on it.
    pub regions: u32,
    /// Regions led from it.
    pub leaders: u32,
}
