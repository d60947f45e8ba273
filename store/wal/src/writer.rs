//! The one writer of the log.

use std::path::Path;
use std::sync::Arc;

use tinykv_env::Env;
use tinykv_raft::{GroupId, LogIndex};

use crate::{Batch, Position, Recovered, WalError, WalOptions, WalReader};

/// The writing half of the log: one owner, the WAL thread of a store or whoever leads the group
/// commit of a standalone engine.
#[derive(Debug)]
pub struct Wal {}

/// What [`Wal::maintain`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Segments that became free for reuse.
    pub recycled: u32,
    /// Groups whose entries hold the oldest segment of a log over its target, and the index up
    /// to which they would have to be cut: flush, then truncate them.
    pub pinned: Vec<(GroupId, LogIndex)>,
    /// The spare segments could not be reserved: the disk is (nearly) full (D8).
    pub low_on_space: bool,
}

impl Wal {
    /// Opens or creates the log in `dir` and recovers it. Whatever was torn at the end is cut
    /// off; what is recovered is synced before this returns.
    ///
    /// The caller holds the lock of the data directory.
    pub fn open(
        env: Arc<dyn Env>,
        dir: &Path,
        options: WalOptions,
    ) -> Result<(Wal, Recovered), WalError> {
        let _ = (env, dir, options);
        unimplemented!()
    }

    /// Writes a batch behind the log's end and returns the end. In the operating system's cache
    /// when it returns; durable when [`Wal::sync`] has returned a position at or behind it.
    pub fn append(&mut self, batch: &Batch) -> Result<Position, WalError> {
        let _ = batch;
        unimplemented!()
    }

    /// Makes everything appended durable and returns the end of the log.
    ///
    /// An error is final: every later call returns it again (D4).
    pub fn sync(&mut self) -> Result<Position, WalError> {
        unimplemented!()
    }

    /// Recycles segments, copies forward what keeps old ones alive, reserves space ahead and,
    /// when nothing was appended since the last call, leaves a watermark. To be called after
    /// truncations, and every 100 ms or so.
    pub fn maintain(&mut self) -> Result<Upkeep, WalError> {
        unimplemented!()
    }

    /// A reader of entries; clone it freely.
    pub fn reader(&self) -> WalReader {
        unimplemented!()
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        unimplemented!()
    }

    /// Largest encoded record, in bytes. An entry's record is its payload and at most 64 bytes.
    pub fn record_bytes_max(&self) -> usize {
        unimplemented!()
    }
}
