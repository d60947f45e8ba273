//! What the group remembers about stores and members, and their encodings.

use std::collections::BTreeMap;

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
    /// Its name, for people.
    pub name: String,
    /// Where clients and members reach it, `http://host:port`.
    pub url: String,
    /// The random number its data directory was made with (D9); 0 until its process has registered.
    pub incarnation: u64,
    /// How often that directory was started (D9).
    pub start_number: u64,
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
        encode_labels(&self.labels, out);
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
        let labels = decode_labels(from)?;
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
    /// Whether its process has yet to register.
    pub fn is_invited(&self) -> bool {
        self.incarnation == 0
    }

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

pub(crate) fn encode_labels(labels: &BTreeMap<String, String>, out: &mut Writer) {
    out.count(labels.len());
    for (key, value) in labels {
        out.text(key);
        out.text(value);
    }
}

pub(crate) fn decode_labels(
    from: &mut Reader<'_>,
) -> Result<BTreeMap<String, String>, DecodeError> {
    let mut labels = BTreeMap::new();
    for _ in 0..from.count("store labels")? {
        labels.insert(from.text("label key")?, from.text("label value")?);
    }
    Ok(labels)
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
        PeerRole::LeavingVoter => 4,
    }
}

fn role_from_number(number: u8) -> Result<PeerRole, DecodeError> {
    match number {
        0 => Ok(PeerRole::Voter),
        1 => Ok(PeerRole::Learner),
        2 => Ok(PeerRole::IncomingVoter),
        3 => Ok(PeerRole::DemotingVoter),
        4 => Ok(PeerRole::LeavingVoter),
        other => Err(unknown("peer role", other)),
    }
}
