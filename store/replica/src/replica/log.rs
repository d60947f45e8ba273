//! How much of the log this peer keeps, and for whom.

use std::collections::{BTreeMap, VecDeque};

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, LogIndex, PeerId, PeerState, PeerStatus};

use crate::config::ShardConfig;

/// Bytes between two marks of the size index.
const MARK_BYTES: u64 = 64 << 10;

/// What is known about the extent of the own log.
#[derive(Debug)]
pub(super) struct LogExtent {
    /// The log begins behind this entry.
    pub(super) truncated: EntryId,
    /// The LSM has made everything up to here durable.
    pub(super) flushed: LogIndex,
    /// The leader keeps its log behind this index; so do we, for we may have to lead.
    pub(super) leader_keeps_after: LogIndex,
    /// Bytes appended since the start of the process, and how many of them are cut off.
    appended_bytes: u64,
    cut_bytes: u64,
    /// `appended_bytes` when an index had been appended, every [`MARK_BYTES`].
    marks: VecDeque<(LogIndex, u64)>,
}

impl LogExtent {
    pub(super) fn new(truncated: EntryId) -> LogExtent {
        LogExtent {
            truncated,
            flushed: LogIndex(0),
            leader_keeps_after: LogIndex(0),
            appended_bytes: 0,
            cut_bytes: 0,
            marks: VecDeque::new(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.appended_bytes - self.cut_bytes
    }

    pub(super) fn on_append(&mut self, last: LogIndex, bytes: usize) {
        while self.marks.back().is_some_and(|(index, _)| *index >= last) {
            self.marks.pop_back();
        }
        self.appended_bytes += bytes as u64;
        let marked = self
            .marks
            .back()
            .map_or(self.cut_bytes, |(_, bytes)| *bytes);
        if self.appended_bytes - marked >= MARK_BYTES {
            self.marks.push_back((last, self.appended_bytes));
        }
    }

    pub(super) fn on_cut(&mut self, upto: EntryId, last: LogIndex) {
        self.truncated = upto;
        while let Some((index, bytes)) = self.marks.front().copied() {
            if index > upto.index {
                break;
            }
            self.cut_bytes = bytes;
            self.marks.pop_front();
        }
        if upto.index >= last {
            self.cut_bytes = self.appended_bytes;
            self.marks.clear();
        }
    }

    /// Where to cut, given what is applied: as far as the LSM is durable, but not what others may
    /// still need, unless that is too much.
    pub(super) fn cut(&self, applied: LogIndex, floor: LogIndex) -> Option<LogIndex> {
        let flushed = match planted(Mutant::LogCutToApplied) {
            true => applied,
            false => self.flushed,
        };
        let upto = flushed.min(applied).min(floor);
        (upto > self.truncated.index).then_some(upto)
    }

    /// As a follower: what the leader keeps.
    pub(super) fn follower_floor(&self, config: &ShardConfig) -> LogIndex {
        if self.bytes() > config.log_bytes_max {
            return LogIndex(u64::MAX);
        }
        self.leader_keeps_after
    }

    /// As a leader: what the slowest peer has, with less patience for silent ones. A peer that is
    /// being sent a snapshot needs what follows it.
    pub(super) fn leader_floor(
        &self,
        peers: &BTreeMap<PeerId, PeerStatus>,
        sending: &BTreeMap<PeerId, EntryId>,
        config: &ShardConfig,
    ) -> LogIndex {
        let mut floor = LogIndex(u64::MAX);
        for (id, peer) in peers {
            let patience = if peer.active {
                config.log_bytes_max
            } else {
                config.log_bytes_silent_max
            };
            if self.bytes() > patience {
                continue;
            }
            let has = match (peer.state, sending.get(id)) {
                (PeerState::Snapshot, Some(snapshot)) => snapshot.index,
                _ => peer.matched,
            };
            floor = floor.min(has);
        }
        floor
    }
}
