//! What a group is told when it starts: its settings and its recovered state.

use std::time::Duration;

use crate::types::{Configuration, Entry, EntryId, HardState, LogIndex, PeerId, TermStart};

/// Settings of one group. Every peer of a group should have the same, `promise` above all.
#[derive(Clone, Debug)]
pub struct Config {
    /// This peer.
    pub id: PeerId,
    /// Shortest election timeout in ticks; also the interval of check-quorum and the time a leader
    /// transfer may take.
    pub election_ticks_min: u32,
    /// Election timeouts are drawn from `election_ticks_min..election_ticks_max`.
    pub election_ticks_max: u32,
    /// Ticks between heartbeats to a peer that gets no other message.
    pub heartbeat_ticks: u32,
    /// Bytes of entries in one append (a single larger entry travels alone).
    pub append_bytes_max: usize,
    /// Bytes of entries sent to one peer and not acknowledged; at the limit nothing is sent.
    pub in_flight_bytes_max: usize,
    /// Appends sent to one peer and not acknowledged; at the limit nothing is sent.
    pub in_flight_messages_max: usize,
    /// Bytes proposed by this leader and not committed; over it [`propose`](crate::Raft::propose)
    /// answers `Busy`. A single larger entry is taken when nothing else is uncommitted.
    pub uncommitted_bytes_max: usize,
    /// Bytes of the log kept in memory. Entries that are durable and handed out for apply are
    /// dropped over it; peers that still need them cause a [`Fetch`](crate::Fetch).
    pub memory_bytes_max: usize,
    /// How long an echo binds the voter: the cluster's *longest* promise, for it is also what a
    /// restarted peer waits. Must exceed `heartbeat_ticks` well, or live leaders are deposed.
    pub promise: Duration,
    /// Worst drift of a monotonic clock against real time, in percent, below 100. The lease is
    /// `promise * (100 - d) / (100 + d)`.
    pub drift_percent: u32,
    /// Whether this peer wants to lead.
    pub willingness: Willingness,
    /// Who proposes to leave a joint configuration.
    pub joint_exit: JointExit,
    /// Seed of the randomised election timeouts.
    pub seed: u64,
}

impl Config {
    /// The defaults for a tick of 50 ms: election 10 to 20 ticks, heartbeat 2, promise 500 ms.
    pub fn new(id: PeerId, seed: u64) -> Config {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        Config {
            id,
            election_ticks_min: 10,
            election_ticks_max: 20,
            heartbeat_ticks: 2,
            append_bytes_max: 256 * KIB,
            in_flight_bytes_max: 4 * MIB,
            in_flight_messages_max: 128,
            uncommitted_bytes_max: 32 * MIB,
            memory_bytes_max: 4 * MIB,
            promise: Duration::from_millis(500),
            drift_percent: 20,
            willingness: Willingness::Willing,
            joint_exit: JointExit::Automatic,
            seed,
        }
    }

    /// Says in one sentence what is wrong with these settings.
    pub fn validate(&self) -> Result<(), String> {
        let wrong = |sentence: &str| Err(sentence.to_owned());
        if self.id == PeerId(0) {
            return wrong("the id of a peer must not be 0");
        }
        if self.heartbeat_ticks == 0 {
            return wrong("heartbeat_ticks must be at least 1");
        }
        if self.election_ticks_min <= self.heartbeat_ticks {
            return wrong("election_ticks_min must exceed heartbeat_ticks");
        }
        if self.election_ticks_max <= self.election_ticks_min {
            return wrong("election_ticks_max must exceed election_ticks_min");
        }
        if self.append_bytes_max == 0 || self.in_flight_messages_max == 0 {
            return wrong("append_bytes_max and in_flight_messages_max must not be 0");
        }
        if self.in_flight_bytes_max < self.append_bytes_max {
            return wrong("in_flight_bytes_max must be at least append_bytes_max");
        }
        if self.drift_percent >= 100 {
            return wrong("drift_percent must be below 100");
        }
        Ok(())
    }
}

/// Whether a peer wants to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Willingness {
    /// Like any other.
    Willing,
    /// Only if nobody else does: it campaigns last, declines an office that is handed to it, and
    /// hands its own to each voter that is caught up, once, until one takes it. Its store is to be
    /// emptied, for example, or is far from the clients.
    Reluctant,
}

/// Who proposes to leave a joint configuration: a [`MembershipChange`](crate::MembershipChange)
/// without steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointExit {
    /// The leader's core, with an empty context, as soon as the configuration is in force there.
    Automatic,
    /// The leader's driver, by [`propose_membership`](crate::Raft::propose_membership), also when
    /// it finds the configuration joint on becoming leader.
    ByDriver,
}

/// Whether this peer may have made promises that it no longer remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// Created just now under an id never used before: there is nothing to forget. A new group
    /// of one voter campaigns at once.
    New,
    /// Created just now, in a split. Whoever led the range before may hold a lease on it, so this
    /// peer neither votes nor campaigns until `promise` after `started_at`, but for the candidate
    /// beside the parent's leader ([`Raft::campaign_first`](crate::Raft::campaign_first)).
    Split,
    /// It ran before. It neither votes nor campaigns until `promise` after `started_at`.
    Restarted,
}

/// The state a group starts from, as recovered by the driver.
#[derive(Clone, Debug)]
pub struct Initial {
    /// Term, vote and commit index as last written.
    pub hard_state: HardState,
    /// The membership at `applied`. Empty for a peer that waits for its first snapshot.
    pub configuration: Configuration,
    /// The state machine holds everything up to here. At least `truncated.index`.
    pub applied: LogIndex,
    /// The last entry no longer in the log (of the snapshot, or where it was cut); 0@0 if none.
    pub truncated: EntryId,
    /// The runs of the log after `truncated`, ascending. Empty if the log is.
    pub terms: Vec<TermStart>,
    /// The last entry of the log; equal to `truncated` if the log is empty.
    pub last: EntryId,
    /// The newest entries, ending at `last`, as many as the driver has at hand; may be empty.
    pub tail: Vec<Entry>,
    /// The monotonic clock at the start.
    pub started_at: Duration,
    /// New or restarted.
    pub birth: Birth,
}

impl Initial {
    /// An empty peer of a new group (or, with an empty configuration, one that awaits a snapshot).
    pub fn new(configuration: Configuration, started_at: Duration) -> Initial {
        Initial {
            hard_state: HardState::default(),
            configuration,
            applied: LogIndex(0),
            truncated: EntryId::default(),
            terms: Vec::new(),
            last: EntryId::default(),
            tail: Vec::new(),
            started_at,
            birth: Birth::New,
        }
    }
}
