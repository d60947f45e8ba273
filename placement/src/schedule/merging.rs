//! A merge as an operator carries it out: the source's peers come to the stores of the target, then
//! the source's leader is told.
//!
//! What happens then is up to the stores, who may take it back: the source is frozen (its version
//! rises by one), all of it reaches all of its peers, and the target takes it in (its version rises
//! above both), or the source thaws (its version rises once more). Placement sees a merge that was
//! carried out by this alone: the first key of the source lies in another region, and the source has
//! no route. It sees one that was taken back by the source's version.
//!
//! From its beginning to its end the operator holds both regions. Should one of them change all the
//! same (stores split regions by themselves), or a peer of one be damaged, it is given up: what comes
//! first is done then.

use bytes::Bytes;
use tinykv_raft::GroupId;
use tinykv_replica::{Peer, PeerRole, Region, RegionEpoch, StoreId};

use super::locations::Locations;
use super::order::{Cause, Change};
use super::safety::{all_healthy, first_damaged};
use crate::state::{Settings, StoreLife};
use crate::view::{ClusterView, RegionView, SplitThresholds};

/// The two regions, as they were when the operator began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Which goes.
    source: GroupId,
    /// Its range.
    range: (Bytes, Bytes),
    /// Its version; frozen it is one more, and two more if the merge is taken back.
    version: u64,
    /// Which takes it in.
    pub target: GroupId,
    /// The target's epoch. A merge is for exactly this one.
    target_epoch: RegionEpoch,
}

impl Merge {
    pub(super) fn new(source: &Region, target: &Region) -> Merge {
        Merge {
            source: source.id,
            range: (source.start.clone(), source.end.clone()),
            version: source.epoch.version,
            target: target.id,
            target_epoch: target.epoch,
        }
    }

    /// Whether it was carried out: the first key of a region leaves it by a merge alone.
    pub(super) fn is_done(&self, view: &ClusterView) -> bool {
        let elsewhere = |known: &RegionView| {
            known.region.contains(&self.range.0) && known.region.epoch.version > self.version
        };
        !view.regions.contains_key(&self.source) && view.regions.values().any(elsewhere)
    }

    /// Why it has no sense any more, if that is so; `source` is there.
    pub(super) fn obstacle(&self, view: &ClusterView, source: &RegionView) -> Option<Cause> {
        let Some(target) = view.regions.get(&self.target) else {
            let target = self.target;
            return Some(Cause::TargetGone { target });
        };
        let damaged = [source, target].map(|known| first_damaged(view, known));
        if let Some(peer) = damaged.into_iter().flatten().next() {
            return Some(Cause::PeerDamaged { peer: peer.id });
        }
        let region = &source.region;
        if region.epoch.version > self.version + 1 && self.has_its_range(region) {
            let target = self.target;
            return Some(Cause::MergeTakenBack { target });
        }
        if !self.has_its_range(region) {
            return Some(Cause::PartnerChanged { region: region.id });
        }
        (target.region.epoch != self.target_epoch).then_some(Cause::PartnerChanged {
            region: self.target,
        })
    }

    fn has_its_range(&self, source: &Region) -> bool {
        (&source.start, &source.end) == (&self.range.0, &self.range.1)
    }

    /// What to tell the source's leader; nothing while somebody is not well, or once it is frozen.
    pub(super) fn change(
        &self,
        view: &ClusterView,
        source: &RegionView,
        settings: &Settings,
        now: std::time::Duration,
    ) -> Option<Change> {
        let target = view.regions.get(&self.target)?;
        let all_vote = |known: &RegionView| {
            let mut peers = known.region.peers.iter();
            peers.all(|peer| peer.role == PeerRole::Voter)
        };
        let both = [source, target];
        let ready = both
            .iter()
            .all(|known| all_vote(known) && all_healthy(view, known, settings, now));
        let is_frozen = source.region.epoch.version > self.version;
        (ready && !is_frozen).then(|| Change::Merge(target.region.clone()))
    }
}

/// Which peers of the source have to go to which stores, so that it is where the target is. They
/// are paired so that replicas stay as far apart on the way as they can.
pub(super) fn moves(
    view: &ClusterView,
    settings: &Settings,
    source: &Region,
    target: &Region,
) -> Vec<(Peer, StoreId)> {
    let locations = Locations::new(view, settings);
    let mut staying = source.peers.clone();
    let mut leaving = source.peers.clone();
    leaving.retain(|peer| target.peer_on(peer.store).is_none());
    let wanted = target.peers.iter().map(|peer| peer.store);
    let mut moves = Vec::new();
    for to in wanted.filter(|store| source.peer_on(*store).is_none()) {
        let closeness = |peer: &Peer| {
            let others = staying.iter().copied();
            locations.closeness(to, others.filter(|other| other.id != peer.id))
        };
        let Some(goes) = leaving.iter().copied().min_by_key(closeness) else {
            break;
        };
        leaving.retain(|peer| peer.id != goes.id);
        staying.retain(|peer| peer.id != goes.id);
        staying.push(Peer { store: to, ..goes });
        moves.push((goes, to));
    }
    moves
}

/// Whether two regions meet at a key, and at which.
pub(super) fn border<'a>(one: &'a Region, other: &'a Region) -> Option<&'a Bytes> {
    let meet = |left: &'a Region, right: &Region| {
        let end = &left.end;
        (!end.is_empty() && *end == right.start).then_some(end)
    };
    meet(one, other).or_else(|| meet(other, one))
}

/// Bytes and keys of both together, roughly.
pub(super) fn together(one: &RegionView, other: &RegionView) -> (u64, u64) {
    (
        one.stats.size_bytes.saturating_add(other.stats.size_bytes),
        one.stats.keys.saturating_add(other.stats.keys),
    )
}

/// From where on stores of the cluster split regions: a region may come to any of them.
pub(super) fn splits(view: &ClusterView) -> SplitThresholds {
    let stores = view.stores.values();
    let there = stores.filter(|store| store.record.life != StoreLife::Tombstone);
    there.fold(SplitThresholds::default(), |lowest, store| {
        lowest.lowest(store.stats.splits)
    })
}

/// Whether so much is well below the threshold from which on stores split (0: never): at most two
/// thirds of it, so that it has to grow by half first.
pub(super) fn stays_whole(amount: u64, threshold: u64) -> bool {
    threshold == 0 || amount <= threshold / 3 * 2
}
