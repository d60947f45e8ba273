//! Records as the log's own books see them: what callers wrote, and what the log adds itself to
//! carry living facts out of a segment that is to be recycled.

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId, HardState, LogIndex, Term};

/// Consecutive entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first index.
    pub(crate) first: LogIndex,
    /// The last index, included.
    pub(crate) last: LogIndex,
    /// Their term.
    pub(crate) term: Term,
}

/// All that is known of a group besides its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) birth: Bytes,
    pub(crate) hard_state: HardState,
    pub(crate) truncated: EntryId,
    pub(crate) installing: Option<(EntryId, Bytes)>,
    pub(crate) installed: Option<(EntryId, Bytes)>,
    pub(crate) damaged: bool,
}

/// A record without the payloads of entries. The variants with the names of [`crate::Record`]
/// mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Entries {
        group: GroupId,
        spans: Vec<Span>,
        /// The log copied them out of an old segment: they take their old place and cut nothing.
        carried: bool,
    },
    HardState {
        group: GroupId,
        hard_state: HardState,
    },
    Truncated {
        group: GroupId,
        upto: EntryId,
        /// Whether the whole log goes. Decided when written: a replay may not hold the entries
        /// that decide it.
        reset: bool,
    },
    Birth {
        group: GroupId,
        birth: Bytes,
        hard_state: HardState,
        truncated: EntryId,
    },
    Installing {
        group: GroupId,
        snapshot: EntryId,
        payload: Bytes,
        /// As in `Truncated`.
        reset: bool,
    },
    Installed {
        group: GroupId,
        snapshot: EntryId,
        payload: Bytes,
    },
    Tombstone {
        group: GroupId,
        payload: Bytes,
        /// The log copied it out of an old segment: it kills nobody.
        carried: bool,
    },
    ForgetTombstone {
        group: GroupId,
    },
    /// The state of a living group, copied out of an old segment, or marked as damaged.
    Carried {
        group: GroupId,
        state: GroupState,
    },
}

impl Stored {
    pub(crate) fn group(&self) -> GroupId {
        match self {
            Stored::Entries { group, .. }
            | Stored::HardState { group, .. }
            | Stored::Truncated { group, .. }
            | Stored::Birth { group, .. }
            | Stored::Installing { group, .. }
            | Stored::Installed { group, .. }
            | Stored::Tombstone { group, .. }
            | Stored::ForgetTombstone { group }
            | Stored::Carried { group, .. } => *group,
        }
    }
}
