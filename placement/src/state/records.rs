//! What the group remembers about stores, members and settings, and their encodings.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Peer, PeerRole, Region, RegionEpoch, StoreId};

use super::codec::{DecodeError, Reader, Writer, unknown};

/// A store as the group knows it for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// Given out by `AllocID`, never 0, never reused.
    pub id: StoreId,
    /// Where clients reach it, `host:port`. One store per address.
    pub address: String,
    /// Where other stores reach it; empty means `address`.
    pub peer_address: String,
    /// Where its status pages are; empty means `address`.
    pub status_address: String,
    /// The version of its binary, for people.
    pub version: String,
    /// Labels such as `zone` or `host`.
    pub labels: BTreeMap<String, String>,
    /// The random number its data directory was made with. It never changes for an id: another
    /// number is another directory under a stolen name (D9).
    pub incarnation: u64,
    /// How often that directory was started. It only grows: a lower number is an old copy of the
    /// directory that forgot what it promised (D9).
    pub start_number: u64,
    /// Whether it stays.
    pub life: StoreLife,
}

/// Whether a store is meant to stay in the cluster. How it *does* is seen from heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreLife {
    /// Holds regions.
    Serving,
    /// Its regions move away.
    Leaving,
    /// Gone for good; its id and address may not come back under this record.
    Tombstone,
}

/// A member of the placement group itself, as it announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its peer id in the group.
    pub id: PeerId,
    /// Its name in `--initial-cluster`.
    pub name: String,
    /// Where clients and members reach it, `http://host:port`.
    pub url: String,
    /// The random number its data directory was made with (D9).
    pub incarnation: u64,
    /// How often that directory was started (D9).
    pub start_number: u64,
}

/// What an operator may tune while the cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Voters a region should have once enough stores joined. 1 to 7, odd.
    pub replica_count: u32,
    /// A store silent for longer than this gets no new peers or leaders, and is named to nobody
    /// as a leader. Milliseconds.
    pub disconnected_after_ms: u64,
    /// A store silent for longer than this loses its peers to other stores. Milliseconds.
    pub down_after_ms: u64,
    /// How long a store must have been heard without a gap, and a leader have led, before leaders
    /// are balanced over them. Milliseconds.
    pub leader_settle_ms: u64,
    /// The difference of leader counts between two stores that is left alone. At least 1.
    pub leader_difference_max: u32,
    /// Leader transfers running at once in the whole cluster.
    pub transfers_max: u32,
    /// Peers being added to one store at once.
    pub additions_per_store_max: u32,
}

/// How often a store sends its heartbeat; told to it in every reply. Milliseconds.
pub const STORE_HEARTBEAT_INTERVAL_MS: u32 = 1_000;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            replica_count: 3,
            disconnected_after_ms: 5_000,
            down_after_ms: 10 * 60 * 1_000,
            leader_settle_ms: 3_000,
            leader_difference_max: 1,
            transfers_max: 4,
            additions_per_store_max: 8,
        }
    }
}

impl Settings {
    /// Checks that the values make sense together; the error is one sentence naming the value.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=7).contains(&self.replica_count) || self.replica_count.is_multiple_of(2) {
            return Err(format!(
                "replica_count must be 1, 3, 5 or 7, not {}",
                self.replica_count
            ));
        }
        if self.disconnected_after_ms < 2 * u64::from(STORE_HEARTBEAT_INTERVAL_MS) {
            return Err(format!(
                "disconnected_after_ms must be at least two heartbeats ({} ms), not {}",
                2 * STORE_HEARTBEAT_INTERVAL_MS,
                self.disconnected_after_ms
            ));
        }
        if self.down_after_ms < self.disconnected_after_ms {
            return Err(format!(
                "down_after_ms ({}) must not be below disconnected_after_ms ({})",
                self.down_after_ms, self.disconnected_after_ms
            ));
        }
        for (name, value) in [
            ("leader_difference_max", self.leader_difference_max),
            ("transfers_max", self.transfers_max),
            ("additions_per_store_max", self.additions_per_store_max),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1"));
            }
        }
        Ok(())
    }

    /// See [`Settings::disconnected_after_ms`].
    pub fn disconnected_after(&self) -> Duration {
        Duration::from_millis(self.disconnected_after_ms)
    }

    /// See [`Settings::down_after_ms`].
    pub fn down_after(&self) -> Duration {
        Duration::from_millis(self.down_after_ms)
    }

    /// See [`Settings::leader_settle_ms`].
    pub fn leader_settle(&self) -> Duration {
        Duration::from_millis(self.leader_settle_ms)
    }
}

#[cfg(test)]
impl StoreRecord {
    /// Of a store that joined and serves.
    pub(crate) fn serving(id: u64) -> StoreRecord {
        StoreRecord {
            id: StoreId(id),
            address: format!("a:{id}"),
            peer_address: String::new(),
            status_address: String::new(),
            version: String::new(),
            labels: BTreeMap::new(),
            incarnation: 1,
            start_number: 1,
            life: StoreLife::Serving,
        }
    }
}

impl StoreRecord {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u64(self.id.0);
        out.text(&self.address);
        out.text(&self.peer_address);
        out.text(&self.status_address);
        out.text(&self.version);
        out.count(self.labels.len());
        for (key, value) in &self.labels {
            out.text(key);
            out.text(value);
        }
        out.u64(self.incarnation);
        out.u64(self.start_number);
        out.u8(self.life.number());
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<StoreRecord, DecodeError> {
        let id = StoreId(from.u64("store id")?);
        let address = from.text("store address")?;
        let peer_address = from.text("store peer address")?;
        let status_address = from.text("store status address")?;
        let version = from.text("store version")?;
        let mut labels = BTreeMap::new();
        for _ in 0..from.count("store labels")? {
            labels.insert(from.text("label key")?, from.text("label value")?);
        }
        Ok(StoreRecord {
            id,
            address,
            peer_address,
            status_address,
            version,
            labels,
            incarnation: from.u64("store incarnation")?,
            start_number: from.u64("store start number")?,
            life: StoreLife::from_number(from.u8("store life")?)?,
        })
    }
}

impl StoreLife {
    pub(crate) fn number(self) -> u8 {
        match self {
            StoreLife::Serving => 0,
            StoreLife::Leaving => 1,
            StoreLife::Tombstone => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<StoreLife, DecodeError> {
        match number {
            0 => Ok(StoreLife::Serving),
            1 => Ok(StoreLife::Leaving),
            2 => Ok(StoreLife::Tombstone),
            other => Err(unknown("store life", other)),
        }
    }
}

impl MemberRecord {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u64(self.id.0);
        out.text(&self.name);
        out.text(&self.url);
        out.u64(self.incarnation);
        out.u64(self.start_number);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<MemberRecord, DecodeError> {
        Ok(MemberRecord {
            id: PeerId(from.u64("member id")?),
            name: from.text("member name")?,
            url: from.text("member url")?,
            incarnation: from.u64("member incarnation")?,
            start_number: from.u64("member start number")?,
        })
    }
}

impl Settings {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u32(self.replica_count);
        out.u64(self.disconnected_after_ms);
        out.u64(self.down_after_ms);
        out.u64(self.leader_settle_ms);
        out.u32(self.leader_difference_max);
        out.u32(self.transfers_max);
        out.u32(self.additions_per_store_max);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Settings, DecodeError> {
        Ok(Settings {
            replica_count: from.u32("replica count")?,
            disconnected_after_ms: from.u64("disconnected_after_ms")?,
            down_after_ms: from.u64("down_after_ms")?,
            leader_settle_ms: from.u64("leader_settle_ms")?,
            leader_difference_max: from.u32("leader_difference_max")?,
            transfers_max: from.u32("transfers_max")?,
            additions_per_store_max: from.u32("additions_per_store_max")?,
        })
    }
}

pub(crate) fn encode_region(region: &Region, out: &mut Writer) {
    out.u64(region.id.0);
    out.bytes(&region.start);
    out.bytes(&region.end);
    out.u64(region.epoch.conf_ver);
    out.u64(region.epoch.version);
    out.count(region.peers.len());
    for peer in &region.peers {
        out.u64(peer.id.0);
        out.u64(peer.store.0);
        out.u8(role_number(peer.role));
    }
}

pub(crate) fn decode_region(from: &mut Reader<'_>) -> Result<Region, DecodeError> {
    let id = GroupId(from.u64("region id")?);
    let start = from.bytes("region start")?;
    let end = from.bytes("region end")?;
    let epoch = RegionEpoch {
        conf_ver: from.u64("region conf_ver")?,
        version: from.u64("region version")?,
    };
    let mut peers = Vec::new();
    for _ in 0..from.count("region peers")? {
        peers.push(Peer {
            id: PeerId(from.u64("peer id")?),
            store: StoreId(from.u64("peer store")?),
            role: role_from_number(from.u8("peer role")?)?,
        });
    }
    Ok(Region {
        id,
        start,
        end,
        epoch,
        peers,
    })
}

fn role_number(role: PeerRole) -> u8 {
    match role {
        PeerRole::Voter => 0,
        PeerRole::Learner => 1,
        PeerRole::IncomingVoter => 2,
        PeerRole::DemotingVoter => 3,
    }
}

fn role_from_number(number: u8) -> Result<PeerRole, DecodeError> {
    match number {
        0 => Ok(PeerRole::Voter),
        1 => Ok(PeerRole::Learner),
        2 => Ok(PeerRole::IncomingVoter),
        3 => Ok(PeerRole::DemotingVoter),
        other => Err(unknown("peer role", other)),
    }
}
