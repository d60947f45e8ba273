//! Changes of membership: proposed one at a time, in force when applied (Raft §4.1, §4.3).

use crate::config::JointExit;
use crate::error::ProposeError;
use crate::message::{Force, MessageBody, TimeoutNow};
use crate::progress::Progress;
use crate::raft::{Office, Raft, Wait};
use crate::types::{Configuration, EntryId, MembershipChange, Payload, PeerId};

impl Raft {
    /// Appends a change to the log. Several steps that change who votes lead into a joint
    /// configuration; a change without steps leaves it ([`JointExit`] says who proposes that).
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
    /// on. Called in the order of the log, before [`on_applied`](Raft::on_applied) of its index. For
    /// a change that the driver refuses, the same on every peer, it passes one without steps;
    /// leaving a joint configuration cannot be refused.
    pub fn apply_membership(&mut self, change: &MembershipChange) -> Configuration {
        self.configuration = self.configuration.changed_by(change);
        let is_voter = self.configuration.is_voter(self.config.id);
        match &self.office {
            Office::Leader(_) if is_voter => self.lead_in_new_configuration(),
            Office::Leader(_) => self.hand_over(),
            Office::PreCandidate(_) | Office::Candidate(_) if !is_voter => self.step_down(),
            Office::PreCandidate(_) | Office::Candidate(_) => self.count_votes(),
            Office::Follower => {}
        }
        self.configuration.clone()
    }

    fn lead_in_new_configuration(&mut self) {
        let next = self.log.last().index.next();
        let Office::Leader(lead) = &mut self.office else {
            return;
        };
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
        let target = lead.transfer.as_ref().map(|transfer| transfer.target);
        if target.is_some_and(|target| !self.configuration.voters.contains(&target)) {
            lead.abandon_transfer();
        }
        if is_anybody_gone {
            // Whoever has this entry has it with the commit index that covers the removal.
            lead.dismissal = next;
            self.append_own(Payload::Empty);
        }
        self.advance_commit();
        self.advance_confirmed();
    }

    /// A leader that is no voter any more steps down, and tells the best of the voters to campaign
    /// at once: its own lease is over, and what was promised to it need not hold others up.
    fn hand_over(&mut self) {
        let Office::Leader(lead) = &self.office else {
            return;
        };
        let force = Force {
            term: self.term,
            seq: lead.seq,
        };
        let progress = |peer: &PeerId| Some((lead.progress.get(peer)?.matched, *peer));
        let best = self.configuration.voters.iter().filter_map(progress).max();
        self.step_down();
        if let Some((_, heir)) = best {
            let body = MessageBody::TimeoutNow(TimeoutNow { force });
            self.send(heir, body, Wait::No);
        }
    }

    /// Proposes to leave a joint configuration as soon as it is in force here.
    pub(crate) fn leave_joint_when_due(&mut self) {
        let is_leader = matches!(self.office, Office::Leader(_));
        if is_leader
            && self.configuration.is_joint()
            && self.config.joint_exit == JointExit::Automatic
        {
            // Refused while it is too early, or a transfer is under way: asked again in the next
            // drain, by this leader or the next one.
            let _ = self.propose_membership(MembershipChange::default());
        }
    }
}
