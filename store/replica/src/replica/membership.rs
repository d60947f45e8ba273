//! Changes of membership, proposed and applied. One step at a time; the peers' stores travel in
//! the entry's context.

use bytes::Bytes;
use tinykv_raft::{
    EntryId, MembershipChange, MembershipStep, MessageBody, PeerId, PeerState, PeerStatus,
};

use super::Replica;
use crate::command::{MembershipContext, PeerChange};
use crate::event::{PeerBody, PeerMessage};
use crate::machine::{ReadError, StateMachine};
use crate::outcome::{BusyReason, MembershipRefusal, Refusal};
use crate::region::{Peer, PeerRole, Region, RegionEpoch, RoutingRange};
use crate::run::{Run, busy};

impl<S: StateMachine> Replica<S> {
    pub(super) fn propose_change(
        &mut self,
        epoch: RegionEpoch,
        change: PeerChange,
        run: &Run<'_, S::Reply>,
    ) -> Result<EntryId, Refusal> {
        if self.transfer.is_some() {
            return Err(busy(run.config, BusyReason::Transferring));
        }
        if epoch != self.region.epoch {
            return Err(self.epoch_not_match());
        }
        changed(&self.region, &[change]).map_err(Refusal::Membership)?;
        match change {
            PeerChange::Remove(id) if id == self.peer.id => {
                return Err(Refusal::Membership(MembershipRefusal::RemovesLeader(id)));
            }
            PeerChange::Promote(id) => {
                let peers = self.raft.status().peers;
                let lag_max = run.config.promote_lag_max;
                if !peers
                    .get(&id)
                    .is_some_and(|peer| self.keeps_up(peer, lag_max))
                {
                    return Err(busy(run.config, BusyReason::LearnerBehind));
                }
            }
            _ => {}
        }
        let context = MembershipContext {
            epoch,
            changes: vec![change],
        }
        .encode();
        let steps = vec![step(change)];
        self.raft
            .propose_membership(MembershipChange { steps, context })
            .map_err(|error| self.refusal_of(&error, run))
    }

    /// Applies a committed change. A refused one changes nothing, on every replica alike.
    pub(super) fn apply_change(
        &mut self,
        change: &MembershipChange,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<Result<(), Refusal>, ReadError> {
        let context = MembershipContext::decode(&change.context)
            .map_err(|error| ReadError(error.to_string()))?;
        let outcome = if context.epoch.conf_ver == self.region.epoch.conf_ver {
            changed(&self.region, &context.changes).map_err(Refusal::Membership)
        } else {
            Err(self.epoch_not_match())
        };
        let peers = match outcome {
            Ok(peers) => peers,
            Err(refusal) => {
                let nothing = MembershipChange {
                    steps: Vec::new(),
                    context: Bytes::new(),
                };
                self.raft.apply_membership(&nothing);
                return Ok(Err(refusal));
            }
        };
        let Some(state) = &self.state else {
            return Err(ReadError(
                "a membership change before the first state".to_owned(),
            ));
        };
        let mut state = state.as_ref().clone();
        state.region.peers = peers;
        state.region.epoch.conf_ver += context.changes.len() as u64;
        let configuration = self.raft.apply_membership(change);
        assert_eq!(
            configuration,
            state.region.configuration(),
            "group {}: Raft and the region disagree about the membership",
            self.group
        );
        let before = self.region.clone();
        self.change_state(state, run);
        if self.is_leader() {
            for peer in self
                .region
                .peers
                .iter()
                .filter(|peer| peer.id != self.peer.id)
            {
                self.heard.entry(peer.id).or_insert(run.now);
            }
        }
        self.remember_removed(&before);
        Ok(Ok(()))
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

    /// Tells those who were removed, once. Who misses it asks ([`PeerBody::Probe`]).
    pub(super) fn dismiss(&mut self, run: &mut Run<'_, S::Reply>) {
        if !self.is_leader() {
            self.dismissing.clear();
        } else if self.raft.may_dismiss() {
            for removed in std::mem::take(&mut self.dismissing) {
                let gone = self.envelope(removed, PeerBody::Gone);
                run.effects.messages_after_persist.push(gone);
            }
        }
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
            MessageBody::Append(_) | MessageBody::Snapshot(_) => {
                self.raft.peer_state(to) != Some(PeerState::Replicate)
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

fn step(change: PeerChange) -> MembershipStep {
    match change {
        PeerChange::AddLearner(peer) => MembershipStep::AddLearner(peer.id),
        PeerChange::Promote(id) => MembershipStep::AddVoter(id),
        PeerChange::Remove(id) => MembershipStep::Remove(id),
    }
}

/// The peers after some changes, or what is wrong with these.
fn changed(region: &Region, changes: &[PeerChange]) -> Result<Vec<Peer>, MembershipRefusal> {
    let mut peers = region.peers.clone();
    for change in changes {
        let position = |id: PeerId, peers: &[Peer]| peers.iter().position(|peer| peer.id == id);
        match *change {
            PeerChange::AddLearner(peer) => {
                if position(peer.id, &peers).is_some() {
                    return Err(MembershipRefusal::PeerExists(peer.id));
                }
                if peers.iter().any(|other| other.store == peer.store) {
                    return Err(MembershipRefusal::StoreHasPeer(peer.store));
                }
                peers.push(Peer {
                    role: PeerRole::Learner,
                    ..peer
                });
                peers.sort_by_key(|peer| peer.id);
            }
            PeerChange::Promote(id) => {
                let at = position(id, &peers).ok_or(MembershipRefusal::PeerUnknown(id))?;
                if peers[at].role != PeerRole::Learner {
                    return Err(MembershipRefusal::NotALearner(id));
                }
                peers[at].role = PeerRole::Voter;
            }
            PeerChange::Remove(id) => {
                let at = position(id, &peers).ok_or(MembershipRefusal::PeerUnknown(id))?;
                peers.remove(at);
                if !peers.iter().any(|peer| peer.role == PeerRole::Voter) {
                    return Err(MembershipRefusal::LastVoter);
                }
            }
        }
    }
    Ok(peers)
}
