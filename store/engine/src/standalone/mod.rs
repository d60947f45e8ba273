//! The single-node store: log and tree, one local group, no consensus.
//!
//! A write is encoded once and becomes one entry of the local group's log; its index is the
//! applied index that the tree keeps with it. Callers that arrive while another one writes are
//! committed together with the next: one append, one fsync, one insertion. The thread that finds
//! nobody leading leads (`commit`), so no thread stands between a caller and the disk.

mod background;
mod checkpoint;
mod command;
mod commit;
mod scan;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tinykv_sync::thread::JoinHandle;

use bytes::Bytes;
use tinykv_env::Env;
use tinykv_lsm::{Operation, Snapshot, Statistics, WriteBatch};
use tinykv_raft::{EntryId, GroupId, HardState, LogIndex, Term};
use tinykv_sync::Mutex;
use tinykv_wal::{Batch, Record};

use crate::{Engine, EngineError, Recovery, StandaloneOptions};

use commit::{Committer, Log};
pub use scan::{Direction, Scan};

/// The one group of a standalone store's log.
const LOCAL: GroupId = GroupId(1);
/// There are no elections, so there is one term.
const TERM: Term = Term(1);
/// Longer keys are refused.
const KEY_BYTES_MAX: usize = 64 << 10;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk: it survives power loss.
    Synced,
    /// When the operating system has it: it survives the end of the process, not power loss.
    /// What does survive is always a prefix of the writes.
    Buffered,
}

/// An embedded, durable, ordered store. Shared between threads by reference or in an `Arc`.
///
/// Dropping it stops its threads; [`Standalone::close`] also syncs and reports errors.
#[derive(Debug)]
pub struct Standalone {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What callers and background threads share.
#[derive(Debug)]
struct Inner {
    env: Arc<dyn Env>,
    engine: Engine,
    options: StandaloneOptions,
    committer: Committer,
    /// When the tables were last told to go through the compaction filter; at first the opening.
    revisited: Mutex<Duration>,
}

/// The store at one moment. It stays readable whatever happens to the store.
#[derive(Clone, Debug)]
pub struct StandaloneSnapshot {
    snapshot: Snapshot,
}

impl Standalone {
    /// Opens or creates the store in `dir`; what was written and not yet flushed is applied again.
    ///
    /// # Errors
    /// See [`EngineError::kind`]. A directory with damage that acknowledged writes stood in is
    /// refused as `Damaged`: nothing else holds a copy.
    pub fn open(
        env: Arc<dyn Env>,
        dir: &Path,
        options: StandaloneOptions,
    ) -> Result<Standalone, EngineError> {
        options.validate()?;
        let (engine, recovery) = Engine::open(env.clone(), dir, options.engine.clone())?;
        let log = adopt(&engine, recovery)?;
        let inner = Arc::new(Inner {
            revisited: Mutex::new(env.now()),
            env,
            engine,
            committer: Committer::new(log, &options),
            options,
        });
        inner.replay()?;
        let threads = background::start(&inner)?;
        Ok(Standalone {
            inner,
            threads: Mutex::new(threads),
        })
    }

    /// Sets a key.
    pub fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        durability: Durability,
    ) -> Result<(), EngineError> {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        self.write(batch, durability)
    }

    /// Removes a key; one that is not there is fine.
    pub fn delete(&self, key: impl Into<Bytes>, durability: Durability) -> Result<(), EngineError> {
        let mut batch = WriteBatch::new();
        batch.delete(key);
        self.write(batch, durability)
    }

    /// Writes a batch: all of it becomes visible at once and survives a crash together.
    ///
    /// # Errors
    /// `Refused` and `Retry` errors wrote nothing. After `Failed` the fate of the batch is
    /// unknown, and every later write fails the same way (D4).
    pub fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), EngineError> {
        validate(&batch, self.inner.options.batch_bytes_max)?;
        self.inner.write(batch, durability)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.snapshot()?.get(key)
    }

    /// The values of several keys at one moment, in the order asked.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.snapshot()?.multi_get(keys)
    }

    /// Keys and values of `start..end` at one moment, in either direction; an empty `end` means
    /// to the last key.
    pub fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Scan, EngineError> {
        self.snapshot()?.scan(start, end, direction)
    }

    /// The store as of now.
    pub fn snapshot(&self) -> Result<StandaloneSnapshot, EngineError> {
        self.inner.committer.open()?;
        Ok(StandaloneSnapshot {
            snapshot: self.inner.engine.lsm().snapshot(),
        })
    }

    /// A copy of the store as of now in a directory that does not exist yet, on the same file
    /// system; tables are shared by hard links. The copy opens like any store.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        self.inner.checkpoint(dir)
    }

    /// Makes everything written so far durable, buffered writes too.
    pub fn sync(&self) -> Result<(), EngineError> {
        self.inner.sync()
    }

    /// Flushes the memtables and cuts the log, so that the next opening has nothing to replay.
    pub fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }

    /// Does one piece of background work here, if any is due; for stores without threads of
    /// their own.
    pub fn run_job(&self) -> Result<bool, EngineError> {
        self.inner.run_job()
    }

    /// Figures of the tree.
    pub fn statistics(&self) -> Statistics {
        self.inner.engine.lsm().statistics()
    }

    /// Syncs, stops the threads and refuses everything from now on with
    /// [`EngineError::Closed`]. The directory is free once the store is dropped.
    pub fn close(&self) -> Result<(), EngineError> {
        let synced = self.inner.sync();
        self.stop();
        match synced {
            Err(EngineError::Closed) => Ok(()),
            other => other,
        }
    }

    fn stop(&self) {
        self.inner.committer.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            thread.join().expect("background threads do not panic");
        }
        self.inner.engine.lsm().close();
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        self.stop();
    }
}

impl StandaloneSnapshot {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.snapshot.get(key)?)
    }

    /// The values of several keys, in the order asked.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, EngineError> {
        Ok(self.snapshot.multi_get(keys)?)
    }

    /// Keys and values of `start..end`; an empty `end` means to the last key.
    pub fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Scan, EngineError> {
        Ok(Scan::new(self.snapshot.iter(start, end)?, direction))
    }
}

/// Takes over what a start found: a local group that is whole, or none yet.
fn adopt(engine: &Engine, mut recovery: Recovery) -> Result<Log, EngineError> {
    if let Some(group) = recovery.groups.keys().find(|group| **group != LOCAL) {
        return Err(EngineError::NotStandalone {
            dir: engine.dir().to_owned(),
            group: *group,
        });
    }
    let last = match recovery.groups.remove(&LOCAL) {
        Some(found) if found.log.damaged => {
            let first = recovery.damaged.first();
            return Err(EngineError::Damaged {
                path: first.map_or(engine.dir().to_owned(), |damage| damage.path.clone()),
                what: first.map_or("an earlier start found it damaged".to_owned(), |damage| {
                    format!("{} (at offset {})", damage.what, damage.offset)
                }),
            });
        }
        Some(found) => found.log.last.index,
        None => {
            let birth = born_at(LogIndex(0));
            recovery.writer.append(&Batch::from(vec![birth]))?;
            recovery.writer.sync()?;
            LogIndex(0)
        }
    };
    Ok(Log {
        wal: recovery.writer,
        last,
    })
}

/// The birth of a local group whose tree holds everything up to an index.
fn born_at(index: LogIndex) -> Record {
    Record::Birth {
        group: LOCAL,
        birth: Bytes::new(),
        hard_state: HardState {
            term: TERM,
            ..HardState::default()
        },
        truncated: EntryId { term: TERM, index },
    }
}

fn validate(batch: &WriteBatch, bytes_max: u64) -> Result<(), EngineError> {
    if batch.bytes() > bytes_max {
        return Err(EngineError::BatchTooLarge {
            bytes: batch.bytes(),
            bytes_max,
        });
    }
    if !batch.applied_changes().is_empty() {
        return Err(EngineError::InvalidInput(
            "a batch for a standalone store moves no applied index".to_owned(),
        ));
    }
    for operation in batch.operations() {
        let (Operation::Put { key, .. }
        | Operation::Delete { key }
        | Operation::DeleteRange { end: key, .. }) = operation;
        if key.is_empty() {
            return Err(EngineError::InvalidInput("a key is empty".to_owned()));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(EngineError::InvalidInput(format!(
                "a key of {} bytes is longer than {KEY_BYTES_MAX}",
                key.len()
            )));
        }
    }
    Ok(())
}
