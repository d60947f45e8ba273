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
    /// A leader counts itself among those that hold an entry before its own disk does.
    OwnEntryBeforeFsync,
    /// Entries of earlier terms are committed by counting who holds them (Raft, figure 8).
    OldTermCommittedByCount,
    /// A voter grants its vote without comparing logs.
    VoteForShorterLog,
    /// A follower takes over the leader's commit index for entries that the leader has not
    /// compared with its own yet.
    CommitBeyondMatch,
    /// A follower keeps entries that conflict with the leader's instead of cutting them off.
    ConflictKept,
    /// What a learner says counts towards a majority of voters. YugabyteDB counted votes of non-
    /// voters.
    LearnerCounted,
    /// A change of membership is proposed while another one is not applied yet, or before the
    /// leader committed anything in its term (the bug of Raft's single-server changes, 2015).
    ChangeWhilePending,
    /// A peer campaigns although it knows of a committed change of membership that it has not
    /// applied.
    CampaignBeforeChange,
    /// A read is confirmed by a round that began before it. A deposed leader answers with what
    /// was true once.
    ReadIndexReused,
    /// A new leader serves reads at its commit index before an entry of its own term is
    /// committed. etcd fixed this in 2017.
    ReadIndexBeforeOwnCommit,
    /// The lease is counted from when the echo arrived instead of from when the round was sent.
    LeaseFromReceiveTime,
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
    /// The parent's lease is renewed while it splits, so that it reads what already belongs to a
    /// child.
    ParentLeaseKeptInSplit,
    /// The child of a split votes and campaigns at birth, though its store may owe the parent's
    /// leader a promise.
    NewbornUnbound,
    /// A split that is replayed gives birth again to a child that is dead here.
    SplitOverTombstone,
    /// A message that was under way for long brings back the peer it was meant for, which has
    /// been removed since.
    DeadPeerRevived,
    /// A newborn peer speaks to others before its birth is durable, and may be forgotten.
    BirthBeforeFsync,
    /// Installing a snapshot deletes nothing of what was there before.
    SnapshotLeavesOldKeys,
    /// The log is cut up to what is applied instead of what the tree has flushed.
    LogCutToApplied,
    /// The applied index of a batch is written with the batch before it, so that a flush in
    /// between calls entries applied whose data it does not hold.
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
    /// Recovery ends the log at the highest watermark it finds, though what was synced last lies
    /// behind it.
    LogEndsAtWatermark,
    /// A torn end that nobody was promised anything of is called damage.
    TornTailTakenForDamage,
    /// A log segment is recycled while hard states and tombstones in it are alive.
    RecycledBeforeCopied,
    /// Compaction drops a delete though an older value lies deeper: the value comes back.
    TombstoneDroppedEarly,
    /// A filter says of one key in sixteen that it is not in a table, though it is.
    FilterFalseNegative,
    /// After a restart sequence numbers begin anew, below those in the tables: old values hide
    /// new ones.
    SequenceRestarts,
    /// Timestamps are served from a window that was never written down.
    TimestampBoundUnpersisted,
    /// Ids are handed out without moving the durable counter past all of them.
    IdsUnpersisted,
    /// Placement believes whoever spoke last, not whoever has the newer epoch.
    StaleHeartbeatTaken,
}

impl Mutant {
    /// All of them.
    pub const ALL: &[Mutant] = &[
        Mutant::VoteNotPersisted,
        Mutant::AckBeforeFsync,
        Mutant::OwnEntryBeforeFsync,
        Mutant::OldTermCommittedByCount,
        Mutant::VoteForShorterLog,
        Mutant::CommitBeyondMatch,
        Mutant::ConflictKept,
        Mutant::LearnerCounted,
        Mutant::ChangeWhilePending,
        Mutant::CampaignBeforeChange,
        Mutant::ReadIndexReused,
        Mutant::ReadIndexBeforeOwnCommit,
        Mutant::LeaseFromReceiveTime,
        Mutant::LeaseKeptInTransfer,
        Mutant::LeaseWithoutDrift,
        Mutant::PromiseBroken,
        Mutant::PromiseForgotten,
        Mutant::SnapshotOverNewerState,
        Mutant::EpochIgnoredAtApply,
        Mutant::ParentLeaseKeptInSplit,
        Mutant::NewbornUnbound,
        Mutant::SplitOverTombstone,
        Mutant::DeadPeerRevived,
        Mutant::BirthBeforeFsync,
        Mutant::SnapshotLeavesOldKeys,
        Mutant::LogCutToApplied,
        Mutant::AppliedIndexAhead,
        Mutant::DoubtCalledRefusal,
        Mutant::ProposedAfterDeadline,
        Mutant::LogDirectoryUnsynced,
        Mutant::TreeDirectoryUnsynced,
        Mutant::ManifestUnsynced,
        Mutant::LogEndsAtWatermark,
        Mutant::TornTailTakenForDamage,
        Mutant::RecycledBeforeCopied,
        Mutant::TombstoneDroppedEarly,
        Mutant::FilterFalseNegative,
        Mutant::SequenceRestarts,
        Mutant::TimestampBoundUnpersisted,
        Mutant::IdsUnpersisted,
        Mutant::StaleHeartbeatTaken,
    ];

    /// The promises it breaks, by their ids in the contract.
    pub fn breaks(self) -> &'static str {
        match self {
            Mutant::VoteNotPersisted => "D1, R5",
            Mutant::AckBeforeFsync | Mutant::OwnEntryBeforeFsync => "D1, R6",
            Mutant::OldTermCommittedByCount => "R7",
            Mutant::VoteForShorterLog => "R3",
            Mutant::CommitBeyondMatch => "R2, R4",
            Mutant::ConflictKept => "R2",
            Mutant::LearnerCounted => "R6, R8",
            Mutant::ChangeWhilePending | Mutant::CampaignBeforeChange => "R8",
            Mutant::ReadIndexReused => "R10, C2",
            Mutant::ReadIndexBeforeOwnCommit => "R10",
            Mutant::LeaseFromReceiveTime | Mutant::PromiseBroken | Mutant::PromiseForgotten => {
                "C2, M3"
            }
            Mutant::LeaseKeptInTransfer => "R12, M3",
            Mutant::LeaseWithoutDrift => "C2, C3",
            Mutant::SnapshotOverNewerState => "R9",
            Mutant::EpochIgnoredAtApply => "M2, K6",
            Mutant::ParentLeaseKeptInSplit | Mutant::NewbornUnbound => "M3, M4",
            Mutant::SplitOverTombstone => "M4, M7",
            Mutant::DeadPeerRevived => "M7",
            Mutant::BirthBeforeFsync => "D1",
            Mutant::SnapshotLeavesOldKeys => "R4, L10",
            Mutant::LogCutToApplied => "D1, D3",
            Mutant::AppliedIndexAhead => "D3, L1",
            Mutant::DoubtCalledRefusal => "F1, K2",
            Mutant::ProposedAfterDeadline => "K4",
            Mutant::LogDirectoryUnsynced | Mutant::TreeDirectoryUnsynced => "D2",
            Mutant::ManifestUnsynced => "D3, L5",
            Mutant::LogEndsAtWatermark => "D1, D5",
            Mutant::TornTailTakenForDamage => "D5, D6",
            Mutant::RecycledBeforeCopied => "D3",
            Mutant::TombstoneDroppedEarly | Mutant::FilterFalseNegative => "L2",
            Mutant::SequenceRestarts => "L4",
            Mutant::TimestampBoundUnpersisted | Mutant::IdsUnpersisted => "M9",
            Mutant::StaleHeartbeatTaken => "M8, M1",
        }
    }
}
