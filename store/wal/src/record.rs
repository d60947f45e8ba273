//! What callers write: records of many groups, batched.

use bytes::Bytes;
use tinykv_raft::{Entry, EntryId, GroupId, HardState};

/// One durable fact about one group. Records of a group take effect in the order they were
/// written; a record of a group that was not born (or is dead) is a bug of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// New entries: everything of the group from `entries[0]` on is replaced by them. They are
    /// consecutive, and the first follows what the log holds or replaces part of it.
    Entries {
        /// Whose log.
        group: GroupId,
        /// Never empty; consecutive indexes, terms that do not fall.
        entries: Vec<Entry>,
    },
    /// The group's hard state from now on.
    HardState {
        /// Whose hard state.
        group: GroupId,
        /// Term, vote and commit index.
        hard_state: HardState,
    },
    /// The log up to and including `upto` is not needed any more. Never beyond the applied
    /// index that the LSM has *flushed* (invariant 3). Where the log does not hold `upto`, or
    /// another entry at its index, the whole log goes and begins anew behind `upto`.
    Truncated {
        /// Whose log.
        group: GroupId,
        /// The last entry cut off.
        upto: EntryId,
    },
    /// The group exists from now on (bootstrap, split child, created by a message). Whatever an
    /// earlier life of the id left is gone; its tombstone stays until forgotten.
    Birth {
        /// Who is born.
        group: GroupId,
        /// What the owner wants to find again: opaque here, a few hundred bytes.
        birth: Bytes,
        /// The first hard state.
        hard_state: HardState,
        /// What the state at birth stands for: the log begins behind it.
        truncated: EntryId,
    },
    /// A snapshot is about to replace the group's data; from here on the log begins behind it,
    /// by the rule of `Truncated`. A crash before `Installed` redoes the installation
    /// (invariant 5).
    Installing {
        /// Whose data.
        group: GroupId,
        /// The last entry the snapshot contains.
        snapshot: EntryId,
        /// All that is needed to do it again (opaque here).
        payload: Bytes,
    },
    /// The snapshot of the last `Installing` is in the LSM, durably.
    Installed {
        /// Whose data.
        group: GroupId,
        /// The last entry the snapshot contains.
        snapshot: EntryId,
        /// What the owner wants to find again (opaque here).
        payload: Bytes,
    },
    /// The group is dead: its log, states and installations are gone. Only this remains.
    Tombstone {
        /// Who died.
        group: GroupId,
        /// What the owner must remember of it (opaque here).
        payload: Bytes,
    },
    /// Nobody asks for that tombstone any more.
    ForgetTombstone {
        /// Whose tombstone.
        group: GroupId,
    },
}

impl Record {
    /// The group it is about.
    pub fn group(&self) -> GroupId {
        match self {
            Record::Entries { group, .. }
            | Record::HardState { group, .. }
            | Record::Truncated { group, .. }
            | Record::Birth { group, .. }
            | Record::Installing { group, .. }
            | Record::Installed { group, .. }
            | Record::Tombstone { group, .. }
            | Record::ForgetTombstone { group } => *group,
        }
    }
}

/// Records written together, of any number of groups. A batch whose encoding fits one segment is
/// atomic: after a crash all of it is there or nothing. A larger one is cut between records (and
/// between entries), in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order they take effect.
    pub records: Vec<Record>,
}

impl Batch {
    /// Adds a record at the end.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Adds all of another batch, so that one write and one sync serve both.
    pub fn extend(&mut self, other: Batch) {
        self.records.extend(other.records);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes it counts for in queues: payloads and a fixed overhead a record.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 32;
        self.records
            .iter()
            .map(|record| {
                OVERHEAD
                    + match record {
                        Record::Entries { entries, .. } => entries.iter().map(Entry::size).sum(),
                        Record::Birth { birth: payload, .. }
                        | Record::Installing { payload, .. }
                        | Record::Installed { payload, .. }
                        | Record::Tombstone { payload, .. } => payload.len(),
                        Record::HardState { .. }
                        | Record::Truncated { .. }
                        | Record::ForgetTombstone { .. } => 0,
                    }
            })
            .sum()
    }
}

impl From<Vec<Record>> for Batch {
    fn from(records: Vec<Record>) -> Batch {
        Batch { records }
    }
}
