//! Leaders leave the stores that are to lead nothing: before maintenance, or while a machine is
//! slow.
//!
//! Each region led from such a store gets another leader: the voter that is caught up, on the store
//! that leads the fewest regions. Whoever wins an election there later hands over again. Peers stay
//! where they are.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use super::reason::{Fact, Loser, Reason, Rule, Why};
use super::safety::is_healthy;
use super::scales::{Scales, gather};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// Sentences about what blocks it, at most.
const BLOCKED_MAX: usize = 5;

/// Plans transfers; at most `room`, and none for regions that `planned` is about.
pub(super) fn check(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    if view.evicted.is_empty() {
        return Vec::new();
    }
    let planned: BTreeSet<GroupId> = planned.iter().map(|decision| decision.region).collect();
    let mut evictor = Evictor::new(view, settings, now);
    let mut regions = view.regions.values();
    let max = settings.transfers_max as usize;
    gather(view, Rule::EvictLeaders, max, room, || {
        regions.find_map(|region| {
            let busy = planned.contains(&region.region.id);
            let free = !busy && !view.operators.contains_key(&region.region.id);
            free.then(|| evictor.next(region)).flatten()
        })
    })
}

/// What keeps regions led from the store, a sentence each; the first few.
pub fn eviction_blocked(
    view: &ClusterView,
    settings: &Settings,
    store: StoreId,
    now: Duration,
) -> Vec<String> {
    let evictor = Evictor::new(view, settings, now);
    let led = view.regions.values().filter(|region| {
        region.leader.is_some_and(|leader| leader.store == store)
            && !view.operators.contains_key(&region.region.id)
    });
    led.filter_map(|region| evictor.block(region))
        .take(BLOCKED_MAX)
        .collect()
}

struct Evictor<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    /// Leaders per store that may lead.
    scales: Scales,
}

impl<'a> Evictor<'a> {
    fn new(view: &'a ClusterView, settings: &'a Settings, now: Duration) -> Evictor<'a> {
        Evictor {
            view,
            settings,
            now,
            scales: Scales::of_leaders(view, settings, now),
        }
    }

    /// A transfer of the region, if it is led from where it should not be and there is a successor.
    fn next(&mut self, region: &RegionView) -> Option<Decision> {
        let from = region.leader?.store;
        let held = region.is_joint() || self.view.is_left_alone(region, self.settings, self.now);
        if held || !self.view.evicted.contains(&from) {
            return None;
        }
        let (successor, losers) = self.choose(region);
        let (leaders, to) = successor?;
        self.scales.add(to);
        Some(Decision {
            region: region.region.id,
            epoch: region.region.epoch,
            action: Action::TransferLeader { from, to },
            reason: Reason {
                rule: Rule::EvictLeaders,
                facts: Fact::list([("from store", from.0)]),
                chosen: Some((to, i64::from(leaders))),
                losers,
                neighbours: Vec::new(),
            },
        })
    }

    /// The store that should lead next, with what it leads, and those that should not.
    fn choose(&self, region: &RegionView) -> (Option<(u32, StoreId)>, Vec<Loser>) {
        let mut losers = self.scales.excluded.clone();
        let mut fit = Vec::new();
        for (store, leaders) in &self.scales.counts {
            let peer = region.region.peer_on(*store);
            let follows = |peer| is_healthy(self.view, region, peer, self.settings, self.now);
            match peer.is_some_and(follows) {
                true => fit.push((*leaders, *store)),
                false => losers.push(Loser {
                    store: *store,
                    why: Why::NotCurrent,
                }),
            }
        }
        fit.sort_unstable();
        losers.extend(fit.iter().skip(1).map(|(leaders, store)| Loser {
            store: *store,
            why: Why::Score(i64::from(*leaders)),
        }));
        (fit.first().copied(), losers)
    }

    fn block(&self, region: &RegionView) -> Option<String> {
        let id = region.region.id;
        if self.view.is_left_alone(region, self.settings, self.now) {
            return Some(format!(
                "region {id} is left alone for a minute after something was asked for by hand"
            ));
        }
        let (successor, losers) = self.choose(region);
        if region.is_joint() || successor.is_some() {
            return None;
        }
        let losers: Vec<String> = losers
            .iter()
            .filter(|loser| region.region.peer_on(loser.store).is_some())
            .map(|loser| format!("store {} ({})", loser.store, loser.why))
            .collect();
        Some(format!(
            "no other store can lead region {id}: {}",
            losers.join(", ")
        ))
    }
}
