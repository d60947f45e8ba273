//! Commands: what an entry of the group's log says, and their encoding.
//!
//! A command is decided when it is applied, from the state alone, so that every member decides the
//! same. What it needs from the outside (a random cluster id, a clock for timestamps) is in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Region, StoreId};

use super::codec::{DecodeError, Reader, Writer, unknown};
use super::records::{
    MemberRecord, StoreLife, StoreRecord, decode_labels, decode_region, encode_labels,
    encode_region,
};
use super::settings::Settings;

/// The format version of commands. Another one is refused, never guessed at.
const VERSION: u8 = 1;

/// One entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives the cluster its id, once; every leader proposes one and the first one stays.
    Found {
        /// Random, not 0.
        cluster_id: u64,
    },
    /// A member says who it is at its start.
    RegisterMember(MemberRecord),
    /// A member may join: by name, address and an id that nobody had.
    InviteMember(MemberRecord),
    /// A member is to leave, for good.
    RemoveMember {
        /// Which.
        member: PeerId,
    },
    /// Hands out a run of ids to whoever proposed this, for ever, leader or not.
    ReserveIds {
        /// How many, at least 1.
        count: u32,
    },
    /// Promises that no timestamp at or above this bound has been served.
    RaiseTimestampBound {
        /// Milliseconds since the Unix epoch; a lower one than known changes nothing.
        bound_ms: u64,
    },
    /// The first store brings the first regions. Only one store wins.
    Bootstrap {
        /// The store that holds them all.
        store: StoreRecord,
        /// They tile the whole key space, in key order.
        regions: Vec<Region>,
    },
    /// A store joins or comes back.
    PutStore(StoreRecord),
    /// A store changes its life: leave, stay after all, be gone.
    SetStoreLife {
        /// Which.
        store: StoreId,
        /// To what.
        life: StoreLife,
    },
    /// A tombstone is forgotten; only its id is kept, so that the store never returns.
    ForgetStore {
        /// Which.
        store: StoreId,
    },
    /// A store is to lead nothing from now on.
    EvictLeaders {
        /// Which.
        store: StoreId,
    },
    /// A store may lead again.
    AdmitLeaders {
        /// Which.
        store: StoreId,
    },
    /// Where a store stands.
    SetLabels {
        /// Which.
        store: StoreId,
        /// Value by level; an empty one takes the label away. Levels not named keep theirs.
        labels: BTreeMap<String, String>,
    },
    /// Regions as their leaders reported them. All or, if one is outdated, none: the parts of a
    /// split arrive in one command and no gap shows between them.
    UpdateRegions {
        /// At least one.
        regions: Vec<Region>,
    },
    /// Replaces the settings.
    ChangeSettings(Settings),
    /// Changes one setting.
    ChangeSetting {
        /// One of [`Settings::NAMES`].
        name: String,
        /// As it is shown.
        value: String,
    },
}

impl Command {
    /// The bytes of the entry.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new(VERSION, self.tag());
        match self {
            Command::Found { cluster_id } => out.u64(*cluster_id),
            Command::RegisterMember(member) | Command::InviteMember(member) => {
                member.encode(&mut out);
            }
            Command::RemoveMember { member } => out.u64(member.0),
            Command::ReserveIds { count } => out.u32(*count),
            Command::RaiseTimestampBound { bound_ms } => out.u64(*bound_ms),
            Command::Bootstrap { store, regions } => {
                store.encode(&mut out);
                encode_regions(regions, &mut out);
            }
            Command::PutStore(store) => store.encode(&mut out),
            Command::SetStoreLife { store, life } => {
                out.u64(store.0);
                out.u8(life.number());
            }
            Command::ForgetStore { store }
            | Command::EvictLeaders { store }
            | Command::AdmitLeaders { store } => out.u64(store.0),
            Command::SetLabels { store, labels } => {
                out.u64(store.0);
                encode_labels(labels, &mut out);
            }
            Command::UpdateRegions { regions } => encode_regions(regions, &mut out),
            Command::ChangeSettings(settings) => settings.encode(&mut out),
            Command::ChangeSetting { name, value } => {
                out.text(name);
                out.text(value);
            }
        }
        out.finish()
    }

    /// Reads an entry. Total: any bytes give a command or an error.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let mut from = Reader::new(bytes);
        let command = match from.open(VERSION, "command")? {
            1 => Command::Found {
                cluster_id: from.u64("cluster id")?,
            },
            2 => Command::RegisterMember(MemberRecord::decode(&mut from)?),
            3 => Command::ReserveIds {
                count: from.u32("id count")?,
            },
            4 => Command::RaiseTimestampBound {
                bound_ms: from.u64("timestamp bound")?,
            },
            5 => Command::Bootstrap {
                store: StoreRecord::decode(&mut from)?,
                regions: decode_regions(&mut from)?,
            },
            6 => Command::PutStore(StoreRecord::decode(&mut from)?),
            7 => Command::SetStoreLife {
                store: StoreId(from.u64("store id")?),
                life: StoreLife::from_number(from.u8("store life")?)?,
            },
            8 => Command::UpdateRegions {
                regions: decode_regions(&mut from)?,
            },
            9 => Command::ChangeSettings(Settings::decode(&mut from)?),
            10 => Command::ChangeSetting {
                name: from.text("setting name")?,
                value: from.text("setting")?,
            },
            11 => Command::ForgetStore {
                store: StoreId(from.u64("store id")?),
            },
            12 => Command::EvictLeaders {
                store: StoreId(from.u64("store id")?),
            },
            13 => Command::AdmitLeaders {
                store: StoreId(from.u64("store id")?),
            },
            14 => Command::SetLabels {
                store: StoreId(from.u64("store id")?),
                labels: decode_labels(&mut from)?,
            },
            15 => Command::InviteMember(MemberRecord::decode(&mut from)?),
            16 => Command::RemoveMember {
                member: PeerId(from.u64("member id")?),
            },
            other => return Err(unknown("command tag", other)),
        };
        from.finish()?;
        Ok(command)
    }

    fn tag(&self) -> u8 {
        match self {
            Command::Found { .. } => 1,
            Command::RegisterMember(_) => 2,
            Command::ReserveIds { .. } => 3,
            Command::RaiseTimestampBound { .. } => 4,
            Command::Bootstrap { .. } => 5,
            Command::PutStore(_) => 6,
            Command::SetStoreLife { .. } => 7,
            Command::UpdateRegions { .. } => 8,
            Command::ChangeSettings(_) => 9,
            Command::ChangeSetting { .. } => 10,
            Command::ForgetStore { .. } => 11,
            Command::EvictLeaders { .. } => 12,
            Command::AdmitLeaders { .. } => 13,
            Command::SetLabels { .. } => 14,
            Command::InviteMember(_) => 15,
            Command::RemoveMember { .. } => 16,
        }
    }
}

/// What a command came to, told to whoever waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The id the cluster has.
    Cluster {
        /// Not 0.
        id: u64,
    },
    /// Ids that belong to the proposer alone: `first` and the `count - 1` after it.
    Ids {
        /// The first of the run.
        first: u64,
        /// How many.
        count: u32,
    },
    /// The bound in force, at least the proposed one.
    TimestampBound {
        /// Milliseconds since the Unix epoch.
        bound_ms: u64,
    },
    /// The regions are in the routes.
    Routed {
        /// Regions that are gone because newer ones took their place.
        removed: Vec<GroupId>,
    },
    /// Done, or it was so already.
    Done,
    /// Refused; nothing changed.
    Refused(Refusal),
}

/// Why a command was refused. `Display` is the sentence the caller reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another store was first.
    #[error("the cluster is already bootstrapped")]
    AlreadyBootstrapped,
    /// A store or region came before the bootstrap.
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    /// The first regions do not tile the key space with one peer each on the given store.
    #[error("the first regions are wrong: {what}")]
    BadBootstrap {
        /// What is wrong with them.
        what: String,
    },
    /// The record lacks something.
    #[error("store {store} cannot join: {what}")]
    BadStore {
        /// The store's id.
        store: StoreId,
        /// What is wrong with it.
        what: String,
    },
    /// No such store.
    #[error("store {store} does not exist: list the stores for those that do")]
    UnknownStore {
        /// The id asked for.
        store: StoreId,
    },
    /// The id belongs to another data directory.
    #[error(
        "store {store} is another data directory (incarnation {known:016x}, this one is {found:016x}): \
         start with an empty directory to join as a new store"
    )]
    ForeignStore {
        /// The id both claim.
        store: StoreId,
        /// The incarnation that registered it.
        known: u64,
        /// The one refused.
        found: u64,
    },
    /// The data directory is an old copy.
    #[error(
        "store {store} came back with an older data directory (start {found}, start {known} was seen \
         already): it has forgotten what it promised and must join as a new store"
    )]
    OutdatedStore {
        /// The store's id.
        store: StoreId,
        /// The latest start seen.
        known: u64,
        /// The one refused.
        found: u64,
    },
    /// The store was removed for good.
    #[error("store {store} was removed from the cluster: join with an empty data directory")]
    TombstoneStore {
        /// The store's id.
        store: StoreId,
    },
    /// Two stores may not share an address.
    #[error("address {address} belongs to store {holder}")]
    AddressTaken {
        /// The address asked for.
        address: String,
        /// Whose it is.
        holder: StoreId,
    },
    /// Without the store regions would have fewer replicas than they have now.
    #[error(
        "store {store} is needed: {others} others would stay for {wanted} replicas of each region; \
         add a store first, or lower replica_count"
    )]
    NeededStore {
        /// The store.
        store: StoreId,
        /// How many would stay.
        others: usize,
        /// Voters a region should have now.
        wanted: u32,
    },
    /// The life of a store does not go from there to here.
    #[error("store {store} cannot go from {from:?} to {to:?}")]
    BadLife {
        /// The store.
        store: StoreId,
        /// What it is.
        from: StoreLife,
        /// What was asked for.
        to: StoreLife,
    },
    /// Only what has left is forgotten.
    #[error("store {store} is no tombstone: drain it first, then it becomes one")]
    NoTombstone {
        /// The store.
        store: StoreId,
    },
    /// Somebody must lead.
    #[error(
        "store {store} is the last that may lead: end the eviction of another one first, or add a \
         store"
    )]
    LastLeader {
        /// The store.
        store: StoreId,
    },
    /// A label says nothing about where a store stands.
    #[error(
        "there is no level `{level}`: a label names one of {levels} (the setting location_labels)"
    )]
    UnknownLevel {
        /// The key of the label.
        level: String,
        /// Those there are.
        levels: String,
    },
    /// Something came back to a store after it had left.
    #[error("region {region} still names store {store}: wait until its peer there is replaced")]
    HeldStore {
        /// The store.
        store: StoreId,
        /// The first such region.
        region: GroupId,
    },
    /// A member whose identity does not fit what it registered with.
    #[error("member {name} cannot join: {what}")]
    BadMember {
        /// Its name.
        name: String,
        /// What does not fit.
        what: String,
    },
    /// No such member of the placement group.
    #[error(
        "there is no member {member} of the placement group: list the members for those there are"
    )]
    UnknownMember {
        /// The id asked for.
        member: PeerId,
    },
    /// Somebody must be there.
    #[error("{name} is the last member of the placement group: add another one first")]
    LastMember {
        /// Its name.
        name: String,
    },
    /// A region descriptor that no region can have.
    #[error("region {region} is malformed: {what}")]
    BadRegion {
        /// Its id.
        region: GroupId,
        /// What is wrong with it.
        what: String,
    },
    /// No route leads to it.
    #[error("region {region} is not known")]
    UnknownRegion {
        /// The id asked for.
        region: GroupId,
    },
    /// A newer description of the region, or of one that overlaps it, is known (M8).
    #[error("region {region} is outdated: {what}")]
    StaleRegion {
        /// Its id.
        region: GroupId,
        /// What is newer.
        what: String,
    },
    /// Settings that make no sense together.
    #[error("{what}")]
    BadSettings {
        /// One sentence that names the value.
        what: String,
    },
    /// A count or id out of range.
    #[error("{what}")]
    OutOfRange {
        /// One sentence that names the value.
        what: String,
    },
}

fn encode_regions(regions: &[Region], out: &mut Writer) {
    out.count(regions.len());
    for region in regions {
        encode_region(region, out);
    }
}

fn decode_regions(from: &mut Reader<'_>) -> Result<Vec<Region>, DecodeError> {
    let mut regions = Vec::new();
    for _ in 0..from.count("regions")? {
        regions.push(decode_region(from)?);
    }
    Ok(regions)
}
