//! Which regions have something new to report.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tinykv_node::node::Hooks;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::RegionChange;
use tokio::sync::Notify;

/// Collects what shards tell, one note per region however often it changes.
#[derive(Debug, Default)]
pub struct News {
    changed: Mutex<BTreeSet<GroupId>>,
    damaged: Mutex<BTreeSet<GroupId>>,
    wake: Notify,
}

impl News {
    /// Notes a region.
    pub fn note(&self, group: GroupId) {
        self.changed.lock().insert(group);
        self.wake.notify_one();
    }

    /// Takes all notes.
    pub fn take(&self) -> BTreeSet<GroupId> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Resolves once there may be a note.
    pub async fn arrived(&self) {
        self.wake.notified().await;
    }

    /// Regions whose peer here is damaged.
    pub fn damaged(&self) -> Vec<u64> {
        self.damaged.lock().iter().map(|group| group.0).collect()
    }
}

impl Hooks for News {
    fn region_changed(&self, change: &RegionChange) {
        match change {
            RegionChange::Region { state, .. } => self.note(state.region.id),
            RegionChange::Leader { group, .. } => self.note(*group),
            RegionChange::Gone { group, .. } => {
                self.damaged.lock().remove(group);
                self.note(*group);
            }
        }
    }

    fn damaged(&self, group: GroupId, _peer: PeerId) {
        self.damaged.lock().insert(group);
    }
}
