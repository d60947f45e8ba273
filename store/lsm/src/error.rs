//! What can go wrong, sorted by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the tree. Cheap to clone, because a final one is handed to every later caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LsmError {
    /// The options contradict each other; nothing was opened or written.
    #[error("bad options: {reason}")]
    InvalidOptions {
        /// One sentence that names the option.
        reason: String,
    },
    /// A batch or an ingest that must not be applied; nothing was written.
    #[error("refused: {reason}")]
    InvalidInput {
        /// One sentence that names the offending part.
        reason: String,
    },
    /// Another process (or another handle in this one) works in the directory.
    #[error("{dir}: in use")]
    InUse {
        /// The directory asked for.
        dir: PathBuf,
    },
    /// The file was written by a newer version of this program.
    #[error("{file}: format {found} is newer than {known}, the newest this program knows")]
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// The version it names.
        found: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// Bytes of a file are not what was written. The rest of the tree may still be readable.
    #[error("{file}: damaged at offset {offset}: {reason}")]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where the damaged structure begins, in bytes from the start of the file.
        offset: u64,
        /// What does not hold.
        reason: String,
    },
    /// Reading or writing failed and may succeed later (a full disk, for example). What was
    /// attempted did not happen.
    #[error("{source}")]
    Io {
        /// The error of the environment; names the path.
        source: Arc<io::Error>,
    },
    /// A sync failed, or the tree can no longer tell what is durable. Final: every later write
    /// and job gets the same answer, nothing is retried, the process should stop (D4).
    #[error("final: {source}")]
    Final {
        /// The first error that made it so.
        source: Arc<io::Error>,
    },
    /// The tree was closed.
    #[error("closed")]
    Closed,
}

impl LsmError {
    /// Whether no later call can succeed.
    pub fn is_final(&self) -> bool {
        matches!(self, LsmError::Final { .. } | LsmError::Closed)
    }

    /// Whether the disk is full: nothing was changed, and the same call succeeds once there is
    /// room (D8).
    pub fn is_disk_full(&self) -> bool {
        matches!(self, LsmError::Io { source } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub(crate) fn corruption(file: &Path, offset: u64, reason: impl Into<String>) -> LsmError {
        LsmError::Corruption {
            file: file.to_owned(),
            offset,
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> LsmError {
        LsmError::InvalidInput {
            reason: reason.into(),
        }
    }

    /// An error of a sync: never retried.
    pub(crate) fn from_sync(source: io::Error) -> LsmError {
        LsmError::Final {
            source: Arc::new(source),
        }
    }
}

impl From<io::Error> for LsmError {
    fn from(source: io::Error) -> LsmError {
        LsmError::Io {
            source: Arc::new(source),
        }
    }
}
