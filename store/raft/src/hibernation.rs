//! Sleep: a group that has nothing to do costs nothing, no ticks and no messages.
//!
//! The drivers decide when, and agree: the leader's asks the others', and each calls
//! [`Raft::hibernate`], which refuses if there is anything left to do. They also know whether the
//! leader's store lives, by one heartbeat between two stores instead of one a group; when it does
//! not, they call [`Raft::campaign`].
//!
//! Sleep is about cost, never about safety: nothing that binds a peer is shortened, and the lease
//! lapses because no rounds are begun. A sleeping follower refuses votes for one promise at a
//! time, because its leader's silence means nothing. Whatever there is to do wakes: a request of a
//! client, a message of the leader, a candidate that asks a sleeping leader.

use std::time::Duration;

use crate::raft::{Office, Raft};
use crate::status::PeerState;
use crate::types::LogIndex;

impl Raft {
    /// Whether nothing is left to do here: everything is committed, applied, and durable; for a
    /// leader, at every peer, as far as it knows.
    pub fn may_hibernate(&self) -> bool {
        let last = self.log.last().index;
        let is_settled = self.log.applied() == last
            && self.persistence.durable() == last
            && self.persistence.is_idle()
            && self.installing.is_none()
            && !self.configuration.is_joint();
        let is_in_office = match &self.office {
            Office::Follower => self.leader.is_some(),
            Office::PreCandidate(_) | Office::Candidate(_) => false,
            Office::Leader(lead) => {
                let knows_all = lead.progress.values().all(|progress| {
                    progress.state == PeerState::Replicate
                        && progress.matched == last
                        && progress.commit_sent == last
                        && progress.active
                });
                knows_all && lead.transfer.is_none() && lead.pending_reads() == 0
            }
        };
        is_settled && is_in_office && self.log.applied() > LogIndex(0)
    }

    /// Sleeps from now on, if there is nothing left to do; says whether it does. Ticks have no
    /// effect until something wakes it.
    pub fn hibernate(&mut self) -> bool {
        if !self.asleep && self.may_hibernate() {
            self.asleep = true;
            if let Office::Leader(lead) = &mut self.office {
                // A call that was due would wake those who were just told to sleep.
                for progress in lead.progress.values_mut() {
                    progress.heartbeat_due = false;
                }
            }
        }
        self.asleep
    }

    /// Whether it sleeps.
    pub fn is_hibernating(&self) -> bool {
        self.asleep
    }

    /// Wakes it, if it sleeps: a leader calls on everybody at once and gives them time to answer, a
    /// follower gives the leader time to call.
    pub fn wake(&mut self, now: Duration) {
        self.observe(now);
        self.awake();
    }

    /// Something is asked of a leader.
    pub(crate) fn wake_leader(&mut self) {
        if matches!(self.office, Office::Leader(_)) {
            self.awake();
        }
    }

    pub(crate) fn awake(&mut self) {
        if !self.asleep {
            return;
        }
        self.asleep = false;
        self.draw_timeout();
        if let Office::Leader(lead) = &mut self.office {
            lead.quorum_elapsed = 0;
            lead.heartbeat_elapsed = 0;
            for progress in lead.progress.values_mut() {
                progress.active = true;
                progress.heartbeat_due = true;
            }
        }
    }
}
