//! Every mistake there is.

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Term and vote are not written: after a restart the same peer votes, or leads, again in the
    /// same term.
    VoteNotPersisted,
    /// A follower acknowledges entries that its disk does not hold yet. NATS JetStream did, for
    /// its whole life with default settings.
    AckBeforeFsync,
    /// A leader counts itself among those that hold an entry before its own disk does, and
    /// applies what is committed before it is in its own log. The second guard alone would keep
    /// clients from harm.
    OwnEntryBeforeFsync,
    /// Entries of earlier terms are committed by counting who holds them (Raft, figure 8).
    OldTermCommittedByCount,
    /// A voter grants its vote without comparing logs.
    VoteForShorterLog,
    /// A voter that has voted in a term grants its vote to another candidate as well.
    VotedTwice,
    /// A follower keeps entries that conflict with the leader's instead of cutting them off.
    ConflictKept,
    /// A follower appends entries behind an entry that is not the one the leader has there.
    PreviousUnchecked,
    /// What a learner says counts towards a majority of voters. YugabyteDB counted votes of non-
    /// voters.
    LearnerCounted,
    /// Half of an even number of voters counts as a majority.
    HalfIsEnough,
    /// In a joint configuration the majority of the voters to be decides alone.
    JointHalfCounted,
    /// A read is confirmed by a round that began before it. A deposed leader answers with what
    /// was true once.
    ReadIndexReused,
    /// A new leader serves reads at its commit index before an entry of its own term is
    /// committed. etcd fixed this in 2017.
    ReadIndexBeforeOwnCommit,
    /// A read is served as soon as it is confirmed, before what it has to see is applied.
    ReadBeforeApplied,
    /// The lease is counted from when the echo arrived instead of from when the round was sent.
    LeaseFromReceiveTime,
    /// A leader takes itself for one as long as nobody told it otherwise: its lease lasts until
    /// the check of the quorum. Raft libraries offer that as a fast way to read.
    LeaseWhileInOffice,
    /// A new leader reads in its lease before it has applied the first entry of its own term.
    LeaseBeforeOwnEntry,
    /// The lease goes on while leadership is handed over, and is still published.
    LeaseKeptInTransfer,
    /// The lease is as long as the promise, as if all clocks ran equally fast.
    LeaseWithoutDrift,
    /// A voter grants votes within the time it promised not to.
    PromiseBroken,
    /// A restarted voter votes at once, though it may have promised not to before it restarted.
    PromiseForgotten,
    /// A peer takes a snapshot that is older than what it has applied or committed.
    SnapshotOverNewerState,
    /// A command is applied although its region was split after it was proposed. Epoch and range
    /// are checked at propose alone.
    EpochIgnoredAtApply,
    /// A change of membership does not raise the epoch.
    EpochUnraised,
    /// A compare-and-swap is decided on what was stored before the run that applies it, without
    /// the writes of the run.
    DecidedOnOldState,
    /// Whoever waits for an index is given the answer of whatever is applied there, though
    /// another leader proposed it.
    IndexWithoutTerm,
    /// The parent's lease is renewed while it splits, so that it reads what already belongs to a
    /// child.
    ParentLeaseKeptInSplit,
    /// The child of a split campaigns at birth wherever it is, and votes, though its store may
    /// owe the parent's leader a promise.
    NewbornUnbound,
    /// A split that is replayed gives birth again to a child that is dead here.
    SplitOverTombstone,
    /// A message that was under way for long brings back the peer it was meant for, which has
    /// been removed since.
    DeadPeerRevived,
    /// A restarted store has forgotten which peers are dead.
    TombstonesForgotten,
    /// Installing a snapshot deletes nothing of what was there before.
    SnapshotLeavesOldKeys,
    /// A peer takes a snapshot while a split that it applied is not flushed yet: after a crash an
    /// older state replays over a newer one.
    SnapshotBeforeSplitFlushed,
    /// The log is cut up to what is applied instead of what the tree has flushed.
    LogCutToApplied,
    /// A flush writes down the applied indexes of now instead of those of what it flushes: after
    /// a crash, entries count as applied whose data is gone.
    AppliedIndexAhead,
    /// When leadership is lost, what was proposed is called refused, though the next leader may
    /// commit it. TiKV's StaleCommand was taken for that by clients.
    DoubtCalledRefusal,
    /// A store proposes a request whose deadline has passed.
    ProposedAfterDeadline,
    /// A new segment of the log is written without its directory being synced: its name may be
    /// gone after a crash.
    LogDirectoryUnsynced,
    /// A new table is named in the MANIFEST without its directory being synced.
    TreeDirectoryUnsynced,
    /// An edit of the MANIFEST is in force before it is durable.
    ManifestUnsynced,
    /// The log does not sync, and says that it did.
    LogUnsynced,
    /// Recovery ends the log at the highest watermark it finds, though what was synced last lies
    /// behind it.
    LogEndsAtWatermark,
    /// Frames that an earlier recovery cut off count again in the next one.
    CutOffComesBack,
    /// A log segment is recycled while hard states and tombstones in it are alive.
    RecycledBeforeCopied,
    /// Compaction drops a delete though an older value lies deeper: the value comes back.
    TombstoneDroppedEarly,
    /// A filter says of one key in sixteen that it is not in a table, though it is.
    FilterFalseNegative,
    /// After a restart sequence numbers begin anew, below those in the tables: old values hide
    /// new ones.
    SequenceRestarts,
    /// A restarted store applies the last entry again that its tree has of a group: a counter
    /// counts it twice.
    AppliedTwice,
    /// Of a batch of writes the first one is left out.
    BatchTorn,
    /// Timestamps are served from a window that was never written down.
    TimestampBoundUnpersisted,
    /// A new leader's timestamps begin at its wall clock, not above what was saved.
    TimestampsFromClock,
    /// Ids are handed out without moving the durable counter past all of them.
    IdsUnpersisted,
    /// Placement believes whoever spoke last, not whoever has the newer epoch.
    StaleHeartbeatTaken,
    /// A client sends a write again although nobody knows whether it was applied.
    ResentInDoubt,
    /// A scan goes on just above the border of two regions, and misses the key that stands there.
    ScanSkipsBorder,
    /// The source of a merge goes on serving and accepting after its freeze was proposed and applied.
    FreezeForgotten,
    /// A merge is committed though a peer of the source lacks a part of its log.
    MergedBeforeAllHaveIt,
    /// The target takes over the source's keys here without waiting until the source here has applied
    /// its log.
    MergedWithoutSource,
    /// The source thaws because its target has not committed the merge yet: both may come to pass.
    RolledBackUndecided,
    /// A peer that was merged into another is buried with the data, which is the other's by now.
    MergedDataDropped,
    /// Nobody knows any more where a member of placement is that was removed, though it has a peer still.
    RemovedMemberForgotten,
    /// A member of placement that was removed is refused, and ends, while its vote is still needed.
    LeavingMemberRefused,
    /// The only voter of placement hands over, because it is to leave, before its heir votes.
    LeftWithoutHeir,
}

impl Mutant {
    /// All of them.
    pub const ALL: &[Mutant] = &[
        Mutant::VoteNotPersisted,
        Mutant::AckBeforeFsync,
        Mutant::OwnEntryBeforeFsync,
        Mutant::OldTermCommittedByCount,
        Mutant::VoteForShorterLog,
        Mutant::VotedTwice,
        Mutant::ConflictKept,
        Mutant::PreviousUnchecked,
        Mutant::LearnerCounted,
        Mutant::HalfIsEnough,
        Mutant::JointHalfCounted,
        Mutant::ReadIndexReused,
        Mutant::ReadIndexBeforeOwnCommit,
        Mutant::ReadBeforeApplied,
        Mutant::LeaseFromReceiveTime,
        Mutant::LeaseWhileInOffice,
        Mutant::LeaseBeforeOwnEntry,
        Mutant::LeaseKeptInTransfer,
        Mutant::LeaseWithoutDrift,
        Mutant::PromiseBroken,
        Mutant::PromiseForgotten,
        Mutant::SnapshotOverNewerState,
        Mutant::EpochIgnoredAtApply,
        Mutant::EpochUnraised,
        Mutant::DecidedOnOldState,
        Mutant::IndexWithoutTerm,
        Mutant::ParentLeaseKeptInSplit,
        Mutant::NewbornUnbound,
        Mutant::SplitOverTombstone,
        Mutant::DeadPeerRevived,
        Mutant::TombstonesForgotten,
        Mutant::SnapshotLeavesOldKeys,
        Mutant::SnapshotBeforeSplitFlushed,
        Mutant::LogCutToApplied,
        Mutant::AppliedIndexAhead,
        Mutant::DoubtCalledRefusal,
        Mutant::ProposedAfterDeadline,
        Mutant::LogDirectoryUnsynced,
        Mutant::TreeDirectoryUnsynced,
        Mutant::ManifestUnsynced,
        Mutant::LogUnsynced,
        Mutant::LogEndsAtWatermark,
        Mutant::CutOffComesBack,
        Mutant::RecycledBeforeCopied,
        Mutant::TombstoneDroppedEarly,
        Mutant::FilterFalseNegative,
        Mutant::SequenceRestarts,
        Mutant::AppliedTwice,
        Mutant::BatchTorn,
        Mutant::TimestampBoundUnpersisted,
        Mutant::TimestampsFromClock,
        Mutant::IdsUnpersisted,
        Mutant::StaleHeartbeatTaken,
        Mutant::ResentInDoubt,
        Mutant::ScanSkipsBorder,
        Mutant::FreezeForgotten,
        Mutant::MergedBeforeAllHaveIt,
        Mutant::MergedWithoutSource,
        Mutant::RolledBackUndecided,
        Mutant::MergedDataDropped,
        Mutant::RemovedMemberForgotten,
        Mutant::LeavingMemberRefused,
        Mutant::LeftWithoutHeir,
    ];

    /// The mutant of this name, in whichever case.
    pub fn named(name: &str) -> Option<Mutant> {
        let mut all = Mutant::ALL.iter().copied();
        all.find(|mutant| format!("{mutant:?}").eq_ignore_ascii_case(name))
    }

    /// The promises it breaks, by their ids in the contract.
    pub fn breaks(self) -> &'static str {
        match self {
            Mutant::VoteNotPersisted => "D1, R5",
            Mutant::AckBeforeFsync | Mutant::OwnEntryBeforeFsync => "D1, R6",
            Mutant::OldTermCommittedByCount => "R7",
            Mutant::VoteForShorterLog => "R3",
            Mutant::VotedTwice => "R1, R5",
            Mutant::ConflictKept | Mutant::PreviousUnchecked => "R2",
            Mutant::LearnerCounted => "R6, R8",
            Mutant::HalfIsEnough => "R1, R6",
            Mutant::JointHalfCounted => "R6, M11",
            Mutant::ReadIndexReused => "R10, C2",
            Mutant::ReadIndexBeforeOwnCommit | Mutant::ReadBeforeApplied => "R10",
            Mutant::LeaseFromReceiveTime
            | Mutant::LeaseWhileInOffice
            | Mutant::PromiseBroken
            | Mutant::PromiseForgotten => "C2, M3",
            Mutant::LeaseBeforeOwnEntry => "C2, R10",
            Mutant::LeaseKeptInTransfer => "R12, M3",
            Mutant::LeaseWithoutDrift => "C2, C3",
            Mutant::SnapshotOverNewerState => "R9",
            Mutant::EpochIgnoredAtApply => "M2, K6",
            Mutant::EpochUnraised => "M1, M2",
            Mutant::DecidedOnOldState => "C1, R4",
            Mutant::IndexWithoutTerm => "F1, K1",
            Mutant::ParentLeaseKeptInSplit | Mutant::NewbornUnbound => "M3, M4",
            Mutant::SplitOverTombstone => "M4, M7",
            Mutant::DeadPeerRevived | Mutant::TombstonesForgotten => "M7",
            Mutant::SnapshotLeavesOldKeys => "R4, L10",
            Mutant::SnapshotBeforeSplitFlushed => "M4, D3",
            Mutant::LogCutToApplied => "D1, D3",
            Mutant::AppliedIndexAhead => "D3, L1",
            Mutant::DoubtCalledRefusal => "F1, K2",
            Mutant::ProposedAfterDeadline => "K4",
            Mutant::LogDirectoryUnsynced | Mutant::TreeDirectoryUnsynced => "D2",
            Mutant::ManifestUnsynced => "D3, L5",
            Mutant::LogUnsynced => "D1",
            Mutant::LogEndsAtWatermark => "D1, D5",
            Mutant::CutOffComesBack => "D3, D5",
            Mutant::RecycledBeforeCopied => "D3",
            Mutant::TombstoneDroppedEarly | Mutant::FilterFalseNegative => "L2",
            Mutant::SequenceRestarts => "L4",
            Mutant::TimestampBoundUnpersisted | Mutant::IdsUnpersisted => "M9",
            Mutant::TimestampsFromClock => "M9, C3",
            Mutant::StaleHeartbeatTaken => "M8, M1",
            Mutant::AppliedTwice => "D3, L1",
            Mutant::BatchTorn => "C1, L1",
            Mutant::ResentInDoubt => "K2, K4",
            Mutant::ScanSkipsBorder => "C4",
            Mutant::FreezeForgotten => "M3, M5",
            Mutant::MergedBeforeAllHaveIt
            | Mutant::MergedWithoutSource
            | Mutant::RolledBackUndecided
            | Mutant::MergedDataDropped => "M5",
            Mutant::RemovedMemberForgotten
            | Mutant::LeavingMemberRefused
            | Mutant::LeftWithoutHeir => "R11",
        }
    }
}
