//! Which regions live here, for everybody but their shards.
//!
//! Shards publish; services look up by group or key, read lease cells and leaders. What stands
//! here may be outdated a moment later: it routes, it decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{Region, RegionChange, RegionState};
use tokio::sync::watch;

use crate::lease::LeaseCell;
use crate::traffic::Traffic;

/// What is known of one group that lives here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionView {
    /// The peer that lives here.
    pub peer: PeerId,
    /// The region as applied here; `None` while the peer waits for its first snapshot.
    pub state: Option<Arc<RegionState>>,
    /// The leader, if known here.
    pub leader: Option<PeerId>,
    /// The term this is about.
    pub term: Term,
    /// Whether the leader is the peer that lives here.
    pub leads: bool,
}

/// One group that lives here.
#[derive(Debug)]
pub struct RegionEntry {
    group: GroupId,
    lease: LeaseCell,
    traffic: Traffic,
    view: ArcSwap<RegionView>,
}

impl RegionEntry {
    /// The group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Where its lease is published.
    pub fn lease(&self) -> &LeaseCell {
        &self.lease
    }

    /// What is read and written of it here.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// What is known of it now.
    pub fn view(&self) -> Arc<RegionView> {
        self.view.load_full()
    }
}

/// All groups that live here.
#[derive(Debug, Default)]
pub struct Directory {
    tables: RwLock<Tables>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Tables {
    by_group: BTreeMap<GroupId, Arc<RegionEntry>>,
    /// By first key. While a region is replaced by another one that holds its keys, both may
    /// stand here for a moment, hence the group in the key.
    by_start: BTreeMap<(Bytes, GroupId), Arc<RegionEntry>>,
}

impl Directory {
    /// A group by its id.
    pub fn group(&self, group: GroupId) -> Option<Arc<RegionEntry>> {
        self.tables.read().by_group.get(&group).cloned()
    }

    /// The region that holds a routing key.
    pub fn find(&self, key: &[u8]) -> Option<Arc<RegionEntry>> {
        let tables = self.tables.read();
        let upto = (Bytes::copy_from_slice(key), GroupId(u64::MAX));
        let below = tables.by_start.range(..=upto).rev();
        below
            .map(|(_, entry)| entry)
            .find(|entry| {
                let view = entry.view.load();
                view.state
                    .as_ref()
                    .is_some_and(|state| state.region.contains(key))
            })
            .cloned()
    }

    /// All groups, by id.
    pub fn all(&self) -> Vec<Arc<RegionEntry>> {
        self.tables.read().by_group.values().cloned().collect()
    }

    /// How many of the groups are led from here.
    pub fn leaders(&self) -> usize {
        let tables = self.tables.read();
        let leads = |entry: &&Arc<RegionEntry>| entry.view.load().leads;
        tables.by_group.values().filter(leads).count()
    }

    /// Hears of every change from now on. Leases come and go unheard.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// A region other than this one that holds some of its keys.
    pub(crate) fn overlapping(&self, region: &Region) -> Option<GroupId> {
        let tables = self.tables.read();
        let others = tables.by_start.values().filter(|entry| {
            let view = entry.view.load();
            let overlaps = |state: &Arc<RegionState>| state.region.overlaps(region);
            entry.group != region.id && view.state.as_ref().is_some_and(overlaps)
        });
        others.map(|entry| entry.group).next()
    }

    /// Takes note of what a shard tells.
    pub fn apply(&self, change: &RegionChange) {
        match change {
            RegionChange::Region { peer, state } => self.put_region(*peer, state),
            RegionChange::Leader {
                group,
                peer,
                leader,
                term,
                is_here,
            } => {
                let view = RegionView {
                    peer: *peer,
                    state: self.group(*group).and_then(|entry| {
                        let view = entry.view.load();
                        view.state.clone().filter(|_| view.peer == *peer)
                    }),
                    leader: *leader,
                    term: *term,
                    leads: *is_here,
                };
                self.put_view(*group, view);
            }
            RegionChange::Gone { group, peer } => self.remove(*group, *peer),
        }
        self.changes.send_replace(());
    }

    fn put_region(&self, peer: PeerId, state: &Arc<RegionState>) {
        let group = state.region.id;
        let before = self.group(group).map(|entry| entry.view.load_full());
        let before = before.filter(|view| view.peer == peer);
        let view = match before {
            Some(view) => RegionView {
                state: Some(Arc::clone(state)),
                ..RegionView::clone(&view)
            },
            None => RegionView {
                peer,
                state: Some(Arc::clone(state)),
                leader: None,
                term: Term(0),
                leads: false,
            },
        };
        self.put_view(group, view);
    }

    fn put_view(&self, group: GroupId, view: RegionView) {
        let mut tables = self.tables.write();
        let start = |view: &RegionView| view.state.as_ref().map(|s| s.region.start.clone());
        let new_start = start(&view);
        let entry = match tables.by_group.get(&group) {
            Some(entry) => {
                let entry = Arc::clone(entry);
                let old = entry.view.swap(Arc::new(view));
                if let Some(old_start) = start(&old)
                    && new_start.as_ref() != Some(&old_start)
                {
                    tables.by_start.remove(&(old_start, group));
                }
                entry
            }
            None => {
                let entry = Arc::new(RegionEntry {
                    group,
                    lease: LeaseCell::new(),
                    traffic: Traffic::default(),
                    view: ArcSwap::from_pointee(view),
                });
                tables.by_group.insert(group, Arc::clone(&entry));
                entry
            }
        };
        if let Some(start) = new_start {
            tables.by_start.insert((start, group), entry);
        }
    }

    fn remove(&self, group: GroupId, peer: PeerId) {
        let mut tables = self.tables.write();
        let Some(entry) = tables.by_group.get(&group).cloned() else {
            return;
        };
        let view = entry.view.load();
        if view.peer != peer {
            return;
        }
        entry.lease.publish(None);
        tables.by_group.remove(&group);
        if let Some(state) = &view.state {
            tables.by_start.remove(&(state.region.start.clone(), group));
        }
    }
}

#[cfg(test)]
mod tests;
