//! What a change of membership makes of a configuration: one step at once, several through a joint
//! configuration (Raft §4.3).

use crate::types::{Configuration, MembershipChange, MembershipStep, PeerId};

/// Steps of one change; beyond it a change is refused.
const STEPS_MAX: usize = 64;

impl Configuration {
    /// Whether both an incoming and an outgoing majority must agree.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// What this change would make of the configuration, or why it is not allowed.
    pub(crate) fn after(&self, change: &MembershipChange) -> Result<Configuration, &'static str> {
        change.check()?;
        if self.is_joint() && !change.steps.is_empty() {
            return Err("a joint configuration is in force");
        }
        let after = self.changed_by(change);
        if after == *self {
            return Err("it changes nothing");
        }
        if after.voters.is_empty() {
            return Err("no voter would be left");
        }
        Ok(after)
    }

    /// The configuration after a committed change. One without steps leaves a joint configuration,
    /// and else changes nothing.
    pub(crate) fn changed_by(&self, change: &MembershipChange) -> Configuration {
        let mut after = self.clone();
        if change.steps.is_empty() {
            after.leave();
            return after;
        }
        assert!(
            !self.is_joint(),
            "R8: {change:?} although {self:?} is in force"
        );
        for step in &change.steps {
            after.take(*step);
        }
        if change.steps.len() > 1 && after.voters != self.voters {
            after.enter(self);
        }
        after
    }

    /// Goes on with the voters there were beside those there will be. Of the former, those that
    /// become learners do so when the joint configuration is left: nobody is both at once.
    fn enter(&mut self, before: &Configuration) {
        self.voters_outgoing.clone_from(&before.voters);
        let is_demoted = |peer: &PeerId| before.voters.contains(peer);
        self.learners_next = self.learners.iter().copied().filter(is_demoted).collect();
        self.learners.retain(|peer| !is_demoted(peer));
    }

    fn leave(&mut self) {
        self.learners.append(&mut self.learners_next);
        self.voters_outgoing.clear();
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

    /// Whether the sets are what a group can come to.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.voters.is_empty() {
            return Err("a configuration without voters");
        }
        let is_voter = |peer: &PeerId| self.is_voter(*peer);
        if self.learners.iter().any(is_voter) {
            return Err("a learner that votes");
        }
        let mut next = self.learners_next.iter();
        if next.any(|peer| !self.voters_outgoing.contains(peer) || self.voters.contains(peer)) {
            return Err("a learner to be that is no outgoing voter");
        }
        Ok(())
    }
}

impl MembershipChange {
    /// Whether a correct leader can propose this at all, whatever is in force.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.steps.len() > STEPS_MAX {
            return Err("too many steps in one change");
        }
        let mut peers: Vec<PeerId> = self.steps.iter().map(MembershipStep::peer).collect();
        peers.sort_unstable();
        if peers.first() == Some(&PeerId(0)) {
            return Err("0 is no peer");
        }
        peers.dedup();
        if peers.len() < self.steps.len() {
            return Err("a peer is named twice");
        }
        Ok(())
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
