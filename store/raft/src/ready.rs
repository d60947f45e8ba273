//! What a group wants done: the output of [`Raft::ready`](crate::Raft::ready).

use crate::message::Message;
use crate::status::Role;
use crate::types::{Entry, EntryId, HardState, LogIndex, PeerId, SnapshotMetadata, Term};

/// Numbers the [`Ready`]s of a group since its start, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyNumber(pub u64);

/// Names a read between [`Raft::read_index`](crate::Raft::read_index) and its answer; the
/// driver's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// Everything a group wants done since the last one. The crate's documentation gives the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// For [`Raft::on_persisted`](crate::Raft::on_persisted).
    pub number: ReadyNumber,
    /// Whether `hard_state`, `entries` or `install` is there to be written and synced. If not, and
    /// `send_after_persist` is empty too, `on_persisted` need not be called for this number.
    pub must_sync: bool,
    /// Write this, in one atomic batch with `entries`.
    pub hard_state: Option<HardState>,
    /// Drop everything from `entries[0]`'s index on from the log, then append these.
    pub entries: Vec<Entry>,
    /// Replace log and state by the snapshot received with this metadata (the log then starts
    /// after `last`), then call
    /// [`Raft::on_snapshot_installed`](crate::Raft::on_snapshot_installed). Entries handed out
    /// before and not applied yet are in the snapshot and must not be applied after it. If a
    /// [`Snapshot`](crate::Snapshot) message was stepped and the next Ready has no `install`, its
    /// data is not wanted.
    pub install: Option<SnapshotMetadata>,
    /// Apply these, in order. They are durable in the own log.
    pub committed: Vec<Entry>,
    /// Send these now (after publishing the lease), even while the own disk is still busy.
    pub send: Vec<Message>,
    /// Send these once this Ready and all before it are durable here.
    pub send_after_persist: Vec<Message>,
    /// Read these from the log on disk, and answer each with
    /// [`Raft::provide`](crate::Raft::provide).
    pub fetch: Vec<Fetch>,
    /// Build and send these snapshots, and answer each with
    /// [`Raft::on_snapshot_status`](crate::Raft::on_snapshot_status).
    pub snapshots: Vec<SnapshotRequest>,
    /// Reads that may be served once the state machine has applied `index`.
    pub reads: Vec<ReadReady>,
    /// Reads that got no confirmation because leadership was lost; nothing is known of them.
    pub failed_reads: Vec<ReadId>,
    /// Set when role, leader or term changed, and in the first Ready.
    pub leadership: Option<LeadershipChange>,
}

/// A wish for entries that are no longer in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// What for.
    pub purpose: FetchPurpose,
    /// The term in which it was asked; an answer in a later one may be ignored.
    pub term: Term,
    /// The first entry.
    pub from: LogIndex,
    /// The last entry, included.
    pub upto: LogIndex,
    /// Stop before the entry that would exceed this (but return at least one).
    pub bytes_max: usize,
}

/// What a [`Fetch`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchPurpose {
    /// To be applied here.
    Apply,
    /// To be sent to this peer.
    Peer(PeerId),
}

/// A peer needs what is no longer in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The peer.
    pub to: PeerId,
    /// The leader's term, for the [`Snapshot`](crate::Snapshot) message. Once it is over, the
    /// request is moot.
    pub term: Term,
    /// The snapshot must contain at least this entry.
    pub at_least: EntryId,
}

/// A confirmed read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// As given to [`Raft::read_index`](crate::Raft::read_index).
    pub id: ReadId,
    /// Serve it from a state that has applied this index.
    pub index: LogIndex,
}

/// Role, leader or term changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadershipChange {
    /// This peer's role now.
    pub role: Role,
    /// The leader now, if known.
    pub leader: Option<PeerId>,
    /// The term now.
    pub term: Term,
}
