//! What a compaction may leave out though nothing deleted it.

use std::fmt::Debug;
use std::ptr;

/// Decides which values have outlived their use, such as those whose expiry has passed.
///
/// A compaction asks it about the newest version of a key when nothing older of that key is left
/// below, so what it drops uncovers nothing. Nobody can tell when, or whether, it is asked: readers
/// have to hide what it would drop, and whatever it once dropped must stay out of use. Snapshots
/// keep the tables they were taken from, so one that was taken before shows what it showed.
///
/// The answer may depend on the entry and on what the filter was told (the time up to which
/// everything expired may go), never on a clock or on chance: replicas and simulations shall drop
/// the same.
pub trait CompactionFilter: Debug + Send + Sync {
    /// Whether this entry goes.
    fn drops(&self, key: &[u8], value: &[u8]) -> bool;
}

/// Two filters are equal if they are one.
impl PartialEq for dyn CompactionFilter {
    fn eq(&self, other: &dyn CompactionFilter) -> bool {
        ptr::addr_eq(self, other)
    }
}
