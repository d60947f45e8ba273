//! Leader balance by count: no store leads many more regions than another.
//!
//! Leaders move one at a time from the store with the most to a store with the fewest, and only
//! while the difference is above `leader_difference_max` (hysteresis), between stores that have
//! been heard without a gap for `leader_settle`, for regions that have their replicas, whose
//! leader is not new either, that are not hot, and whose peer there is caught up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use super::heat::Heat;
use super::reason::{Fact, Reason, Rule, Why};
use super::safety::is_healthy;
use super::scales::{Scales, Weighed, gather};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// Plans transfers; at most `room`, and none for regions that `planned` is about.
pub(super) fn balance(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    let mut balancer = Balancer::new(view, settings, now, planned);
    let max = settings.transfers_max as usize;
    gather(view, Rule::BalanceLeaders, max, room, || balancer.next())
}

struct Balancer<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    /// Leaders per store.
    scales: Scales,
    /// Regions that something is being done to.
    busy: BTreeSet<GroupId>,
    /// Regions led from each store that could be led from elsewhere, gathered once.
    settled: BTreeMap<StoreId, Vec<&'a RegionView>>,
    heat: Heat,
}

impl<'a> Balancer<'a> {
    fn new(
        view: &'a ClusterView,
        settings: &'a Settings,
        now: Duration,
        planned: &[Decision],
    ) -> Balancer<'a> {
        let mut balancer = Balancer {
            view,
            settings,
            now,
            scales: Scales::of_leaders(view, settings, now),
            busy: planned.iter().map(|decision| decision.region).collect(),
            settled: BTreeMap::new(),
            heat: Heat::new(view, settings, now),
        };
        balancer.busy.extend(view.operators.regions());
        balancer.sort_out();
        balancer
    }

    /// Looks at every region once, if there is anything to make even.
    fn sort_out(&mut self) {
        if self.pairs().is_empty() {
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
        let (from, to, region) = self.pairs().into_iter().find_map(|(from, to)| {
            let mut settled = self.settled.get(&from.0)?.iter();
            let region = settled.find(|region| self.fits(region, to.0))?;
            Some((from, to, *region))
        })?;
        let decision = self.decide(region, from, to);
        self.busy.insert(region.region.id);
        self.scales.remove(from.0);
        self.scales.add(to.0);
        Some(decision)
    }

    fn pairs(&self) -> Vec<(Weighed, Weighed)> {
        self.scales.pairs(self.settings.leader_difference_max)
    }

    fn is_settled(&self, region: &RegionView) -> bool {
        let led = self.now.saturating_sub(region.leader_since);
        led >= self.settings.leader_settle()
            && region.voters().count() >= self.view.replicas_wanted as usize
            && region.learners().next().is_none()
            && !region.is_joint()
            && !self.heat.is_hot(region)
            && !self.busy.contains(&region.region.id)
            && !self.view.is_left_alone(region, self.settings, self.now)
    }

    fn fits(&self, region: &RegionView, to: StoreId) -> bool {
        let successor = region.region.peer_on(to);
        !self.busy.contains(&region.region.id)
            && successor
                .is_some_and(|peer| is_healthy(self.view, region, peer, self.settings, self.now))
    }

    fn decide(&self, region: &RegionView, from: Weighed, to: Weighed) -> Decision {
        let losers = self.scales.losers(from.0, to.0, |store, leaders| {
            let peer = region.region.peer_on(store);
            let follows = |peer| is_healthy(self.view, region, peer, self.settings, self.now);
            match peer.is_some_and(follows) {
                true => Why::Score(i64::from(leaders)),
                false => Why::NotCurrent,
            }
        });
        let facts = [
            ("from store", from.0.0),
            ("leaders there", u64::from(from.1)),
            ("leaders at the target", u64::from(to.1)),
            (
                "difference left alone",
                u64::from(self.settings.leader_difference_max),
            ),
        ];
        Decision {
            region: region.region.id,
            epoch: region.region.epoch,
            action: Action::TransferLeader {
                from: from.0,
                to: to.0,
            },
            reason: Reason {
                rule: Rule::BalanceLeaders,
                facts: Fact::list(facts),
                chosen: Some((to.0, i64::from(to.1))),
                losers,
                neighbours: Vec::new(),
            },
        }
    }
}
