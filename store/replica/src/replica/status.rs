//! A picture of a group, for heartbeats, status pages and tests.

use std::sync::Arc;
use std::time::Duration;

use tinykv_raft::{EntryId, PeerId, PeerState, Role, Status};

use super::Replica;
use crate::machine::StateMachine;
use crate::region::{Peer, RegionState};

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
    /// Of a leader: peers whose log does not agree yet, or that are being sent a snapshot.
    pub pending_peers: Vec<PeerId>,
    /// Of a leader: each other peer, and how long it has been silent.
    pub silent: Vec<(PeerId, Duration)>,
    /// Approximate bytes of log appended since the start and kept.
    pub log_bytes: u64,
    /// Requests that wait for an answer.
    pub waiters: usize,
    /// Found damaged: it takes no part.
    pub damaged: bool,
}

impl<S: StateMachine> Replica<S> {
    pub(crate) fn status(&self, now: Duration) -> GroupStatus {
        let raft = self.raft.status();
        let pending = raft
            .peers
            .iter()
            .filter(|(_, peer)| peer.state != PeerState::Replicate);
        let pending_peers = pending.map(|(id, _)| *id).collect();
        let heard: &dyn Fn() -> Vec<(PeerId, Duration)> = &|| {
            self.heard
                .iter()
                .map(|(id, at)| (*id, now.saturating_sub(*at)))
                .collect()
        };
        let silent = if raft.role == Role::Leader {
            heard()
        } else {
            Vec::new()
        };
        GroupStatus {
            peer: self.peer,
            state: self.state.clone(),
            applied: self.applied,
            pending_peers,
            silent,
            log_bytes: self.log.bytes(),
            waiters: self.requests.len(),
            damaged: self.damaged,
            raft,
        }
    }
}
