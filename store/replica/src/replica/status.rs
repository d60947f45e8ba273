//! A picture of a group, for heartbeats, status pages and tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{EntryId, PeerId, Role, Status};

use super::Replica;
use crate::config::ShardConfig;
use crate::machine::StateMachine;
use crate::region::{Peer, RegionEpoch, RegionState};

/// A picture of a group.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The peer that lives here.
    pub peer: Peer,
    /// The region; `None` while the peer waits for its first snapshot.
    pub state: Option<Arc<RegionState>>,
    /// The newest epoch at which this peer is known to have been a member: of the region, or, while
    /// that is not known, of the message that called the peer into life.
    pub epoch: RegionEpoch,
    /// The first key of its region at that epoch. Only a merge takes it from the region.
    pub start: Bytes,
    /// The last applied entry.
    pub applied: EntryId,
    /// The Raft core's own picture: role, leader, term, and, of a leader, how far its peers are.
    pub raft: Status,
    /// Of a leader: peers that are not caught up (no log in common yet, being sent a snapshot, or
    /// too far behind); a learner in here cannot be promoted.
    pub pending_peers: Vec<PeerId>,
    /// Of a leader: each other peer, and how long it has been silent.
    pub silent: Vec<(PeerId, Duration)>,
    /// Approximate bytes of log appended since the start and kept.
    pub log_bytes: u64,
    /// Requests that wait for an answer.
    pub waiters: usize,
    /// Found damaged: it takes no part.
    pub damaged: bool,
    /// It sleeps: until it wakes nobody is silent for long.
    pub hibernating: bool,
}

impl<S: StateMachine> Replica<S> {
    pub(crate) fn status(&self, now: Duration, config: &ShardConfig) -> GroupStatus {
        let mut raft = self.raft.status();
        if self.is_stopped() {
            // It leads nobody any more.
            raft.role = Role::Follower;
            raft.leader = None;
        }
        let lag_max = config.promote_lag_max;
        let pending = raft
            .peers
            .iter()
            .filter(|(_, peer)| !self.keeps_up(peer, lag_max));
        let pending_peers = pending.map(|(id, _)| *id).collect();
        let hibernating = self.raft.is_hibernating();
        let heard = self.heard.iter().filter(|_| raft.role == Role::Leader);
        let silent = heard
            .map(|(id, at)| match hibernating {
                true => (*id, Duration::ZERO),
                false => (*id, now.saturating_sub(*at)),
            })
            .collect();
        GroupStatus {
            peer: self.peer,
            state: self.state.clone(),
            epoch: self.epoch(),
            start: self.region.start.clone(),
            applied: self.applied,
            pending_peers,
            silent,
            log_bytes: self.log.bytes(),
            waiters: self.requests.len(),
            damaged: self.damaged,
            hibernating,
            raft,
        }
    }
}
