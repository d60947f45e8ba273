//! Changes of membership: one step at a time, in force when applied (Raft §4.1).

use crate::error::ProposeError;
use crate::progress::Progress;
use crate::raft::{Office, Raft};
use crate::types::{Configuration, EntryId, MembershipChange, MembershipStep, Payload, PeerId};

impl Raft {
    /// Appends a change of one step to the log.
    pub fn propose_membership(
        &mut self,
        change: MembershipChange,
    ) -> Result<EntryId, ProposeError> {
        let leader = self.leader;
        let Office::Leader(lead) = &self.office else {
            return Err(ProposeError::NotLeader { leader });
        };
        if lead.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        if self.log.commit() < lead.term_start {
            return Err(ProposeError::TermNotCommitted);
        }
        let is_pending = !self.memberships.is_empty();
        if is_pending || self.log.applied() < lead.membership_floor {
            return Err(ProposeError::MembershipPending);
        }
        self.configuration
            .after(&change)
            .map_err(ProposeError::InvalidChange)?;
        Ok(self.append_own(Payload::Membership(change)))
    }

    /// Whether a change of membership stands in the log, or may stand there, that is not applied.
    pub fn is_membership_pending(&self) -> bool {
        let is_early = match &self.office {
            Office::Leader(lead) => self.log.applied() < lead.membership_floor,
            _ => false,
        };
        is_early || !self.memberships.is_empty()
    }

    /// Whether this leader may tell peers outside the configuration in force that they are not
    /// needed any more. Before that their votes may be: a majority that crashes having the removal
    /// in its logs, but not the knowledge that it is committed, elects by the old configuration. So
    /// a removed peer keeps its log and goes on voting, also when it has applied its own removal,
    /// until a leader for whom this holds dismisses it.
    pub fn may_dismiss(&self) -> bool {
        match &self.office {
            Office::Leader(lead) => self.log.commit() >= lead.dismissal,
            _ => false,
        }
    }

    /// A committed membership entry is being applied: the configuration that is in force from now
    /// on. Called in the order of the log, before [`on_applied`](Raft::on_applied) of its index.
    pub fn apply_membership(&mut self, change: &MembershipChange) -> Configuration {
        let mut configuration = self.configuration.clone();
        for step in &change.steps {
            configuration.take(*step);
        }
        self.configuration = configuration;
        let is_voter = self.configuration.is_voter(self.config.id);
        match &mut self.office {
            Office::Leader(lead) if is_voter => {
                let next = self.log.last().index.next();
                let peers = self.configuration.peers();
                let count = lead.progress.len();
                lead.progress.retain(|peer, _| peers.contains(peer));
                let is_anybody_gone = lead.progress.len() < count;
                for peer in peers {
                    if peer != self.config.id {
                        lead.progress
                            .entry(peer)
                            .or_insert_with(|| Progress::new(next));
                    }
                }
                if is_anybody_gone {
                    // Whoever has this entry has it with the commit index that covers the removal.
                    lead.dismissal = next;
                    self.append_own(Payload::Empty);
                }
                self.advance_commit();
                self.advance_confirmed();
            }
            Office::Leader(_) => self.step_down(),
            Office::PreCandidate(_) | Office::Candidate(_) if !is_voter => self.step_down(),
            Office::PreCandidate(_) | Office::Candidate(_) => self.count_votes(),
            Office::Follower => {}
        }
        self.configuration.clone()
    }
}

impl Configuration {
    /// What this change makes of the configuration, or why it is not allowed.
    fn after(&self, change: &MembershipChange) -> Result<Configuration, &'static str> {
        let [step] = change.steps.as_slice() else {
            return Err("a change has exactly one step");
        };
        if !self.voters_outgoing.is_empty() {
            return Err("a joint configuration is in force");
        }
        let PeerId(id) = step.peer();
        if id == 0 {
            return Err("0 is no peer");
        }
        let mut after = self.clone();
        after.take(*step);
        if after == *self {
            return Err("it changes nothing");
        }
        if after.voters.is_empty() {
            return Err("no voter would be left");
        }
        Ok(after)
    }

    fn take(&mut self, step: MembershipStep) {
        let peer = step.peer();
        self.voters.remove(&peer);
        self.learners.remove(&peer);
        match step {
            MembershipStep::AddVoter(_) => {
                self.voters.insert(peer);
            }
            MembershipStep::AddLearner(_) => {
                self.learners.insert(peer);
            }
            MembershipStep::Remove(_) => {}
        }
    }
}

impl MembershipStep {
    /// The peer it is about.
    pub fn peer(&self) -> PeerId {
        match self {
            MembershipStep::AddVoter(peer)
            | MembershipStep::AddLearner(peer)
            | MembershipStep::Remove(peer) => *peer,
        }
    }
}
