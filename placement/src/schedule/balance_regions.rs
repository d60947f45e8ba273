//! Region balance by count: no store holds peers of many more regions than another.
//!
//! Peers move one at a time from the store with the most to a store with the fewest, and only
//! while the difference is above a tolerance: two, or a twentieth of what a store holds on
//! average. A move changes the difference by two, so that it never goes back (hysteresis). Only
//! between stores that were heard without a gap for `leader_settle`; only of regions that have
//! exactly what they want, all of it healthy (so a move never makes the voters fewer that M10
//! counts on) and that are not hot; never closer to the other replicas than it was; and only while
//! nothing is being repaired anywhere: what is missing goes first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Peer, StoreId};

use super::heat::Heat;
use super::locations::Locations;
use super::reason::{Fact, Reason, Rule, Why};
use super::safety::is_settled;
use super::scales::{Additions, Scales, Weighed, gather};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// The difference of region counts between two stores that is left alone, at least.
const DIFFERENCE_MAX: u32 = 2;
/// And at least this share of what a store holds on average.
const DIFFERENCE_SHARE: u32 = 20;
/// Moves for balance at once in the whole cluster.
const MOVES_MAX: usize = 4;

/// Plans moves; at most `room`, and none for regions that `planned` is about.
pub(super) fn balance(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    let repairs = planned.iter().map(|decision| decision.reason.rule);
    let under_way = view.operators.values().map(|operator| operator.reason.rule);
    if repairs.chain(under_way).any(Rule::is_repair) {
        return Vec::new();
    }
    let mut balancer = Balancer::new(view, settings, now, planned);
    gather(view, Rule::BalanceRegions, MOVES_MAX, room, || {
        balancer.next()
    })
}

struct Balancer<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    /// Regions per store.
    scales: Scales,
    /// Peers on their way to each store.
    additions: Additions<'a>,
    locations: Locations<'a>,
    /// Regions that something is being done to.
    busy: BTreeSet<GroupId>,
    /// What could leave each store, gathered once: rather followers, then by id.
    movable: BTreeMap<StoreId, Vec<(&'a RegionView, Peer)>>,
    /// The difference that is left alone.
    tolerance: u32,
}

impl<'a> Balancer<'a> {
    fn new(
        view: &'a ClusterView,
        settings: &'a Settings,
        now: Duration,
        planned: &[Decision],
    ) -> Balancer<'a> {
        let scales = Scales::new(view, settings, now, |held| held.regions);
        let mut balancer = Balancer {
            view,
            settings,
            now,
            tolerance: DIFFERENCE_MAX.max(scales.average() / DIFFERENCE_SHARE),
            scales,
            additions: Additions::new(view),
            locations: Locations::new(view, settings),
            busy: planned.iter().map(|decision| decision.region).collect(),
            movable: BTreeMap::new(),
        };
        balancer.busy.extend(view.operators.regions());
        for (id, operator) in view.operators.iter() {
            balancer
                .scales
                .foresee_peers(view, *id, operator.remaining());
        }
        balancer.sort_out();
        balancer
    }

    /// Looks at every region once, if there is anything to make even.
    fn sort_out(&mut self) {
        if self.scales.pairs(self.tolerance).is_empty() {
            return;
        }
        let heat = Heat::new(self.view, self.settings, self.now);
        let fits = |region: &&RegionView| !heat.is_hot(region) && self.fits(region);
        let regions: Vec<&RegionView> = self.view.regions.values().filter(fits).collect();
        for led in [false, true] {
            for region in &regions {
                for peer in region.voters() {
                    let leads = region.leader.is_some_and(|leader| leader.id == peer.id);
                    if leads == led {
                        let movable = self.movable.entry(peer.store).or_default();
                        movable.push((region, peer));
                    }
                }
            }
        }
    }

    /// The next move that makes things more even, if any.
    fn next(&mut self) -> Option<Decision> {
        let pairs = self.scales.pairs(self.tolerance).into_iter();
        let mut open = pairs.filter(|(_, to)| !self.is_full(to.0));
        let (from, to, (region, peer)) =
            open.find_map(|(from, to)| Some((from, to, self.choose(from.0, to.0)?)))?;
        let decision = self.decide(region, peer, from.1, to);
        self.busy.insert(region.region.id);
        self.additions.add(to.0);
        self.scales.remove(from.0);
        self.scales.add(to.0);
        Some(decision)
    }

    fn is_full(&self, store: StoreId) -> bool {
        self.additions.are_enough(store, self.settings)
    }

    /// The region to move: rather one that is not led from the donor, then the smallest id.
    fn choose(&self, from: StoreId, to: StoreId) -> Option<(&'a RegionView, Peer)> {
        let mut movable = self.movable.get(&from)?.iter();
        let fits = |(region, peer): &&(&RegionView, Peer)| {
            !self.busy.contains(&region.region.id)
                && region.region.peer_on(to).is_none()
                && !self.locations.is_closer(region, *peer, to)
        };
        movable.find(fits).copied()
    }

    /// Whether the region has exactly what it wants, and nobody is at work on it.
    fn fits(&self, region: &RegionView) -> bool {
        !self.busy.contains(&region.region.id)
            && is_settled(self.view, region, self.settings, self.now)
    }

    fn decide(&self, region: &RegionView, peer: Peer, most: u32, to: Weighed) -> Decision {
        let losers = self.scales.losers(peer.store, to.0, |store, regions| {
            if region.region.peer_on(store).is_some() {
                Why::HasPeer
            } else if self.locations.is_closer(region, peer, store) {
                Why::Isolation
            } else if let Some(why) = self.additions.why_enough(store, self.settings) {
                why
            } else {
                Why::Score(i64::from(regions))
            }
        });
        let facts = [
            ("from store", peer.store.0),
            ("regions there", u64::from(most)),
            ("regions at the target", u64::from(to.1)),
            ("difference left alone", u64::from(self.tolerance)),
        ];
        Decision {
            region: region.region.id,
            epoch: region.region.epoch,
            action: Action::ReplaceReplica {
                old: peer.id,
                from: peer.store,
                to: to.0,
            },
            reason: Reason {
                rule: Rule::BalanceRegions,
                facts: Fact::list(facts),
                chosen: Some((to.0, i64::from(to.1))),
                losers,
                neighbours: Vec::new(),
            },
        }
    }
}
