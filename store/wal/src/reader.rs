//! Old entries, read beside the writer.

use tinykv_raft::{Entry, EntryId, GroupId, LogIndex};

use crate::ReadError;

/// The reading half of the log: cheap to clone, usable from any thread while the writer works.
/// It sees what was appended, durable or not.
#[derive(Clone, Debug)]
pub struct WalReader {}

/// The extent of a group's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The entry the log begins behind.
    pub truncated: EntryId,
    /// The last entry appended; `truncated` when the log is empty.
    pub last: EntryId,
    /// The last index known durable here.
    pub durable: LogIndex,
    /// Bytes of log the entries take.
    pub bytes: u64,
}

impl WalReader {
    /// Entries `from..=upto`, cut after `bytes_max` of [`Entry::size`] but never empty.
    pub fn entries(
        &self,
        group: GroupId,
        from: LogIndex,
        upto: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let _ = (group, from, upto, bytes_max);
        unimplemented!()
    }

    /// The extent of a group's log; `None` for a group that is not in the log.
    pub fn extent(&self, group: GroupId) -> Option<Extent> {
        let _ = group;
        unimplemented!()
    }

    /// The term of an index from the truncation point to the last entry, both included.
    pub fn term(&self, group: GroupId, index: LogIndex) -> Option<tinykv_raft::Term> {
        let _ = (group, index);
        unimplemented!()
    }
}
