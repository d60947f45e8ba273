//! What a run of a shard wants done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_lsm::WriteBatch;
use tinykv_raft::{EntryId, Fetch, GroupId, PeerId, SnapshotMetadata, StepError, Term};
use tinykv_wal::Batch;

use crate::event::{LocalMessage, PeerMessage};
use crate::machine::{KeyRange, Observation, ReadError};
use crate::outcome::{Outcome, WaiterId};
use crate::region::{Peer, Region, RegionEpoch, RegionState, StoreId};

/// What [`crate::Shard::run_once`] wants done. The shell does it **in the order of the fields**,
/// and writes `apply` before it runs the shard again. Nothing in here may be dropped but messages.
#[derive(Debug)]
pub struct Effects<R> {
    /// Lease cells to empty, before anything below can tell anyone why.
    pub lease_voids: Vec<GroupId>,
    /// To be sent at once. May be lost.
    pub messages: Vec<PeerMessage>,
    /// To be written to the LSM now: data, region states and applied indexes of all groups.
    pub apply: WriteBatch,
    /// Regions that began, changed, moved their leader, or ended here: for routes, heartbeats,
    /// logs. A published region is replaced before any reply below is sent.
    pub region_changes: Vec<RegionChange>,
    /// Answers: each waiter occurs once in its life.
    pub replies: Vec<(WaiterId, Outcome<R>)>,
    /// Lease cells to fill or extend.
    pub leases: Vec<LeaseCell>,
    /// What applied commands did, in the order of application per group.
    pub observed: Vec<Observed>,
    /// To be made durable by the WAL thread. Batches are made durable in the order of runs.
    pub wal: Batch,
    /// Promises: to be sent by the WAL thread once `wal` is durable, not before. May be lost.
    pub messages_after_persist: Vec<PeerMessage>,
    /// If set, `wal` and `messages_after_persist` go to the WAL thread (even if the batch is
    /// empty: promises may rest on an earlier one), which posts [`crate::Event::Persisted`] with
    /// this token when all is durable.
    pub persist: Option<PersistToken>,
    /// Entries to read from the log.
    pub entry_fetches: Vec<EntryFetch>,
    /// Values to read from the LSM, as of `apply`; each group here is parked until
    /// [`crate::Event::ValuesFetched`].
    pub value_fetches: Vec<ValueFetch>,
    /// Engine keys to read into the cache when there is time.
    pub prefetches: Vec<Bytes>,
    /// Sums to be worked out over snapshots to be taken now (as of `apply`). Whoever asked waits
    /// elsewhere: no event answers.
    pub checks: Vec<Check>,
    /// Snapshots to take now (as of `apply`) and to stream to other stores.
    pub snapshot_sends: Vec<SnapshotSend>,
    /// Snapshots whose `Installing` record is durable: to be ingested, after everything applied so
    /// far is flushed (for all groups: a parent's split must not be applied again later).
    pub snapshot_installs: Vec<SnapshotInstall>,
    /// Received snapshots nobody needs: their files can go.
    pub snapshot_discards: Vec<SnapshotHandle>,
    /// Peers whose tombstone is durable: their data is to be dropped, after everything applied so
    /// far is flushed.
    pub destroys: Vec<Destroy>,
    /// Groups whose burial waits until everything applied so far is flushed: a flush is to be
    /// begun. Told of by [`crate::Event::Flushed`].
    pub flushes: Vec<GroupId>,
    /// Replicas found damaged: they take no further part.
    pub damaged: Vec<(GroupId, PeerId, ReadError)>,
    /// Messages that were not processed, to be counted by reason.
    pub dropped: Vec<Dropped>,
    /// To be posted, as [`crate::Event::Local`], to the shards of the groups they are for: this one, or
    /// another of the same store. In order, none lost.
    pub local: Vec<LocalMessage>,
    /// If set, the stores that this shard shares groups with that sleep or would like to: what it
    /// needs of [`crate::Neighbours`] from now on.
    pub neighbours: Option<Vec<StoreId>>,
}

impl<R> Effects<R> {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.lease_voids.is_empty()
            && self.messages.is_empty()
            && self.apply.is_empty()
            && self.region_changes.is_empty()
            && self.replies.is_empty()
            && self.leases.is_empty()
            && self.observed.is_empty()
            && self.persist.is_none()
            && self.entry_fetches.is_empty()
            && self.value_fetches.is_empty()
            && self.prefetches.is_empty()
            && self.checks.is_empty()
            && self.snapshot_sends.is_empty()
            && self.snapshot_installs.is_empty()
            && self.snapshot_discards.is_empty()
            && self.destroys.is_empty()
            && self.flushes.is_empty()
            && self.damaged.is_empty()
            && self.dropped.is_empty()
            && self.local.is_empty()
            && self.neighbours.is_none()
    }
}

/// A message that was not processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The group it was for.
    pub group: GroupId,
    /// Who sent it.
    pub from: PeerId,
    /// Why it was not processed.
    pub reason: DropReason,
}

/// Why a message was not processed. Most of these happen in the normal course of things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It was delivered to the wrong store, or its envelope contradicts its content.
    Misaddressed,
    /// The group is not here, and the message is none that may create a peer.
    UnknownGroup,
    /// It is for a peer that died here, or for an earlier one than lives here.
    DeadPeer,
    /// It is for a younger peer than the one that lives here and has yet to give way.
    YoungerPeer,
    /// The sender was removed from the group; it was told so.
    NotMember,
    /// It would call a peer into life that may have lived here before: a part of the log was lost,
    /// and it is not known yet which peers are new.
    NotKnownNew,
    /// The replica has too much to apply.
    Backlog,
    /// The replica is damaged, or the process goes down.
    OutOfService,
    /// Another group of this store holds some of the keys: a region that has yet to be split or
    /// moved away, or one whose data is being dropped.
    Overlap(GroupId),
    /// It carries an entry that says nothing: no command or change of membership that this version
    /// can read. It must not get into the log, where it would have to be applied.
    BadEntry(EntryId),
    /// The snapshot is older than what is here, or one is being installed.
    SnapshotNotWanted,
    /// The Raft core refused it. `TwoLeaders` and `CommittedConflict` are alarms.
    Refused(StepError),
}

/// Names the durability of one run's records. Rises by one from run to run that has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(pub u64);

/// Names the files of a received snapshot; chosen by the shell, durable as long as the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotHandle(pub u64);

/// Leave to serve reads without asking anyone.
///
/// The reader loads the cell, takes an LSM snapshot, **then** reads the clock, **then** loads the
/// cell again: same term and epoch, clock before `valid_until`, key in the region's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseCell {
    /// The group.
    pub group: GroupId,
    /// The term of the leadership. Its first entry is applied here.
    pub term: Term,
    /// The epoch of the region while the lease holds.
    pub epoch: RegionEpoch,
    /// On this process's monotonic clock; already shortened by the drift of both sides.
    pub valid_until: Duration,
}

/// News of one region on this shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionChange {
    /// A peer is in service here with this region: born, recovered, or its state was replaced by
    /// a snapshot; or the region changed by an applied entry.
    Region {
        /// The peer that lives here.
        peer: PeerId,
        /// Range, epoch, peers, whether it is open.
        state: Arc<RegionState>,
    },
    /// Who leads, as far as this peer knows, has changed.
    Leader {
        /// The group.
        group: GroupId,
        /// The peer that lives here.
        peer: PeerId,
        /// The leader, if known.
        leader: Option<PeerId>,
        /// In this term.
        term: Term,
        /// Whether the leader is this peer.
        is_here: bool,
    },
    /// The peer is out of service: for good, so that its data will be dropped; or until a snapshot
    /// has replaced its data, when [`RegionChange::Region`] follows.
    Gone {
        /// The group.
        group: GroupId,
        /// The peer that lived here.
        peer: PeerId,
    },
}

/// What the commands of one entry did to keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The group.
    pub group: GroupId,
    /// The applied entry.
    pub entry: EntryId,
    /// In order.
    pub events: Vec<Observation>,
}

/// Entries to read from the log; answered by [`crate::Event::EntriesFetched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFetch {
    /// The group.
    pub group: GroupId,
    /// The peer that asks.
    pub peer: PeerId,
    /// What to read.
    pub fetch: Fetch,
}

/// Values to read from the LSM for a parked group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueFetch {
    /// The group.
    pub group: GroupId,
    /// The entry that waits.
    pub entry: EntryId,
    /// Engine keys.
    pub keys: Vec<Bytes>,
}

/// A region to be summed up as of an entry, which is the last that was applied to it.
#[derive(Clone, Debug)]
pub struct Check {
    /// The group.
    pub group: GroupId,
    /// The peer that lives here.
    pub peer: PeerId,
    /// The entry.
    pub entry: EntryId,
    /// Names the check.
    pub id: u64,
    /// The region at that entry.
    pub state: Arc<RegionState>,
    /// Engine ranges that hold its data.
    pub ranges: Vec<KeyRange>,
}

/// A snapshot to be streamed.
#[derive(Clone, Debug)]
pub struct SnapshotSend {
    /// The Raft message that goes with the data; its `to.store` is where it goes.
    pub message: PeerMessage,
    /// Last entry and membership: what the data must be as of.
    pub metadata: SnapshotMetadata,
    /// The region at that entry.
    pub state: Arc<RegionState>,
    /// Engine ranges to stream (the metadata key is not among them; it is `state`).
    pub ranges: Vec<KeyRange>,
}

/// A snapshot to be ingested: in one version edit drop `drop`, add the files, write `state` under
/// the region's metadata key, and set the group's applied index. Then
/// [`crate::Event::SnapshotInstalled`].
#[derive(Clone, Debug)]
pub struct SnapshotInstall {
    /// The group.
    pub group: GroupId,
    /// The installing peer.
    pub peer: Peer,
    /// The snapshot's last entry: the applied index afterwards.
    pub snapshot: EntryId,
    /// The region afterwards.
    pub state: Arc<RegionState>,
    /// Engine ranges to drop first: those of the new region and of what was here before.
    pub drop: Vec<KeyRange>,
    /// The files.
    pub handle: SnapshotHandle,
}

/// Data of a dead peer to be dropped durably (ranges, metadata key, applied index). Then
/// [`crate::Event::Destroyed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destroy {
    /// The group.
    pub group: GroupId,
    /// The dead peer.
    pub peer: PeerId,
    /// The region it was part of, if it ever knew.
    pub region: Option<Arc<Region>>,
    /// Engine ranges to drop.
    pub drop: Vec<KeyRange>,
}
