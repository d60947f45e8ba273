//! When a group sleeps, and what wakes it. Why this is never unsafe stands in the crate's essay.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_raft::{LogIndex, MessageBody, PeerId, Role, Term};

use super::Replica;
use crate::event::{PeerBody, PeerMessage, Rest};
use crate::machine::StateMachine;
use crate::region::{Peer, StoreId};
use crate::run::Run;

/// Ticks between two questions of a leader. Prime to the ticks between two checks of its quorum,
/// right after which it knows of nobody that he lives.
const ASK_TICKS: u32 = 7;

/// For how long who was asked needs to know about its leader's store, at least.
const DROWSY_TICKS: u32 = 10 * ASK_TICKS;

/// How near a peer is to sleep.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// Ticks in which nothing was asked and nothing changed.
    idle_ticks: u32,
    /// Something was asked since the last tick.
    is_used: bool,
    /// The end of the log at the last tick.
    last: LogIndex,
    /// As the leader: who agreed to the last question.
    agreed: BTreeSet<PeerId>,
    /// As a follower: ticks for which it goes on watching the leader's store.
    drowsy_ticks: u32,
    /// Whether it slept when the last run ended.
    slept: bool,
}

impl<S: StateMachine> Replica<S> {
    /// Whether it needs no ticks.
    pub(crate) fn is_asleep(&self) -> bool {
        self.raft.is_hibernating() && self.is_at_rest()
    }

    /// Nothing is under way that the core does not know of.
    fn is_at_rest(&self) -> bool {
        let is_in_service = self.birth_is_durable
            && self.state.is_some()
            && !self.damaged
            && !self.is_leaving
            && !self.leaves_after_split
            && !self.awaits_parent
            && !self.owes_children()
            && !self.is_heir
            && !self.is_stopped()
            && self.freeze().is_none()
            && self.merging.is_idle()
            && self.campaign_at.is_none();
        let is_nothing_moved = self.offered.is_none()
            && self.installing.is_none()
            && self.snapshots_wanted.is_empty()
            && self.sending.is_empty()
            && self.transfer.is_none()
            && self.dismissing.is_empty();
        let is_nothing_applied = self.committed.is_empty()
            && self.parked.is_none()
            && self.splitting.is_none()
            && self.proposed_split.is_none()
            && !self.raft.is_membership_pending();
        is_in_service && is_nothing_moved && is_nothing_applied && self.requests.len() == 0
    }

    /// The stores that must be fresh for this peer to sleep, if it sleeps or would like to.
    pub(crate) fn stores_watched(&self, limit: Option<u32>) -> BTreeSet<StoreId> {
        let Some(limit) = limit.filter(|_| !self.damaged && !self.is_leaving) else {
            return BTreeSet::new();
        };
        let is_asleep = self.raft.is_hibernating();
        if self.is_leader() {
            let is_drowsy = is_asleep || self.rest.idle_ticks >= limit;
            let others = self.others().filter(|_| is_drowsy);
            others.map(|peer| peer.store).collect()
        } else {
            let is_drowsy = is_asleep || self.rest.drowsy_ticks > 0;
            let leader = self.leader().filter(|_| is_drowsy);
            leader.map(|peer| peer.store).into_iter().collect()
        }
    }

    fn others(&self) -> impl Iterator<Item = Peer> {
        let own = self.peer.id;
        let peers = self.region.peers.iter().copied();
        peers.filter(move |peer| peer.id != own)
    }

    /// A tick has passed: a leader that has had nothing to do for long asks the others.
    pub(super) fn doze(&mut self, run: &mut Run<'_, S::Reply>) {
        let Some(limit) = run.config.hibernate_after_ticks else {
            return;
        };
        let last = self.raft.last().index;
        let is_idle = !self.rest.is_used && last == self.rest.last && self.is_at_rest();
        self.rest.is_used = false;
        self.rest.last = last;
        if !is_idle {
            self.rest.agreed.clear();
            self.rest.idle_ticks = 0;
            self.rest.drowsy_ticks = 0;
            return;
        }
        self.rest.idle_ticks = self.rest.idle_ticks.saturating_add(1);
        self.rest.drowsy_ticks = self.rest.drowsy_ticks.saturating_sub(1);
        let since = self.rest.idle_ticks.checked_sub(limit);
        let is_due = since.is_some_and(|ticks| ticks.is_multiple_of(ASK_TICKS));
        if is_due && self.is_leader() && self.raft.may_hibernate() && self.are_others_fresh(run) {
            let term = self.raft.term();
            self.rest.agreed.clear();
            self.tell_others(Rest::Ask { term, last }, run);
            self.sleep_if_agreed(term, last, run);
        }
    }

    fn are_others_fresh(&self, run: &Run<'_, S::Reply>) -> bool {
        self.others().all(|peer| run.fresh.contains(&peer.store))
    }

    fn tell_others(&self, rest: Rest, run: &mut Run<'_, S::Reply>) {
        for peer in self.others() {
            self.tell(peer, rest, run);
        }
    }

    pub(super) fn tell(&self, peer: Peer, rest: Rest, run: &mut Run<'_, S::Reply>) {
        let message = self.envelope(peer, PeerBody::Rest(rest));
        run.effects.messages.push(message);
    }

    pub(super) fn on_rest(&mut self, from: Peer, rest: Rest, run: &mut Run<'_, S::Reply>) {
        match rest {
            Rest::Ask { term, last } => {
                if self.agrees(from, term, last, run) {
                    self.rest.drowsy_ticks = DROWSY_TICKS;
                    if run.fresh.contains(&from.store) {
                        self.tell(from, Rest::Agree { term, last }, run);
                    }
                }
            }
            Rest::Agree { term, last } => {
                self.rest.agreed.insert(from.id);
                self.sleep_if_agreed(term, last, run);
            }
            Rest::Sleep { term, last } => {
                if self.agrees(from, term, last, run) && run.fresh.contains(&from.store) {
                    self.raft.hibernate();
                }
            }
            Rest::Wake if self.is_leader() => self.raft.wake(run.now),
            Rest::Wake => self.tell(from, Rest::Disown, run),
            Rest::Disown => {
                if !self.is_leader() && self.raft.leader() == Some(from.id) {
                    self.on_leader_dead(Duration::ZERO, from.store, run);
                }
            }
        }
    }

    /// Whether a follower is where its leader is, and has as little to do.
    fn agrees(&self, leader: Peer, term: Term, last: LogIndex, run: &Run<'_, S::Reply>) -> bool {
        run.config.hibernate_after_ticks.is_some()
            && self.raft.role() == Role::Follower
            && (self.raft.term(), self.raft.leader()) == (term, Some(leader.id))
            && self.raft.last().index == last
            // It must be known whose loss is to wake this peer.
            && self.leader().is_some_and(|it| it.store == leader.store)
            && self.is_at_rest()
            && self.raft.may_hibernate()
    }

    fn sleep_if_agreed(&mut self, term: Term, last: LogIndex, run: &mut Run<'_, S::Reply>) {
        let limit = run.config.hibernate_after_ticks;
        let is_as_asked = self.is_leader()
            && (self.raft.term(), self.raft.last().index) == (term, last)
            && limit.is_some_and(|limit| self.rest.idle_ticks >= limit)
            && !self.rest.is_used
            && self.is_at_rest();
        let is_agreed = self
            .others()
            .all(|peer| self.rest.agreed.contains(&peer.id));
        if is_as_asked && is_agreed && self.are_others_fresh(run) && self.raft.hibernate() {
            self.tell_others(Rest::Sleep { term, last }, run);
            self.dismiss_again(run);
        }
    }

    /// A client wants something. A leader wakes by what it does for it; who follows asleep does not
    /// know whether its leader still leads.
    pub(super) fn on_use(&mut self, run: &mut Run<'_, S::Reply>) {
        self.rest.is_used = true;
        self.rouse(run);
    }

    /// Clients were served without being seen. Whoever sleeps has no lease, so nobody has to wake.
    pub(crate) fn on_read_in_lease(&mut self) {
        self.rest.is_used = true;
    }

    /// A sleeping follower wakes, and its leader: if that does not call, the follower is free to
    /// elect another.
    pub(super) fn rouse(&mut self, run: &mut Run<'_, S::Reply>) {
        if !self.raft.is_hibernating() || self.is_leader() {
            return;
        }
        self.raft.wake(run.now);
        if let Some(leader) = self.leader() {
            self.tell(leader, Rest::Wake, run);
        }
    }

    /// Before a message is stepped: a sleeping peer waits for no leader that asks for its vote.
    pub(super) fn is_asked_asleep(&mut self, message: &PeerMessage) -> bool {
        let PeerBody::Raft(raft) = &message.body else {
            return false;
        };
        let is_request = matches!(raft.body, MessageBody::VoteRequest(_));
        if !is_request || !self.raft.is_hibernating() {
            return false;
        }
        if self.raft.leader() == Some(raft.from) {
            self.raft.forget_leader();
        }
        true
    }

    /// A store is lost: a sleeping leader with a peer there looks after it.
    pub(crate) fn on_store_lost(&mut self, store: StoreId, run: &Run<'_, S::Reply>) {
        if self.is_leader() && self.region.peer_on(store).is_some() {
            self.raft.wake(run.now);
        }
    }

    /// A leader that cannot go on says so to those who may sleep under it.
    pub(super) fn disown(&self, run: &mut Run<'_, S::Reply>) {
        if self.is_leader() {
            self.tell_others(Rest::Disown, run);
        }
    }

    /// Whether it sleeps under a leader on this store.
    pub(crate) fn sleeps_under(&self, store: StoreId) -> bool {
        let leader = self.leader().filter(|_| !self.is_leader());
        self.raft.is_hibernating() && leader.is_some_and(|leader| leader.store == store)
    }

    /// The run ends: who has just woken has not been waiting for anybody's word meanwhile.
    pub(super) fn note_waking(&mut self, run: &Run<'_, S::Reply>) {
        let sleeps = self.raft.is_hibernating();
        if std::mem::replace(&mut self.rest.slept, sleeps) && !sleeps {
            self.rest.idle_ticks = 0;
            for heard in self.heard.values_mut() {
                *heard = run.now;
            }
        }
    }
}
