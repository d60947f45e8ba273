//! Scatter: the regions of a set are spread over the stores, their peers and their leaders, each
//! kind as even as if there were no other regions.
//!
//! Asked for by hand, before a load or after one came in: neighbours are often on the same stores
//! and led from the same one. First peers move, from the store with the most of the set to those
//! with the fewest, then leaders; only while two stores differ by more than one, and never closer
//! to other replicas. A region that has had [`SCATTERS_MAX`] operators rests, so that this ends
//! whatever else is going on.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Peer, StoreId};

use super::locations::Locations;
use super::reason::{Fact, Loser, Reason, Rule, Why};
use super::safety::{is_healthy, is_settled};
use super::scales::{Additions, Scales, Weighed, gather};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// Operators that one wish to scatter a region may come to.
pub const SCATTERS_MAX: u32 = 8;

/// Moves and transfers for this at once in the whole cluster.
const OPERATORS_MAX: usize = 8;

/// The difference between two stores that is left alone.
const TOLERANCE: u32 = 1;

/// Plans moves and transfers; at most `room`, and none for regions that `planned` is about.
pub(super) fn scatter(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    if view.scattering.is_empty() {
        return Vec::new();
    }
    let mut scatterer = Scatterer::new(view, settings, now, planned);
    gather(view, Rule::Scatter, OPERATORS_MAX, room, || {
        scatterer.next_move().or_else(|| scatterer.next_transfer())
    })
}

struct Scatterer<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    locations: Locations<'a>,
    /// Regions of the set per store.
    peers: Scales,
    /// Of those, the ones led from it.
    leaders: Scales,
    additions: Additions<'a>,
    /// Regions of the set that something can be done to.
    free: Vec<&'a RegionView>,
    /// Regions that this plan is about already.
    busy: BTreeSet<GroupId>,
}

impl<'a> Scatterer<'a> {
    fn new(
        view: &'a ClusterView,
        settings: &'a Settings,
        now: Duration,
        planned: &[Decision],
    ) -> Scatterer<'a> {
        let set = || {
            let ids = view.scattering.keys();
            ids.filter_map(|id| view.regions.get(id))
        };
        let held = view.count(set());
        let mut peers = Scales::of(view, settings, now, &held, |held| held.regions);
        let mut leaders = Scales::of(view, settings, now, &held, |held| held.leaders);
        leaders.exclude_evicted(view);
        for (id, operator) in view.operators.iter() {
            if view.scattering.contains_key(id) {
                peers.foresee_peers(view, *id, operator.remaining());
                leaders.foresee_leaders(view, *id, operator.remaining());
            }
        }
        Scatterer {
            view,
            settings,
            now,
            locations: Locations::new(view, settings),
            peers,
            leaders,
            additions: Additions::new(view),
            free: set()
                .filter(|region| is_settled(view, region, settings, now))
                .collect(),
            busy: planned.iter().map(|decision| decision.region).collect(),
        }
    }

    /// The next move of a peer that makes the set more even, if any.
    fn next_move(&mut self) -> Option<Decision> {
        let (from, to, (region, peer)) = self
            .peers
            .pairs(TOLERANCE)
            .into_iter()
            .filter(|(_, to)| !self.additions.are_enough(to.0, self.settings))
            .find_map(|(from, to)| Some((from, to, self.movable(from.0, to.0)?)))?;
        self.busy.insert(region.region.id);
        self.additions.add(to.0);
        self.peers.remove(from.0);
        self.peers.add(to.0);
        let losers = self.peers.losers(from.0, to.0, |store, held| {
            match region.region.peer_on(store) {
                Some(_) => Why::HasPeer,
                None if self.is_closer(region, peer, store) => Why::Isolation,
                None => Why::Score(i64::from(held)),
            }
        });
        let action = Action::ReplaceReplica {
            old: peer.id,
            from: from.0,
            to: to.0,
        };
        let names = ["peers of the set there", "peers of the set at the target"];
        Some(decision(region, action, from, to, names, losers))
    }

    /// The next transfer that makes the set more even, if any.
    fn next_transfer(&mut self) -> Option<Decision> {
        let (from, to, region) = self
            .leaders
            .pairs(TOLERANCE)
            .into_iter()
            .find_map(|(from, to)| Some((from, to, self.transferable(from.0, to.0)?)))?;
        self.busy.insert(region.region.id);
        self.leaders.remove(from.0);
        self.leaders.add(to.0);
        let losers = self.leaders.losers(from.0, to.0, |store, led| {
            match self.may_lead(region, store) {
                true => Why::Score(i64::from(led)),
                false => Why::NotCurrent,
            }
        });
        let action = Action::TransferLeader {
            from: from.0,
            to: to.0,
        };
        let names = [
            "leaders of the set there",
            "leaders of the set at the target",
        ];
        Some(decision(region, action, from, to, names, losers))
    }

    fn movable(&self, from: StoreId, to: StoreId) -> Option<(&'a RegionView, Peer)> {
        let mut free = self.free.iter();
        free.find_map(|region| {
            let peer = region.region.peer_on(from)?;
            let fits = !self.busy.contains(&region.region.id)
                && region.region.peer_on(to).is_none()
                && !self.is_closer(region, peer, to);
            fits.then_some((*region, peer))
        })
    }

    fn transferable(&self, from: StoreId, to: StoreId) -> Option<&'a RegionView> {
        let mut free = self.free.iter().copied();
        free.find(|region| {
            !self.busy.contains(&region.region.id)
                && region.leader.is_some_and(|leader| leader.store == from)
                && self.may_lead(region, to)
        })
    }

    fn may_lead(&self, region: &RegionView, store: StoreId) -> bool {
        let peer = region.region.peer_on(store);
        peer.is_some_and(|peer| is_healthy(self.view, region, peer, self.settings, self.now))
    }

    fn is_closer(&self, region: &RegionView, peer: Peer, to: StoreId) -> bool {
        self.locations.is_closer(region, peer, to)
    }
}

fn decision(
    region: &RegionView,
    action: Action,
    from: Weighed,
    to: Weighed,
    [there, at_target]: [&'static str; 2],
    losers: Vec<Loser>,
) -> Decision {
    let facts = [
        ("from store", from.0.0),
        (there, u64::from(from.1)),
        (at_target, u64::from(to.1)),
        ("difference left alone", u64::from(TOLERANCE)),
    ];
    Decision {
        region: region.region.id,
        epoch: region.region.epoch,
        action,
        reason: Reason {
            rule: Rule::Scatter,
            facts: Fact::list(facts),
            chosen: Some((to.0, i64::from(to.1))),
            losers,
            neighbours: Vec::new(),
        },
    }
}
