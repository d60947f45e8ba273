//! How stores do, by their heartbeats and their silence.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};

use super::allowance::Allowance;
use crate::state::{Settings, StoreLife, StoreRecord};

/// A store as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreView {
    /// From the replicated state.
    pub record: StoreRecord,
    /// When it was last heard; `None` if never in this leadership.
    pub heard_at: Option<Duration>,
    /// Since when it is heard without a gap longer than `disconnected_after` and without a lost
    /// stream.
    pub steady_since: Option<Duration>,
    /// Its stream of region heartbeats broke and it was not heard since: it has probably died.
    pub is_suspect: bool,
    /// What its last heartbeat said.
    pub stats: StoreStats,
    /// Peers on it that it reported as damaged: those it had of these regions when it began to.
    /// Who takes the place of one later is not damaged by an older report (D6).
    pub damaged: BTreeMap<GroupId, PeerId>,
    /// How many peers it may get at once.
    pub allowance: Allowance,
}

/// What a store says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Size of its file system in bytes.
    pub capacity_bytes: u64,
    /// Free bytes.
    pub available_bytes: u64,
    /// Bytes its data takes.
    pub used_bytes: u64,
    /// It cannot take more work now.
    pub is_busy: bool,
    /// It is going down in order: it takes no leaders and no peers.
    pub is_stopping: bool,
    /// Regions whose replica there is damaged and must be replaced (D6).
    pub damaged_regions: Vec<u64>,
    /// How slow it is for those who wait for it: 1 fine, 100 stuck, 0 if it does not tell.
    pub slow_score: u64,
    /// From where on it splits regions by itself.
    pub splits: SplitThresholds,
}

/// From where on a store splits a region by itself; 0: never for that reason, or not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitThresholds {
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Requests a second.
    pub requests_per_s: u64,
    /// Bytes a second, in and out.
    pub bytes_per_s: u64,
}

impl SplitThresholds {
    /// What splits with one of the two.
    #[must_use]
    pub fn lowest(self, other: SplitThresholds) -> SplitThresholds {
        let lowest = |one: u64, other: u64| match (one, other) {
            (0, told) | (told, 0) => told,
            (one, other) => one.min(other),
        };
        SplitThresholds {
            size_bytes: lowest(self.size_bytes, other.size_bytes),
            requests_per_s: lowest(self.requests_per_s, other.requests_per_s),
            bytes_per_s: lowest(self.bytes_per_s, other.bytes_per_s),
        }
    }
}

/// What follows from a store's life and its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreState {
    /// Never joined.
    Unknown,
    /// Joined, but not heard by this leadership yet and not silent for long: no new peers.
    Joined,
    /// Heard lately.
    Up,
    /// Silent for longer than `disconnected_after`, or its stream broke and it was not heard
    /// since: no new peers, no leaders.
    Disconnected,
    /// Silent for longer than `down_after`: its peers are replaced.
    Down,
    /// Heard lately and leaving: its peers are moved away.
    Offline,
    /// Gone for good.
    Tombstone,
}

impl StoreView {
    pub(super) fn unheard(record: StoreRecord) -> StoreView {
        StoreView {
            record,
            heard_at: None,
            steady_since: None,
            is_suspect: false,
            stats: StoreStats::default(),
            damaged: BTreeMap::new(),
            allowance: Allowance::default(),
        }
    }

    pub(super) fn on_heartbeat(&mut self, stats: StoreStats, settings: &Settings, now: Duration) {
        let gap = self
            .heard_at
            .is_some_and(|heard| now.saturating_sub(heard) > settings.disconnected_after());
        if gap || stats.is_stopping {
            self.steady_since = Some(now);
        }
        self.on_sign_of_life(now);
        self.heard_at = Some(now);
        self.allowance.hear(stats.slow_score, now);
        self.stats = stats;
    }

    /// It said anything at all.
    pub(super) fn on_sign_of_life(&mut self, now: Duration) {
        self.is_suspect = false;
        self.steady_since.get_or_insert(now);
    }

    /// Its stream broke. Until it is heard again nobody is sent to it.
    pub(super) fn on_stream_ended(&mut self) {
        self.is_suspect = true;
        self.steady_since = None;
    }

    /// How long it has been silent; a store not yet heard is silent since the view began.
    pub fn silence(&self, view_since: Duration, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at.unwrap_or(view_since))
    }

    /// See [`StoreState`].
    pub fn state(&self, settings: &Settings, view_since: Duration, now: Duration) -> StoreState {
        let silence = self.silence(view_since, now);
        if self.record.life == StoreLife::Tombstone {
            StoreState::Tombstone
        } else if silence > settings.down_after() {
            StoreState::Down
        } else if self.heard_at.is_none() {
            StoreState::Joined
        } else if self.is_suspect || silence > settings.disconnected_after() {
            StoreState::Disconnected
        } else if self.record.life == StoreLife::Leaving {
            StoreState::Offline
        } else {
            StoreState::Up
        }
    }

    /// Whether it has been heard for `leader_settle` without a gap.
    pub fn is_steady(&self, settings: &Settings, now: Duration) -> bool {
        self.steady_since
            .is_some_and(|since| now.saturating_sub(since) >= settings.leader_settle())
    }
}

impl fmt::Display for StoreState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreState::Unknown => "unknown",
            StoreState::Joined => "joined",
            StoreState::Up => "up",
            StoreState::Disconnected => "disconnected",
            StoreState::Down => "down",
            StoreState::Offline => "offline",
            StoreState::Tombstone => "tombstone",
        })
    }
}
