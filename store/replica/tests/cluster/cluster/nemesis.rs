//! What goes wrong, and who changes memberships meanwhile.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{
    AdminAction, AdminCommand, AdminRequest, Event, Peer, PeerChange, PeerRole, Region, SplitIds,
    StoreId, WaiterId,
};

use super::{Cluster, Open};
use crate::store::Outbox;

impl Cluster {
    pub(super) fn break_something(&mut self) {
        let stores = self.stores.len() as u64;
        let victim = self.random.between(1, stores);
        let due = self.crash_soon.take_if(|(at, _)| *at <= self.now);
        if let Some((_, victim)) =
            due.filter(|(_, victim)| self.stores[*victim as usize - 1].is_up())
        {
            self.crash(victim);
        }
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
        let is_connection_lost = self.random.chance(2);
        for store in self.stores.iter_mut().filter(|store| store.is_up()) {
            store.inbox.extend(news.clone());
            if is_connection_lost {
                store.lose_connection(StoreId(victim), self.now);
            }
        }
    }

    pub(super) fn change_something(&mut self) {
        let groups: Vec<GroupId> = self.groups().into_iter().collect();
        let Some(group) = self.random.pick(&groups) else {
            return;
        };
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
        if self.random.chance(self.faults.split) {
            return self.split(leader, region);
        }
        if self.random.chance(self.faults.merge) {
            return self.merge(leader, region);
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
        let changes = match (choice, learner, peer) {
            (0, _, Some(peer)) => {
                let action = AdminAction::TransferLeader { to: Some(peer.id) };
                return self.administrate(leader, group, action);
            }
            (1 | 2, Some(learner), Some(peer))
                if peer.role == PeerRole::Voter && voters >= 3 && self.random.chance(2) =>
            {
                self.figures.joint += 1;
                let other = match self.random.chance(2) {
                    true => PeerChange::Demote(peer.id),
                    false => PeerChange::Remove(peer.id),
                };
                vec![PeerChange::Promote(learner.id), other]
            }
            (1 | 2, Some(learner), _) => vec![PeerChange::Promote(learner.id)],
            (1 | 2, None, _) => {
                let Some(store) = self.random.pick(&free) else {
                    return;
                };
                self.next_peer += 1;
                let learner = Peer::learner(PeerId(self.next_peer), StoreId(store));
                vec![PeerChange::AddLearner(learner)]
            }
            (_, _, Some(peer)) if voters > 3 || peer.role == PeerRole::Learner => {
                vec![PeerChange::Remove(peer.id)]
            }
            (_, None, Some(peer)) if voters == 3 && self.random.chance(2) => {
                vec![PeerChange::Remove(peer.id)]
            }
            _ => return,
        };
        let action = AdminAction::ChangePeers {
            epoch: region.epoch,
            changes,
        };
        self.administrate(leader, group, action);
    }

    /// Leaders are handed from store to store while clients write; every third target stands still.
    pub(crate) fn transfer_under_load(&mut self, rounds: u64) {
        self.heal();
        self.patience = (20_000, 20_000);
        for _ in 0..200 {
            self.step();
        }
        for round in 0..rounds {
            for group in self.groups() {
                let (Some(leader), Some(state)) = (self.leader_store(group), self.newest(group))
                else {
                    continue;
                };
                let others = state
                    .region
                    .peers
                    .iter()
                    .filter(|peer| peer.store.0 != leader);
                let others: Vec<Peer> = others.copied().collect();
                let Some(target) = self.random.pick(&others) else {
                    continue;
                };
                if round % 3 == 2 {
                    self.stores[target.store.0 as usize - 1].paused_until = self.now + 400;
                }
                let to = Some(target.id);
                self.administrate(leader, group, AdminAction::TransferLeader { to });
            }
            for _ in 0..200 {
                self.ask_something();
                self.ask_something();
                self.step();
            }
        }
        for _ in 0..1_000 {
            self.step();
        }
        assert!(self.open.is_empty(), "somebody was never answered");
    }

    /// Cuts a region at one or two of its keys, if it has several.
    fn split(&mut self, leader: u64, region: &Region) {
        let inside = |key: &String| {
            region.contains(key.as_bytes()) && key.as_bytes() != region.start.as_ref()
        };
        let mut keys: Vec<String> = self.keys().filter(inside).skip(1).collect();
        let count = self.random.between(1, 2) as usize;
        while keys.len() > count {
            keys.remove(self.random.below(keys.len() as u64) as usize);
        }
        let keys: Vec<Bytes> = keys.into_iter().map(Bytes::from).collect();
        if keys.is_empty() {
            return;
        }
        if self.faults.crash > 0 && self.random.chance(2) {
            let victim = self.random.between(1, self.stores.len() as u64);
            self.crash_soon = Some((self.now + self.random.between(0, 80), victim));
        }
        let ids = keys.iter().map(|_| {
            self.next_group += 1;
            let peers = region.peers.iter().map(|_| {
                self.next_peer += 1;
                PeerId(self.next_peer)
            });
            SplitIds {
                peers: peers.collect(),
                region: GroupId(self.next_group),
            }
        });
        let ids: Vec<SplitIds> = ids.collect();
        self.next_waiter += 1;
        let waiter = WaiterId(self.next_waiter);
        self.open
            .insert((leader, waiter), Open::Split(ids[0].region));
        let epoch = region.epoch;
        self.request(
            leader,
            region.id,
            waiter,
            AdminAction::Split { epoch, keys, ids },
        );
    }

    /// Makes a region a part of a neighbour, best of one that lives where it does.
    fn merge(&mut self, leader: u64, region: &Region) {
        let touches = |other: &Region| {
            let is_left = !other.end.is_empty() && other.end == region.start;
            is_left || (!region.end.is_empty() && region.end == other.start)
        };
        let groups = self.groups().into_iter();
        let others = groups.filter_map(|group| self.newest(group));
        let others = others.map(|state| state.region.clone());
        let neighbours: Vec<Region> = others.filter(|other| touches(other)).collect();
        let stores = |region: &Region| {
            let mut stores: Vec<_> = region.peers.iter().map(|peer| peer.store).collect();
            stores.sort_unstable();
            stores
        };
        let near = neighbours.iter().filter(|it| stores(it) == stores(region));
        let near: Vec<&Region> = near.collect();
        let choice = match near.is_empty() || self.random.chance(10) {
            true => self.random.pick(&neighbours.iter().collect::<Vec<_>>()),
            false => self.random.pick(&near),
        };
        let Some(target) = choice.cloned() else {
            return;
        };
        if self.faults.crash > 0 && self.random.chance(2) {
            let victim = self.random.between(1, self.stores.len() as u64);
            self.crash_soon = Some((self.now + self.random.between(0, 150), victim));
        }
        let epoch = region.epoch;
        let action = AdminAction::Merge { epoch, target };
        self.administrate(leader, region.id, action);
    }

    pub(super) fn administrate(&mut self, store: u64, group: GroupId, action: AdminAction) {
        self.next_waiter += 1;
        let waiter = WaiterId(self.next_waiter);
        let is_transfer = matches!(action, AdminAction::TransferLeader { .. });
        self.open
            .insert((store, waiter), Open::Admin { is_transfer });
        self.request(store, group, waiter, action);
    }

    fn request(&mut self, store: u64, group: GroupId, waiter: WaiterId, action: AdminAction) {
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
