//! What entries say: the header every command carries, and the commands of the driver itself.
//!
//! Byte 0 is the format, byte 1 the kind, then the epoch the proposer believed in (`conf_ver`,
//! `version`, 8 bytes each, little endian), then the body. The header stands in front of the body
//! in one allocation: the edge encodes a command once, and the same bytes travel through log,
//! network and apply.

use bytes::{BufMut, Bytes, BytesMut};
use tinykv_raft::{Entry, EntryId, GroupId, MembershipChange, MembershipStep, Payload, PeerId};

use crate::codec::{Decoder, Encoder, FormatError};
use crate::merge::{decode_entry_id, encode_entry_id};
use crate::region::{
    Peer, Region, RegionEpoch, RegionState, decode_peer, decode_region, encode_peer, encode_region,
};
use crate::split::{CHILDREN_MAX, SplitIds};

const FORMAT_COMMAND: u8 = 1;
const FORMAT_MEMBERSHIP: u8 = 1;
const FORMAT_SPLIT: u8 = 1;
const FORMAT_MERGE: u8 = 1;
const KIND_MACHINE: u8 = 0;
const KIND_OPEN: u8 = 1;
const KIND_SPLIT: u8 = 2;
const KIND_PREPARE_MERGE: u8 = 3;
const KIND_COMMIT_MERGE: u8 = 4;
const KIND_DECLINE_MERGE: u8 = 5;
const KIND_ROLLBACK_MERGE: u8 = 6;
const KIND_CHECK: u8 = 7;
const HEADER_LEN: usize = 18;

/// A command with its header, ready to be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    epoch: RegionEpoch,
    encoded: Bytes,
}

impl Command {
    /// A command of the state machine; `write` appends the body (about `body_len` bytes) behind
    /// the header.
    pub fn build(
        epoch: RegionEpoch,
        body_len: usize,
        write: impl FnOnce(&mut BytesMut),
    ) -> Command {
        let mut out = header(epoch, KIND_MACHINE, body_len);
        write(&mut out);
        Command {
            epoch,
            encoded: out.freeze(),
        }
    }

    /// A command of the state machine from a body that exists already (it is copied).
    pub fn new(epoch: RegionEpoch, body: &[u8]) -> Command {
        Command::build(epoch, body.len(), |out| out.put_slice(body))
    }

    pub(crate) fn admin(epoch: RegionEpoch, command: &AdminCommand) -> Command {
        let (kind, body) = match command {
            AdminCommand::Open => (KIND_OPEN, Bytes::new()),
            AdminCommand::Split { keys, ids } => (KIND_SPLIT, encode_split(keys, ids)),
            AdminCommand::PrepareMerge { target } => {
                let body = encode_merge(|to| encode_region(target, to));
                (KIND_PREPARE_MERGE, body)
            }
            AdminCommand::CommitMerge { source } => {
                (KIND_COMMIT_MERGE, encode_merge(|to| source.encode_into(to)))
            }
            AdminCommand::DeclineMerge { source } => {
                (KIND_DECLINE_MERGE, encode_merge(|to| to.u64(source.0)))
            }
            AdminCommand::RollbackMerge { prepared } => {
                let body = encode_merge(|to| encode_entry_id(*prepared, to));
                (KIND_ROLLBACK_MERGE, body)
            }
            AdminCommand::Check { id } => (KIND_CHECK, Bytes::copy_from_slice(&id.to_le_bytes())),
        };
        let mut out = header(epoch, kind, body.len());
        out.put_slice(&body);
        Command {
            epoch,
            encoded: out.freeze(),
        }
    }

    /// The epoch the proposer believed in.
    pub fn epoch(&self) -> RegionEpoch {
        self.epoch
    }

    /// Bytes the command occupies in the log.
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.encoded.len() <= HEADER_LEN
    }

    pub(crate) fn body(&self) -> Bytes {
        self.encoded.slice(HEADER_LEN..)
    }

    pub(crate) fn into_encoded(self) -> Bytes {
        self.encoded
    }
}

/// Commands of the driver itself, applied by every replica alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// The region has reached its replica count: commands are accepted from now on (F4).
    Open,
    /// The region is cut into parts. It keeps its id and the left part `[start, keys[0])`; child
    /// `i` gets `[keys[i], keys[i + 1])` or up to the end. Both halves of every replica apply it in
    /// one step, or refuse it, if the region's epoch (as a whole) is another by then.
    Split {
        /// Where to cut: ascending routing keys strictly inside the region.
        keys: Vec<Bytes>,
        /// Who the children are, parallel to `keys`.
        ids: Vec<SplitIds>,
    },
    /// Said to the source of a merge: from here on it is frozen, if its epoch (as a whole) is still
    /// the proposer's. Raises both parts of its epoch.
    PrepareMerge {
        /// The target, at the one epoch at which it can commit the merge.
        target: Region,
    },
    /// Said to the target of a merge: the source is part of it from here on, if its epoch (as a whole)
    /// is still the one that the source's freeze names. The version becomes the larger of both, plus
    /// one.
    CommitMerge {
        /// The source, frozen; all its peers have all of its log.
        source: Box<RegionState>,
    },
    /// Said to the target of a merge: this merge is not to be. Raises the version, so that it cannot
    /// be committed any more; refused if the epoch is not the one that the freeze names.
    DeclineMerge {
        /// The source.
        source: GroupId,
    },
    /// Said to the source of a merge: the target can never commit it; the freeze ends. Raises the
    /// version.
    RollbackMerge {
        /// Which freeze.
        prepared: EntryId,
    },
    /// Changes nothing: every replica sums up its state and data as of this entry
    /// ([`crate::Effects::checks`]), so that the sums can be compared (F3).
    Check {
        /// Names the check; a random number.
        id: u64,
    },
}

/// What an entry turned out to say.
pub(crate) enum Decoded {
    Machine {
        epoch: RegionEpoch,
        body: Bytes,
    },
    Admin {
        epoch: RegionEpoch,
        command: AdminCommand,
    },
}

pub(crate) fn decode_entry(encoded: &Bytes) -> Result<Decoded, FormatError> {
    let mut from = Decoder::new(encoded, FORMAT_COMMAND, "command")?;
    let kind = from.u8()?;
    let epoch = RegionEpoch {
        conf_ver: from.u64()?,
        version: from.u64()?,
    };
    match kind {
        KIND_MACHINE => Ok(Decoded::Machine {
            epoch,
            body: from.rest(),
        }),
        KIND_OPEN => Ok(Decoded::Admin {
            epoch,
            command: AdminCommand::Open,
        }),
        KIND_SPLIT => Ok(Decoded::Admin {
            epoch,
            command: decode_split(from)?,
        }),
        KIND_PREPARE_MERGE | KIND_COMMIT_MERGE | KIND_DECLINE_MERGE | KIND_ROLLBACK_MERGE => {
            Ok(Decoded::Admin {
                epoch,
                command: decode_merge(kind, from)?,
            })
        }
        KIND_CHECK => {
            let id = from.u64()?;
            from.end()?;
            Ok(Decoded::Admin {
                epoch,
                command: AdminCommand::Check { id },
            })
        }
        _ => Err(from.error("unknown kind of command")),
    }
}

fn encode_merge(write: impl FnOnce(&mut Encoder)) -> Bytes {
    let mut to = Encoder::new(FORMAT_MERGE);
    write(&mut to);
    to.finish()
}

fn decode_merge(kind: u8, entry: Decoder<'_>) -> Result<AdminCommand, FormatError> {
    let body = entry.rest();
    let mut from = Decoder::new(&body, FORMAT_MERGE, "merge")?;
    let command = match kind {
        KIND_PREPARE_MERGE => AdminCommand::PrepareMerge {
            target: decode_region(&mut from)?,
        },
        KIND_COMMIT_MERGE => AdminCommand::CommitMerge {
            source: Box::new(RegionState::decode_from(&mut from)?),
        },
        KIND_DECLINE_MERGE => AdminCommand::DeclineMerge {
            source: GroupId(from.u64()?),
        },
        _ => AdminCommand::RollbackMerge {
            prepared: decode_entry_id(&mut from)?,
        },
    };
    from.end()?;
    Ok(command)
}

/// Whether [`decode_entry`] and [`MembershipContext::decode`] will know what an entry says. The body of
/// a state machine's command is its own affair.
pub(crate) fn is_readable(entry: &Entry) -> bool {
    match &entry.payload {
        Payload::Empty => true,
        Payload::Command(encoded) => decode_entry(encoded).is_ok(),
        Payload::Membership(change) if change.steps.is_empty() => true,
        Payload::Membership(change) => {
            MembershipContext::decode(&change.context).is_ok_and(|context| context.says(change))
        }
    }
}

fn encode_split(keys: &[Bytes], ids: &[SplitIds]) -> Bytes {
    let count = |length: usize| u32::try_from(length).expect("they are few");
    let mut to = Encoder::new(FORMAT_SPLIT);
    to.u32(count(keys.len()));
    for key in keys {
        to.bytes(key);
    }
    to.u32(count(ids.len()));
    for child in ids {
        to.u64(child.region.0);
        to.u32(count(child.peers.len()));
        for peer in &child.peers {
            to.u64(peer.0);
        }
    }
    to.finish()
}

fn decode_split(entry: Decoder<'_>) -> Result<AdminCommand, FormatError> {
    let body = entry.rest();
    let mut from = Decoder::new(&body, FORMAT_SPLIT, "split")?;
    let too_many = |count: u32| count as usize > CHILDREN_MAX;
    let count = from.u32()?;
    if too_many(count) {
        return Err(from.error("too many keys"));
    }
    let mut keys = Vec::new();
    for _ in 0..count {
        // A copy: it becomes a region's bound, and should not keep the entry in memory.
        keys.push(Bytes::copy_from_slice(&from.bytes()?));
    }
    let count = from.u32()?;
    if too_many(count) {
        return Err(from.error("too many children"));
    }
    let mut ids = Vec::new();
    for _ in 0..count {
        let region = GroupId(from.u64()?);
        let mut peers = Vec::new();
        for _ in 0..from.u32()? {
            peers.push(PeerId(from.u64()?));
        }
        ids.push(SplitIds { region, peers });
    }
    from.end()?;
    Ok(AdminCommand::Split { keys, ids })
}

fn header(epoch: RegionEpoch, kind: u8, body_len: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER_LEN + body_len);
    out.put_u8(FORMAT_COMMAND);
    out.put_u8(kind);
    out.put_u64_le(epoch.conf_ver);
    out.put_u64_le(epoch.version);
    out
}

/// One step of a change of membership, as asked for by placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// A new peer that receives the log without a vote. Its role is set to learner.
    AddLearner(Peer),
    /// The learner becomes a voter.
    Promote(PeerId),
    /// The voter becomes a learner.
    Demote(PeerId),
    /// The peer leaves, and destroys itself once it knows.
    Remove(PeerId),
}

impl PeerChange {
    /// The peer it is about.
    pub fn peer(&self) -> PeerId {
        match *self {
            PeerChange::AddLearner(peer) => peer.id,
            PeerChange::Promote(id) | PeerChange::Demote(id) | PeerChange::Remove(id) => id,
        }
    }

    /// What it is to Raft.
    pub(crate) fn step(&self) -> MembershipStep {
        match *self {
            PeerChange::AddLearner(peer) => MembershipStep::AddLearner(peer.id),
            PeerChange::Promote(id) => MembershipStep::AddVoter(id),
            PeerChange::Demote(id) => MembershipStep::AddLearner(id),
            PeerChange::Remove(id) => MembershipStep::Remove(id),
        }
    }
}

/// The context of a membership entry: what Raft does not know about the change.
pub(crate) struct MembershipContext {
    /// The epoch the proposer believed in; compared in whole at apply.
    pub(crate) epoch: RegionEpoch,
    pub(crate) changes: Vec<PeerChange>,
}

impl MembershipContext {
    /// Whether Raft and the region would be told the same.
    pub(crate) fn says(&self, change: &MembershipChange) -> bool {
        let steps = self.changes.iter().map(PeerChange::step);
        steps.eq(change.steps.iter().copied())
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut to = Encoder::new(FORMAT_MEMBERSHIP);
        to.u64(self.epoch.conf_ver);
        to.u64(self.epoch.version);
        to.u32(u32::try_from(self.changes.len()).expect("changes are few"));
        for change in &self.changes {
            match change {
                PeerChange::AddLearner(peer) => {
                    to.u8(0);
                    encode_peer(*peer, &mut to);
                }
                PeerChange::Promote(id) => {
                    to.u8(1);
                    to.u64(id.0);
                }
                PeerChange::Remove(id) => {
                    to.u8(2);
                    to.u64(id.0);
                }
                PeerChange::Demote(id) => {
                    to.u8(3);
                    to.u64(id.0);
                }
            }
        }
        to.finish()
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<MembershipContext, FormatError> {
        let mut from = Decoder::new(bytes, FORMAT_MEMBERSHIP, "membership change")?;
        let epoch = RegionEpoch {
            conf_ver: from.u64()?,
            version: from.u64()?,
        };
        let count = from.u32()?;
        let mut changes = Vec::new();
        for _ in 0..count {
            changes.push(match from.u8()? {
                0 => PeerChange::AddLearner(decode_peer(&mut from)?),
                1 => PeerChange::Promote(PeerId(from.u64()?)),
                2 => PeerChange::Remove(PeerId(from.u64()?)),
                3 => PeerChange::Demote(PeerId(from.u64()?)),
                _ => return Err(from.error("unknown kind of change")),
            });
        }
        from.end()?;
        Ok(MembershipContext { epoch, changes })
    }
}
