//! What must hold after every event, whatever the weather: the ids are those of the contract.

mod durable;
mod placement;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use tinykv_placement::schedule::Order;
use tinykv_placement::state::State;
use tinykv_placement::timestamps::Timestamp;
use tinykv_raft::{Configuration, EntryId, GroupId, LogIndex, PeerId, Term};
use tinykv_replica::{LeaseCell, Observed, PeerMessage, ReadGrant, Region, StoreId};
use tinykv_wal::Batch;

use super::host::Clock;
use super::placement::GROUP;
use durable::Durable;
pub(super) use durable::Found;
use placement::Placement;
use rounds::Rounds;

/// What was ever seen, over all lives of all stores.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// R1: who led a group in a term.
    leaders: BTreeMap<(GroupId, Term), PeerId>,
    /// R4: what was applied at an index, and the events it made.
    applied: BTreeMap<(GroupId, LogIndex), (Term, u64)>,
    /// R5: how far a peer's term and commit had come in this life.
    progress: BTreeMap<(StoreId, GroupId, PeerId), Progress>,
    /// R6: up to where a leader had committed when it applied a membership.
    committed_in_change: BTreeMap<GroupId, EntryId>,
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
    /// R3: the last entry that anybody has applied.
    committed: BTreeMap<GroupId, EntryId>,
    durable: Durable,
    placement: Placement,
    rounds: Rounds,
}

/// How far a peer had come when it was last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) term: Term,
    pub(super) commit: LogIndex,
    pub(super) leads: bool,
    /// Of its region: which membership it is.
    pub(super) conf_ver: u64,
}

/// When a read was asked for, what was committed by then, and who the leader counted.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    at: Duration,
    committed: LogIndex,
    configuration: Option<Configuration>,
}

/// A leader as its store sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leading<'a> {
    pub(super) term: Term,
    pub(super) configuration: &'a Configuration,
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
        let committed = self.committed.entry(observed.group).or_default();
        *committed = (*committed).max(observed.entry);
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

    /// R5: within a life, term and commit index never go back. M7: the dead are not created again,
    /// not even as peers that know nothing. Gives back what was known before.
    pub(super) fn on_progress(
        &mut self,
        store: StoreId,
        group: GroupId,
        peer: PeerId,
        now: Progress,
    ) -> Result<Option<Progress>, String> {
        if self.buried.contains(&(group, peer)) {
            return Err(format!(
                "M7: dead peer {peer} of group {group} is there again on store {store}"
            ));
        }
        let before = self.progress.insert((store, group, peer), now);
        if let Some(before) = before
            && (before.term, before.leads, now.leads) == (now.term, true, true)
            && before.conf_ver != now.conf_ver
        {
            let (term, index) = (now.term, now.commit);
            let upto = EntryId { term, index };
            self.committed_in_change.insert(group, upto);
        }
        match before {
            Some(before) if now.term < before.term || now.commit < before.commit => Err(format!(
                "R5: peer {peer} of group {group} went back from {before:?} to {now:?}"
            )),
            _ => Ok(before),
        }
    }

    /// R6, R7: a leader commits by counting, and counts only entries of its own term that are
    /// durable on a majority of voters.
    pub(super) fn on_commit(
        &self,
        region: &Region,
        now: Progress,
        term_at: Option<Term>,
    ) -> Result<(), String> {
        let Progress { term, commit, .. } = now;
        if term_at.is_some_and(|found| found != term) {
            return Err(format!(
                "R7: the leader of group {} in term {term} commits {commit}, of term {term_at:?}",
                region.id
            ));
        }
        let entry = EntryId {
            term,
            index: commit,
        };
        self.durable.check_acknowledged(entry, [Some(region), None])
    }

    /// A store begins a new life. What it had in memory only may be gone: terms that were never
    /// promised to anyone, a commit index, applied entries that were not flushed. What was
    /// promised is watched by R1, R4 and the checker.
    pub(super) fn on_restart(&mut self, store: StoreId) {
        self.leases.retain(|(_, holder), _| *holder != store);
        self.progress.retain(|(of, ..), _| *of != store);
        self.epochs.retain(|(of, ..), _| *of != store);
        self.placement.on_restart(store);
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

    /// R3: a leader has every entry that anybody has applied. R8: it was elected by voters. `term`
    /// tells which term the leader's log has at an index, nothing where it was cut.
    pub(super) fn on_election(
        &self,
        group: GroupId,
        term: Term,
        leader: PeerId,
        configuration: &Configuration,
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> Result<(), String> {
        if let Some(committed) = self.committed.get(&group) {
            let found = term_at(committed.index);
            if found.is_some_and(|found| found != committed.term) {
                return Err(format!(
                    "R3: peer {leader} leads group {group} in term {term} and has an entry of \
                     term {found:?} where {committed:?} was applied"
                ));
            }
        }
        self.durable
            .check_election(group, term, leader, configuration)
    }

    /// D1, D6, R5: see [`Durable::on_send`]. R12: a leader that hands over has no lease.
    pub(super) fn on_send(&mut self, now: Duration, message: &PeerMessage) -> Result<(), String> {
        if durable::hands_over(message) {
            let lease = self.leases.get(&(message.group, message.from.store));
            if lease.is_some_and(|lease| lease.until > now) {
                return Err(format!(
                    "R12: store {} hands over group {} while it may serve reads",
                    message.from.store, message.group
                ));
            }
        }
        self.rounds.on_send(now, message)?;
        self.durable.on_send(message)
    }

    /// A machine has this clock, as long as there is that machine.
    pub(super) fn on_clock(&mut self, store: StoreId, clock: Clock) {
        self.rounds.on_clock(store, clock);
    }

    /// C2, M4: see [`Rounds::on_lease`].
    pub(super) fn on_lease_cell(
        &mut self,
        store: StoreId,
        lease: &LeaseCell,
        configurations: &[&Configuration],
        applied: LogIndex,
    ) -> Result<(), String> {
        self.rounds.on_lease(store, lease, configurations, applied)
    }

    /// Somebody asks to read from a group.
    pub(super) fn asked(
        &self,
        now: Duration,
        group: GroupId,
        configuration: Option<Configuration>,
    ) -> Asked {
        let committed = self.committed.get(&group);
        Asked {
            at: now,
            committed: committed.map_or(LogIndex(0), |entry| entry.index),
            configuration,
        }
    }

    /// R10: leave to read covers all that was committed anywhere when it was asked for, is of an
    /// index that is applied here, and of a leader that had committed in its own term and was
    /// confirmed since. `term_at` is the term of the entry at that index, if the log still has it.
    pub(super) fn on_read(
        &self,
        group: GroupId,
        grant: &ReadGrant,
        asked: &Asked,
        applied: LogIndex,
        leading: Option<Leading<'_>>,
        term_at: Option<Term>,
    ) -> Result<(), String> {
        if grant.index < asked.committed || grant.index > applied {
            return Err(format!(
                "R10: group {group} lets read at {}, applied is {applied}, {asked:?}",
                grant.index
            ));
        }
        let Some(Leading {
            term,
            configuration,
        }) = leading
        else {
            return Ok(());
        };
        if term_at.is_some_and(|found| found != term) {
            return Err(format!(
                "R10: the leader of group {group} in term {term} lets read at {}, of term \
                 {term_at:?}",
                grant.index
            ));
        }
        // The run that gave leave may have changed the membership afterwards.
        let check = |configuration| self.rounds.check_read(group, term, configuration, asked.at);
        match (check(configuration), &asked.configuration) {
            (Err(_), Some(before)) => check(before),
            (checked, _) => checked,
        }
    }

    /// D5: see [`Durable::on_written`].
    pub(super) fn on_written(&mut self, store: StoreId, batch: &Batch) {
        self.durable.on_written(store, batch);
    }

    /// R2, R5: see [`Durable::on_durable`].
    pub(super) fn on_durable(
        &mut self,
        store: StoreId,
        batch: &Batch,
        last: impl Fn(GroupId) -> Option<EntryId>,
    ) -> Result<(), String> {
        self.durable.on_durable(store, batch, last)
    }

    /// L1: see [`Durable::on_recovered`].
    pub(super) fn on_flushed(&mut self, store: StoreId, group: GroupId, flushed: LogIndex) {
        self.durable.on_flushed(store, group, flushed);
    }

    /// R6: see [`Durable::check_acknowledged`]. What a leader had committed when it applied a membership
    /// was counted before that, and may have waited to be applied: whose word it rests on is not
    /// known here.
    pub(super) fn on_acknowledged(
        &self,
        group: GroupId,
        entry: EntryId,
        regions: [Option<&Region>; 2],
    ) -> Result<(), String> {
        let upto = self.committed_in_change.get(&group);
        if upto.is_some_and(|upto| entry.term == upto.term && entry.index <= upto.index) {
            return Ok(());
        }
        self.durable.check_acknowledged(entry, regions)
    }

    /// D3, L1, R5: see [`Durable::on_recovered`].
    pub(super) fn on_recovered(
        &mut self,
        store: StoreId,
        found: &Found<'_>,
        applied: impl Fn(GroupId) -> LogIndex,
    ) -> Result<(), String> {
        self.durable.on_recovered(store, found, applied)
    }

    /// D6: see [`Durable::on_send`].
    pub(super) fn on_damaged(&mut self, group: GroupId, peer: PeerId) {
        self.durable.on_damaged(group, peer);
    }

    /// Whether a store's log holds anything of a peer.
    pub(super) fn is_kept(&self, store: StoreId, group: GroupId, peer: PeerId) -> bool {
        self.durable.is_kept(store, group, peer)
    }

    /// Whether a peer is known to be damaged.
    pub(super) fn is_damaged(&self, group: GroupId, peer: PeerId) -> bool {
        self.durable.is_damaged(group, peer)
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

    /// M1, M8: see [`Placement::on_routes`].
    pub(super) fn on_routes(&mut self, state: &State, member: StoreId) -> Result<(), String> {
        self.placement.on_routes(state, member)
    }

    /// Which region a region was cut off from.
    pub(super) fn parent(&self, child: GroupId) -> Option<GroupId> {
        self.parents.get(&child).copied()
    }
}

fn fingerprint(observed: &Observed) -> u64 {
    let events = observed.events.iter();
    fnv(events.flat_map(|event| event.key.iter().copied().chain([event.kind as u8])))
}

/// FNV-1a.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
