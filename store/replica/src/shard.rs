//! Many groups, one owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{Entry, EntryId, GroupId, LogIndex, PeerId, Status};
use tinykv_wal::RecoveredGroup;

use crate::codec::FormatError;
use crate::config::ShardConfig;
use crate::effects::Effects;
use crate::event::Event;
use crate::machine::{ReadError, Reader, StateMachine};
use crate::region::{Peer, RegionState};
use crate::replica::Replica;

/// Makes the state machine of a group when its peer begins to live here.
pub type Factory<S> = Box<dyn Fn(GroupId) -> S + Send>;

/// All groups of one shard thread. Deterministic: the same events at the same times, over the same
/// reader, give the same effects.
pub struct Shard<S: StateMachine> {
    config: ShardConfig,
    factory: Factory<S>,
    replicas: BTreeMap<GroupId, Replica<S>>,
}

/// What a restart found of one group: the log's part of it and the LSM's.
#[derive(Clone, Debug)]
pub struct RecoveredReplica {
    /// The group.
    pub group: GroupId,
    /// What the log knows. An installation that was under way has been done again.
    pub log: RecoveredGroup,
    /// The newest entries, ending at `log.last`, as many as were worth reading; may be empty.
    pub tail: Vec<Entry>,
    /// The LSM's applied index; 0 if it has none.
    pub applied: LogIndex,
}

/// What a restart found of a dead peer.
#[derive(Clone, Debug)]
pub struct RecoveredTombstone {
    /// The group.
    pub group: GroupId,
    /// Payload of the tombstone record.
    pub payload: Bytes,
}

#[expect(unused_variables, reason = "signatures first")]
#[expect(clippy::unimplemented, reason = "signatures first")]
impl<S: StateMachine> Shard<S> {
    /// A shard without groups.
    pub fn new(config: ShardConfig, factory: Factory<S>) -> Shard<S> {
        Shard {
            config,
            factory,
            replicas: BTreeMap::new(),
        }
    }

    /// A shard with the groups that a restart found. The effects say which regions are in service
    /// (and what dead peers left to be dropped); they are carried out before the first run.
    pub fn recover(
        config: ShardConfig,
        factory: Factory<S>,
        groups: Vec<RecoveredReplica>,
        tombstones: Vec<RecoveredTombstone>,
        reader: &dyn Reader,
        now: Duration,
    ) -> Result<(Shard<S>, Effects<S::Reply>), RecoverError> {
        unimplemented!()
    }

    /// Takes all events and says what is to be done. `now` is the monotonic clock, read by the
    /// shell just before; it never goes back.
    pub fn run_once(
        &mut self,
        inbox: &mut Vec<Event>,
        now: Duration,
        reader: &dyn Reader,
    ) -> Effects<S::Reply> {
        unimplemented!()
    }

    /// The groups that live here, ascending.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.replicas.keys().copied()
    }

    /// A picture of a group, for heartbeats, status pages and tests.
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        unimplemented!()
    }
}

/// A picture of a group.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The peer that lives here.
    pub peer: Peer,
    /// The region; `None` while the peer waits for its first snapshot.
    pub state: Option<Arc<RegionState>>,
    /// The last applied entry.
    pub applied: EntryId,
    /// The Raft core's own picture: role, leader, term, and, of a leader, how far its peers are.
    pub raft: Status,
    /// Of a leader: peers that are not yet caught up (no log match, or waiting for a snapshot).
    pub pending_peers: Vec<PeerId>,
    /// Of a leader: peers silent, and for how long.
    pub down_peers: Vec<(PeerId, Duration)>,
    /// Approximate bytes of log kept for this group.
    pub log_bytes: u64,
    /// Found damaged: it takes no part.
    pub damaged: bool,
}

/// A restart found what it cannot make sense of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// A record or the region's state does not decode.
    #[error("group {group}: {error}")]
    Format {
        /// The group.
        group: GroupId,
        /// What is wrong.
        error: FormatError,
    },
    /// The engine could not be read.
    #[error("group {group}: {error}")]
    Read {
        /// The group.
        group: GroupId,
        /// What is wrong.
        error: ReadError,
    },
    /// Log and LSM contradict each other.
    #[error("group {group}: {problem}")]
    Contradiction {
        /// The group.
        group: GroupId,
        /// What is wrong.
        problem: &'static str,
    },
}
