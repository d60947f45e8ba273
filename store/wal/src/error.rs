//! What can go wrong, as the choices a caller has.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tinykv_raft::{GroupId, LogIndex};

/// Errors of opening and writing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// Options that contradict each other. Nothing was touched.
    #[error("{0}")]
    InvalidOptions(String),
    /// Written by a newer version. Nothing was touched.
    #[error("{path} has format {found}; this version reads up to {supported}", path = path.display())]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format known here.
        supported: u16,
    },
    /// The directory is not a usable log: its identity is unreadable, or missing beside
    /// segments. An operator has to look.
    #[error("{path} is damaged: {what}", path = path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, as a clause.
        what: &'static str,
    },
    /// One record is larger than a segment can take. Nothing was written.
    #[error("a record of {bytes} bytes does not fit the log's limit of {bytes_max} bytes")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// See [`crate::Wal::record_bytes_max`].
        bytes_max: usize,
    },
    /// No space for another segment. Nothing was written; it may be tried again.
    #[error("no disk space for another log segment: {0}")]
    DiskFull(Arc<io::Error>),
    /// All segments are in use by entries that may not be cut. Nothing was written; it may be
    /// tried again after a flush and a truncation.
    #[error("the log is full: all {segments_max} segments are in use")]
    Full {
        /// The limit.
        segments_max: u32,
    },
    /// A read, or the creation of a file, failed. Nothing was promised.
    #[error("log: {0}")]
    Io(Arc<io::Error>),
    /// A write or an fsync of the log failed: what it covered may be lost whatever a later one
    /// says. The process has to stop (D4).
    #[error("log write or fsync failed, nothing can be promised any more: {0}")]
    Failed(Arc<io::Error>),
}

impl From<io::Error> for WalError {
    fn from(error: io::Error) -> WalError {
        WalError::Io(Arc::new(error))
    }
}

/// Errors of reading entries back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The group is not in the log.
    #[error("group {0} is not in the log")]
    UnknownGroup(GroupId),
    /// The first entry asked for is cut off already: only a snapshot helps.
    #[error("group {group}: the log is cut up to {upto}")]
    Truncated {
        /// Whose log.
        group: GroupId,
        /// The last index cut off.
        upto: LogIndex,
    },
    /// The log does not reach that far.
    #[error("group {group}: the log ends at {last}")]
    BeyondEnd {
        /// Whose log.
        group: GroupId,
        /// The last index there is.
        last: LogIndex,
    },
    /// What stands in the file is not what was written. The group's log is damaged (D6).
    #[error("{path} is damaged at offset {offset}: {what}", path = path.display())]
    Corrupt {
        /// The segment file.
        path: PathBuf,
        /// Bytes from its start.
        offset: u64,
        /// What is wrong, as a clause.
        what: &'static str,
    },
    /// The read itself failed.
    #[error("log: {0}")]
    Io(Arc<io::Error>),
}
