//! After the healing: what must come true in the end.

use std::collections::{BTreeMap, BTreeSet};

use tinykv_raft::{GroupId, LogIndex, PeerId};
use tinykv_replica::{Event, StateMachine};

use super::{Cluster, Faults, KEYS_PER_GROUP};
use crate::lists::Lists;

impl Cluster {
    pub(super) fn check_leaders(&mut self) {
        for store in &self.stores {
            let Some(shard) = &store.shard else {
                continue;
            };
            for (group, peer) in &store.dead {
                let here = shard.status(*group).map(|status| status.peer.id);
                assert_ne!(
                    here,
                    Some(*peer),
                    "{group} is resurrected on {} (M7)",
                    store.id
                );
            }
            for group in shard.led_groups() {
                let Some(status) = shard.status(group) else {
                    continue;
                };
                let term = status.raft.hard_state.term.0;
                let leader = *self.leaders.entry((group, term)).or_insert(status.peer.id);
                assert_eq!(
                    leader, status.peer.id,
                    "two leaders of {group} in term {term} (R1)"
                );
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.faults = Faults {
            loss: 0,
            duplicate: 0,
            slow: 0,
            crash: 0,
            pause: 0,
            partition: 0,
            membership: 0,
        };
        self.cut.clear();
        for at in self.down_until.values_mut() {
            *at = self.now;
        }
        for store in &mut self.stores {
            store.paused_until = 0;
        }
    }

    /// What placement would do about peers that nobody told that they were removed.
    pub(super) fn sweep_ghosts(&mut self) {
        for index in 0..self.stores.len() {
            let shard = self.stores[index].shard.as_ref().expect("healed");
            let here: Vec<(GroupId, PeerId)> = shard
                .groups()
                .filter_map(|group| Some((group, shard.status(group)?.peer.id)))
                .collect();
            for (group, peer) in here {
                let newest = self.newest(group).expect("every group lives somewhere");
                if newest.region.peer(peer).is_none() {
                    self.figures.gone += 1;
                    self.stores[index]
                        .inbox
                        .push(Event::Destroy { group, peer });
                }
            }
        }
    }

    /// Healed, every group must serve again, its replicas must agree, and nobody may be left over.
    pub(super) fn settle(&mut self) {
        for region in self.groups.clone() {
            let last = format!("g{}k0", region.id.0);
            let state = self.newest(region.id).expect("every group lives somewhere");
            if state.open {
                self.append_until_acked(region.id, &last);
            }
        }
        let deadline = self.now + 5_000;
        while self.now < deadline && self.difference().is_some() {
            self.step();
        }
        if let Some(difference) = self.difference() {
            panic!("not converged: {difference}\n{}", self.picture());
        }
        let waiting = self.now + 2_500;
        while self.now < waiting && !self.open.is_empty() {
            self.step();
        }
        assert!(self.open.is_empty(), "somebody was never answered");
    }

    pub(super) fn append_until_acked(&mut self, group: GroupId, key: &str) {
        let deadline = self.now + 4_000;
        let before = self.figures.acked;
        while self.figures.acked == before {
            assert!(
                self.now < deadline,
                "{group} does not take writes after healing"
            );
            if let Some(leader) = self.leader_store(group) {
                self.ask(leader, group, key, false);
            }
            for _ in 0..20 {
                self.step();
            }
        }
    }

    /// All groups on all stores, for a failing seed.
    pub(super) fn picture(&self) -> String {
        let mut lines = Vec::new();
        for store in &self.stores {
            let Some(shard) = &store.shard else { continue };
            for group in shard.groups() {
                let status = shard.status(group);
                lines.push(format!("store {} group {group}: {status:?}", store.id));
            }
        }
        lines.join("\n")
    }

    /// What is not yet as it should be in the end.
    pub(super) fn difference(&self) -> Option<String> {
        for group in &self.groups {
            let state = self.newest(group.id)?;
            let mut applied = BTreeSet::new();
            let mut images = BTreeSet::new();
            for peer in &state.region.peers {
                let store = &self.stores[peer.store.0 as usize - 1];
                let here = store
                    .regions
                    .get(&group.id)
                    .map(|(id, state)| (*id, &state.region));
                if here != Some((peer.id, &state.region)) {
                    return Some(format!("peer {} is not in service: {here:?}", peer.id));
                }
                applied.insert(store.applied(group.id));
                images.insert(store.lsm.current.copy(&Lists::ranges(&state.region)));
            }
            if applied.len() != 1 || images.len() != 1 {
                return Some(format!(
                    "{}: applied {applied:?}, images {images:?}",
                    group.id
                ));
            }
            for store in &self.stores {
                if let Some((peer, _)) = store.regions.get(&group.id) {
                    if state.region.peer(*peer).is_none() {
                        return Some(format!("peer {peer} of {} is a ghost", group.id));
                    }
                } else if store.applied(group.id) != LogIndex(0) {
                    return Some(format!("{} left something on store {}", group.id, store.id));
                }
            }
        }
        None
    }

    /// The final lists of all keys.
    pub(crate) fn finals(&self) -> BTreeMap<String, Vec<u32>> {
        let mut finals = BTreeMap::new();
        for group in &self.groups {
            let state = self.newest(group.id).expect("every group lives somewhere");
            let store = &self.stores[state.region.peers[0].store.0 as usize - 1];
            for key in 0..KEYS_PER_GROUP {
                let key = format!("g{}k{key}", group.id.0);
                finals.insert(key.clone(), store.list(key.as_bytes()));
            }
        }
        finals
    }
}
