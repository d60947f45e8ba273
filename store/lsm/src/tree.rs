//! The tree itself (signatures; bodies follow).
#![expect(
    unused_variables,
    clippy::unimplemented,
    clippy::new_without_default,
    reason = "signatures first"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::Env;

use crate::{LsmError, LsmOptions, OriginId, Sequence, WriteBatch};

/// An open tree. Cloning is cheap; all clones are the same tree.
#[derive(Clone, Debug)]
pub struct Lsm {}

impl Lsm {
    /// Opens the tree in `dir`, creating it if there is none; removes what a crash left behind.
    pub fn open(env: Arc<dyn Env>, dir: &Path, options: LsmOptions) -> Result<Lsm, LsmError> {
        unimplemented!()
    }

    /// Makes a batch visible, in memory. Durable once [`Lsm::flushed`] has passed its applied
    /// indexes. Never waits for I/O; ask [`Lsm::pressure`] before admitting work.
    pub fn write(&self, batch: &WriteBatch) -> Result<Sequence, LsmError> {
        unimplemented!()
    }

    /// The state as of now; everything written before the call is in it.
    pub fn snapshot(&self) -> Snapshot {
        unimplemented!()
    }

    /// The applied index of an origin, in memory; 0 for an unknown one.
    pub fn applied(&self, origin: OriginId) -> u64 {
        unimplemented!()
    }

    /// The applied indexes that would be found after a crash now.
    pub fn flushed(&self) -> BTreeMap<OriginId, u64> {
        unimplemented!()
    }

    /// The durable applied index of one origin; 0 for an unknown one.
    pub fn flushed_of(&self, origin: OriginId) -> u64 {
        unimplemented!()
    }

    /// Closes the current memtable, so that the next planned job flushes it. False if it is empty.
    pub fn rotate(&self) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Makes everything written so far durable: rotates and runs the flushes here (waiting for one
    /// that another thread runs).
    pub fn flush(&self) -> Result<(), LsmError> {
        unimplemented!()
    }

    /// The most urgent piece of background work that nobody works on yet.
    pub fn plan(&self) -> Option<Job> {
        unimplemented!()
    }

    /// Runs flushes and compactions here until none is due.
    pub fn settle(&self) -> Result<(), LsmError> {
        unimplemented!()
    }

    /// How hard admission should brake.
    pub fn pressure(&self) -> Pressure {
        unimplemented!()
    }

    /// Drops ranges and takes in finished tables in one durable step. The caller writes nothing
    /// into the ranges while this runs.
    pub fn ingest(&self, ingest: &Ingest) -> Result<(), LsmError> {
        unimplemented!()
    }

    /// A copy of the tree, everything written so far included, in a new directory on the same
    /// file system, by hard links.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), LsmError> {
        unimplemented!()
    }

    /// About how many bytes of tables hold `start..end` (an empty `end`: to the last key).
    pub fn approximate_size(&self, start: &[u8], end: &[u8]) -> u64 {
        unimplemented!()
    }

    /// Figures for the status page.
    pub fn statistics(&self) -> Statistics {
        unimplemented!()
    }

    /// Lets every later write and job fail with [`LsmError::Closed`]. Snapshots stay readable.
    pub fn close(&self) {
        unimplemented!()
    }

    /// The settings it was opened with.
    pub fn options(&self) -> &LsmOptions {
        unimplemented!()
    }
}

/// The tree at one moment. Keeps the memtables and tables of that moment alive.
#[derive(Clone, Debug)]
pub struct Snapshot {}

/// What can be said about a key without I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// It has this value.
    Found(Bytes),
    /// It has none.
    Missing,
    /// A block that is not in memory has to be read to know.
    NeedsRead,
}

impl Snapshot {
    /// The place in the order of writes up to which this sees everything.
    pub fn sequence(&self) -> Sequence {
        unimplemented!()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LsmError> {
        unimplemented!()
    }

    /// The value of a key as far as memory knows it.
    pub fn get_cached(&self, key: &[u8]) -> Result<Cached, LsmError> {
        unimplemented!()
    }

    /// The values of several keys, in the order asked.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, LsmError> {
        unimplemented!()
    }

    /// An iterator over `lower..upper` (an empty `upper`: to the last key), standing before the
    /// first key.
    pub fn iter(&self, lower: &[u8], upper: &[u8]) -> Result<Iter, LsmError> {
        unimplemented!()
    }
}

/// Keys and values of a snapshot in order, both directions. Owns what it needs.
#[derive(Debug)]
pub struct Iter {}

impl Iter {
    /// Goes to the first key at or after `key`; false if there is none inside the bounds.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Goes to the last key at or before `key`; false if there is none inside the bounds.
    pub fn seek_back(&mut self, key: &[u8]) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Goes to the first key.
    pub fn first(&mut self) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Goes to the last key.
    pub fn last(&mut self) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Goes to the following key; from the start position to the first. Once it has returned
    /// false it stands behind the last key.
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible, and does not hand out the item"
    )]
    pub fn next(&mut self) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Goes to the preceding key; from the start position or from behind the last key, to the last.
    pub fn prev(&mut self) -> Result<bool, LsmError> {
        unimplemented!()
    }

    /// Whether it stands on a key.
    pub fn valid(&self) -> bool {
        unimplemented!()
    }

    /// The key it stands on; empty when it stands on none.
    pub fn key(&self) -> &[u8] {
        unimplemented!()
    }

    /// The value it stands on; empty when it stands on none. Shares the block or memtable's bytes.
    pub fn value(&self) -> Bytes {
        unimplemented!()
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Writes closed memtables to a table.
    Flush,
    /// Merges tables of one level into the next.
    Compaction {
        /// The level the work begins at.
        from: usize,
        /// The level its tables go to.
        to: usize,
    },
    /// Removes files that no version names any more.
    Purge,
}

/// A piece of background work, claimed: nobody else gets it. Dropping it unrun gives it back.
#[derive(Debug)]
pub struct Job {}

/// What a job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Bytes read from tables.
    pub bytes_read: u64,
    /// Bytes written to tables.
    pub bytes_written: u64,
}

impl Job {
    /// What it will do.
    pub fn kind(&self) -> JobKind {
        unimplemented!()
    }

    /// The applied indexes a flush will make durable; empty for other jobs. The caller's log must
    /// be durable up to them before the job runs.
    pub fn flushes(&self) -> BTreeMap<OriginId, u64> {
        unimplemented!()
    }

    /// Does it. After an error that is not final, the work is due again.
    pub fn run(self) -> Result<JobReport, LsmError> {
        unimplemented!()
    }
}

/// How hard admission should brake, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// 0: not at all. Rises smoothly; 1: admit nothing.
    pub fraction: f64,
    /// What it comes from.
    pub cause: PressureCause,
}

/// Where back-pressure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureCause {
    /// There is none.
    None,
    /// Closed memtables wait for their flush.
    Memtables,
    /// Level 0 has too many tables.
    LevelZero,
    /// Too many bytes wait for compaction.
    Debt,
}

/// Ranges to drop and tables to take in, as one step.
#[derive(Clone, Debug, Default)]
pub struct Ingest {
    /// Ranges `start..end` of which nothing older stays; ends are never empty.
    pub drop: Vec<(Bytes, Bytes)>,
    /// Tables made by [`SstWriter`], disjoint, on the same file system. They get a second name in
    /// the tree; the caller removes the first one when it likes.
    pub files: Vec<PathBuf>,
    /// The applied index that holds with the step.
    pub applied: Option<(OriginId, u64)>,
}

/// Writes a table outside the tree, for snapshots and bulk loads.
#[derive(Debug)]
pub struct SstWriter {}

/// A finished table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SstSummary {
    /// Size on disk.
    pub bytes: u64,
    /// Keys in it.
    pub entries: u64,
    /// Its first key.
    pub smallest: Bytes,
    /// Its last key.
    pub largest: Bytes,
}

impl SstWriter {
    /// Begins a new file.
    pub fn create(
        env: &Arc<dyn Env>,
        path: &Path,
        options: &LsmOptions,
    ) -> Result<SstWriter, LsmError> {
        unimplemented!()
    }

    /// Adds a key behind all that were added.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), LsmError> {
        unimplemented!()
    }

    /// Bytes written so far, about.
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Completes and syncs the file and its directory. `None`: nothing was added and no file is
    /// left.
    pub fn finish(self) -> Result<Option<SstSummary>, LsmError> {
        unimplemented!()
    }
}

/// Figures of a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Tables and bytes of each level.
    pub levels: Vec<LevelStatistics>,
    /// Bytes in the current memtable.
    pub memtable_bytes: u64,
    /// Closed memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes in them.
    pub immutable_bytes: u64,
    /// Bytes that wait for compaction.
    pub debt_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Block lookups answered by the cache.
    pub cache_hits: u64,
    /// Block lookups that had to read.
    pub cache_misses: u64,
    /// Table lookups that a filter made unnecessary.
    pub filter_skips: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Bytes of batches written.
    pub bytes_in: u64,
    /// Bytes of tables written by flushes.
    pub flush_bytes: u64,
    /// Bytes of tables read by compactions.
    pub compaction_read_bytes: u64,
    /// Bytes of tables written by compactions.
    pub compaction_write_bytes: u64,
}

/// One level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStatistics {
    /// Tables.
    pub files: usize,
    /// Their bytes on disk.
    pub bytes: u64,
}
