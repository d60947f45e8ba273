//! The replicated state of the placement group: pure, deterministic, no clock, no I/O.
//!
//! [`State::apply`] turns one [`Command`] into a [`Reply`] and the rows that changed. The rows go
//! into the engine in the same batch as the applied index, so [`State::restore`] from the rows is
//! always the state as of that index, after a restart as after a snapshot.
//!
//! Invariants: an id is handed out once (M9); the timestamp bound never falls (M9); a store's
//! incarnation never changes and its start number never falls (D9); routes do not overlap and an
//! epoch never falls (M1, M8).

mod codec;
mod command;
mod labels;
mod levels;
mod members;
mod records;
mod routes;
mod rows;
mod settings;
mod stores;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{PeerRole, Region, StoreId};

pub use codec::DecodeError;
pub use command::{Command, Refusal, Reply};
pub use levels::{LEVELS_MAX, Level, Levels};
pub use members::MEMBERS_MAX;
pub use records::{MemberRecord, StoreLife, StoreRecord};
pub use routes::{Replaced, Routes};
pub use rows::{RestoreError, Row, RowChange};
pub use settings::{STORE_HEARTBEAT_INTERVAL_MS, Settings};

/// Ids below this one are never handed out: members of the placement group have small fixed ones.
pub const FIRST_ID: u64 = 1_000;

/// The longest run of ids one command hands out.
pub const IDS_PER_COMMAND_MAX: u32 = 100_000;

/// What every member of the group knows after the same entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Random, chosen by the first leader; 0 until then.
    cluster_id: u64,
    /// The first id nobody has. Only grows.
    next_id: u64,
    /// No timestamp at or above this was served, milliseconds since the Unix epoch. Only grows.
    timestamp_bound_ms: u64,
    /// Whether the first regions are in.
    bootstrapped: bool,
    settings: Settings,
    stores: BTreeMap<StoreId, StoreRecord>,
    /// Tombstones that operators had removed. Their directories may still lie somewhere, so their
    /// ids are refused for ever (D9). Only grows, by a few bytes a store.
    forgotten: BTreeSet<StoreId>,
    /// Stores that are to lead nothing, until that is ended.
    evicted: BTreeSet<StoreId>,
    /// Members of the group itself, invited ones among them.
    members: BTreeMap<PeerId, MemberRecord>,
    /// Members that were removed: they never come back under their ids (D9). Who they were is kept, for
    /// they have to be reached until they are gone.
    removed_members: BTreeMap<PeerId, MemberRecord>,
    routes: Routes,
}

impl Default for State {
    fn default() -> State {
        State {
            cluster_id: 0,
            next_id: FIRST_ID,
            timestamp_bound_ms: 0,
            bootstrapped: false,
            settings: Settings::default(),
            stores: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            evicted: BTreeSet::new(),
            members: BTreeMap::new(),
            removed_members: BTreeMap::new(),
            routes: Routes::default(),
        }
    }
}

impl State {
    /// The cluster's id; `None` until the first leader has chosen it.
    pub fn cluster_id(&self) -> Option<u64> {
        (self.cluster_id != 0).then_some(self.cluster_id)
    }

    /// The first id nobody has yet.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// No timestamp at or above this one was served, in milliseconds since the Unix epoch.
    pub fn timestamp_bound_ms(&self) -> u64 {
        self.timestamp_bound_ms
    }

    /// Whether the first regions are in.
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrapped
    }

    /// What operators may tune.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All stores that ever joined, but those that were forgotten.
    pub fn stores(&self) -> &BTreeMap<StoreId, StoreRecord> {
        &self.stores
    }

    /// Stores that are to lead nothing.
    pub fn evicted(&self) -> &BTreeSet<StoreId> {
        &self.evicted
    }

    /// Whether the store has left for good.
    pub fn has_left(&self, store: StoreId) -> bool {
        let life = self.stores.get(&store).map(|record| record.life);
        life == Some(StoreLife::Tombstone) || self.forgotten.contains(&store)
    }

    /// Members of the group as they announced themselves, or were announced.
    pub fn members(&self) -> &BTreeMap<PeerId, MemberRecord> {
        &self.members
    }

    /// Which region holds which key.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Stores that are to stay.
    fn serving(&self) -> impl Iterator<Item = &StoreRecord> {
        let stores = self.stores.values();
        stores.filter(|store| store.life == StoreLife::Serving)
    }

    /// A region with a peer on the store, if there is any.
    pub fn region_on(&self, store: StoreId) -> Option<&Region> {
        let mut regions = self.routes.regions();
        regions.find(|region| region.peer_on(store).is_some())
    }

    /// Voters every region should have: the configured count, or fewer while fewer stores joined.
    pub fn replicas_wanted(&self) -> u32 {
        let serving = u32::try_from(self.serving().count()).unwrap_or(u32::MAX);
        self.settings.replica_count.min(serving).max(1)
    }

    /// What has to be replicated before these descriptions of regions can be believed: nothing if
    /// they are known, a command if they are news, a refusal if they are outdated.
    pub fn route_update(&self, regions: &[Region]) -> Result<Option<Command>, Refusal> {
        let mut known = true;
        for region in regions {
            self.routes.check(region)?;
            known &= self.routes.region(region.id) == Some(region);
        }
        Ok((!known).then(|| Command::UpdateRegions {
            regions: regions.to_vec(),
        }))
    }

    /// Whether a region as its leader describes it may be split: a region that is known, and no
    /// outdated description of it.
    pub fn check_split(&self, region: &Region) -> Result<(), Refusal> {
        if self.routes.region(region.id).is_none() {
            return Err(Refusal::UnknownRegion { region: region.id });
        }
        self.routes.check(region)
    }

    /// Applies one command; what changed is appended to `changes`.
    pub fn apply(&mut self, command: Command, changes: &mut Vec<RowChange>) -> Reply {
        let result = match command {
            Command::Found { cluster_id } => Ok(self.found(cluster_id, changes)),
            Command::RegisterMember(member) => self.register_member(member, changes),
            Command::InviteMember(member) => self.invite_member(member, changes),
            Command::RemoveMember { member } => self.remove_member(member, changes),
            Command::ReserveIds { count } => self.reserve_ids(count, changes),
            Command::RaiseTimestampBound { bound_ms } => {
                Ok(self.raise_timestamp_bound(bound_ms, changes))
            }
            Command::Bootstrap { store, regions } => self.bootstrap(store, regions, changes),
            Command::PutStore(store) => self.put_store(store, changes),
            Command::SetStoreLife { store, life } => self.set_store_life(store, life, changes),
            Command::EvictLeaders { store } => self.evict_leaders(store, changes),
            Command::AdmitLeaders { store } => self.admit_leaders(store, changes),
            Command::SetLabels { store, labels } => self.set_labels(store, &labels, changes),
            Command::ForgetStore { store } => self.forget_store(store, changes),
            Command::UpdateRegions { regions } => self.update_regions(regions, changes),
            Command::ChangeSettings(settings) => self.change_settings(settings, changes),
            Command::ChangeSetting { name, value } => {
                let changed = self.settings.with(&name, &value);
                changed
                    .map_err(|what| Refusal::BadSettings { what })
                    .and_then(|settings| self.change_settings(settings, changes))
            }
        };
        result.unwrap_or_else(Reply::Refused)
    }

    fn found(&mut self, cluster_id: u64, changes: &mut Vec<RowChange>) -> Reply {
        if self.cluster_id == 0 && cluster_id != 0 {
            self.cluster_id = cluster_id;
            changes.push(self.cluster_row());
        }
        Reply::Cluster {
            id: self.cluster_id,
        }
    }

    fn reserve_ids(&mut self, count: u32, changes: &mut Vec<RowChange>) -> Result<Reply, Refusal> {
        if count == 0 || count > IDS_PER_COMMAND_MAX {
            return Err(Refusal::OutOfRange {
                what: format!("1 to {IDS_PER_COMMAND_MAX} ids can be had at once, not {count}"),
            });
        }
        let first = self.next_id;
        self.next_id = first
            .checked_add(u64::from(count) - u64::from(planted(Mutant::IdsUnpersisted)))
            .ok_or(Refusal::OutOfRange {
                what: "there are no ids left".into(),
            })?;
        changes.push(self.cluster_row());
        Ok(Reply::Ids { first, count })
    }

    fn raise_timestamp_bound(&mut self, bound_ms: u64, changes: &mut Vec<RowChange>) -> Reply {
        if bound_ms > self.timestamp_bound_ms && !planted(Mutant::TimestampBoundUnpersisted) {
            self.timestamp_bound_ms = bound_ms;
            changes.push(self.cluster_row());
        }
        Reply::TimestampBound {
            bound_ms: self.timestamp_bound_ms,
        }
    }

    fn bootstrap(
        &mut self,
        mut store: StoreRecord,
        regions: Vec<Region>,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        if self.bootstrapped {
            // The winner may ask again because the answer was lost; whoever holds exactly these
            // regions is the winner, also after they have grown.
            let same = self
                .stores
                .get(&store.id)
                .is_some_and(|known| known.incarnation == store.incarnation)
                && regions
                    .iter()
                    .all(|region| self.routes.region(region.id).is_some());
            return if same {
                Ok(Reply::Done)
            } else {
                Err(Refusal::AlreadyBootstrapped)
            };
        }
        check_first_regions(&store, &regions)?;
        self.check_store(&store)?;
        self.merge_labels(&mut store)?;
        self.check_ids(&regions)?;
        self.bootstrapped = true;
        changes.push(self.cluster_row());
        changes.push(RowChange::put_store(&store));
        self.stores.insert(store.id, store);
        for region in regions {
            changes.push(RowChange::put_region(&region));
            self.routes.insert(region);
        }
        Ok(Reply::Done)
    }

    fn update_regions(
        &mut self,
        regions: Vec<Region>,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        if !self.bootstrapped {
            return Err(Refusal::NotBootstrapped);
        }
        check_disjoint(&regions)?;
        for region in &regions {
            self.routes.check(region)?;
            for peer in &region.peers {
                // A peer that comes to a store which has left, by an order that was long on its
                // way, is told and replaced.
                if !self.stores.contains_key(&peer.store) && !self.has_left(peer.store) {
                    return Err(Refusal::UnknownStore { store: peer.store });
                }
            }
        }
        self.check_ids(&regions)?;
        let mut removed = Vec::new();
        for region in regions {
            let row = RowChange::put_region(&region);
            let replaced = self.routes.insert(region);
            changes.extend(
                replaced
                    .removed
                    .iter()
                    .copied()
                    .map(RowChange::delete_region),
            );
            removed.extend(replaced.removed);
            if replaced.changed {
                changes.push(row);
            }
        }
        Ok(Reply::Routed { removed })
    }

    /// Nobody may bring ids that were never handed out: they would be handed out later (M9).
    fn check_ids(&self, regions: &[Region]) -> Result<(), Refusal> {
        for region in regions {
            let largest = region
                .peers
                .iter()
                .map(|peer| peer.id.0)
                .fold(region.id.0, u64::max);
            if largest >= self.next_id {
                return Err(Refusal::BadRegion {
                    region: region.id,
                    what: format!("id {largest} was not given out by this cluster"),
                });
            }
        }
        Ok(())
    }

    fn change_settings(
        &mut self,
        settings: Settings,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        settings
            .validate()
            .map_err(|what| Refusal::BadSettings { what })?;
        self.check_isolation(&settings)?;
        if self.settings != settings {
            self.settings = settings;
            changes.push(RowChange::put_settings(&self.settings));
        }
        Ok(Reply::Done)
    }
}

/// The parts of one report may not contradict each other: all are checked against what was known
/// before.
fn check_disjoint(regions: &[Region]) -> Result<(), Refusal> {
    for (position, region) in regions.iter().enumerate() {
        let other = regions[..position]
            .iter()
            .find(|other| other.id == region.id || other.overlaps(region));
        if let Some(other) = other {
            return Err(Refusal::BadRegion {
                region: region.id,
                what: format!(
                    "it is reported together with region {}, which it overlaps",
                    other.id
                ),
            });
        }
    }
    Ok(())
}

/// The first regions tile the key space, each with one voter on the bootstrapping store.
fn check_first_regions(store: &StoreRecord, regions: &[Region]) -> Result<(), Refusal> {
    let bad = |what: String| Refusal::BadBootstrap { what };
    if store.life != StoreLife::Serving {
        return Err(bad("the store is leaving".into()));
    }
    let mut ids: Vec<GroupId> = Vec::new();
    let mut expected_start: Option<&[u8]> = Some(&[]);
    for region in regions {
        routes::check_shape(region)?;
        if expected_start != Some(&region.start[..]) {
            return Err(bad(format!(
                "region {} leaves a gap or overlaps",
                region.id
            )));
        }
        let [peer] = &region.peers[..] else {
            return Err(bad(format!(
                "region {} has not exactly one peer",
                region.id
            )));
        };
        if peer.store != store.id || peer.role != PeerRole::Voter {
            return Err(bad(format!(
                "the peer of region {} is no voter on store {}",
                region.id, store.id
            )));
        }
        if ids.contains(&region.id) {
            return Err(bad(format!("region {} is there twice", region.id)));
        }
        ids.push(region.id);
        expected_start = (!region.end.is_empty()).then_some(&region.end[..]);
    }
    match (regions.is_empty(), expected_start) {
        (false, None) => Ok(()),
        _ => Err(bad("they do not reach the end of the key space".into())),
    }
}
