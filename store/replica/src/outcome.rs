//! How every request ends: exactly one [`Outcome`] per waiter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{EntryId, LogIndex, PeerId, Term};

use crate::region::{Peer, Region, StoreId};

/// Who waits for an answer: chosen by the shell, unique among the open requests of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// How a request ended (F1). `R` is the state machine's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// Done, applied here, durable on a majority.
    Ok(Answer<R>),
    /// It has not happened and never will. (For a read: it was not served; nothing is unknown.)
    DefinitelyNot(Refusal),
    /// It may have happened, or may yet happen, at most once.
    Undetermined(Doubt),
}

/// What a successful request yields, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<R> {
    /// A command was applied.
    Applied {
        /// Where it stands in the log.
        entry: EntryId,
        /// What the state machine says.
        reply: R,
    },
    /// A read may be served now: take the snapshot, then check epoch and range against the
    /// published region.
    Read(ReadGrant),
    /// A membership change or another administrative command was applied; the region after it.
    Changed(Arc<Region>),
    /// A split was applied: all parts, from left to right; the first is the region itself.
    Split(Vec<Arc<Region>>),
    /// Leadership went to this peer.
    Transferred(PeerId),
}

/// Leave to read: a snapshot taken after this holds every write acknowledged before the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    /// The commit index the read had to wait for; applied here.
    pub index: LogIndex,
    /// The region when the grant was made.
    pub region: Arc<Region>,
}

/// Why a request was not carried out. Each variant is a different thing for a client to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Ask the leader, or wait for an election.
    NotLeader {
        /// The leader, if known here.
        leader: Option<Peer>,
        /// The term this is about.
        term: Term,
    },
    /// The asker's view of the region is outdated (or newer than this replica's).
    EpochNotMatch {
        /// Regions as known here that cover what the asker meant.
        regions: Vec<Arc<Region>>,
    },
    /// There is no such group here.
    RegionNotFound,
    /// The request was meant for another peer of the group than the one that lives here.
    PeerMismatch {
        /// The peer that lives here.
        here: PeerId,
    },
    /// A key of the command lies outside the region.
    KeyNotInRegion {
        /// The routing key.
        key: Bytes,
        /// The region as known here.
        region: Arc<Region>,
    },
    /// Not now; nothing was proposed. Try again after the hint.
    Busy {
        /// What is short.
        reason: BusyReason,
        /// When it may be worth trying again.
        wait: Duration,
    },
    /// The region has not yet reached its replica count, so that nothing can be acknowledged (F4).
    NotOpen,
    /// The request's own deadline had passed before it was proposed (K4), or, for a read, before
    /// it could be served.
    DeadlineExceeded,
    /// Another entry was committed at the place in the log that the command had.
    Superseded {
        /// The entry that stands there.
        by: EntryId,
    },
    /// The state machine cannot make sense of the command.
    Malformed {
        /// What is wrong.
        problem: &'static str,
    },
    /// The membership change makes no sense.
    Membership(MembershipRefusal),
    /// The split makes no sense.
    Split(SplitRefusal),
    /// The merge makes no sense.
    Merge(MergeRefusal),
    /// A transfer of leadership did not come about in time; the old leader goes on.
    TransferFailed,
    /// The process is going down.
    ShuttingDown,
    /// This replica is damaged and waits to be replaced.
    Damaged,
}

/// What is short, or in the way, when a request is refused with [`Refusal::Busy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyReason {
    /// Too many bytes are proposed and not yet committed.
    Uncommitted,
    /// Too many requests wait in this group.
    Waiters,
    /// Too many requests wait for their shard. Said by the shell before a shard saw the request.
    Inbox,
    /// Engine or log are behind with their writes. Said by the shell.
    WriteStall,
    /// No space is left on the disk. Said by the shell.
    DiskFull,
    /// Leadership is being handed over.
    Transferring,
    /// A new leader has not yet committed an entry of its own term.
    LeaderNotReady,
    /// Another membership change is under way.
    MembershipPending,
    /// A split is under way.
    Splitting,
    /// The region is about to become part of another one.
    Merging,
    /// A peer lacks too much of the log for the region to be merged.
    PeerBehind,
    /// The learner is too far behind to be promoted.
    LearnerBehind,
    /// The replica is being created, replaced by a snapshot, or destroyed.
    NotInService,
}

/// Why a membership change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipRefusal {
    /// The peer belongs to the region already.
    PeerExists(PeerId),
    /// The store has a peer of the region already.
    StoreHasPeer(StoreId),
    /// No such peer.
    PeerUnknown(PeerId),
    /// Only a learner can be promoted.
    NotALearner(PeerId),
    /// The last voter cannot leave.
    LastVoter,
    /// The leader has to hand over its office before it can be removed or demoted by itself. Together
    /// with other steps it can be: it hands over when it is no voter any more.
    RemovesLeader(PeerId),
    /// Only a voter can be demoted.
    NotAVoter(PeerId),
    /// A peer is named by two steps.
    NamedTwice(PeerId),
    /// There is no step, or there are more than are allowed at once.
    StepCount {
        /// How many there are.
        steps: usize,
        /// How many there may be; at least one.
        steps_max: usize,
    },
}

/// Why a split is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitRefusal {
    /// A split key is not in the region.
    KeyOutside {
        /// The routing key.
        key: Bytes,
    },
    /// A split key is the region's first key or its end: one part would be empty.
    KeyAtBorder {
        /// The routing key.
        key: Bytes,
    },
    /// A split key does not follow the one before it.
    KeysNotAscending {
        /// The routing key.
        key: Bytes,
    },
    /// The children's ids do not fit the region or the keys.
    WrongIds {
        /// What is wrong.
        problem: &'static str,
    },
    /// No key, or more than can be carried out at once.
    TooMany {
        /// How many keys there were.
        keys: usize,
        /// How many there may be; at least one.
        keys_max: usize,
    },
}

/// Why a merge is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeRefusal {
    /// Source and target are the same region.
    SameRegion,
    /// The regions do not touch.
    NotNeighbours,
    /// The boundary between them has to stay, whatever else happens.
    BorderStays {
        /// The routing key.
        key: Bytes,
    },
    /// One of them has a learner, or is between two memberships.
    MembershipUnsettled,
    /// Their peers are not on the same stores.
    OtherStores,
    /// The target is about to become part of another region itself.
    TargetMerging,
    /// The freeze that is to be ended is not in force.
    NotFrozen,
}

/// Why the fate of a proposed command is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The deadline passed while the command stood in the log.
    DeadlineExceeded,
    /// The replica was removed or destroyed while the command stood in its log.
    RegionGone,
    /// A snapshot jumped over the command's place in the log.
    SnapshotInstalled,
    /// The process went down while the command stood in the log.
    ShuttingDown,
    /// The replica was found damaged while the command stood in the log.
    Damaged,
}
