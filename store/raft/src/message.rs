//! What peers of a group say to each other.

use std::fmt;
use std::time::Duration;

use crate::types::{Entry, EntryId, LogIndex, PeerId, SnapshotMetadata, Term};

/// One message between two peers of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: PeerId,
    /// The receiver.
    pub to: PeerId,
    /// The sender's term. Of a pre-vote too: the term asked for stands in its body.
    pub term: Term,
    /// What is said.
    pub body: MessageBody,
}

/// The kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageBody {
    /// A (pre-)candidate asks for a vote.
    VoteRequest(VoteRequest),
    /// The answer to it.
    VoteReply(VoteReply),
    /// The leader replicates; without entries it is the heartbeat (Raft §5.2).
    Append(Append),
    /// A follower answers an append or a snapshot.
    AppendReply(AppendReply),
    /// The data of a snapshot has arrived beside this message.
    Snapshot(Snapshot),
    /// The leader hands its office to the receiver.
    TimeoutNow(TimeoutNow),
}

/// Counts the rounds of one leader within its term, from 1. 0 echoes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl Seq {
    /// The round after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What every message of a leader carries, and its receiver echoes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The round in which the message was sent.
    pub seq: Seq,
    /// For how long, from receipt, an echo binds the receiver.
    pub promise: Duration,
}

/// A vote that counts, or the question whether one would be given (§9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteKind {
    /// Nobody's term or vote changes.
    PreVote,
    /// The receiver enters the term and records its vote.
    Vote,
}

/// A leader's word that promises made to it up to `seq` no longer bind (its lease is void).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Force {
    /// The leader's term.
    pub term: Term,
    /// The last round it had sent.
    pub seq: Seq,
}

/// A (pre-)candidate asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// Pre-vote or vote.
    pub kind: VoteKind,
    /// The term to be elected for.
    pub campaign: Term,
    /// The last entry of the candidate's log.
    pub last: EntryId,
    /// Set in a leader transfer.
    pub force: Option<Force>,
    /// The candidate was born in a split beside the parent's leader, which has applied that split:
    /// nobody holds a lease on the range any more, and newborn voters need not wait.
    pub first: bool,
}

/// The answer to a [`VoteRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// As asked.
    pub kind: VoteKind,
    /// As asked.
    pub campaign: Term,
    /// `None` is a grant.
    pub refusal: Option<Refusal>,
    /// The last entry that the voter knows to be committed. A candidate that has it learns so: it
    /// may be the removal of the very voter whose vote it would need for ever, because that voter's
    /// log is longer and the voter itself may not campaign.
    pub commit: EntryId,
}

/// Why a vote is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Bound by a promise for this long; asking again then may help.
    Promised(Duration),
    /// The candidate's log or term is behind.
    Behind,
    /// This term's vote went to another.
    Voted,
}

/// The leader replicates entries, tells its commit index, and renews its leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The entry right before `entries`; 0@0 matches every log.
    pub previous: EntryId,
    /// The entries after it, without a gap. Empty in a heartbeat.
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    pub commit: LogIndex,
    /// Round and promise.
    pub pulse: Pulse,
}

/// A follower answers an append or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// The echoed round; 0 if no promise goes with this reply.
    pub seq: Seq,
    /// What became of the append.
    pub outcome: AppendOutcome,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The logs agree.
    Accepted {
        /// They agree up to here …
        matched: LogIndex,
        /// … and up to here (at most `matched`) it is durable at the follower.
        durable: LogIndex,
    },
    /// The follower has no such `previous`.
    Rejected {
        /// The index of the append's `previous`.
        previous: LogIndex,
        /// The follower's last entry at or before `previous` that is not of a later term than
        /// `previous`: the logs agree at most up to there.
        hint: EntryId,
    },
    /// The follower has no state yet, and cannot have: what the group began with is not in the
    /// log. It takes nothing but a snapshot.
    NeedsSnapshot,
    /// A snapshot is being installed; only the round is echoed.
    Busy,
    /// The sender's term is over; the reply carries the newer one.
    StaleTerm,
}

/// The data of a snapshot has arrived and been verified beside this message. The receiving driver
/// makes it when that is so, with `from` and `term` of the [`SnapshotRequest`](crate::SnapshotRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it contains.
    pub metadata: SnapshotMetadata,
}

/// The leader hands its office to the receiver, who campaigns at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutNow {
    /// What the receiver's vote requests must carry.
    pub force: Force,
}
