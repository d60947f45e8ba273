//! Changes of membership, proposed and applied; the peers' stores travel in the entry's context.
//!
//! One step is in force at once. Several that change who votes lead into a joint membership, which
//! the roles of the region's peers tell; an entry without steps, proposed by the core of whoever
//! leads then, leaves it. So a leader may fail at any point of it (M11).

use std::collections::BTreeSet;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, MembershipChange, MessageBody, PeerId, PeerState, PeerStatus};
use tinykv_wal::Record;

use super::{Replica, STRANGERS_MAX};
use crate::command::{MembershipContext, PeerChange};
use crate::event::{PeerBody, PeerMessage, Rest};
use crate::machine::{ReadError, StateMachine};
use crate::outcome::{BusyReason, MembershipRefusal, Refusal};
use crate::region::{Peer, PeerRole, Region, RegionEpoch, RegionState, RoutingRange};
use crate::run::{Run, busy};

impl<S: StateMachine> Replica<S> {
    pub(super) fn propose_changes(
        &mut self,
        epoch: RegionEpoch,
        changes: Vec<PeerChange>,
        run: &Run<'_, S::Reply>,
    ) -> Result<EntryId, Refusal> {
        if self.transfer.is_some() {
            return Err(busy(run.config, BusyReason::Transferring));
        }
        if epoch != self.region.epoch {
            return Err(self.epoch_not_match());
        }
        if self.region.is_joint() {
            return Err(busy(run.config, BusyReason::MembershipPending));
        }
        changed(&self.region, &changes).map_err(Refusal::Membership)?;
        if let [PeerChange::Remove(id) | PeerChange::Demote(id)] = changes[..]
            && id == self.peer.id
        {
            return Err(Refusal::Membership(MembershipRefusal::RemovesLeader(id)));
        }
        let is_behind = |change: &PeerChange| match change {
            PeerChange::Promote(id) => !self.may_promote(*id, run),
            _ => false,
        };
        if changes.iter().any(is_behind) {
            return Err(busy(run.config, BusyReason::LearnerBehind));
        }
        let steps = changes.iter().map(PeerChange::step).collect();
        let context = MembershipContext { epoch, changes }.encode();
        self.raft
            .propose_membership(MembershipChange { steps, context })
            .map_err(|error| self.refusal_of(&error, run))
    }

    fn may_promote(&self, learner: PeerId, run: &Run<'_, S::Reply>) -> bool {
        let peers = self.raft.status().peers;
        let learner = peers.get(&learner);
        learner.is_some_and(|peer| self.keeps_up(peer, run.config.promote_lag_max))
    }

    /// Applies a committed change. A refused one changes nothing, on every replica alike.
    pub(super) fn apply_change(
        &mut self,
        change: &MembershipChange,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Result<(), Refusal>, ReadError> {
        let Some(state) = &self.state else {
            return Err(ReadError(
                "a membership change before the first state".to_owned(),
            ));
        };
        let mut state = state.as_ref().clone();
        if change.steps.is_empty() {
            // Proposed by the leader's core to leave a joint membership.
            state.region.epoch.conf_ver += settle(&mut state.region.peers);
        } else {
            let context = MembershipContext::decode(&change.context)
                .map_err(|error| ReadError(error.to_string()))?;
            if !context.says(change) {
                return Err(ReadError(
                    "a membership change whose context says something else".to_owned(),
                ));
            }
            match self.changed_in_order(&context) {
                Ok(peers) => state.region.peers = peers,
                Err(refusal) => return Ok(Err(refusal)),
            }
            if !planted(Mutant::EpochUnraised) {
                state.region.epoch.conf_ver += context.changes.len() as u64;
            }
        }
        self.take_membership(change, state, run);
        Ok(Ok(()))
    }

    fn changed_in_order(&self, context: &MembershipContext) -> Result<Vec<Peer>, Refusal> {
        if context.epoch.conf_ver != self.region.epoch.conf_ver || self.region.is_joint() {
            return Err(self.epoch_not_match());
        }
        changed(&self.region, &context.changes).map_err(Refusal::Membership)
    }

    fn take_membership(
        &mut self,
        change: &MembershipChange,
        state: RegionState,
        run: &mut Run<'_, S::Reply>,
    ) {
        let configuration = self.raft.apply_membership(change);
        assert_eq!(
            configuration,
            state.region.configuration(),
            "group {}: Raft and the region disagree about the membership",
            self.group
        );
        // A restart may find neither the applied state nor the commit index, and would count by the
        // old configuration, whose other voters may be gone by then.
        run.record(Record::HardState {
            group: self.group,
            hard_state: self.raft.status().hard_state,
        });
        let before = self.region.clone();
        self.change_state(state, run);
        if self.is_leader() {
            let others = self.region.peers.iter();
            for peer in others.filter(|peer| peer.id != self.peer.id) {
                self.heard.entry(peer.id).or_insert(run.now);
            }
        }
        self.remember_removed(&before);
    }

    /// Whoever was removed is told so by a leader, once nobody can need its vote any more
    /// ([`tinykv_raft::Raft::may_dismiss`]). Until then it votes, also if it knows by itself.
    fn remember_removed(&mut self, before: &Region) {
        for removed in before
            .peers
            .iter()
            .filter(|peer| self.region.peer(peer.id).is_none())
        {
            self.sending.remove(&removed.id);
            self.heard.remove(&removed.id);
            if removed.id != self.peer.id && self.is_leader() {
                self.dismissing.push(*removed);
            }
        }
    }

    /// Tells those who were removed. Who misses it asks ([`PeerBody::Probe`]), unless it sleeps: so it
    /// is told again before the others sleep, and by a leader of old not to wait for that one.
    pub(super) fn dismiss(&mut self, run: &mut Run<'_, S::Reply>) {
        if !self.is_leader() {
            self.dismissing.clear();
            for removed in std::mem::take(&mut self.dismissed) {
                self.tell(removed, Rest::Disown, run);
            }
        } else if self.raft.may_dismiss() {
            for removed in std::mem::take(&mut self.dismissing) {
                self.say_farewell(removed, run);
                self.dismissed.push(removed);
            }
            let extra = self.dismissed.len().saturating_sub(STRANGERS_MAX);
            self.dismissed.drain(..extra);
        }
    }

    /// The last word to those who were removed since the group slept last.
    pub(super) fn dismiss_again(&mut self, run: &mut Run<'_, S::Reply>) {
        for removed in std::mem::take(&mut self.dismissed) {
            self.say_farewell(removed, run);
        }
    }

    fn say_farewell(&self, removed: Peer, run: &mut Run<'_, S::Reply>) {
        let gone = self.envelope(removed, PeerBody::Gone);
        run.effects.messages_after_persist.push(gone);
    }

    pub(super) fn envelope(&self, to: Peer, body: PeerBody) -> PeerMessage {
        PeerMessage {
            group: self.group,
            from: self.peer,
            to,
            epoch: self.epoch(),
            keep_after: if self.is_leader() {
                self.log.truncated.index
            } else {
                Default::default()
            },
            range: self.range_for(to.id, &body),
            body,
        }
    }

    /// What a peer is told that may not exist yet, or may have no region.
    fn range_for(&self, to: PeerId, body: &PeerBody) -> Option<RoutingRange> {
        let PeerBody::Raft(message) = body else {
            return None;
        };
        let is_told = match &message.body {
            MessageBody::VoteRequest(_) => self.state.is_some(),
            // Who was known may have been lost with its store's log, and is silent since (D6).
            MessageBody::Append(_) | MessageBody::Snapshot(_) => {
                let status = self.raft.peer_status(to);
                let exists = |it: PeerStatus| it.state == PeerState::Replicate && it.active;
                !status.is_some_and(exists)
            }
            _ => false,
        };
        is_told.then(|| self.region.range())
    }

    /// Whether a learner has the region and takes part in replication. One that was never heard of
    /// might not even exist: as a voter it would only raise the quorum.
    pub(super) fn keeps_up(&self, peer: &PeerStatus, lag_max: u64) -> bool {
        peer.state == PeerState::Replicate
            && peer.matched >= self.log.truncated.index
            && self.raft.commit().0.saturating_sub(peer.matched.0) <= lag_max
    }
}

/// Steps of one change.
const STEPS_MAX: usize = 16;

/// The peers after some changes, or what is wrong with these.
fn changed(region: &Region, changes: &[PeerChange]) -> Result<Vec<Peer>, MembershipRefusal> {
    if changes.is_empty() || changes.len() > STEPS_MAX {
        return Err(MembershipRefusal::StepCount {
            steps: changes.len(),
            steps_max: STEPS_MAX,
        });
    }
    let mut peers = region.peers.clone();
    let mut named = BTreeSet::new();
    for change in changes {
        if !named.insert(change.peer()) {
            return Err(MembershipRefusal::NamedTwice(change.peer()));
        }
        take(&mut peers, *change)?;
    }
    let voters = |peers: &[Peer], role| -> BTreeSet<PeerId> {
        let of_role = peers.iter().filter(|peer| peer.role == role);
        of_role.map(|peer| peer.id).collect()
    };
    let mut after = voters(&peers, PeerRole::Voter);
    after.append(&mut voters(&peers, PeerRole::IncomingVoter));
    if after.is_empty() {
        return Err(MembershipRefusal::LastVoter);
    }
    let is_simple = changes.len() == 1 || after == voters(&region.peers, PeerRole::Voter);
    if is_simple {
        settle(&mut peers);
    }
    peers.sort_by_key(|peer| peer.id);
    Ok(peers)
}

/// One step towards a joint membership.
fn take(peers: &mut Vec<Peer>, change: PeerChange) -> Result<(), MembershipRefusal> {
    let id = change.peer();
    let at = peers.iter().position(|peer| peer.id == id);
    if let PeerChange::AddLearner(peer) = change {
        if at.is_some() {
            return Err(MembershipRefusal::PeerExists(id));
        }
        if peers.iter().any(|other| other.store == peer.store) {
            return Err(MembershipRefusal::StoreHasPeer(peer.store));
        }
        peers.push(Peer::learner(id, peer.store));
        return Ok(());
    }
    let at = at.ok_or(MembershipRefusal::PeerUnknown(id))?;
    match (change, peers[at].role) {
        (PeerChange::Promote(_), PeerRole::Learner) => peers[at].role = PeerRole::IncomingVoter,
        (PeerChange::Promote(_), _) => return Err(MembershipRefusal::NotALearner(id)),
        (PeerChange::Demote(_), PeerRole::Voter) => peers[at].role = PeerRole::DemotingVoter,
        (PeerChange::Demote(_), _) => return Err(MembershipRefusal::NotAVoter(id)),
        (_, PeerRole::Voter) => peers[at].role = PeerRole::LeavingVoter,
        _ => {
            peers.remove(at);
        }
    }
    Ok(())
}

/// What a joint membership becomes when it is left; says how many peers that concerns.
fn settle(peers: &mut Vec<Peer>) -> u64 {
    let concerned = peers.iter().filter(|peer| peer.role.is_joint()).count() as u64;
    peers.retain(|peer| peer.role != PeerRole::LeavingVoter);
    for peer in peers {
        match peer.role {
            PeerRole::IncomingVoter => peer.role = PeerRole::Voter,
            PeerRole::DemotingVoter => peer.role = PeerRole::Learner,
            PeerRole::Voter | PeerRole::Learner | PeerRole::LeavingVoter => {}
        }
    }
    concerned
}
