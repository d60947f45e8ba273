//! One group's peer on this store.

mod absorbing;
mod admission;
mod applying;
mod lifecycle;
mod log;
mod membership;
mod merging;
mod ready;
mod receiving;
mod requests;
mod resting;
mod snapshot;
mod splitting;
mod status;
mod transfer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{
    Entry, EntryId, GroupId, LeadershipChange, LogIndex, PeerId, Raft, Role, SnapshotMetadata,
    SnapshotRequest,
};

use crate::apply::Overlay;
use crate::effects::{LeaseCell, SnapshotHandle};
use crate::machine::StateMachine;
use crate::record::SplitPoint;
use crate::region::{Peer, Region, RegionEpoch, RegionState};

pub(crate) use self::absorbing::Stopped;
pub(crate) use self::lifecycle::stored_state;
pub use self::status::GroupStatus;

use self::log::LogExtent;
use self::merging::Merging;
use self::requests::Requests;
use self::resting::Resting;
use self::splitting::{ProposedSplit, Splitting};
use self::transfer::Transfer;

/// One group's peer: its Raft core, its region, its state machine and everybody who waits.
///
/// A value of its own without threads or handles, so that a group can be handed to another shard
/// at a moment when nothing of it is under way.
pub struct Replica<S: StateMachine> {
    group: GroupId,
    peer: Peer,
    /// Until the birth record is durable nothing may leave that reveals this peer.
    birth_is_durable: bool,
    /// The epoch at which this peer was a member for certain when it was born.
    birth_epoch: RegionEpoch,
    /// What is applied, but for the data. `None` until the first snapshot.
    state: Option<Arc<RegionState>>,
    /// `state.region`, shared with answers.
    region: Arc<Region>,
    /// Whether `state` differs from what the LSM has (or will have with this run's batch).
    is_state_dirty: bool,
    /// The last applied entry.
    applied: EntryId,
    raft: Raft,
    machine: S,

    /// Committed, not yet applied, in order.
    committed: VecDeque<Entry>,
    committed_bytes: usize,
    parked: Option<Parked>,
    /// A check was applied in this run: nothing after it may be.
    is_being_checked: bool,
    overlay: Overlay,

    requests: Requests,
    transfer: Option<Transfer>,
    merging: Merging,

    /// A snapshot stepped into the core that waits for its verdict.
    offered: Option<Offer>,
    installing: Option<Install>,
    /// The core asked for these; they are as of what this run applies.
    snapshots_wanted: Vec<SnapshotRequest>,
    /// The snapshots being sent: to whom, and as of which entry.
    sending: BTreeMap<PeerId, EntryId>,
    log: LogExtent,

    /// The lease as published.
    published: Option<LeaseCell>,
    /// As the leader: removed peers that are to be dismissed once nobody can need their votes.
    dismissing: Vec<Peer>,
    /// As the leader: those that were told since the group last slept, the latest of them.
    dismissed: Vec<Peer>,
    /// Leadership as announced.
    leadership: LeadershipChange,
    /// Peers beyond the region's that spoke to us, so that they can be answered.
    strangers: BTreeMap<PeerId, Peer>,
    /// Of a leader: when each peer was last heard from.
    heard: BTreeMap<PeerId, Duration>,
    rest: Resting,
    /// The leader's store is dead: when to campaign.
    campaign_at: Option<Duration>,
    /// Ticks since a leader was last known.
    leaderless_ticks: u32,
    damaged: bool,
    /// The split it was born in.
    parent: Option<SplitPoint>,
    /// Born in a split that its parent here has not applied (again) yet: until then it does
    /// nothing at all.
    awaits_parent: bool,
    /// Woken in this run: what it would read is not written yet.
    reads_nothing: bool,
    /// It woke beside the parent's leader and may campaign at once.
    is_heir: bool,
    /// As the leader: the split in the log that is not applied.
    proposed_split: Option<ProposedSplit>,
    /// The committed split that apply has reached.
    splitting: Option<Splitting>,
    /// The last split or merge here that others depend on.
    split_floor: LogIndex,
    /// It was told to go while children depended on it.
    leaves_after_split: bool,
    /// Ticks since it leaves and waits for a flush.
    leaving_ticks: u32,
    /// Removed by an applied entry, or told so: the shard buries it at the end of the run.
    is_leaving: bool,
}

/// The first committed entry needs values from disk.
#[derive(Debug)]
struct Parked {
    entry: EntryId,
    /// Whether the shell is still reading.
    is_waiting: bool,
    fetched: BTreeMap<Bytes, Option<Bytes>>,
}

/// A received snapshot before the core has decided.
#[derive(Debug)]
struct Offer {
    state: RegionState,
    handle: SnapshotHandle,
    /// Regions it has absorbed whose peers here die with its installation.
    sources: Stopped,
}

/// A snapshot being installed. Nothing is applied meanwhile.
#[derive(Debug)]
struct Install {
    metadata: SnapshotMetadata,
    state: Arc<RegionState>,
    before: Option<Arc<Region>>,
    /// What regions that die with it leave.
    absorbed: Vec<Region>,
    /// Those that have yet to be told.
    sources: Stopped,
    handle: SnapshotHandle,
    /// The shell could not start: ask again at the next tick.
    is_refused: bool,
}

/// Peers outside the region that are remembered; a burst beyond it is not answered.
const STRANGERS_MAX: usize = 64;

impl<S: StateMachine> Replica<S> {
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) fn region(&self) -> Option<&Arc<Region>> {
        self.state.as_ref().map(|_| &self.region)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    pub(crate) fn is_leader(&self) -> bool {
        !self.damaged && !self.is_stopped() && self.raft.role() == Role::Leader
    }

    pub(crate) fn machine(&self) -> &S {
        &self.machine
    }

    /// The leader this peer follows, by store.
    pub(crate) fn leader(&self) -> Option<Peer> {
        self.raft.leader().and_then(|id| self.find_peer(id))
    }

    /// The epoch other peers are told.
    pub(crate) fn epoch(&self) -> RegionEpoch {
        if self.state.is_some() {
            self.region.epoch
        } else {
            self.birth_epoch
        }
    }

    fn find_peer(&self, id: PeerId) -> Option<Peer> {
        if id == self.peer.id {
            return Some(self.peer);
        }
        self.region
            .peer(id)
            .or_else(|| self.strangers.get(&id).copied())
    }

    fn set_state(&mut self, state: RegionState) -> Arc<RegionState> {
        if let Some(peer) = state.region.peer(self.peer.id) {
            self.peer = peer;
        }
        self.region = Arc::new(state.region.clone());
        let state = Arc::new(state);
        self.state = Some(Arc::clone(&state));
        state
    }
}
