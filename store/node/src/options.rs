//! Settings of a node.

use std::time::Duration;

use crate::failure::Failure;

/// Settings of a [`crate::node::Node`]. What no operator should tune is a constant where it is
/// used.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Threads that own groups. Default: half of the processors, at least 1.
    pub shards: usize,
    /// Threads for reads that wait for the disk. Default: twice the processors, at least 4.
    pub pool_threads: usize,
    /// Threads for flushes and compactions; one of them is kept for flushes. Default: half of the
    /// processors, at least 2.
    pub upkeep_threads: usize,
    /// Bytes that may wait for the log's thread; above, commands are refused as busy and Raft
    /// messages dropped. Default 64 MiB.
    pub log_queue_bytes_max: usize,
    /// Free bytes on the data directory's file system below which the disk counts as full (D8).
    /// Default 128 MiB.
    pub disk_reserve_bytes: u64,
    /// Bytes per second of each snapshot sent to another store. Default 100 MiB.
    pub snapshot_bytes_per_second: u64,
    /// How long [`crate::node::Node::shutdown`] waits for leaders to be handed away. Default 3 s.
    pub evict_time_max: Duration,
}

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        NodeOptions {
            shards: (processors / 2).max(1),
            pool_threads: (processors * 2).max(4),
            upkeep_threads: (processors / 2).max(2),
            log_queue_bytes_max: 64 << 20,
            disk_reserve_bytes: 128 << 20,
            snapshot_bytes_per_second: 100 << 20,
            evict_time_max: Duration::from_secs(3),
        }
    }
}

impl NodeOptions {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with one sentence that names the setting.
    pub fn validate(&self) -> Result<(), Failure> {
        let rules = [
            (self.shards >= 1, "shards must be at least 1"),
            (self.shards <= 256, "shards must be at most 256"),
            (self.pool_threads >= 1, "pool_threads must be at least 1"),
            (
                self.upkeep_threads >= 2,
                "upkeep_threads must be at least 2",
            ),
            (
                self.log_queue_bytes_max >= 1 << 20,
                "log_queue_bytes_max must be at least 1 MiB",
            ),
            (
                self.snapshot_bytes_per_second >= 1 << 10,
                "snapshot_bytes_per_second must be at least 1 KiB",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, sentence)) => Err(Failure::configuration(sentence)),
        }
    }
}
