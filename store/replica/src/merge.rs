//! What a merge makes of two regions, as pure functions: asked at propose and again at apply.
//!
//! Why this is safe, and in which order it happens, stands in `shard/merging.rs`.

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId, LogIndex, Term};

use crate::codec::{Decoder, Encoder, FormatError};
use crate::machine::StateMachine;
use crate::outcome::MergeRefusal;
use crate::region::{PeerRole, Region, RegionEpoch, RegionState, RoutingRange, StoreId};

/// Groups a region remembers. Each is 17 bytes of its state.
const ABSORBED_MAX: usize = 32;

/// What a region's state says about merges: its own, if it is the source of one, and those in which
/// it was the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merges {
    /// Whether it is a source.
    pub phase: MergePhase,
    /// Whom it has absorbed, and whom those had absorbed before; the oldest first, each once. Ids of
    /// groups are never used again: who is named here is no more.
    pub absorbed: Vec<Absorbed>,
    /// Every merge that gave the region a version above this one is among the absorbed.
    pub forgotten: u64,
    /// The same of those that came with another: all that came with a version above this one are there.
    pub forgotten_inherited: u64,
}

/// Whether a region is the source of a merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MergePhase {
    /// It is none.
    #[default]
    Apart,
    /// It accepts and serves nothing until the merge is committed, in the target's log, or rolled
    /// back, in its own.
    Frozen(Freeze),
    /// It is no more: what was its is the target's. Seen by whoever restarts before the peer here is
    /// buried.
    Merged {
        /// The target.
        into: Heir,
    },
}

/// Who absorbs a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// The target.
    pub group: GroupId,
    /// Its first key when it was named, where that is known. An older region that still holds this key
    /// on a store may yet bring the target to life there, by a split.
    pub start: Option<Bytes>,
}

/// The freeze of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// The entry of the source's log that froze it; names the attempt.
    pub prepared: EntryId,
    /// The target.
    pub target: GroupId,
    /// The target's first key.
    pub start: Bytes,
    /// The one epoch at which the target can commit the merge.
    pub epoch: RegionEpoch,
}

/// A group that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absorbed {
    /// The group.
    pub group: GroupId,
    /// The version that the remembering region got with it.
    pub version: u64,
    /// Whether it came with another, which had absorbed it before.
    pub is_inherited: bool,
}

/// What a target knows of a merge it was named in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is decided here yet, or nothing that is known for certain.
    Open,
    /// It was committed.
    Merged,
    /// It can never be committed: the target has moved on without it.
    Declined,
    /// The target does not live here.
    NotHere,
}

impl Freeze {
    /// Who will have absorbed the source.
    pub(crate) fn heir(&self) -> Heir {
        Heir {
            group: self.target,
            start: Some(self.start.clone()),
        }
    }
}

impl Heir {
    pub(crate) fn encode_into(&self, to: &mut Encoder) {
        to.u64(self.group.0);
        to.u8(u8::from(self.start.is_some()));
        if let Some(start) = &self.start {
            to.bytes(start);
        }
    }

    pub(crate) fn decode_from(from: &mut Decoder<'_>) -> Result<Heir, FormatError> {
        let group = GroupId(from.u64()?);
        let start = match from.flag()? {
            true => Some(from.bytes()?),
            false => None,
        };
        Ok(Heir { group, start })
    }
}

impl Merges {
    /// The freeze, if there is one.
    pub fn freeze(&self) -> Option<&Freeze> {
        match &self.phase {
            MergePhase::Frozen(freeze) => Some(freeze),
            MergePhase::Apart | MergePhase::Merged { .. } => None,
        }
    }

    /// Whether a group is known to be no more.
    pub fn has_absorbed(&self, group: GroupId) -> bool {
        self.absorbed.iter().any(|it| it.group == group)
    }

    fn remember(&mut self, absorbed: Absorbed) {
        if self.has_absorbed(absorbed.group) {
            // It came by both of two ways, for instance the halves of a split.
            return;
        }
        self.absorbed.push(absorbed);
        if self.absorbed.len() <= ABSORBED_MAX {
            return;
        }
        // What is inherited goes first: whoever asks, asks the one that it named, or its heir soon.
        let oldest = self.absorbed.iter().position(|it| it.is_inherited);
        let dropped = self.absorbed.remove(oldest.unwrap_or(0));
        let forgotten = match dropped.is_inherited {
            true => &mut self.forgotten_inherited,
            false => &mut self.forgotten,
        };
        *forgotten = dropped.version.max(*forgotten);
    }

    pub(crate) fn encode_into(&self, to: &mut Encoder) {
        match &self.phase {
            MergePhase::Apart => to.u8(0),
            MergePhase::Frozen(freeze) => {
                to.u8(1);
                encode_entry_id(freeze.prepared, to);
                to.u64(freeze.target.0);
                to.bytes(&freeze.start);
                to.u64(freeze.epoch.conf_ver);
                to.u64(freeze.epoch.version);
            }
            MergePhase::Merged { into } => {
                to.u8(2);
                into.encode_into(to);
            }
        }
        to.u32(u32::try_from(self.absorbed.len()).expect("they are few"));
        for absorbed in &self.absorbed {
            to.u64(absorbed.group.0);
            to.u64(absorbed.version);
            to.u8(u8::from(absorbed.is_inherited));
        }
        to.u64(self.forgotten);
        to.u64(self.forgotten_inherited);
    }

    pub(crate) fn decode_from(from: &mut Decoder<'_>) -> Result<Merges, FormatError> {
        let phase = match from.u8()? {
            0 => MergePhase::Apart,
            1 => MergePhase::Frozen(Freeze {
                prepared: decode_entry_id(from)?,
                target: GroupId(from.u64()?),
                start: from.bytes()?,
                epoch: RegionEpoch {
                    conf_ver: from.u64()?,
                    version: from.u64()?,
                },
            }),
            2 => MergePhase::Merged {
                into: Heir::decode_from(from)?,
            },
            _ => return Err(from.error("unknown phase of a merge")),
        };
        let count = from.u32()?;
        if count as usize > ABSORBED_MAX {
            return Err(from.error("more is remembered than there is room for"));
        }
        let mut absorbed = Vec::new();
        for _ in 0..count {
            absorbed.push(Absorbed {
                group: GroupId(from.u64()?),
                version: from.u64()?,
                is_inherited: from.flag()?,
            });
        }
        Ok(Merges {
            phase,
            absorbed,
            forgotten: from.u64()?,
            forgotten_inherited: from.u64()?,
        })
    }
}

pub(crate) fn encode_entry_id(id: EntryId, to: &mut Encoder) {
    to.u64(id.term.0);
    to.u64(id.index.0);
}

pub(crate) fn decode_entry_id(from: &mut Decoder<'_>) -> Result<EntryId, FormatError> {
    Ok(EntryId {
        term: Term(from.u64()?),
        index: LogIndex(from.u64()?),
    })
}

/// Whether a source may become part of a target.
pub(crate) fn check<S: StateMachine>(source: &Region, target: &Region) -> Result<(), MergeRefusal> {
    if source.id == target.id {
        return Err(MergeRefusal::SameRegion);
    }
    let border = border(source, target).ok_or(MergeRefusal::NotNeighbours)?;
    if !S::may_join(border) {
        return Err(MergeRefusal::BorderStays {
            key: border.clone(),
        });
    }
    let is_settled = |region: &Region| region.peers.iter().all(|it| it.role == PeerRole::Voter);
    if !is_settled(source) || !is_settled(target) {
        return Err(MergeRefusal::MembershipUnsettled);
    }
    if stores(source) != stores(target) {
        return Err(MergeRefusal::OtherStores);
    }
    Ok(())
}

fn stores(region: &Region) -> Vec<StoreId> {
    let mut stores: Vec<StoreId> = region.peers.iter().map(|peer| peer.store).collect();
    stores.sort_unstable();
    stores
}

/// The key at which they meet.
fn border<'a>(one: &'a Region, other: &'a Region) -> Option<&'a Bytes> {
    if !one.end.is_empty() && one.end == other.start {
        Some(&one.end)
    } else if !other.end.is_empty() && other.end == one.start {
        Some(&other.end)
    } else {
        None
    }
}

/// The source once it is frozen.
pub(crate) fn frozen(source: &RegionState, target: &Region, prepared: EntryId) -> RegionState {
    let mut frozen = source.clone();
    frozen.region.epoch.version += 1;
    frozen.region.epoch.conf_ver += 1;
    frozen.merges.phase = MergePhase::Frozen(Freeze {
        prepared,
        target: target.id,
        start: target.start.clone(),
        epoch: target.epoch,
    });
    frozen
}

/// The target once it has absorbed the source, which is frozen.
pub(crate) fn merged<S: StateMachine>(target: &RegionState, source: &RegionState) -> RegionState {
    let RoutingRange { start, end } = target.region.range().hull(&source.region.range());
    let mut merged = target.clone();
    merged.region.start = start;
    merged.region.end = end;
    let version = target.region.epoch.version.max(source.region.epoch.version) + 1;
    merged.region.epoch.version = version;
    merged.machine = S::join(&target.machine, &source.machine);
    let merges = &mut merged.merges;
    if source.merges.forgotten > 0 || source.merges.forgotten_inherited > 0 {
        // Of the source's own merges some are unknown: of what comes with it nothing is certain.
        merges.forgotten_inherited = version;
    }
    let absorbed = |group, is_inherited| Absorbed {
        group,
        version,
        is_inherited,
    };
    for earlier in &source.merges.absorbed {
        merges.remember(absorbed(earlier.group, true));
    }
    merges.remember(absorbed(source.region.id, false));
    merged
}

/// What is left of a source once it is absorbed as its freeze says.
pub(crate) fn remains(source: &RegionState) -> RegionState {
    let mut remains = source.clone();
    if let Some(freeze) = source.merges.freeze() {
        let into = freeze.heir();
        remains.merges.phase = MergePhase::Merged { into };
    }
    remains
}

/// What a target's applied state says about a merge that names it at `epoch`.
pub(crate) fn fate(target: &RegionState, source: GroupId, epoch: RegionEpoch) -> Fate {
    let here = target.region.epoch;
    if target.merges.has_absorbed(source) {
        Fate::Merged
    } else if here == epoch || here.is_behind(epoch) || epoch.version < target.merges.forgotten {
        Fate::Open
    } else {
        Fate::Declined
    }
}

/// The same, said by who has absorbed that target.
pub(crate) fn fate_by_heir(heir: &RegionState, source: GroupId, target: GroupId) -> Fate {
    let merges = &heir.merges;
    let inherited = merges.absorbed.iter().find(|it| it.group == target);
    if merges.has_absorbed(source) {
        Fate::Merged
    } else if inherited.is_some_and(|it| it.version > merges.forgotten_inherited) {
        Fate::Declined
    } else {
        Fate::Open
    }
}

#[cfg(test)]
mod tests;
