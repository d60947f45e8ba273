//! Leaders are moved, peers are moved, regions are split: by wishes to placement where there is
//! one, else by the world itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tinykv_placement::schedule::Manual;
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{AdminAction, Peer, PeerChange, PeerRole, Region, SplitIds, StoreId};

use super::super::store::Store;
use super::World;

impl World {
    /// What is known of each region to whoever is furthest.
    pub(super) fn newest_regions(&self) -> BTreeMap<GroupId, Region> {
        let mut newest: BTreeMap<GroupId, Region> = BTreeMap::new();
        for running in self
            .stores
            .iter()
            .filter_map(|store| store.host.running.as_ref())
        {
            for (group, state) in &running.regions {
                let epoch = |region: &Region| (region.epoch.version, region.epoch.conf_ver);
                match newest.get(group) {
                    Some(known) if epoch(known) >= epoch(&state.region) => {}
                    _ => {
                        newest.insert(*group, state.region.clone());
                    }
                }
            }
        }
        newest
    }

    /// The store that leads a group in the newest term, as far as it knows, by its index.
    pub(super) fn leader(&self, group: GroupId) -> Option<usize> {
        let term = |store: &Store| -> Option<Term> {
            store.host.running.as_ref()?.leads.get(&group).copied()
        };
        (0..self.stores.len())
            .filter(|index| term(&self.stores[*index]).is_some())
            .max_by_key(|index| term(&self.stores[*index]))
    }

    /// A region with a leader, and where that is.
    pub(super) fn pick_region(&mut self) -> Option<(usize, Region)> {
        let groups: Vec<GroupId> = self.newest_regions().into_keys().collect();
        let group = self.context.random.pick(&groups).copied()?;
        let index = self.leader(group)?;
        let region = self.stores[index].host.region(group)?.region.clone();
        Some((index, region))
    }

    /// The region that was born last, for its peers may not have heard of it yet.
    fn youngest_region(&self) -> Option<(usize, Region)> {
        let (group, _) = self.newest_regions().pop_last()?;
        let index = self.leader(group)?;
        let region = self.stores[index].host.region(group)?.region.clone();
        Some((index, region))
    }

    pub(super) fn transfer(&mut self) -> bool {
        let Some((index, region)) = self.pick_region() else {
            return false;
        };
        if !self.members.is_empty() && self.context.random.chance(2) {
            let stores: Vec<StoreId> = region.peers.iter().map(|peer| peer.store).collect();
            let to = self.context.random.pick(&stores).copied();
            let wish = to.map(|to| Manual::TransferLeader { to });
            return wish.is_some_and(|wish| self.wish(region.id, wish));
        }
        self.admin(index, region.id, AdminAction::TransferLeader { to: None });
        true
    }

    pub(super) fn move_a_peer(&mut self) -> bool {
        let picked = match self.context.random.chance(3) {
            true => self.youngest_region(),
            false => self.pick_region(),
        };
        let Some((index, region)) = picked else {
            return false;
        };
        match self.members.is_empty() {
            true => self.move_a_peer_of(index, &region),
            false => self.wish_a_move(&region),
        }
    }

    fn wish_a_move(&mut self, region: &Region) -> bool {
        let all: Vec<StoreId> = self.store_ids().collect();
        let is_hurt = self.is_anyone_hurt();
        let (held, free): (Vec<StoreId>, Vec<StoreId>) = all
            .into_iter()
            .partition(|store| region.peer_on(*store).is_some());
        let from = self.context.random.pick(&held).copied();
        let to = self.context.random.pick(&free).copied();
        let wish = match (self.context.random.below(4), from, to) {
            (0 | 1, Some(from), Some(to)) => Manual::MovePeer { from, to },
            (2, _, Some(to)) => Manual::AddPeer { to },
            (_, Some(from), _) if !is_hurt => Manual::RemovePeer { from },
            _ => return false,
        };
        if let Manual::RemovePeer { .. } = wish {
            self.removals.insert(region.id, region.epoch.conf_ver);
        }
        self.wish(region.id, wish)
    }

    /// The next sensible step of moving a peer: promote a learner, remove one voter too many, or
    /// add a learner where there is no peer.
    pub(super) fn move_a_peer_of(&mut self, index: usize, region: &Region) -> bool {
        let leader = self.stores[index].host.id;
        for store in &mut self.stores {
            if store.wants_new_peers() {
                store.on_new_peers(&mut self.context, PeerId(self.ids.next()));
            }
        }
        let is_voter = |peer: &&Peer| peer.role == PeerRole::Voter;
        let voters: Vec<Peer> = region.peers.iter().filter(is_voter).copied().collect();
        if region.is_joint() {
            // It is left by itself.
            return false;
        }
        let is_learner = |peer: &&Peer| peer.role == PeerRole::Learner;
        let learner = region.peers.iter().find(is_learner);
        let free: Vec<StoreId> = self
            .store_ids()
            .filter(|store| region.peer_on(*store).is_none())
            .collect();
        let others = voters.iter().filter(|peer| peer.store != leader);
        let removable: Vec<Peer> = others.copied().collect();
        let is_damaged = |peer: &&Peer| self.is_damaged(region.id, peer.store);
        let damaged = region.peers.iter().find(is_damaged);
        let change = if let Some(damaged) = damaged {
            self.context.report.probe("damaged_peer_replaced");
            PeerChange::Remove(damaged.id)
        } else if let Some(learner) = learner {
            PeerChange::Promote(learner.id)
        } else if voters.len() > 3 || (self.healed.is_none() && self.context.random.chance(6)) {
            match self.context.random.pick(&removable) {
                Some(peer) if voters.len() > 2 && !self.is_anyone_hurt() => {
                    PeerChange::Remove(peer.id)
                }
                _ => return false,
            }
        } else {
            match self.context.random.pick(&free) {
                Some(store) => {
                    PeerChange::AddLearner(Peer::learner(PeerId(self.ids.next()), *store))
                }
                None => return false,
            }
        };
        let mut changes = vec![change];
        // A learner often takes the place of a voter in one step.
        if let [PeerChange::Promote(_)] = changes[..]
            && voters.len() > 2
            && self.setup.allows("joint")
            && !self.is_anyone_hurt()
            && self.context.random.chance(2)
            && let Some(voter) = self.context.random.pick(&voters)
        {
            changes.push(PeerChange::Remove(voter.id));
        }
        let group = region.id;
        self.context
            .trace(format_args!("group {group} {changes:?}"));
        let epoch = region.epoch;
        if let [PeerChange::Remove(_)] = changes[..] {
            self.removals.insert(group, epoch.conf_ver);
        }
        self.admin(index, group, AdminAction::ChangePeers { epoch, changes });
        // Sometimes a split races with it.
        if self.healed.is_none() && self.context.random.chance(4) {
            self.split(index, region);
        }
        true
    }

    /// Whether the replica of a group on a store is damaged.
    pub(super) fn is_damaged(&self, group: GroupId, store: StoreId) -> bool {
        let host = &self.stores[super::index_of(store)].host;
        host.damaged().contains(&group.0)
    }

    pub(super) fn split_a_region(&mut self) -> bool {
        if self.newest_regions().len() >= self.size.regions_max {
            return false;
        }
        let Some((index, region)) = self.pick_region() else {
            return false;
        };
        if !self.split(index, &region) {
            return false;
        }
        // Sometimes something races with it.
        match self.context.random.below(6) {
            0 => {
                let transfer = AdminAction::TransferLeader { to: None };
                self.admin(index, region.id, transfer);
            }
            1 if self.members.is_empty() => {
                self.move_a_peer_of(index, &region);
            }
            1 => {
                self.wish_a_move(&region);
            }
            _ => {}
        }
        true
    }

    /// Asks a region to become a part of a neighbour that lives where it does. Placement, if there is
    /// one, sees what came of it.
    pub(super) fn merge_a_region(&mut self) -> bool {
        let stores = |region: &Region| {
            let peers = region.peers.iter();
            peers.map(|peer| peer.store).collect::<BTreeSet<StoreId>>()
        };
        let touches = |one: &Region, other: &Region| {
            let follows =
                |left: &Region, right: &Region| !left.end.is_empty() && left.end == right.start;
            follows(one, other) || follows(other, one)
        };
        let newest = self.newest_regions();
        let fits =
            |one: &Region, other: &Region| touches(one, other) && stores(one) == stores(other);
        let mut pairs = Vec::new();
        for source in newest.values() {
            let targets = newest.values().filter(|target| fits(source, target));
            pairs.extend(targets.map(|target| (source.id, target.clone())));
        }
        let Some((group, target)) = self.context.random.pick(&pairs).cloned() else {
            return false;
        };
        let Some(index) = self.leader(group) else {
            return false;
        };
        let Some(state) = self.stores[index].host.region(group) else {
            return false;
        };
        let (epoch, into) = (state.region.epoch, target.id);
        self.context
            .trace(format_args!("group {group} to be merged into {into}"));
        // Often its leader is not beside the target's, and sometimes something races with it.
        if self.context.random.chance(3) {
            self.admin(index, group, AdminAction::TransferLeader { to: None });
            return true;
        }
        let racing = self.context.random.below(8);
        let beside = self.leader(into);
        if let (0, Some(other)) = (racing, beside) {
            self.split(other, &target);
        }
        self.admin(index, group, AdminAction::Merge { epoch, target });
        match (racing, beside) {
            (1, Some(other)) => self.admin(other, into, AdminAction::TransferLeader { to: None }),
            (2, _) => self.admin(index, group, AdminAction::TransferLeader { to: None }),
            (3, _) if self.members.is_empty() => drop(self.move_a_peer()),
            _ => {}
        }
        true
    }

    /// Cuts a region at one or two places: at a key, or between keys.
    fn split(&mut self, index: usize, region: &Region) -> bool {
        let Some(keys) = self.cuts(region) else {
            return false;
        };
        if !self.members.is_empty() {
            let keys = match self.context.random.chance(4) {
                true => Vec::new(),
                false => keys,
            };
            if self.context.random.chance(2) {
                return self.wish(region.id, Manual::Split { keys });
            }
            let store = &mut self.stores[index];
            store.wish_split(&mut self.context, region.clone(), keys);
            return true;
        }
        let ids: Vec<SplitIds> = keys
            .iter()
            .map(|_| SplitIds {
                region: GroupId(self.ids.next()),
                peers: region
                    .peers
                    .iter()
                    .map(|_| PeerId(self.ids.next()))
                    .collect(),
            })
            .collect();
        for child in &ids {
            self.context.invariants.on_child(region.id, child.region);
        }
        self.context.trace(format_args!(
            "group {} to be split at {keys:?} for {ids:?}",
            region.id
        ));
        let epoch = region.epoch;
        self.admin(index, region.id, AdminAction::Split { epoch, keys, ids });
        true
    }

    /// Where a region could be cut.
    fn cuts(&mut self, region: &Region) -> Option<Vec<Bytes>> {
        let between = self.keys.iter().map(|key| format!("{key}x"));
        let all = self.keys.iter().cloned().chain(between);
        let mut inside: Vec<Bytes> = all
            .map(Bytes::from)
            .filter(|key| region.contains(key) && *key != region.start)
            .collect();
        inside.sort();
        let first = self.context.random.pick(&inside)?.clone();
        let beyond: Vec<Bytes> = inside.into_iter().filter(|key| *key > first).collect();
        let mut keys = vec![first];
        if self.context.random.chance(4)
            && let Some(second) = self.context.random.pick(&beyond)
        {
            keys.push(second.clone());
        }
        Some(keys)
    }

    fn admin(&mut self, index: usize, group: GroupId, action: AdminAction) {
        self.stores[index].admin(&mut self.context, group, action);
    }
}
