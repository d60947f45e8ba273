//! Leader balance by count: no store leads many more regions than another.
//!
//! Leaders move one at a time from the store with the most to a store with the fewest, and only
//! while the difference is above `leader_difference_max` (hysteresis), between stores that have
//! been heard without a gap for `leader_settle`, for regions that have their replicas, whose
//! leader is not new either, and whose peer there is caught up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use super::reason::{Fact, Loser, Reason, Rule, Why};
use super::safety::is_healthy;
use super::step::Step;
use super::{Action, Decision};
use crate::state::{STORE_HEARTBEAT_INTERVAL_MS, Settings};
use crate::view::{ClusterView, RegionView, StoreState};

/// A store silent for longer than this, two heartbeats and a little, neither gives nor takes: who
/// sends a leader to a store that just died stops a healthy region.
const SILENCE_MAX: Duration = Duration::from_millis(2 * STORE_HEARTBEAT_INTERVAL_MS as u64 + 200);

/// Plans transfers; at most `room`, and none for regions that `planned` is about.
pub(super) fn balance(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    let mut balancer = Balancer::new(view, settings, now, planned);
    let running = view
        .operators
        .values()
        .filter(|operator| operator.reason.rule == Rule::BalanceLeaders)
        .count();
    let room = room.min((settings.transfers_max as usize).saturating_sub(running));
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
    /// Leaders per store that may give or take, as they will be.
    leaders: BTreeMap<StoreId, u32>,
    /// Stores that were left out, and why.
    excluded: Vec<Loser>,
    /// Regions that something is being done to.
    busy: BTreeSet<GroupId>,
    /// Regions led from each store that could be led from elsewhere, gathered once.
    settled: BTreeMap<StoreId, Vec<&'a RegionView>>,
}

impl<'a> Balancer<'a> {
    fn new(
        view: &'a ClusterView,
        settings: &'a Settings,
        now: Duration,
        planned: &[Decision],
    ) -> Balancer<'a> {
        let counts = view.counts();
        let mut leaders = BTreeMap::new();
        let mut excluded = Vec::new();
        for (store, known) in &view.stores {
            let silent = known.silence(view.since, now) > SILENCE_MAX;
            let why = if silent || view.store_state(*store, settings, now) != StoreState::Up {
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
                    leaders.insert(*store, counts.get(store).map_or(0, |counts| counts.leaders));
                }
            }
        }
        let mut balancer = Balancer {
            view,
            settings,
            now,
            leaders,
            excluded,
            busy: planned.iter().map(|decision| decision.region).collect(),
            settled: BTreeMap::new(),
        };
        for (region, operator) in &view.operators {
            balancer.busy.insert(*region);
            for step in operator.remaining() {
                if let Step::TransferLeader { to, .. } = step {
                    let from = view.regions.get(region).and_then(|known| known.leader);
                    balancer.count_move(from.map(|leader| leader.store), *to);
                }
            }
        }
        balancer.gather();
        balancer
    }

    /// Looks at every region once, if there is anything to make even.
    fn gather(&mut self) {
        let (most, fewest) = (self.leaders.values().max(), self.leaders.values().min());
        let difference = most.zip(fewest).map_or(0, |(most, fewest)| most - fewest);
        if difference <= self.settings.leader_difference_max {
            return;
        }
        for region in self.view.regions.values() {
            if let Some(leader) = region.leader.filter(|_| self.is_settled(region)) {
                self.settled.entry(leader.store).or_default().push(region);
            }
        }
    }

    /// The next transfer that makes things more even, if any.
    fn next(&mut self) -> Option<Decision> {
        let mut donors: Vec<(StoreId, u32)> = self.leaders.iter().map(|(s, n)| (*s, *n)).collect();
        donors.sort_by_key(|(store, leaders)| (std::cmp::Reverse(*leaders), *store));
        let mut takers = donors.clone();
        takers.sort_by_key(|(store, leaders)| (*leaders, *store));
        for (from, most) in donors {
            for (to, fewest) in &takers {
                if most.saturating_sub(*fewest) <= self.settings.leader_difference_max {
                    break;
                }
                let settled = self.settled.get(&from).map_or(&[][..], Vec::as_slice);
                let fits = |region: &&&RegionView| self.fits(region, *to);
                if let Some(region) = settled.iter().find(fits).copied() {
                    let decision = self.decide(region, (from, most), (*to, *fewest));
                    self.busy.insert(region.region.id);
                    self.count_move(Some(from), *to);
                    return Some(decision);
                }
            }
        }
        None
    }

    fn is_settled(&self, region: &RegionView) -> bool {
        let led = self.now.saturating_sub(region.leader_since);
        led >= self.settings.leader_settle()
            && region.voters().count() >= self.view.replicas_wanted as usize
            && region.learners().next().is_none()
            && !region.is_joint()
            && !self.busy.contains(&region.region.id)
            && !self.view.is_left_alone(region, self.settings, self.now)
    }

    fn fits(&self, region: &RegionView, to: StoreId) -> bool {
        let successor = region.region.peer_on(to);
        !self.busy.contains(&region.region.id)
            && successor
                .is_some_and(|peer| is_healthy(self.view, region, peer, self.settings, self.now))
    }

    fn decide(&self, region: &RegionView, from: (StoreId, u32), to: (StoreId, u32)) -> Decision {
        let mut losers = self.excluded.clone();
        for (store, leaders) in &self.leaders {
            if *store != from.0 && *store != to.0 {
                let follows = region.region.peer_on(*store).is_some_and(|peer| {
                    is_healthy(self.view, region, peer, self.settings, self.now)
                });
                let why = if follows {
                    Why::Score(i64::from(*leaders))
                } else {
                    Why::NotCurrent
                };
                losers.push(Loser { store: *store, why });
            }
        }
        Decision {
            region: region.region.id,
            epoch: region.region.epoch,
            action: Action::TransferLeader {
                from: from.0,
                to: to.0,
            },
            reason: Reason {
                rule: Rule::BalanceLeaders,
                facts: vec![
                    Fact {
                        name: "from store",
                        value: from.0.0,
                    },
                    Fact {
                        name: "leaders there",
                        value: u64::from(from.1),
                    },
                    Fact {
                        name: "leaders at the target",
                        value: u64::from(to.1),
                    },
                    Fact {
                        name: "difference left alone",
                        value: u64::from(self.settings.leader_difference_max),
                    },
                ],
                chosen: Some((to.0, i64::from(to.1))),
                losers,
            },
        }
    }

    fn count_move(&mut self, from: Option<StoreId>, to: StoreId) {
        if let Some(leaders) = from.and_then(|from| self.leaders.get_mut(&from)) {
            *leaders = leaders.saturating_sub(1);
        }
        if let Some(leaders) = self.leaders.get_mut(&to) {
            *leaders += 1;
        }
    }
}
