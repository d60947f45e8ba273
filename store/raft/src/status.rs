//! What a group can be asked about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::message::Seq;
use crate::types::{Configuration, EntryId, HardState, LogIndex, PeerId, Term};

/// What a peer is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Stands for election in the current term.
    Candidate,
    /// Leads the current term.
    Leader,
}

/// The right of a leader to serve reads without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The term it was won in.
    pub term: Term,
    /// A read whose snapshot is taken before this time of the own monotonic clock is current.
    pub valid_until: Duration,
}

/// A picture of a group, for status pages and tests. It copies; not for hot paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This peer.
    pub id: PeerId,
    /// Its role.
    pub role: Role,
    /// The leader, if known.
    pub leader: Option<PeerId>,
    /// Term, vote, commit index.
    pub hard_state: HardState,
    /// Applied up to here.
    pub applied: LogIndex,
    /// Durable in the own log up to here.
    pub durable: LogIndex,
    /// The last entry of the log.
    pub last: EntryId,
    /// Where the log was cut.
    pub truncated: EntryId,
    /// Bytes of entries in memory.
    pub memory_bytes: usize,
    /// Bytes proposed by this leader and not committed.
    pub uncommitted_bytes: usize,
    /// The membership in force.
    pub configuration: Configuration,
    /// Of a leader: how far each other peer is. Else empty.
    pub peers: BTreeMap<PeerId, PeerStatus>,
    /// Of a leader: to whom its office is being transferred.
    pub transfer: Option<PeerId>,
    /// Of a leader: the last round sent.
    pub seq: Seq,
    /// Of a leader: the last round that a quorum echoed.
    pub confirmed: Seq,
    /// Of a leader: its lease.
    pub lease: Option<Lease>,
    /// Until then this peer neither votes nor campaigns.
    pub promised_until: Duration,
}

/// How far a peer is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// How it is being replicated to.
    pub state: PeerState,
    /// Durable there up to here.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: usize,
    /// Appends sent and not acknowledged.
    pub in_flight_messages: usize,
    /// Heard from since the last check of the quorum.
    pub active: bool,
}

/// How a peer is being replicated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Where its log agrees is being found out, one append at a time.
    Probe,
    /// Appends are pipelined.
    Replicate,
    /// It is being sent a snapshot; no appends but heartbeats.
    Snapshot,
}
