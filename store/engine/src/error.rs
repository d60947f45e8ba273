//! What can go wrong, as the choices a caller has.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tinykv_lsm::LsmError;
use tinykv_raft::GroupId;
use tinykv_wal::{ReadError, WalError};

/// An error of the engine. Cheap to clone, because one failed sync fails every caller it served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process, or another handle in this one, works in the directory.
    #[error("{dir} is in use", dir = dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds Raft groups; it belongs to a store, not to a standalone engine.
    #[error("{dir} belongs to a store: it holds group {group}", dir = dir.display())]
    NotStandalone {
        /// The directory.
        dir: PathBuf,
        /// One of the groups.
        group: GroupId,
    },
    /// Acknowledged data cannot be read any more; nothing was changed.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, as a clause.
        what: String,
    },
    /// Options that contradict each other; nothing was touched.
    #[error("{0}")]
    InvalidOptions(String),
    /// A batch that can never be written; nothing was.
    #[error("refused: {0}")]
    InvalidInput(String),
    /// A batch over its limit; nothing was written.
    #[error("a batch of {bytes} bytes is over the limit of {bytes_max} bytes")]
    BatchTooLarge {
        /// Its size.
        bytes: u64,
        /// [`crate::StandaloneOptions::batch_bytes_max`].
        bytes_max: u64,
    },
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
    /// The tree refused what stands in the log already.
    #[error("the tree refused what the log holds: {0}")]
    Diverged(#[source] LsmError),
    /// A directory or file of the engine itself could not be used.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The log's part of it.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The log, when reading back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The tree's part of it.
    #[error(transparent)]
    Lsm(#[from] LsmError),
}

/// What a process does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller is to blame: options or input. Nothing was done.
    Refused,
    /// Nothing was done, and it may be tried again: no space, a full log, a failed read.
    Retry,
    /// The directory cannot be used: in use, damaged, foreign, of a newer format.
    Unusable,
    /// A write or fsync failed. Stop; what was in flight is undetermined (D4).
    Failed,
    /// It was closed.
    Closed,
}

impl EngineError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::InUse { .. }
            | EngineError::NotStandalone { .. }
            | EngineError::Damaged { .. }
            | EngineError::Wal(WalError::NewerFormat { .. } | WalError::Unusable { .. })
            | EngineError::Read(ReadError::Corrupt { .. })
            | EngineError::Lsm(
                LsmError::InUse { .. } | LsmError::NewerFormat { .. } | LsmError::Corruption { .. },
            ) => ErrorKind::Unusable,
            EngineError::InvalidOptions(_)
            | EngineError::InvalidInput(_)
            | EngineError::BatchTooLarge { .. }
            | EngineError::Wal(WalError::InvalidOptions(_) | WalError::TooLarge { .. })
            | EngineError::Read(
                ReadError::UnknownGroup(_)
                | ReadError::Truncated { .. }
                | ReadError::BeyondEnd { .. },
            )
            | EngineError::Lsm(LsmError::InvalidOptions { .. } | LsmError::InvalidInput { .. }) => {
                ErrorKind::Refused
            }
            EngineError::Io(_)
            | EngineError::Wal(WalError::DiskFull(_) | WalError::Full { .. } | WalError::Io(_))
            | EngineError::Read(ReadError::Io(_))
            | EngineError::Lsm(LsmError::Io { .. }) => ErrorKind::Retry,
            EngineError::Wal(WalError::Failed(_))
            | EngineError::Lsm(LsmError::Final { .. })
            | EngineError::Diverged(_) => ErrorKind::Failed,
            EngineError::Closed | EngineError::Lsm(LsmError::Closed) => ErrorKind::Closed,
        }
    }
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> EngineError {
        EngineError::Io(Arc::new(error))
    }
}
