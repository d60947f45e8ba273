//! After the healing: what must come true in the end.

use std::collections::{BTreeMap, BTreeSet};

use tinykv_raft::{GroupId, LogIndex, PeerId};
use tinykv_replica::{Event, StateMachine, StoreId};

use super::{Cluster, Faults};
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
        self.faults = Faults::default();
        self.cut.clear();
        for at in self.down_until.values_mut() {
            *at = self.now;
        }
        for store in &mut self.stores {
            store.paused_until = 0;
            store.habits.job_ms_max = store.habits.job_ms_max.min(50);
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
                // Whoever absorbed it and lives here, too, may yet need it.
                let heirs = self.stores[index]
                    .regions
                    .keys()
                    .filter_map(|it| self.newest(*it));
                let mut heirs = heirs.filter(|it| it.merges.has_absorbed(group));
                if heirs.next().is_some() {
                    continue;
                }
                let is_merged = self.is_absorbed(group);
                let newest = self.newest(group);
                let is_member = newest.is_some_and(|it| it.region.peer(peer).is_some());
                if is_merged || !is_member {
                    self.figures.gone += 1;
                    self.stores[index]
                        .inbox
                        .push(Event::Destroy { group, peer });
                }
            }
        }
    }

    /// Whether a newer region holds the keys of a group.
    pub(super) fn is_absorbed(&self, group: GroupId) -> bool {
        let mut states = self.stores.iter().flat_map(|store| store.regions.values());
        states.any(|(_, state)| state.merges.has_absorbed(group))
    }

    /// Healed, every group must serve again, its replicas must agree, and nobody may be left over.
    pub(super) fn settle(&mut self) {
        for group in self.groups() {
            if self.is_absorbed(group) {
                continue;
            }
            let state = self.newest(group).expect("every group lives somewhere");
            let mut keys = self.keys();
            let key = keys.find(|key| state.region.contains(key.as_bytes()));
            if let Some(key) = key.filter(|_| state.open) {
                self.append_until_acked(group, &key);
            }
        }
        let deadline = self.now + 5_000;
        while self.now < deadline && self.difference().is_some() {
            self.step();
        }
        if let Some(difference) = self.difference() {
            panic!("not converged: {difference}\n{}", self.picture());
        }
        self.check_cover();
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
                "{group} does not take writes after healing\n{}",
                self.picture()
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
        for group in self.groups() {
            let state = self.newest(group)?;
            if state.merges.freeze().is_some() {
                return Some(format!("{group} is frozen"));
            }
            let mut applied = BTreeSet::new();
            let mut images = BTreeSet::new();
            for peer in &state.region.peers {
                let store = &self.stores[peer.store.0 as usize - 1];
                let here = store
                    .regions
                    .get(&group)
                    .map(|(id, state)| (*id, &state.region));
                if here != Some((peer.id, &state.region)) {
                    return Some(format!("peer {} is not in service: {here:?}", peer.id));
                }
                applied.insert(store.applied(group));
                images.insert(store.lsm.current.copy(&Lists::ranges(&state.region)));
            }
            if applied.len() != 1 || images.len() != 1 {
                return Some(format!("{group}: applied {applied:?}, images {images:?}"));
            }
            for store in &self.stores {
                if let Some((peer, _)) = store.regions.get(&group) {
                    if state.region.peer(*peer).is_none() {
                        return Some(format!("peer {peer} of {} is a ghost", group));
                    }
                } else if store.applied(group) != LogIndex(0) {
                    return Some(format!("{group} left something on store {}", store.id));
                }
            }
        }
        None
    }

    /// The final lists of all keys.
    pub(crate) fn finals(&self) -> BTreeMap<String, Vec<u32>> {
        let mut finals = BTreeMap::new();
        for key in self.keys() {
            let group = self.group_of(&key).expect("every key is somewhere");
            let state = self.newest(group).expect("every group lives somewhere");
            let store = &self.stores[state.region.peers[0].store.0 as usize - 1];
            finals.insert(key.clone(), store.list(key.as_bytes()));
        }
        finals
    }

    /// What stands under an epoch is the same everywhere (M1); no store has two regions that
    /// overlap.
    pub(super) fn check_regions(&mut self) {
        let overtaken = self.stores.iter().map(|store| store.overtaken);
        self.figures.overtaken = overtaken.sum();
        for store in &self.stores {
            for (_, state) in store.regions.values() {
                let region = &state.region;
                let at = (region.id, region.epoch.version, region.epoch.conf_ver);
                let first = self.seen.entry(at).or_insert_with(|| {
                    let told = self.acked_children.contains(&region.id);
                    let is_child = region.id.0 > 100;
                    self.figures.split_under_fire += usize::from(is_child && !told);
                    self.figures.joint_seen += usize::from(region.is_joint());
                    let (id, version) = (region.id, region.epoch.version);
                    let last = state.merges.absorbed.last();
                    let is_merged = last.is_some_and(|it| it.version == version);
                    self.figures.merged += usize::from(is_merged);
                    if state.merges.freeze().is_some() {
                        self.figures.frozen += 1;
                        self.frozen.insert((id, version));
                    } else if self.frozen.contains(&(id, version - 1)) {
                        self.figures.thawed += 1;
                    }
                    region.clone()
                });
                assert_eq!(first, region, "one epoch, two regions (M1)");
                let other = store.regions.values().find(|(_, other)| {
                    other.region.id != region.id && other.region.overlaps(region)
                });
                assert!(
                    other.is_none(),
                    "store {}: {region:?} overlaps {other:?}",
                    store.id
                );
            }
        }
    }

    /// No key is under two leases at once (C2).
    pub(super) fn check_leases(&self) {
        let mut holders: BTreeMap<String, StoreId> = BTreeMap::new();
        for store in &self.stores {
            let clock = store.clock(self.now);
            for cell in store
                .leases
                .values()
                .filter(|cell| clock < cell.valid_until)
            {
                let Some((_, state)) = store.regions.get(&cell.group) else {
                    continue;
                };
                let keys = self.keys();
                for key in keys.filter(|key| state.region.contains(key.as_bytes())) {
                    let before = holders.insert(key.clone(), store.id);
                    let alone = before.is_none_or(|before| before == store.id);
                    assert!(alone, "{key} is leased to {before:?} and {}", store.id);
                }
            }
        }
    }

    /// The newest regions hold each key exactly once (M2).
    fn check_cover(&self) {
        for key in self.keys() {
            let newest = self
                .groups()
                .into_iter()
                .filter_map(|group| self.newest(group));
            let holders: Vec<_> = newest
                .filter(|state| state.region.contains(key.as_bytes()))
                .map(|state| state.region.id)
                .collect();
            assert_eq!(
                holders.len(),
                1,
                "{key} is held by {holders:?}\n{}",
                self.picture()
            );
        }
    }
}
