//! What must hold after every event, whatever the weather: the ids are those of the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_raft::{EntryId, GroupId, LogIndex, PeerId, Term};
use tinykv_replica::{LeaseCell, Observed, Region, StoreId};

/// What was ever seen, over all lives of all stores.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// R1: who led a group in a term.
    leaders: BTreeMap<(GroupId, Term), PeerId>,
    /// R4: what was applied at an index, and the events it made.
    applied: BTreeMap<(GroupId, LogIndex), (Term, u64)>,
    /// R5: how far a peer's term and commit had come in this life.
    progress: BTreeMap<(StoreId, GroupId, PeerId), (Term, LogIndex)>,
    /// M3: leases in force, in true time.
    leases: BTreeMap<(GroupId, StoreId), Duration>,
    /// M2: epochs seen per store.
    epochs: BTreeMap<(StoreId, GroupId, PeerId), (u64, u64)>,
}

impl Invariants {
    /// R1: at most one leader per group and term.
    pub(super) fn on_leader(
        &mut self,
        group: GroupId,
        term: Term,
        peer: PeerId,
    ) -> Result<(), String> {
        match self.leaders.insert((group, term), peer) {
            Some(other) if other != peer => Err(format!(
                "R1: group {group} has leaders {other} and {peer} in term {term}"
            )),
            _ => Ok(()),
        }
    }

    /// R4: the same entry, with the same effect, is applied at an index everywhere and for ever.
    pub(super) fn on_applied(&mut self, observed: &Observed) -> Result<(), String> {
        let EntryId { term, index } = observed.entry;
        let effect = fingerprint(observed);
        match self.applied.insert((observed.group, index), (term, effect)) {
            Some(before) if before != (term, effect) => Err(format!(
                "R4: group {} applied {:?} at index {index} and now {:?}",
                observed.group,
                before,
                (term, effect)
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

    /// M3: no two stores hold a lease of a group at one instant of true time. `until` is the end
    /// of the lease in true time.
    pub(super) fn on_lease(
        &mut self,
        now: Duration,
        store: StoreId,
        lease: &LeaseCell,
        until: Duration,
    ) -> Result<(), String> {
        for ((group, holder), other_until) in &self.leases {
            if *group == lease.group && *holder != store && *other_until > now && until > now {
                return Err(format!(
                    "M3: stores {holder} and {store} both hold a lease of group {group} \
                     (until {other_until:?} and {until:?}, now {now:?})"
                ));
            }
        }
        self.leases.insert((lease.group, store), until);
        Ok(())
    }

    /// The store gave up its lease.
    pub(super) fn on_lease_void(&mut self, store: StoreId, group: GroupId) {
        self.leases.remove(&(group, store));
    }

    /// M2: the epoch of a peer's region only grows.
    pub(super) fn on_region(
        &mut self,
        store: StoreId,
        peer: PeerId,
        region: &Region,
    ) -> Result<(), String> {
        let epoch = (region.epoch.version, region.epoch.conf_ver);
        match self.epochs.insert((store, region.id, peer), epoch) {
            Some((version, conf_ver)) if version > epoch.0 || conf_ver > epoch.1 => Err(format!(
                "M2: region {} on store {store} went back from epoch {version}.{conf_ver} to \
                 {}.{}",
                region.id, epoch.0, epoch.1
            )),
            _ => Ok(()),
        }
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
