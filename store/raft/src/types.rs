//! Values of one Raft group: ids, entries, durable state, configurations.
//!
//! These are shared with the log (`tinykv-wal`) and the driver (`tinykv-replica`); they carry no
//! behaviour beyond what keeps them well formed.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

/// A Raft group of a process; for a store this is the region's id. Never 0, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// A member of a Raft group. Unique over the life of a cluster: a replaced peer gets a new id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// A term of office (Raft §5.1). 0 before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A position in the log. The first entry has index 1; 0 means "before the log".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The position after this one.
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// The position before this one; 0 stays 0.
    pub fn previous(self) -> LogIndex {
        LogIndex(self.0.saturating_sub(1))
    }
}

/// Names one entry for ever: two entries with the same index and term are the same (R2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Compared first: a log that ends in a later term is more up to date (Raft §5.4.1).
    pub term: Term,
    /// Position in the log.
    pub index: LogIndex,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term and index.
    pub id: EntryId,
    /// What the entry says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The empty entry by which a new leader commits what its predecessors left (Raft §5.4.2).
    Empty,
    /// A command of the state machine, encoded once at the edge and shared from there on.
    Command(Bytes),
    /// A change of the group's membership; in force when it is applied.
    Membership(MembershipChange),
}

impl Entry {
    /// Bytes this entry counts for in every limit: its payload and a fixed overhead.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 24;
        OVERHEAD
            + match &self.payload {
                Payload::Empty => 0,
                Payload::Command(data) => data.len(),
                Payload::Membership(change) => 9 * change.steps.len() + change.context.len(),
            }
    }
}

/// A change of membership as one entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// What changes; no peer is named twice. One step in a simple change; several need joint
    /// consensus; none leaves the joint configuration that is in force.
    pub steps: Vec<MembershipStep>,
    /// What the driver wants to know when the change is applied (for example the store of a new
    /// peer). Opaque to Raft.
    pub context: Bytes,
}

/// One step of a membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipStep {
    /// The peer votes from now on; a learner is promoted.
    AddVoter(PeerId),
    /// The peer receives the log and does not vote; a voter is demoted.
    AddLearner(PeerId),
    /// The peer leaves the group.
    Remove(PeerId),
}

/// What has to be durable before a message that depends on it leaves (D1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen; never regresses.
    pub term: Term,
    /// Whom this peer voted for in `term`.
    pub vote: Option<PeerId>,
    /// Known committed. An increase by itself need not be written and may be lost; one that comes
    /// with entries in the same [`Ready`](crate::Ready) must become durable with them, not later:
    /// who holds a membership change in its log must know that the one before it is committed.
    pub commit: LogIndex,
}

/// Who belongs to a group, as of one applied index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Peers whose majority decides.
    pub voters: BTreeSet<PeerId>,
    /// In a joint configuration the outgoing voters, whose majority must agree too; else empty.
    pub voters_outgoing: BTreeSet<PeerId>,
    /// Peers that receive the log without a vote.
    pub learners: BTreeSet<PeerId>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: BTreeSet<PeerId>,
}

/// One run of the log: entries from `first` up to the next run's `first` have this term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermStart {
    /// The term of every entry of the run.
    pub term: Term,
    /// The first index of the run.
    pub first: LogIndex,
}

/// What a snapshot stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The last entry the snapshot contains.
    pub last: EntryId,
    /// The membership at that entry.
    pub configuration: Configuration,
}

macro_rules! display_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display_number!(GroupId, PeerId, Term, LogIndex);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
