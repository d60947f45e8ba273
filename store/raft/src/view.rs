//! What a group can be asked about itself.

use tinykv_mutants::{Mutant, planted};

use crate::raft::{Office, Raft};
use crate::status::{Lease, PeerStatus, Role, Status};
use crate::types::{Configuration, EntryId, LogIndex, PeerId, Term};

impl Raft {
    /// The lease, if there is one; compare `valid_until` with the clock *after* taking the
    /// read's snapshot. `None` before the first entry of the term is applied here. It changes with
    /// any input: publish it after every batch of input, before sending what that caused.
    pub fn lease(&self) -> Option<Lease> {
        let Office::Leader(lead) = &self.office else {
            return None;
        };
        let is_early = self.log.applied() < lead.term_start;
        if (is_early && !planted(Mutant::LeaseBeforeOwnEntry))
            || !self.configuration.is_voter(self.config.id)
        {
            return None;
        }
        let drift = match planted(Mutant::LeaseWithoutDrift) {
            true => 0,
            false => self.config.drift_percent,
        };
        let length = self.config.promise * (100 - drift) / (100 + drift);
        Some(Lease {
            term: self.term,
            valid_until: lead.lease_since()? + length,
        })
    }

    /// A picture of the group.
    pub fn status(&self) -> Status {
        let lead = match &self.office {
            Office::Leader(lead) => Some(lead),
            _ => None,
        };
        let peers = lead.iter().flat_map(|lead| &lead.progress);
        Status {
            id: self.config.id,
            role: self.role(),
            leader: self.leader,
            hard_state: self.hard_state(),
            applied: self.log.applied(),
            durable: self.persistence.durable(),
            last: self.log.last(),
            truncated: self.log.truncated(),
            memory_bytes: self.log.memory_bytes(),
            uncommitted_bytes: lead.map_or(0, |lead| lead.uncommitted_bytes),
            configuration: self.configuration.clone(),
            peers: peers
                .map(|(id, progress)| (*id, progress.status()))
                .collect(),
            transfer: self.transferring(),
            seq: lead.map_or_else(Default::default, |lead| lead.seq),
            confirmed: lead.map_or_else(Default::default, |lead| lead.confirmed.seq),
            lease: self.lease(),
            promised_until: self
                .promise
                .until
                .max(self.restart_until)
                .max(self.newborn_until),
        }
    }

    /// Of a leader: how far a peer is.
    pub fn peer_status(&self, peer: PeerId) -> Option<PeerStatus> {
        match &self.office {
            Office::Leader(lead) => Some(lead.progress.get(&peer)?.status()),
            _ => None,
        }
    }

    /// This peer's id.
    pub fn id(&self) -> PeerId {
        self.config.id
    }

    /// The role of this peer.
    pub fn role(&self) -> Role {
        match self.office {
            Office::Follower => Role::Follower,
            Office::PreCandidate(_) => Role::PreCandidate,
            Office::Candidate(_) => Role::Candidate,
            Office::Leader(_) => Role::Leader,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<PeerId> {
        self.leader
    }

    /// To whom this leader is handing its office.
    pub fn transferring(&self) -> Option<PeerId> {
        match &self.office {
            Office::Leader(lead) => lead.transfer.as_ref().map(|transfer| transfer.target),
            _ => None,
        }
    }

    /// Known committed up to here.
    pub fn commit(&self) -> LogIndex {
        self.log.commit()
    }

    /// Applied up to here.
    pub fn applied(&self) -> LogIndex {
        self.log.applied()
    }

    /// The last entry of the log.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The term of the entry at `index`, if it is in the log (or is the one it was cut at).
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term(index)
    }

    /// The membership in force.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }
}
