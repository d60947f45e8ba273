//! What a restart finds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId, HardState, TermStart};

use crate::Position;

/// The state of the log after opening. All of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every group that was born and has not died.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Payloads of the tombstones that nobody has forgotten.
    pub tombstones: BTreeMap<GroupId, Bytes>,
    /// Damage below a watermark found at this start (D6). The groups that existed then carry
    /// [`RecoveredGroup::damaged`], at this start and all later ones.
    pub damaged: Vec<Damage>,
    /// The end of the recovered log; everything before it is durable.
    pub durable: Position,
    /// Frames thrown away behind a torn end: they were never promised to anybody.
    pub torn_frames: u64,
}

/// One group as the log knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// As given by [`crate::Record::Birth`].
    pub birth: Bytes,
    /// The last hard state written.
    pub hard_state: HardState,
    /// The entry the log begins behind.
    pub truncated: EntryId,
    /// The runs of one term behind `truncated`, ascending; empty when the log is. With
    /// `truncated` and `last` they answer the term of every index.
    pub terms: Vec<TermStart>,
    /// The last entry; `truncated` when the log is empty.
    pub last: EntryId,
    /// An installation that began and is not known to have ended: do it again.
    pub installing: Option<(EntryId, Bytes)>,
    /// The last installation that ended.
    pub installed: Option<(EntryId, Bytes)>,
    /// Acknowledged data of this peer may be lost: it never votes again under its id and is to
    /// be replaced (D6).
    pub damaged: bool,
}

/// A stretch of acknowledged log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, where it is known; otherwise the log's directory.
    pub path: PathBuf,
    /// Bytes from the start of that file.
    pub offset: u64,
    /// What is wrong, as a clause.
    pub what: &'static str,
}
