//! Payloads of the log's life-and-death records (fourth and fifth invariant of the log).

use bytes::Bytes;
use tinykv_raft::{GroupId, LogIndex, PeerId};

use crate::codec::{Decoder, Encoder, FormatError};
use crate::effects::SnapshotHandle;
use crate::merge::Heir;
use crate::region::{
    Peer, Region, RegionEpoch, RegionState, decode_peer, decode_region, encode_peer, encode_region,
};

const FORMAT_BIRTH: u8 = 3;
const FORMAT_TOMBSTONE: u8 = 3;
const FORMAT_INSTALLING: u8 = 2;

/// Where a group came from: an entry of its parent's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitPoint {
    /// The parent.
    pub group: GroupId,
    /// The parent's peer on the same store: a younger one has never seen the split.
    pub peer: PeerId,
    /// The split, in the parent's log.
    pub index: LogIndex,
}

/// Payload of [`tinykv_wal::Record::Birth`]: who was born, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthRecord {
    /// The peer.
    pub peer: Peer,
    /// The epoch at which it was a member for certain: of its first state, or of the message that
    /// called it into life.
    pub epoch: RegionEpoch,
    /// The first key of its region at that epoch. It leaves the region only in a merge: whoever holds it
    /// later knows what became of the region.
    pub start: Bytes,
    /// Its first state; `None` for a peer that a leader's message called into life and that waits
    /// for a snapshot.
    pub state: Option<RegionState>,
    /// The split it was born in, if it was. Until the parent here has applied that, the engine
    /// has nothing of this peer.
    pub parent: Option<SplitPoint>,
    /// Whether it may have lived here before, and voted, and was lost with a part of the log: it was
    /// called into life, without a state, and takes no part (D6).
    pub may_have_lived: bool,
}

/// What a birth record says of the first state.
const NO_STATE: u8 = 0;
const STATE: u8 = 1;
const NO_STATE_ANY_MORE: u8 = 2;

impl BirthRecord {
    /// The payload's bytes.
    pub fn encode(&self) -> Bytes {
        let mut to = Encoder::new(FORMAT_BIRTH);
        encode_peer(self.peer, &mut to);
        to.u64(self.epoch.conf_ver);
        to.u64(self.epoch.version);
        to.bytes(&self.start);
        match &self.state {
            None if self.may_have_lived => to.u8(NO_STATE_ANY_MORE),
            None => to.u8(NO_STATE),
            Some(state) => {
                to.u8(STATE);
                state.encode_into(&mut to);
            }
        }
        encode_parent(self.parent, &mut to);
        to.finish()
    }

    /// The opposite of [`BirthRecord::encode`].
    pub fn decode(bytes: &Bytes) -> Result<BirthRecord, FormatError> {
        let mut from = Decoder::new(bytes, FORMAT_BIRTH, "birth record")?;
        let peer = decode_peer(&mut from)?;
        let epoch = RegionEpoch {
            conf_ver: from.u64()?,
            version: from.u64()?,
        };
        let start = from.bytes()?;
        let (state, may_have_lived) = match from.u8()? {
            NO_STATE => (None, false),
            STATE => (Some(RegionState::decode_from(&mut from)?), false),
            NO_STATE_ANY_MORE => (None, true),
            _ => return Err(from.error("neither with a state nor without")),
        };
        let parent = decode_parent(&mut from)?;
        from.end()?;
        Ok(BirthRecord {
            peer,
            epoch,
            start,
            state,
            parent,
            may_have_lived,
        })
    }
}

/// Payload of [`tinykv_wal::Record::Tombstone`]: who died, and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneRecord {
    /// The dead peer: this and older ones of the group never come back here.
    pub peer: Peer,
    /// The last region it knew, as long as its data may still be in the engine; `None` once that
    /// is dropped (or if there never was any).
    pub leftover: Option<Region>,
    /// The split it was born in, as in [`BirthRecord::parent`]: as long as the parent here has not
    /// applied that again, the parent's log may bring back what was this peer's.
    pub parent: Option<SplitPoint>,
    /// The region that it became a part of, if it died of a merge: its data is that region's, and
    /// stays.
    pub merged_into: Option<Heir>,
}

impl TombstoneRecord {
    /// The payload's bytes.
    pub fn encode(&self) -> Bytes {
        let mut to = Encoder::new(FORMAT_TOMBSTONE);
        encode_peer(self.peer, &mut to);
        to.u8(u8::from(self.leftover.is_some()));
        if let Some(region) = &self.leftover {
            encode_region(region, &mut to);
        }
        encode_parent(self.parent, &mut to);
        to.u8(u8::from(self.merged_into.is_some()));
        if let Some(heir) = &self.merged_into {
            heir.encode_into(&mut to);
        }
        to.finish()
    }

    /// The opposite of [`TombstoneRecord::encode`].
    pub fn decode(bytes: &Bytes) -> Result<TombstoneRecord, FormatError> {
        let mut from = Decoder::new(bytes, FORMAT_TOMBSTONE, "tombstone record")?;
        let peer = decode_peer(&mut from)?;
        let leftover = match from.flag()? {
            true => Some(decode_region(&mut from)?),
            false => None,
        };
        let parent = decode_parent(&mut from)?;
        let merged_into = match from.flag()? {
            true => Some(Heir::decode_from(&mut from)?),
            false => None,
        };
        from.end()?;
        Ok(TombstoneRecord {
            peer,
            leftover,
            parent,
            merged_into,
        })
    }
}

fn encode_parent(parent: Option<SplitPoint>, to: &mut Encoder) {
    to.u8(u8::from(parent.is_some()));
    if let Some(parent) = parent {
        to.u64(parent.group.0);
        to.u64(parent.peer.0);
        to.u64(parent.index.0);
    }
}

fn decode_parent(from: &mut Decoder<'_>) -> Result<Option<SplitPoint>, FormatError> {
    Ok(match from.flag()? {
        true => Some(SplitPoint {
            group: GroupId(from.u64()?),
            peer: PeerId(from.u64()?),
            index: LogIndex(from.u64()?),
        }),
        false => None,
    })
}

/// Payload of [`tinykv_wal::Record::Installing`] and [`tinykv_wal::Record::Installed`]: enough to
/// redo the ingest after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallRecord {
    /// Where the files are.
    pub handle: SnapshotHandle,
    /// The region before, whose ranges are dropped as well; `None` for a newborn.
    pub before: Option<Region>,
    /// The region afterwards.
    pub after: RegionState,
    /// Regions that were merged into it while it lagged and whose peers here die with the
    /// installation; their ranges are dropped as well.
    pub absorbed: Vec<Region>,
}

impl InstallRecord {
    /// All regions of whose data nothing older stays.
    pub fn dropped(&self) -> impl Iterator<Item = &Region> {
        let others = self.before.iter().chain(&self.absorbed);
        std::iter::once(&self.after.region).chain(others)
    }

    /// The payload's bytes.
    pub fn encode(&self) -> Bytes {
        let mut to = Encoder::new(FORMAT_INSTALLING);
        to.u64(self.handle.0);
        to.u8(u8::from(self.before.is_some()));
        if let Some(region) = &self.before {
            encode_region(region, &mut to);
        }
        self.after.encode_into(&mut to);
        to.u32(u32::try_from(self.absorbed.len()).expect("they are few"));
        for region in &self.absorbed {
            encode_region(region, &mut to);
        }
        to.finish()
    }

    /// The opposite of [`InstallRecord::encode`].
    pub fn decode(bytes: &Bytes) -> Result<InstallRecord, FormatError> {
        let mut from = Decoder::new(bytes, FORMAT_INSTALLING, "install record")?;
        let handle = SnapshotHandle(from.u64()?);
        let before = match from.flag()? {
            true => Some(decode_region(&mut from)?),
            false => None,
        };
        let after = RegionState::decode_from(&mut from)?;
        let mut absorbed = Vec::new();
        for _ in 0..from.u32()? {
            absorbed.push(decode_region(&mut from)?);
        }
        from.end()?;
        Ok(InstallRecord {
            handle,
            before,
            after,
            absorbed,
        })
    }
}
