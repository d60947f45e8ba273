//! Why the core refuses something. Each variant is a choice of the caller's.

use thiserror::Error;

use crate::types::{EntryId, PeerId, Term};

/// Why nothing was proposed. Nothing of it is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Ask the leader, if known.
    #[error("not the leader (the leader is {leader:?})")]
    NotLeader {
        /// The leader of this term as far as known.
        leader: Option<PeerId>,
    },
    /// The leader is handing its office over; ask again in a moment.
    #[error("a leader transfer is under way")]
    Transferring,
    /// `uncommitted_bytes_max` is reached; ask again later.
    #[error("too many bytes are proposed and not committed")]
    Busy,
    /// An earlier membership change is not applied yet.
    #[error("an earlier membership change is not applied yet")]
    MembershipPending,
    /// No entry of this term is committed yet (R8); ask again in a moment.
    #[error("the leader has not committed an entry of its term yet")]
    TermNotCommitted,
    /// The change cannot be made from this configuration.
    #[error("membership change refused: {0}")]
    InvalidChange(&'static str),
}

/// Why a read was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Ask the leader, if known.
    #[error("not the leader (the leader is {leader:?})")]
    NotLeader {
        /// The leader of this term as far as known.
        leader: Option<PeerId>,
    },
    /// The leader is handing its office over; ask again in a moment.
    #[error("a leader transfer is under way")]
    Transferring,
    /// Too many reads wait for confirmation (a leader that lost its quorum).
    #[error("too many reads wait for confirmation")]
    Busy,
}

/// Why no leader transfer was begun.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// Ask the leader, if known.
    #[error("not the leader (the leader is {leader:?})")]
    NotLeader {
        /// The leader of this term as far as known.
        leader: Option<PeerId>,
    },
    /// The target is no voter (or will be none when a joint configuration is left), or is the leader
    /// itself.
    #[error("peer {0} is not another voter of the group")]
    NotAVoter(PeerId),
    /// A transfer is under way already.
    #[error("a transfer to peer {0} is under way already")]
    Transferring(PeerId),
}

/// Why a message was not processed. The state is as before; the message is to be dropped, and what
/// is not [`WrongReceiver`](StepError::WrongReceiver) is worth a warning.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StepError {
    /// The message is for somebody else, or claims to come from this peer.
    #[error("message from peer {from} to peer {to} does not belong here")]
    WrongReceiver {
        /// Its sender.
        from: PeerId,
        /// Its receiver.
        to: PeerId,
    },
    /// It contradicts itself.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// Its term is later than any group can have come to since this peer heard of it last.
    #[error("peer {from} speaks of term {term}, which is absurd after term {here}")]
    AbsurdTerm {
        /// Its sender.
        from: PeerId,
        /// The term.
        term: Term,
        /// The own term.
        here: Term,
    },
    /// A reply about something that this leader never sent.
    #[error("peer {from} replies to what was never sent: {what}")]
    NeverSent {
        /// Its sender.
        from: PeerId,
        /// What it claims.
        what: &'static str,
    },
    /// Two leaders in one term (R1 broken elsewhere).
    #[error("peer {from} claims to lead term {term}, which peer {leader} leads")]
    TwoLeaders {
        /// Its sender.
        from: PeerId,
        /// The term.
        term: Term,
        /// Who leads it.
        leader: PeerId,
    },
    /// It contradicts an entry committed here (R3 broken elsewhere).
    #[error("peer {from} sent {received} where {committed} is committed")]
    CommittedConflict {
        /// Its sender.
        from: PeerId,
        /// What it sent.
        received: EntryId,
        /// What is committed here at that index.
        committed: EntryId,
    },
}

/// A snapshot did not reach the peer; the leader probes it again and may ask for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the snapshot did not reach the peer")]
pub struct SnapshotFailed;
