//! Reads inside the lease, which cross no thread.
//!
//! The shard that owns a region publishes its leader's lease in a [`LeaseCell`]; any thread may
//! serve a read by the rule of [`read_in_lease`]. The order of its steps is what makes it safe:
//! a lease that is still valid on a clock read *after* the snapshot was taken, in a cell that
//! still says the same afterwards, covers the moment of the snapshot (C2).
//!
//! The shard sees nothing of these reads, and would put a region to sleep that is only read. So the
//! cell notes that there were some, and at each renewal the shard takes the note and is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tinykv_raft::{PeerId, Term};
use tinykv_replica::Region;

/// Leave to serve reads of a region without asking anybody, until a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leader's term.
    pub term: Term,
    /// The leader itself.
    pub peer: PeerId,
    /// The region as applied here: its range and epoch bound what may be read.
    pub region: Arc<Region>,
    /// On the monotonic clock of the process, exclusive.
    pub valid_until: Duration,
}

/// Where a shard publishes the lease of one region; empty while there is none.
#[derive(Debug, Default)]
pub struct LeaseCell {
    current: ArcSwapOption<Lease>,
    /// Whether reads were served since the note was taken.
    is_read: AtomicBool,
}

/// There is no valid lease, or the key lies outside the region: ask the shard (ReadIndex), which
/// also knows what to tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInLease;

impl LeaseCell {
    /// An empty cell.
    pub fn new() -> LeaseCell {
        LeaseCell::default()
    }

    /// What the cell says now. Proof of nothing by itself: see [`read_in_lease`].
    pub fn load(&self) -> Option<Arc<Lease>> {
        self.current.load_full()
    }

    /// Publishes a lease, or with `None` takes it back. Only the owning shard calls this, and
    /// takes a lease back before anything that depends on its absence leaves the shard.
    pub(crate) fn publish(&self, lease: Option<Lease>) {
        self.current.store(lease.map(Arc::new));
    }

    /// Whether reads were served since this was asked last.
    pub(crate) fn take_is_read(&self) -> bool {
        self.is_read.swap(false, Ordering::Relaxed)
    }

    /// Written once between two renewals, so that readers do not fight for its cache line. Nothing
    /// that is read depends on it.
    fn note_read(&self) {
        if !self.is_read.load(Ordering::Relaxed) {
            self.is_read.store(true, Ordering::Relaxed);
        }
    }
}

/// Takes a snapshot that may be read under the region's lease.
///
/// `in_region` says whether what will be read lies inside the region and whether the asker's
/// epoch, term and peer fit the lease; `snapshot` takes the snapshot; `now` reads the monotonic
/// clock. The steps and their order: load the cell; take the snapshot; then read the clock; then
/// load the cell again, which must name the same term and epoch, with the clock before its end
/// and the keys in its range.
pub fn read_in_lease<T>(
    cell: &LeaseCell,
    in_region: impl FnOnce(&Lease) -> bool,
    snapshot: impl FnOnce() -> T,
    now: impl FnOnce() -> Duration,
) -> Result<T, NotInLease> {
    let before = cell.load().ok_or(NotInLease)?;
    let taken = snapshot();
    let now = now();
    let after = cell.load().ok_or(NotInLease)?;
    let same = before.term == after.term
        && before.peer == after.peer
        && before.region.id == after.region.id
        && before.region.epoch == after.region.epoch;
    if same && now < after.valid_until && in_region(&after) {
        cell.note_read();
        Ok(taken)
    } else {
        Err(NotInLease)
    }
}

#[cfg(test)]
mod tests;
