//! Replicas that are closer to each other than they need to be go elsewhere: after labels have
//! changed, or once there is a store in another zone.
//!
//! A replica goes to the store that is the farthest from the others, and only if it is farther
//! than where it is, so that nothing goes back and forth. Only of regions that have exactly what
//! they want, all of it healthy.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Peer, StoreId};

use super::locations::{Closeness, Locations};
use super::reason::{Fact, Loser, Reason, Rule, Why};
use super::safety::is_settled;
use super::scales::{Additions, Scales, gather};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// Moves for isolation at once in the whole cluster.
const MOVES_MAX: usize = 4;

/// Plans moves; at most `room`, and none for regions that `planned` is about.
pub(super) fn mend(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    let locations = Locations::new(view, settings);
    if locations.are_all_alike() {
        return Vec::new();
    }
    let planned: BTreeSet<GroupId> = planned.iter().map(|decision| decision.region).collect();
    let mut mender = Mender {
        view,
        settings,
        now,
        locations,
        scales: Scales::new(view, settings, now, |held| held.regions),
        additions: Additions::new(view),
    };
    let mut regions = view.regions.values();
    gather(view, Rule::BadIsolation, MOVES_MAX, room, || {
        regions.find_map(|region| {
            let busy = planned.contains(&region.region.id);
            (!busy).then(|| mender.next(region)).flatten()
        })
    })
}

struct Mender<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    locations: Locations<'a>,
    /// Regions per store that may take one.
    scales: Scales,
    additions: Additions<'a>,
}

impl Mender<'_> {
    fn next(&mut self, region: &RegionView) -> Option<Decision> {
        if !is_settled(self.view, region, self.settings, self.now) {
            return None;
        }
        let mut close: Vec<(Closeness, bool, Peer)> = region
            .voters()
            .map(|peer| {
                let leads = region.leader.is_some_and(|leader| leader.id == peer.id);
                (self.closeness(region, peer, peer.store), !leads, peer)
            })
            .collect();
        close
            .sort_by_key(|(before, follows, peer)| std::cmp::Reverse((*before, *follows, peer.id)));
        let (before, peer, (after, regions, to), losers) =
            close.into_iter().find_map(|(before, _, peer)| {
                let (to, losers) = self.choose(region, peer, before);
                Some((before, peer, to?, losers))
            })?;
        self.additions.add(to);
        self.scales.add(to);
        let sum = |closeness: Closeness| closeness.iter().map(|shared| u64::from(*shared)).sum();
        let facts = [
            ("from store", peer.store.0),
            ("closeness there", sum(before)),
            ("closeness at the target", sum(after)),
        ];
        Some(Decision {
            region: region.region.id,
            epoch: region.region.epoch,
            action: Action::ReplaceReplica {
                old: peer.id,
                from: peer.store,
                to,
            },
            reason: Reason {
                rule: Rule::BadIsolation,
                facts: Fact::list(facts),
                chosen: Some((to, i64::from(regions))),
                losers,
                neighbours: Vec::new(),
            },
        })
    }

    /// The store that is farther from the other replicas than this one, the farthest, with the
    /// fewest regions; and those that are not.
    fn choose(
        &self,
        region: &RegionView,
        peer: Peer,
        before: Closeness,
    ) -> (Option<(Closeness, u32, StoreId)>, Vec<Loser>) {
        let mut losers = self.scales.excluded.clone();
        let mut fit = Vec::new();
        for (store, regions) in &self.scales.counts {
            let after = self.closeness(region, peer, *store);
            let why = if region.region.peer_on(*store).is_some() {
                Why::HasPeer
            } else if after >= before {
                Why::Isolation
            } else if let Some(why) = self.additions.why_enough(*store, self.settings) {
                why
            } else {
                fit.push((after, *regions, *store));
                continue;
            };
            losers.push(Loser { store: *store, why });
        }
        fit.sort_unstable();
        losers.extend(fit.iter().skip(1).map(|(_, regions, store)| Loser {
            store: *store,
            why: Why::Score(i64::from(*regions)),
        }));
        (fit.first().copied(), losers)
    }

    /// How close `peer` would be to the others on that store.
    fn closeness(&self, region: &RegionView, peer: Peer, store: StoreId) -> Closeness {
        let others = region.voters().filter(|other| other.id != peer.id);
        self.locations.closeness(store, others)
    }
}
