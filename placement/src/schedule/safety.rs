//! What no rule and no operator may do: take a region the voters it needs (M10).

use std::time::Duration;

use tinykv_raft::PeerId;
use tinykv_replica::{Peer, PeerRole};

use crate::state::Settings;
use crate::view::{ClusterView, RegionView, StoreState};

/// Whether a voter answers, is caught up, and lives on a store that is heard.
pub(super) fn is_healthy(
    view: &ClusterView,
    region: &RegionView,
    peer: Peer,
    settings: &Settings,
    now: Duration,
) -> bool {
    peer.role == PeerRole::Voter && is_well(view, region, peer, settings, now)
}

/// As [`is_healthy`], whether the peer votes or not.
fn is_well(
    view: &ClusterView,
    region: &RegionView,
    peer: Peer,
    settings: &Settings,
    now: Duration,
) -> bool {
    let heard = matches!(
        view.store_state(peer.store, settings, now),
        StoreState::Up | StoreState::Offline
    );
    heard && region.is_current(peer.id) && !is_damaged(view, region, peer)
}

/// Whether all voters of a region are healthy and one of them is known to lead.
pub(crate) fn all_healthy(
    view: &ClusterView,
    region: &RegionView,
    settings: &Settings,
    now: Duration,
) -> bool {
    region.leader.is_some()
        && region
            .voters()
            .all(|voter| is_healthy(view, region, voter, settings, now))
}

/// Whether the region has exactly what it wants, all of it healthy, and nobody is at work on it.
pub(crate) fn is_settled(
    view: &ClusterView,
    region: &RegionView,
    settings: &Settings,
    now: Duration,
) -> bool {
    !view.operators.contains_key(&region.region.id)
        && !region.is_joint()
        && region.learners().next().is_none()
        && region.voters().count() == view.replicas_wanted as usize
        && all_healthy(view, region, settings, now)
        && !view.is_left_alone(region, settings, now)
}

/// The first peer of the region that its store reported as damaged, be it a voter or a learner
/// (D6).
pub(crate) fn first_damaged(view: &ClusterView, region: &RegionView) -> Option<Peer> {
    let mut peers = region.region.peers.iter().copied();
    peers.find(|peer| is_damaged(view, region, *peer))
}

/// Whether the store reported the peer as damaged (D6).
pub(super) fn is_damaged(view: &ClusterView, region: &RegionView, peer: Peer) -> bool {
    view.stores
        .get(&peer.store)
        .and_then(|store| store.damaged.get(&region.region.id))
        .is_some_and(|damaged| *damaged == peer.id)
}

/// Whether the voters that remain without `peer` have a healthy majority. A learner may always go.
pub(super) fn may_remove(
    view: &ClusterView,
    region: &RegionView,
    peer: PeerId,
    settings: &Settings,
    now: Duration,
) -> bool {
    if region.learners().any(|learner| learner.id == peer) {
        return true;
    }
    let remaining: Vec<Peer> = region.voters().filter(|voter| voter.id != peer).collect();
    are_enough(view, region, &remaining, settings, now)
}

/// Whether the voters have a healthy majority when `new` has taken the place of `old`.
pub(super) fn may_exchange(
    view: &ClusterView,
    region: &RegionView,
    new: Peer,
    old: PeerId,
    settings: &Settings,
    now: Duration,
) -> bool {
    let staying = region.voters().filter(|voter| voter.id != old);
    let voters: Vec<Peer> = staying.chain([new]).collect();
    are_enough(view, region, &voters, settings, now)
}

/// Whether most of those who will vote are well.
fn are_enough(
    view: &ClusterView,
    region: &RegionView,
    voters: &[Peer],
    settings: &Settings,
    now: Duration,
) -> bool {
    let well = voters
        .iter()
        .filter(|voter| is_well(view, region, **voter, settings, now))
        .count();
    well > voters.len() / 2
}
