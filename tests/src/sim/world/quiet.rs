//! The faults are over: within bounded time the cluster is whole again.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_keys::Asker;
use tinykv_raft::{GroupId, Willingness};
use tinykv_replica::{PeerRole, Region};
use tinykv_store::service::convert::region_to_proto;

use super::super::happening::Happening;
use super::super::network::Weather;
use super::World;

/// A healed cluster accepts writes in every region and all replicas agree within this time.
pub(super) const LIVENESS_LIMIT: Duration = Duration::from_secs(15);
/// How long the world waits before it looks at the healed cluster again.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The liveness phase.
#[derive(Debug)]
pub(super) struct Healed {
    until: Duration,
    /// Keys that are still to be written once more.
    pub(super) unwritten: Vec<String>,
    /// Keys that are still to be read a last time.
    pub(super) unread: Vec<String>,
    /// A scan over all keys has come to its end.
    pub(super) is_scanned: bool,
    is_whole: bool,
}

impl Healed {
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

impl World {
    /// Everything is mended, and the cluster has to become whole again.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.context.trace(format_args!("healed"));
        self.context.network.heal(Some(Weather::FAIR));
        self.tell_contacts();
        let addresses = self.addresses();
        for at in &addresses {
            self.process(*at).mend();
            let (process, context) = self.process_and_context(*at);
            process.set_willingness(context, Willingness::Willing);
        }
        self.healed = Some(Healed {
            until: self.context.now() + LIVENESS_LIMIT,
            // The others stay as the faults left them, and are compared so.
            unwritten: self.keys.iter().step_by(2).cloned().collect(),
            unread: self.keys.clone(),
            is_scanned: false,
            is_whole: false,
        });
        for at in addresses {
            if !self.process(at).is_running() {
                self.start(at)?;
            }
        }
        for client in 0..self.clients.len() {
            let begin = Happening::Begin { client };
            self.context.schedule.after(Duration::ZERO, begin);
        }
        self.context.schedule.after(LOOK_INTERVAL, Happening::Look);
        Ok(())
    }

    /// Is the cluster whole? If not, and time is not up, look again later.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let now = self.context.now();
        let problem = self.problem();
        let Some(healed) = &mut self.healed else {
            return Ok(());
        };
        match problem {
            None => {
                healed.is_whole = true;
                Ok(())
            }
            Some(problem) if now >= healed.until => Err(format!(
                "liveness: {LIVENESS_LIMIT:?} after everything was mended {problem}"
            )),
            Some(_) => {
                self.finish_moves();
                self.tell_lost_peers();
                for client in 0..self.clients.len() {
                    self.begin(client);
                }
                self.context.schedule.after(LOOK_INTERVAL, Happening::Look);
                Ok(())
            }
        }
    }

    /// What is not as it should be at a quiet point.
    fn problem(&self) -> Option<String> {
        let healed = self.healed.as_ref()?;
        if let Some(key) = healed.unwritten.first() {
            return Some(format!("key {key} cannot be written"));
        }
        if let Some(key) = healed.unread.first() {
            return Some(format!("key {key} cannot be read"));
        }
        if self.clients.iter().any(|client| !client.is_idle()) {
            return Some("an operation has no end".to_owned());
        }
        if !healed.is_scanned {
            return Some("a scan has no end".to_owned());
        }
        let regions = self.newest_regions();
        let torn = gap_or_overlap(&regions).or_else(|| self.ghost(&regions));
        let torn = torn.or_else(|| {
            let regions: Vec<Region> = regions.values().cloned().collect();
            match self.members.is_empty() {
                true => None,
                false => self.problem_of_placement(&regions),
            }
        });
        torn.or_else(|| regions.keys().find_map(|group| self.difference(*group)))
    }

    /// Moves that were under way are brought to their end.
    fn finish_moves(&mut self) {
        if !self.members.is_empty() {
            // Placement does.
            return;
        }
        let is_learner = |region: &Region| {
            let mut roles = region.peers.iter().map(|peer| peer.role);
            roles.any(|role| role == PeerRole::Learner)
        };
        let newest = self.newest_regions().into_keys();
        let unfinished: Vec<(usize, Region)> = newest
            .filter_map(|group| {
                let index = self.leader(group)?;
                let region = &self.stores[index].host.region(group)?.region;
                let mut stores = region.peers.iter().map(|peer| peer.store);
                let is_damaged = stores.any(|store| self.is_damaged(group, store));
                (is_damaged || is_learner(region)).then(|| (index, region.clone()))
            })
            .collect();
        for (index, region) in unfinished {
            if self.context.random.chance(3) {
                self.move_a_peer_of(index, &region);
            }
        }
    }

    /// A damaged peer whose region was never installed knows nobody it could ask whether it is still
    /// wanted. Where there is placement it asks that; elsewhere the world says so.
    fn tell_lost_peers(&mut self) {
        if !self.members.is_empty() {
            return;
        }
        let newest = self.newest_regions();
        for store in &mut self.stores {
            let Some(running) = &store.host.running else {
                continue;
            };
            let groups = running.shard.groups();
            let statuses = groups.filter_map(|it| Some((it, running.shard.status(it)?)));
            let lost = statuses.filter(|(_, it)| it.damaged && it.state.is_none());
            let told = lost.filter_map(|(group, status)| {
                let heir = || newest.values().find(|it| it.contains(&status.start));
                let region = newest.get(&group).or_else(heir)?;
                Some((group, region_to_proto(region, Asker::Stored)?))
            });
            let told: Vec<_> = told.collect();
            for (group, known) in told {
                store.on_orphan(&mut self.context, group, &known);
            }
        }
    }

    /// M7: who is no member of the newest region is gone.
    fn ghost(&self, regions: &BTreeMap<GroupId, Region>) -> Option<String> {
        for store in &self.stores {
            let Some(running) = &store.host.running else {
                return Some(format!("store {} does not run", store.host.id));
            };
            for group in running.shard.groups() {
                let Some(region) = regions.get(&group) else {
                    return Some(format!(
                        "M7: store {} has a peer of group {group}, which is in service nowhere",
                        store.host.id
                    ));
                };
                if region.peer_on(store.host.id).is_none() {
                    return Some(format!(
                        "M7: store {} still has a peer of {region:?}",
                        store.host.id
                    ));
                }
            }
        }
        None
    }

    /// What the replicas of a group do not agree on.
    fn difference(&self, group: GroupId) -> Option<String> {
        let Some(leader) = self.leader(group) else {
            return Some(format!("group {group} has no leader"));
        };
        let leader = &self.stores[leader].host;
        let region = &leader.region(group)?.region;
        let wanted = leader.content(group)?;
        for peer in &region.peers {
            let host = &self.stores[super::index_of(peer.store)].host;
            match host.content(group) {
                Some(content) if content == wanted => {}
                Some(content) if content.applied == wanted.applied => {
                    return Some(format!(
                        "R4: group {group} has other data on store {} than on store {} at index \
                         {}: {:?} and {:?}",
                        host.id, leader.id, content.applied, content.pairs, wanted.pairs
                    ));
                }
                other => {
                    return Some(format!(
                        "group {group} is at {:?} on store {} and at {} on store {}",
                        other.map(|content| content.applied.0),
                        host.id,
                        wanted.applied,
                        leader.id
                    ));
                }
            }
        }
        None
    }
}

/// M1: the newest regions cover every key exactly once.
fn gap_or_overlap(regions: &BTreeMap<GroupId, Region>) -> Option<String> {
    let mut sorted: Vec<&Region> = regions.values().collect();
    sorted.sort_by_key(|region| region.start.clone());
    let mut reached = Some(bytes::Bytes::new());
    for region in sorted {
        if reached.as_ref() != Some(&region.start) {
            return Some(format!(
                "M1: after {reached:?} comes region {region:?}: {regions:?}"
            ));
        }
        reached = (!region.end.is_empty()).then(|| region.end.clone());
    }
    reached.map(|reached| format!("M1: from {reached:?} on there is no region"))
}
