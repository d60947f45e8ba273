//! Settings of a shard.

use std::time::Duration;

use tinykv_raft::Willingness;

use crate::region::StoreId;

/// Settings of a [`crate::Shard`] and of every group in it.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The store whose peers live here.
    pub store: StoreId,
    /// Drawn by the shell; election timeouts are drawn from it. Different per process start.
    pub seed: u64,
    /// Time between two [`crate::Event::Tick`]s. Default 50 ms.
    pub tick: Duration,
    /// Ticks between heartbeats. Default 2.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader before an election, at least. Default 10.
    pub election_ticks_min: u32,
    /// Ticks without a leader before an election, at most. Default 20.
    pub election_ticks_max: u32,
    /// How long a voter that answered its leader helps no other. Default 500 ms.
    pub promise: Duration,
    /// Bytes of entries in one append. Default 256 KiB.
    pub append_bytes_max: usize,
    /// Bytes of appends under way to one follower. Default 4 MiB.
    pub in_flight_bytes_max: usize,
    /// Appends under way to one follower. Default 128.
    pub in_flight_messages_max: usize,
    /// Bytes proposed and not yet committed in one group; above, [`crate::BusyReason::Uncommitted`].
    /// Default 16 MiB.
    pub uncommitted_bytes_max: usize,
    /// Bytes of recent entries a group keeps in memory. Default 1 MiB.
    pub memory_bytes_max: usize,
    /// Open requests in one group; above, [`crate::BusyReason::Waiters`]. Default 16,384.
    pub waiters_max: usize,
    /// Bytes of committed entries that wait for apply in one (parked) group; above, appends from
    /// its leader are dropped until it has caught up. Default 32 MiB.
    pub apply_backlog_bytes_max: usize,
    /// Bytes of log a leader keeps for slow followers; above, it cuts and they get a snapshot.
    /// Default 64 MiB.
    pub log_bytes_max: u64,
    /// The same for followers that are silent. Default 16 MiB.
    pub log_bytes_silent_max: u64,
    /// Entries a learner may lack to be promoted. Default 1,024.
    pub promote_lag_max: u64,
    /// The hint that goes with [`crate::Refusal::Busy`]. Default 20 ms.
    pub busy_wait: Duration,
    /// Time between the campaigns of two groups whose leaders died together. Default 1 ms.
    pub campaign_stagger: Duration,
    /// How long the campaigns of all groups whose leaders died together may take to begin. Default
    /// 500 ms.
    pub campaign_spread_max: Duration,
    /// Ticks without any request after which a group that is at rest sleeps ([`crate::Rest`]), if its
    /// stores are [fresh](crate::Event::StoreFresh). `None`, the default, is never;
    /// [`ShardConfig::HIBERNATE_AFTER_TICKS`] is what stores should have.
    pub hibernate_after_ticks: Option<u32>,
    /// Ticks after which a frozen region whose peers do not all get the rest of its log asks its target
    /// to decline the merge. Default 100.
    pub merge_patience_ticks: u32,
    /// Whether this store wants to lead. Default willing. [`crate::Event::SetWillingness`] changes
    /// it.
    pub willingness: Willingness,
    /// Whether [`crate::Effects::observed`] is filled. Default false.
    pub observe: bool,
    /// Whether the log was ever found damaged below what was acknowledged: peers may have lived
    /// here of which nothing is left (`shard/calling.rs`). Default false.
    pub log_was_damaged: bool,
}

impl ShardConfig {
    /// Three seconds.
    pub const HIBERNATE_AFTER_TICKS: u32 = 60;

    /// The defaults.
    pub fn new(store: StoreId, seed: u64) -> ShardConfig {
        ShardConfig {
            store,
            seed,
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks_min: 10,
            election_ticks_max: 20,
            promise: Duration::from_millis(500),
            append_bytes_max: 256 << 10,
            in_flight_bytes_max: 4 << 20,
            in_flight_messages_max: 128,
            uncommitted_bytes_max: 16 << 20,
            memory_bytes_max: 1 << 20,
            waiters_max: 16_384,
            apply_backlog_bytes_max: 32 << 20,
            log_bytes_max: 64 << 20,
            log_bytes_silent_max: 16 << 20,
            promote_lag_max: 1_024,
            busy_wait: Duration::from_millis(20),
            campaign_stagger: Duration::from_millis(1),
            campaign_spread_max: Duration::from_millis(500),
            hibernate_after_ticks: None,
            merge_patience_ticks: 100,
            willingness: Willingness::Willing,
            observe: false,
            log_was_damaged: false,
        }
    }
}
