//! What goes wrong, and who changes memberships meanwhile.

use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{
    AdminAction, AdminCommand, AdminRequest, Event, Peer, PeerChange, PeerRole, StoreId, WaiterId,
};

use super::{Cluster, Open};
use crate::store::Outbox;

impl Cluster {
    pub(super) fn break_something(&mut self) {
        let stores = self.stores.len() as u64;
        let victim = self.random.between(1, stores);
        if self.random.chance(self.faults.crash) && self.stores[victim as usize - 1].is_up() {
            self.crash(victim);
        }
        if self.random.chance(self.faults.pause) {
            let pause = self.random.between(50, 1_500);
            self.stores[victim as usize - 1].paused_until = self.now + pause;
        }
        if self.random.chance(self.faults.partition) {
            let until = self.now + self.random.between(100, 2_500);
            let ways = self.random.below(3);
            for other in (1..=stores).filter(|other| *other != victim) {
                if ways != 1 {
                    self.cut.insert((victim, other), until);
                }
                if ways != 2 {
                    self.cut.insert((other, victim), until);
                }
            }
        }
        let now = self.now;
        self.cut.retain(|_, until| *until > now);
    }

    pub(super) fn crash(&mut self, victim: u64) {
        self.figures.crashes += 1;
        if self.random.chance(4) {
            self.stop(victim);
        }
        self.stores[victim as usize - 1].crash();
        let down = self.random.between(20, 1_500);
        self.down_until.insert(victim, self.now + down);
        self.open.retain(|(store, _), _| *store != victim);
        let news = match self.random.below(3) {
            0 => Some(Event::StoreDead(StoreId(victim))),
            1 => Some(Event::StoreUnreachable(StoreId(victim))),
            _ => None,
        };
        for store in self.stores.iter_mut().filter(|store| store.is_up()) {
            store.inbox.extend(news.clone());
        }
    }

    pub(super) fn change_something(&mut self) {
        let group = GroupId(self.random.between(1, self.groups.len() as u64));
        let Some(state) = self.newest(group) else {
            return;
        };
        let Some(leader) = self.leader_store(group) else {
            return;
        };
        let region = &state.region;
        let voters = region
            .peers
            .iter()
            .filter(|peer| peer.role == PeerRole::Voter)
            .count();
        if !state.open && voters >= 3 && self.random.chance(3) {
            let action = AdminAction::Command {
                epoch: region.epoch,
                command: AdminCommand::Open,
            };
            return self.administrate(leader, group, action);
        }
        let is_growing = voters < 3 && self.random.chance(6);
        if !is_growing && !self.random.chance(self.faults.membership) {
            return;
        }
        let peer = self.random.pick(&region.peers);
        let free: Vec<u64> = (1..=self.stores.len() as u64)
            .filter(|store| region.peer_on(StoreId(*store)).is_none())
            .collect();
        let learner = region
            .peers
            .iter()
            .copied()
            .find(|peer| peer.role == PeerRole::Learner);
        let choice = if is_growing { 1 } else { self.random.below(4) };
        let change = match (choice, learner, peer) {
            (0, _, Some(peer)) => {
                let action = AdminAction::TransferLeader { to: Some(peer.id) };
                return self.administrate(leader, group, action);
            }
            (1 | 2, Some(learner), _) => PeerChange::Promote(learner.id),
            (1 | 2, None, _) => {
                let Some(store) = self.random.pick(&free) else {
                    return;
                };
                self.next_peer += 1;
                PeerChange::AddLearner(Peer::learner(PeerId(self.next_peer), StoreId(store)))
            }
            (_, _, Some(peer)) if voters > 3 || peer.role == PeerRole::Learner => {
                PeerChange::Remove(peer.id)
            }
            (_, None, Some(peer)) if voters == 3 && self.random.chance(2) => {
                PeerChange::Remove(peer.id)
            }
            _ => return,
        };
        let action = AdminAction::ChangePeer {
            epoch: region.epoch,
            change,
        };
        self.administrate(leader, group, action);
    }

    pub(super) fn administrate(&mut self, store: u64, group: GroupId, action: AdminAction) {
        self.next_waiter += 1;
        let waiter = WaiterId(self.next_waiter);
        let is_transfer = matches!(action, AdminAction::TransferLeader { .. });
        self.open
            .insert((store, waiter), Open::Admin { is_transfer });
        let deadline = self.stores[store as usize - 1].clock(self.now) + Duration::from_secs(2);
        let request = AdminRequest {
            group,
            action,
            deadline,
            waiter: Some(waiter),
        };
        self.stores[store as usize - 1]
            .inbox
            .push(Event::Admin(request));
    }

    /// A shutdown: everybody is answered before the process is gone.
    fn stop(&mut self, victim: u64) {
        let mut out = Outbox::default();
        let store = &mut self.stores[victim as usize - 1];
        store.paused_until = 0;
        store.inbox.push(Event::Shutdown);
        store.turn(self.now, &mut out, &mut |_, _| {});
        self.take_outbox(victim, out);
        let waiting = self
            .open
            .keys()
            .filter(|(store, _)| *store == victim)
            .count();
        assert_eq!(
            waiting, 0,
            "store {victim} went down and answered not everybody"
        );
    }
}
