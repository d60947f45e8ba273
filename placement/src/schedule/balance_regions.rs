//! Region balance by count: no store holds peers of many more regions than another.
//!
//! Peers move one at a time from the store with the most to a store with the fewest, and only
//! while the difference is above a tolerance: two, or a twentieth of what a store holds on
//! average. A move changes the difference by two, so that it never goes back (hysteresis). Only
//! between stores that were heard without a gap for `leader_settle`; only of regions that have
//! exactly what they want, all of it healthy (so a move never makes the voters fewer that M10
//! counts on); and only while nothing is being repaired anywhere: what is missing goes first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Peer, StoreId};

use super::reason::{Fact, Loser, Reason, Rule, Why};
use super::safety::is_healthy;
use super::step::Step;
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView, StoreState};

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
    let running = |rule: Rule| {
        let operators = view.operators.values();
        operators
            .filter(|operator| operator.reason.rule == rule)
            .count()
    };
    let repairs = planned.iter().map(|decision| decision.reason.rule);
    let under_way = view.operators.values().map(|operator| operator.reason.rule);
    if repairs.chain(under_way).any(Rule::is_repair) {
        return Vec::new();
    }
    let room = room.min(MOVES_MAX.saturating_sub(running(Rule::BalanceRegions)));
    let mut balancer = Balancer::new(view, settings, now, planned);
    let mut decisions = Vec::new();
    while decisions.len() < room {
        match balancer.next() {
            Some(decision) => decisions.push(decision),
            None => break,
        }
    }
    decisions
}

struct Balancer<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    /// Regions per store that may give or take, as they will be.
    regions: BTreeMap<StoreId, u32>,
    /// Peers on their way to each store.
    additions: BTreeMap<StoreId, u32>,
    /// Stores that were left out, and why.
    excluded: Vec<Loser>,
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
        let counts = view.counts();
        let mut regions = BTreeMap::new();
        let mut excluded = Vec::new();
        for (store, known) in &view.stores {
            let why = if view.store_state(*store, settings, now) != StoreState::Up {
                Some(Why::NotUp)
            } else if known.stats.is_busy || known.stats.is_stopping {
                Some(Why::Busy)
            } else if !known.is_steady(settings, now) {
                Some(Why::NotSteady)
            } else {
                None
            };
            match why {
                Some(why) => excluded.push(Loser { store: *store, why }),
                None => {
                    regions.insert(*store, counts.get(store).map_or(0, |counts| counts.regions));
                }
            }
        }
        let total: u32 = regions.values().sum();
        let average = total / u32::try_from(regions.len().max(1)).unwrap_or(u32::MAX);
        let mut balancer = Balancer {
            view,
            settings,
            now,
            regions,
            additions: BTreeMap::new(),
            excluded,
            busy: planned.iter().map(|decision| decision.region).collect(),
            movable: BTreeMap::new(),
            tolerance: DIFFERENCE_MAX.max(average / DIFFERENCE_SHARE),
        };
        for (id, operator) in &view.operators {
            balancer.busy.insert(*id);
            balancer.count_operator(*id, operator.remaining());
        }
        balancer.gather();
        balancer
    }

    /// Looks at every region once, if there is anything to make even.
    fn gather(&mut self) {
        let (most, fewest) = (self.regions.values().max(), self.regions.values().min());
        let difference = most.zip(fewest).map_or(0, |(most, fewest)| most - fewest);
        if difference <= self.tolerance {
            return;
        }
        let fits = |region: &&RegionView| self.fits(region);
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

    /// What a running operator will make of the counts.
    fn count_operator(&mut self, id: GroupId, remaining: &[Step]) {
        let there = |peer| {
            let region = self.view.regions.get(&id);
            region.is_some_and(|region| region.region.peer(peer).is_some())
        };
        for step in remaining {
            match step {
                Step::AddLearner { peer, store } => {
                    *self.additions.entry(*store).or_default() += 1;
                    if !there(*peer)
                        && let Some(regions) = self.regions.get_mut(store)
                    {
                        *regions += 1;
                    }
                }
                Step::Remove { peer, store } => {
                    if there(*peer)
                        && let Some(regions) = self.regions.get_mut(store)
                    {
                        *regions = regions.saturating_sub(1);
                    }
                }
                Step::Promote { .. } | Step::TransferLeader { .. } | Step::Split { .. } => {}
            }
        }
    }

    /// The next move that makes things more even, if any.
    fn next(&mut self) -> Option<Decision> {
        let mut donors: Vec<(StoreId, u32)> = self.regions.iter().map(|(s, n)| (*s, *n)).collect();
        donors.sort_by_key(|(store, regions)| (std::cmp::Reverse(*regions), *store));
        let mut takers = donors.clone();
        takers.sort_by_key(|(store, regions)| (*regions, *store));
        for (from, most) in donors {
            for (to, fewest) in &takers {
                if most.saturating_sub(*fewest) <= self.tolerance {
                    break;
                }
                if self.is_full(*to) {
                    continue;
                }
                if let Some((region, peer)) = self.choose(from, *to) {
                    let decision = self.decide(region, peer, most, (*to, *fewest));
                    self.busy.insert(region.region.id);
                    self.count_move(from, *to);
                    return Some(decision);
                }
            }
        }
        None
    }

    fn is_full(&self, store: StoreId) -> bool {
        let additions = self.additions.get(&store).copied().unwrap_or_default();
        additions >= self.settings.additions_per_store_max
    }

    /// The region to move: rather one that is not led from the donor, then the smallest id.
    fn choose(&self, from: StoreId, to: StoreId) -> Option<(&'a RegionView, Peer)> {
        let mut movable = self.movable.get(&from)?.iter();
        let fits = |(region, _): &&(&RegionView, Peer)| {
            !self.busy.contains(&region.region.id) && region.region.peer_on(to).is_none()
        };
        movable.find(fits).copied()
    }

    /// Whether the region has exactly what it wants, and nobody is at work on it.
    fn fits(&self, region: &RegionView) -> bool {
        let healthy = |peer| is_healthy(self.view, region, peer, self.settings, self.now);
        region.leader.is_some()
            && !self.busy.contains(&region.region.id)
            && !region.is_joint()
            && region.learners().next().is_none()
            && region.voters().count() == self.view.replicas_wanted as usize
            && region.voters().all(healthy)
            && !self.view.is_left_alone(region, self.settings, self.now)
    }

    fn decide(&self, region: &RegionView, peer: Peer, most: u32, to: (StoreId, u32)) -> Decision {
        let mut losers = self.excluded.clone();
        for (store, regions) in &self.regions {
            if *store != peer.store && *store != to.0 {
                let why = if region.region.peer_on(*store).is_some() {
                    Why::HasPeer
                } else if self.is_full(*store) {
                    Why::EnoughAdditions
                } else {
                    Why::Score(i64::from(*regions))
                };
                losers.push(Loser { store: *store, why });
            }
        }
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
                facts: facts.map(|(name, value)| Fact { name, value }).to_vec(),
                chosen: Some((to.0, i64::from(to.1))),
                losers,
            },
        }
    }

    fn count_move(&mut self, from: StoreId, to: StoreId) {
        *self.additions.entry(to).or_default() += 1;
        if let Some(regions) = self.regions.get_mut(&from) {
            *regions = regions.saturating_sub(1);
        }
        if let Some(regions) = self.regions.get_mut(&to) {
            *regions += 1;
        }
    }
}
