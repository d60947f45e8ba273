//! Hot regions: the load of a store is that of what it holds, not how much it holds.
//!
//! Every peer of a region writes what is written to it, its leader alone serves its reads (and sends
//! what is written to the others). So peers of hot regions move by what is written, then leaders by
//! all that is read and written. One at a time goes from the store with the most load to one that
//! becomes less loaded than that one was, by a tenth at least: no move is undone by the next, and a
//! region that is hot alone stays where it is. Counting regions and leaders leaves hot regions out
//! (`balance_regions`, `balance_leaders`), or it would take back what is done here.
//!
//! Of the regions that would do, the one goes that leaves the two stores most alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Peer, StoreId};

use super::heat::Heat;
use super::locations::Locations;
use super::reason::{Fact, Reason, Rule, Why};
use super::safety::{is_healthy, is_settled};
use super::scales::{Additions, Scales, Weighed, gather};
use super::{Action, Decision, Step};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// A store with less load a second than this gives nothing away. KiB.
const STORE_LOAD_MIN: u32 = 1_024;

/// The more loaded of two stores has to be left with a tenth less at least.
const GAIN_SHARE: u32 = 10;

/// Plans moves and transfers; at most `room`, and none for regions that `planned` is about.
pub(super) fn spread(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    let heat = Heat::new(view, settings, now);
    let hot = view.regions.values().filter(|region| heat.is_hot(region));
    let hot: Vec<&RegionView> = hot
        .filter(|region| is_settled(view, region, settings, now))
        .collect();
    if hot.is_empty() {
        return Vec::new();
    }
    let planned = planned.iter().map(|decision| decision.region);
    let mut spreader = Spreader {
        view,
        settings,
        now,
        hot,
        busy: planned.chain(view.operators.regions()).collect(),
        locations: Locations::new(view, settings),
        additions: Additions::new(view),
        peers: weigh(view, settings, now, Kind::Peer),
        leaders: weigh(view, settings, now, Kind::Leader),
    };
    let max = settings.hot_limit as usize;
    gather(view, Rule::HotRegion, max, room, || {
        spreader
            .next(Kind::Peer)
            .or_else(|| spreader.next(Kind::Leader))
    })
}

/// What is moved, and by which load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A peer, by what is written.
    Peer,
    /// A leader, by what is read and written.
    Leader,
}

impl Kind {
    /// What the region puts on each store that has one of these. KiB a second.
    fn load(self, region: &RegionView, now: Duration) -> u32 {
        let flow = region.flow.at(now);
        let bytes = match self {
            Kind::Peer => flow.written.load(),
            Kind::Leader => flow.load(),
        };
        u32::try_from(bytes >> 10).unwrap_or(u32::MAX)
    }
}

/// The load of each store that may give and take, as it will be after what is under way.
fn weigh(view: &ClusterView, settings: &Settings, now: Duration, kind: Kind) -> Scales {
    let mut loads: BTreeMap<StoreId, u32> = BTreeMap::new();
    let mut add = |store: StoreId, load: u32| {
        let sum = loads.entry(store).or_default();
        *sum = sum.saturating_add(load);
    };
    for (id, region) in &view.regions {
        let operator = view
            .operators
            .get(id)
            .filter(|operator| operator.region == *id);
        let steps = operator
            .map(|operator| operator.remaining())
            .unwrap_or_default();
        let load = kind.load(region, now);
        match kind {
            Kind::Leader => {
                let to = steps.iter().find_map(|step| match step {
                    Step::TransferLeader { to, .. } => Some(*to),
                    _ => None,
                });
                if let Some(store) = to.or(region.leader.map(|leader| leader.store)) {
                    add(store, load);
                }
            }
            Kind::Peer => {
                let leaves = |peer: &Peer| {
                    let gone = |step: &Step| matches!(step, Step::Remove { peer: id, .. } if *id == peer.id);
                    steps.iter().any(gone)
                };
                let peers = region.region.peers.iter().filter(|peer| !leaves(peer));
                let comes = steps.iter().filter_map(|step| match step {
                    Step::AddLearner { peer, store } if region.region.peer(*peer).is_none() => {
                        Some(*store)
                    }
                    _ => None,
                });
                for store in peers.map(|peer| peer.store).chain(comes) {
                    add(store, load);
                }
            }
        }
    }
    let mut scales = Scales::new(view, settings, now, |_| 0);
    for (store, load) in &mut scales.counts {
        *load = loads.get(store).copied().unwrap_or_default();
    }
    if kind == Kind::Leader {
        scales.exclude_evicted(view);
    }
    scales
}

struct Spreader<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    /// Hot regions that something can be done to.
    hot: Vec<&'a RegionView>,
    /// Regions that something is being done to.
    busy: BTreeSet<GroupId>,
    locations: Locations<'a>,
    additions: Additions<'a>,
    /// What is written on each store. KiB a second.
    peers: Scales,
    /// What is read and written through the leaders on each store. KiB a second.
    leaders: Scales,
}

/// A region that would do, and its peer on the store that gives.
type Choice<'a> = (Weighed, Weighed, &'a RegionView, Peer);

impl<'a> Spreader<'a> {
    fn next(&mut self, kind: Kind) -> Option<Decision> {
        let scales = self.scales(kind);
        let pairs = scales.pairs(0).into_iter();
        let mut pairs = pairs.filter(|(from, _)| from.1 >= STORE_LOAD_MIN);
        let choice = pairs.find_map(|(from, to)| self.choose(kind, from, to))?;
        let decision = self.decide(kind, choice);
        let (from, to, region, _) = choice;
        let load = kind.load(region, self.now);
        let scales = match kind {
            Kind::Peer => &mut self.peers,
            Kind::Leader => &mut self.leaders,
        };
        for (store, moved) in [(from.0, from.1 - load), (to.0, to.1.saturating_add(load))] {
            scales.counts.insert(store, moved);
        }
        if kind == Kind::Peer {
            self.additions.add(to.0);
        }
        self.busy.insert(region.region.id);
        Some(decision)
    }

    fn scales(&self, kind: Kind) -> &Scales {
        match kind {
            Kind::Peer => &self.peers,
            Kind::Leader => &self.leaders,
        }
    }

    /// Of the regions whose move would be worth it the one that leaves the two most alike.
    fn choose(&self, kind: Kind, from: Weighed, to: Weighed) -> Option<Choice<'a>> {
        let worst = |region: &RegionView| {
            let load = kind.load(region, self.now);
            let left = from.1.checked_sub(load)?;
            let worst = left.max(to.1.saturating_add(load));
            (worst <= from.1 - from.1 / GAIN_SHARE && worst < from.1).then_some(worst)
        };
        let fit = self.hot.iter().filter_map(|region| {
            let peer = self.movable(kind, region, from.0, to.0)?;
            Some((worst(region)?, region.region.id, *region, peer))
        });
        let (_, _, region, peer) = fit.min_by_key(|(worst, id, _, _)| (*worst, *id))?;
        Some((from, to, region, peer))
    }

    /// The peer that would give way on `from`, if what is moved can go to `to`.
    fn movable(&self, kind: Kind, region: &RegionView, from: StoreId, to: StoreId) -> Option<Peer> {
        if self.busy.contains(&region.region.id) {
            return None;
        }
        let peer = region.region.peer_on(from)?;
        let there = region.region.peer_on(to);
        let can_go = match kind {
            Kind::Leader => {
                let leads = region.leader.is_some_and(|leader| leader.id == peer.id);
                let led = self.now.saturating_sub(region.leader_since);
                let follows = |peer| is_healthy(self.view, region, peer, self.settings, self.now);
                leads && led >= self.settings.leader_settle() && there.is_some_and(follows)
            }
            Kind::Peer => {
                there.is_none()
                    && !self.additions.are_enough(to, self.settings)
                    && !self.locations.is_closer(region, peer, to)
            }
        };
        can_go.then_some(peer)
    }

    fn decide(&self, kind: Kind, (from, to, region, peer): Choice<'_>) -> Decision {
        let losers = self.scales(kind).losers(from.0, to.0, |store, load| {
            match (kind, region.region.peer_on(store)) {
                (Kind::Peer, Some(_)) => Why::HasPeer,
                (Kind::Leader, None) => Why::NotCurrent,
                (Kind::Peer, None) if self.locations.is_closer(region, peer, store) => {
                    Why::Isolation
                }
                _ => Why::Score(i64::from(load)),
            }
        });
        let facts = [
            ("from store", from.0.0),
            ("KiB/s there", u64::from(from.1)),
            ("KiB/s at the target", u64::from(to.1)),
            (
                "KiB/s of the region",
                u64::from(kind.load(region, self.now)),
            ),
        ];
        let action = match kind {
            Kind::Peer => Action::ReplaceReplica {
                old: peer.id,
                from: from.0,
                to: to.0,
            },
            Kind::Leader => Action::TransferLeader {
                from: from.0,
                to: to.0,
            },
        };
        Decision {
            region: region.region.id,
            epoch: region.region.epoch,
            action,
            reason: Reason {
                rule: Rule::HotRegion,
                facts: Fact::list(facts),
                chosen: Some((to.0, i64::from(to.1))),
                losers,
                neighbours: Vec::new(),
            },
        }
    }
}
