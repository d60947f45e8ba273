//! Regions and peers as values: what a group is responsible for, and who belongs to it.

use std::fmt;

use bytes::Bytes;
use tinykv_raft::{Configuration, EntryId, GroupId, PeerId};

use crate::codec::{Decoder, Encoder, FormatError};
use crate::merge::Merges;

/// A store of the cluster (for placement's own group: one of its members). Never 0, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a peer does in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRole {
    /// Votes, now and after.
    #[default]
    Voter,
    /// Receives the log without a vote.
    Learner,
    /// Joint: votes in the incoming half only.
    IncomingVoter,
    /// Joint: votes in the outgoing half only, and becomes a learner.
    DemotingVoter,
    /// Joint: votes in the outgoing half only, and is removed. To those who speak TiKV's protocol it
    /// is a demoting voter.
    LeavingVoter,
}

impl PeerRole {
    /// Whether its vote counts, in whichever half.
    pub fn votes(self) -> bool {
        self != PeerRole::Learner
    }

    /// Whether it is one of those that exist only while a region is between two memberships.
    pub fn is_joint(self) -> bool {
        !matches!(self, PeerRole::Voter | PeerRole::Learner)
    }
}

/// One replica of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Unique over the life of the cluster: a replaced peer gets a new id.
    pub id: PeerId,
    /// Where it lives.
    pub store: StoreId,
    /// What it does.
    pub role: PeerRole,
}

impl Peer {
    /// A voter on a store.
    pub fn voter(id: PeerId, store: StoreId) -> Peer {
        Peer {
            id,
            store,
            role: PeerRole::Voter,
        }
    }

    /// A learner on a store.
    pub fn learner(id: PeerId, store: StoreId) -> Peer {
        Peer {
            id,
            store,
            role: PeerRole::Learner,
        }
    }
}

/// How often a region changed. Both numbers only grow (M2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegionEpoch {
    /// Raised by every change of membership, by the number of its steps.
    pub conf_ver: u64,
    /// Raised by every change of the range (split, merge).
    pub version: u64,
}

impl RegionEpoch {
    /// The epoch of a region that was never changed.
    pub const FIRST: RegionEpoch = RegionEpoch {
        conf_ver: 1,
        version: 1,
    };

    /// Whether a region can have come so far: both numbers are far from their end.
    pub(crate) fn is_possible(self) -> bool {
        const END: u64 = 1 << 62;
        self.conf_ver < END && self.version < END
    }

    /// Whether this epoch is older than the other in any respect.
    pub fn is_behind(self, other: RegionEpoch) -> bool {
        self.conf_ver < other.conf_ver || self.version < other.version
    }
}

impl fmt::Display for RegionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.conf_ver)
    }
}

/// A contiguous range of routing keys and the peers that hold it; equally placement's own group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// The group, for ever: a split gives the new half a new id.
    pub id: GroupId,
    /// First routing key, inclusive; empty is the beginning of the space.
    pub start: Bytes,
    /// End, exclusive; empty is the end of the space.
    pub end: Bytes,
    /// How often it changed.
    pub epoch: RegionEpoch,
    /// All peers, sorted by id. At most one of them on a store.
    pub peers: Vec<Peer>,
}

/// A range of routing keys, as regions have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingRange {
    /// First routing key, inclusive; empty is the beginning of the space.
    pub start: Bytes,
    /// End, exclusive; empty is the end of the space.
    pub end: Bytes,
}

impl RoutingRange {
    /// The smallest range that holds both.
    pub(crate) fn hull(&self, other: &RoutingRange) -> RoutingRange {
        let end = if self.end.is_empty() || other.end.is_empty() {
            Bytes::new()
        } else {
            self.end.clone().max(other.end.clone())
        };
        RoutingRange {
            start: self.start.clone().min(other.start.clone()),
            end,
        }
    }

    /// Whether a routing key lies in the range.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }

    /// Whether two ranges share a key.
    pub fn overlaps(&self, other: &RoutingRange) -> bool {
        (self.end.is_empty() || other.start < self.end)
            && (other.end.is_empty() || self.start < other.end)
    }
}

impl Region {
    /// Its keys.
    pub fn range(&self) -> RoutingRange {
        RoutingRange {
            start: self.start.clone(),
            end: self.end.clone(),
        }
    }

    /// Whether a routing key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }

    /// Whether two ranges share a key.
    pub fn overlaps(&self, other: &Region) -> bool {
        (self.end.is_empty() || other.start < self.end)
            && (other.end.is_empty() || self.start < other.end)
    }

    /// The peer with this id.
    pub fn peer(&self, id: PeerId) -> Option<Peer> {
        self.peers.iter().copied().find(|peer| peer.id == id)
    }

    /// The peer on this store.
    pub fn peer_on(&self, store: StoreId) -> Option<Peer> {
        self.peers.iter().copied().find(|peer| peer.store == store)
    }

    /// Whether it is between two memberships: majorities of both decide.
    pub fn is_joint(&self) -> bool {
        self.peers.iter().any(|peer| peer.role.is_joint())
    }

    /// The Raft configuration these peers stand for.
    pub fn configuration(&self) -> Configuration {
        let mut configuration = Configuration::default();
        let joint = self.is_joint();
        for peer in &self.peers {
            match peer.role {
                PeerRole::Voter => {
                    configuration.voters.insert(peer.id);
                    if joint {
                        configuration.voters_outgoing.insert(peer.id);
                    }
                }
                PeerRole::Learner => {
                    configuration.learners.insert(peer.id);
                }
                PeerRole::IncomingVoter => {
                    configuration.voters.insert(peer.id);
                }
                PeerRole::DemotingVoter => {
                    configuration.voters_outgoing.insert(peer.id);
                    configuration.learners_next.insert(peer.id);
                }
                PeerRole::LeavingVoter => {
                    configuration.voters_outgoing.insert(peer.id);
                }
            }
        }
        configuration
    }
}

/// All that is replicated about a region beside its data: the value of its metadata key, written
/// in the batch that applies the change, carried by snapshots and births.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionState {
    /// Range, epoch, peers.
    pub region: Region,
    /// Whether commands are accepted: false from bootstrap until the region has once reached its
    /// replica count ([`crate::AdminCommand::Open`]), so that nothing is acknowledged with fewer
    /// replicas than promised (F4). Never goes back to false. Reads are served all the while.
    pub open: bool,
    /// What the state machine wants to keep beside its data ([`crate::ApplyContext::set_machine`]),
    /// for example the expiry clock. Small: it is rewritten as a whole.
    pub machine: Bytes,
    /// What became of merges.
    pub merges: Merges,
}

impl RegionState {
    /// A state that was never part of a merge.
    pub fn new(region: Region, open: bool, machine: Bytes) -> RegionState {
        RegionState {
            region,
            open,
            machine,
            merges: Merges::default(),
        }
    }

    /// The bytes of the metadata key. The first is the format.
    pub fn encode(&self) -> Bytes {
        let mut to = Encoder::new(FORMAT_REGION_STATE);
        self.encode_into(&mut to);
        to.finish()
    }

    pub(crate) fn encode_into(&self, to: &mut Encoder) {
        encode_region(&self.region, to);
        to.u8(u8::from(self.open));
        to.bytes(&self.machine);
        self.merges.encode_into(to);
    }

    /// The opposite of [`RegionState::encode`]; never panics, whatever the bytes.
    pub fn decode(bytes: &Bytes) -> Result<RegionState, FormatError> {
        let mut from = Decoder::new(bytes, FORMAT_REGION_STATE, "region state")?;
        let state = RegionState::decode_from(&mut from)?;
        from.end()?;
        Ok(state)
    }

    pub(crate) fn decode_from(from: &mut Decoder<'_>) -> Result<RegionState, FormatError> {
        let region = decode_region(from)?;
        let open = from.flag()?;
        let machine = from.bytes()?;
        let merges = Merges::decode_from(from)?;
        Ok(RegionState {
            region,
            open,
            machine,
            merges,
        })
    }
}

/// The place in the log at which the life of a group begins. It is not 0, so that a peer that
/// knows nothing always needs a snapshot (and with it the region's description) first.
pub const FIRST_ENTRY: EntryId = EntryId {
    term: tinykv_raft::Term(1),
    index: tinykv_raft::LogIndex(1),
};

const FORMAT_REGION_STATE: u8 = 2;

pub(crate) fn encode_region(region: &Region, to: &mut Encoder) {
    to.u64(region.id.0);
    to.bytes(&region.start);
    to.bytes(&region.end);
    to.u64(region.epoch.conf_ver);
    to.u64(region.epoch.version);
    to.u32(u32::try_from(region.peers.len()).expect("peers are few"));
    for peer in &region.peers {
        encode_peer(*peer, to);
    }
}

pub(crate) fn encode_peer(peer: Peer, to: &mut Encoder) {
    to.u64(peer.id.0);
    to.u64(peer.store.0);
    to.u8(match peer.role {
        PeerRole::Voter => 0,
        PeerRole::Learner => 1,
        PeerRole::IncomingVoter => 2,
        PeerRole::DemotingVoter => 3,
        PeerRole::LeavingVoter => 4,
    });
}

pub(crate) fn decode_region(from: &mut Decoder<'_>) -> Result<Region, FormatError> {
    let id = GroupId(from.u64()?);
    let start = from.bytes()?;
    let end = from.bytes()?;
    let epoch = RegionEpoch {
        conf_ver: from.u64()?,
        version: from.u64()?,
    };
    let count = from.u32()?;
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(decode_peer(from)?);
    }
    Ok(Region {
        id,
        start,
        end,
        epoch,
        peers,
    })
}

pub(crate) fn decode_peer(from: &mut Decoder<'_>) -> Result<Peer, FormatError> {
    let id = PeerId(from.u64()?);
    let store = StoreId(from.u64()?);
    let role = match from.u8()? {
        0 => PeerRole::Voter,
        1 => PeerRole::Learner,
        2 => PeerRole::IncomingVoter,
        3 => PeerRole::DemotingVoter,
        4 => PeerRole::LeavingVoter,
        _ => return Err(from.error("unknown peer role")),
    };
    Ok(Peer { id, store, role })
}
