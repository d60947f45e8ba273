//! What must hold after every event, whatever the weather: the ids are those of the contract.

mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use tinykv_placement::schedule::Order;
use tinykv_placement::state::State;
use tinykv_placement::timestamps::Timestamp;
use tinykv_raft::{EntryId, GroupId, LogIndex, PeerId, Term};
use tinykv_replica::{Observed, Region, StoreId};

use super::placement::GROUP;
use placement::Placement;

/// What was ever seen, over all lives of all stores.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// R1: who led a group in a term.
    leaders: BTreeMap<(GroupId, Term), PeerId>,
    /// R4: what was applied at an index, and the events it made.
    applied: BTreeMap<(GroupId, LogIndex), (Term, u64)>,
    /// R5: how far a peer's term and commit had come in this life.
    progress: BTreeMap<(StoreId, GroupId, PeerId), (Term, LogIndex)>,
    /// M3: leases in force, in true time, and what they cover.
    leases: BTreeMap<(GroupId, StoreId), Lease>,
    /// M2: epochs seen per store.
    epochs: BTreeMap<(StoreId, GroupId, PeerId), (u64, u64)>,
    /// M7: peers whose tombstone is durable.
    buried: BTreeSet<(GroupId, PeerId)>,
    /// M1: what a region is at an epoch, wherever it is seen.
    described: BTreeMap<(GroupId, u64, u64), Region>,
    /// Which region a region was cut off from.
    parents: BTreeMap<GroupId, GroupId>,
    placement: Placement,
}

/// Leave to read a range.
#[derive(Debug)]
struct Lease {
    until: Duration,
    region: Region,
}

impl Invariants {
    /// R1: at most one leader per group and term.
    pub(super) fn on_leader(
        &mut self,
        group: GroupId,
        term: Term,
        peer: PeerId,
    ) -> Result<(), String> {
        if self.buried.contains(&(group, peer)) {
            return Err(format!("M7: dead peer {peer} leads group {group}"));
        }
        match self.leaders.insert((group, term), peer) {
            Some(other) if other != peer => Err(format!(
                "R1: group {group} has leaders {other} and {peer} in term {term}"
            )),
            _ => Ok(()),
        }
    }

    /// R4: the same entry, with the same effect, is applied at an index everywhere and for ever.
    pub(super) fn on_applied(&mut self, store: StoreId, observed: &Observed) -> Result<(), String> {
        let EntryId { term, index } = observed.entry;
        let effect = fingerprint(observed);
        match self.applied.insert((observed.group, index), (term, effect)) {
            Some(before) if before != (term, effect) => Err(format!(
                "R4: group {} applied {:?} at index {index} and now {:?} on store {store}: {:?}",
                observed.group,
                before,
                (term, effect),
                observed.events
            )),
            _ => Ok(()),
        }
    }

    /// R5: within a life, term and commit index never go back.
    pub(super) fn on_progress(
        &mut self,
        store: StoreId,
        group: GroupId,
        peer: PeerId,
        term: Term,
        commit: LogIndex,
    ) -> Result<(), String> {
        match self.progress.insert((store, group, peer), (term, commit)) {
            Some((old_term, old_commit)) if term < old_term || commit < old_commit => Err(format!(
                "R5: peer {peer} of group {group} went back from term {old_term}, commit \
                 {old_commit} to term {term}, commit {commit}"
            )),
            _ => Ok(()),
        }
    }

    /// A store begins a new life. What it had in memory only may be gone: terms that were never
    /// promised to anyone, a commit index, applied entries that were not flushed. What was
    /// promised is watched by R1, R4 and the checker.
    pub(super) fn on_restart(&mut self, store: StoreId) {
        self.leases.retain(|(_, holder), _| *holder != store);
        self.progress.retain(|(of, ..), _| *of != store);
        self.epochs.retain(|(of, ..), _| *of != store);
    }

    /// M3: no two stores may serve lease reads of one key at one instant of true time, be it as
    /// peers of one region or of a region and one that was cut off from it. `until` is the end of
    /// the lease in true time.
    pub(super) fn on_lease(
        &mut self,
        now: Duration,
        store: StoreId,
        region: &Region,
        until: Duration,
    ) -> Result<(), String> {
        for ((group, holder), other) in &self.leases {
            // The members' own group is another space of keys.
            let same_space = (*group == GROUP) == (region.id == GROUP);
            let both = *holder != store && other.until > now && until > now;
            if same_space && both && other.region.overlaps(region) {
                return Err(format!(
                    "M3: store {holder} holds a lease of group {group} until {:?} and store \
                     {store} one of group {} until {until:?}, now is {now:?}, and both cover some \
                     key: {:?}, {region:?}",
                    other.until, region.id, other.region
                ));
            }
        }
        let region = region.clone();
        self.leases
            .insert((region.id, store), Lease { until, region });
        Ok(())
    }

    /// The store gave up its lease.
    pub(super) fn on_lease_void(&mut self, store: StoreId, group: GroupId) {
        self.leases.remove(&(group, store));
    }

    /// A peer's tombstone is durable.
    pub(super) fn on_buried(&mut self, group: GroupId, peer: PeerId) {
        self.buried.insert((group, peer));
    }

    /// M2: the epoch of a peer's region only grows. M1, M4: a region is the same at an epoch
    /// wherever it is seen. M7: the dead stay dead.
    pub(super) fn on_region(
        &mut self,
        store: StoreId,
        peer: PeerId,
        region: &Region,
    ) -> Result<(), String> {
        if self.buried.contains(&(region.id, peer)) {
            return Err(format!(
                "M7: dead peer {peer} of group {} is in service again on store {store}",
                region.id
            ));
        }
        self.describe(region)?;
        let epoch = (region.epoch.version, region.epoch.conf_ver);
        // A lease covers what the store takes for the region: after a split less than before.
        if let Some(lease) = self.leases.get_mut(&(region.id, store)) {
            lease.region = region.clone();
        }
        match self.epochs.insert((store, region.id, peer), epoch) {
            Some((version, conf_ver)) if version > epoch.0 || conf_ver > epoch.1 => Err(format!(
                "M2: region {} on store {store} went back from epoch {version}.{conf_ver} to \
                 {}.{}",
                region.id, epoch.0, epoch.1
            )),
            _ => Ok(()),
        }
    }

    fn describe(&mut self, region: &Region) -> Result<(), String> {
        let epoch = (region.id, region.epoch.version, region.epoch.conf_ver);
        match self.described.get(&epoch) {
            Some(known) if known == region => Ok(()),
            Some(known) => Err(format!(
                "M1: region {} at epoch {} is {known:?} here and {region:?} there",
                region.id, region.epoch
            )),
            None => {
                self.described.insert(epoch, region.clone());
                Ok(())
            }
        }
    }

    /// Somebody asks for a split; the ids are of the child to be.
    pub(super) fn on_child(&mut self, parent: GroupId, child: GroupId) {
        self.parents.insert(child, parent);
    }

    /// M9: see [`Placement::on_ids`].
    pub(super) fn on_ids(&mut self, ids: Range<u64>) -> Result<(), String> {
        self.placement.on_ids(ids)
    }

    /// M9: see [`Placement::on_drawn`].
    pub(super) fn on_drawn(
        &mut self,
        term: Term,
        last: Timestamp,
        count: u32,
    ) -> Result<bool, String> {
        self.placement.on_drawn(term, last, count)
    }

    /// M9: see [`Placement::on_received`].
    pub(super) fn on_received(
        &mut self,
        asked: u64,
        now: Duration,
        last: Timestamp,
        count: u32,
    ) -> Result<(), String> {
        let now = now.as_nanos() as u64;
        self.placement.on_received(asked, now, last, count)
    }

    /// A leadership of placement begins; whether there was one before.
    pub(super) fn on_placement_leader(&mut self) -> bool {
        self.placement.on_leadership()
    }

    /// M8: see [`Placement::on_shown`].
    pub(super) fn on_shown(&mut self, region: &Region) -> Result<(), String> {
        self.placement.on_shown(region)
    }

    /// M10: see [`Placement::on_order`].
    pub(super) fn on_order(&self, state: &State, order: &Order) -> Result<(), String> {
        self.placement.on_order(state, order)
    }

    /// M1: see [`placement::check_routes`].
    pub(super) fn on_routes(&self, state: &State, member: StoreId) -> Result<(), String> {
        placement::check_routes(state, member)
    }

    /// Which region a region was cut off from.
    pub(super) fn parent(&self, child: GroupId) -> Option<GroupId> {
        self.parents.get(&child).copied()
    }
}

/// FNV-1a over the events of an entry.
fn fingerprint(observed: &Observed) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for event in &observed.events {
        let kind = event.kind as u8;
        for byte in event.key.iter().chain(std::iter::once(&kind)) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
