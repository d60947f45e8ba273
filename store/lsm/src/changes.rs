//! Waiting for work instead of looking for it.

use std::sync::Arc;
use std::time::Duration;

use tinykv_sync::{Condvar, Mutex};

/// Rises whenever a tree changed so that work may be due which was not before
/// ([`Lsm::plan`](crate::Lsm::plan)), pressure may have changed beyond what fills the active
/// memtable, or indexes may have become durable. Cheap to clone; all clones are the same count.
///
/// Who waits reads the count first, then looks for work, then waits for another count than it read:
/// so nothing that happens in between is missed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// A leaf: nothing is locked while this is.
    count: Mutex<u64>,
    risen: Condvar,
}

impl Changes {
    /// How many there were. To be read before what they are about.
    pub fn count(&self) -> u64 {
        *self.shared.count.lock()
    }

    /// Adds one: everybody who waits looks again.
    pub fn note(&self) {
        *self.shared.count.lock() += 1;
        self.shared.risen.notify_all();
    }

    /// Waits until there were others than those `seen`, for `patience` at most; may return sooner.
    pub fn wait(&self, seen: u64, patience: Duration) {
        let mut count = self.shared.count.lock();
        if *count == seen {
            self.shared.risen.wait_for(&mut count, patience);
        }
    }
}
