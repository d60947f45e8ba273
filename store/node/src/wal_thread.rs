//! The thread that owns the writing half of the log: one write and one sync for all shards.
//!
//! Promises leave from here, right after the sync that makes them true, and only then do the
//! shards hear of it. A failed sync ends the process (D4); a full log or disk holds everything up
//! until space is back, which loses nothing because nothing was promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tinykv_engine::{Engine, EngineError, Upkeep};
use tinykv_env::Env;
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{InstallRecord, PersistToken, SnapshotHandle};
use tinykv_wal::{Batch, Record, Wal, WalError};

use crate::admission::Admission;
use crate::metrics::NodeMetrics;
use crate::pool::Pool;
use crate::transport::Transport;
use crate::transport::snapshot::SnapshotFiles;
use crate::trouble::Trouble;
use crate::wal_queue::{WalQueue, WalWork};

/// How often the log is maintained.
const MAINTAIN_INTERVAL: Duration = Duration::from_millis(100);
/// The same of a log at rest: what else there may be to do in it begins with a record that is
/// pushed, and that wakes the thread.
const MAINTAIN_INTERVAL_AT_REST: Duration = Duration::from_secs(1);
/// So many times in a row a log was maintained without need before it is at rest.
const IDLE_ROUNDS: u32 = 3;
/// How often a write that found no space is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Everything the thread works with.
pub(crate) struct WalThread {
    pub(crate) wal: Wal,
    pub(crate) queue: Arc<WalQueue>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) transport: Transport,
    pub(crate) engine: Engine,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) files: SnapshotFiles,
    pub(crate) pool: Pool,
    pub(crate) trouble: Trouble,
    pub(crate) metrics: NodeMetrics,
    /// Tells the shards.
    pub(crate) notify: Box<dyn Fn(Notice) + Send>,
}

/// What shards hear from the log.
pub(crate) enum Notice {
    /// Everything that the shard with this number pushed up to the token is durable.
    Persisted(usize, PersistToken),
    /// The logs of groups were cut, for the sake of its length.
    Cut(Vec<(GroupId, EntryId)>),
}

/// The thread ends: the failure is reported already, or the process ends anyway.
struct Stopped;

/// Whether the log needed its maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Work,
}

impl WalThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut maintained = self.env.now();
        let mut idle_rounds = 0;
        loop {
            let due = maintained
                + match idle_rounds < IDLE_ROUNDS {
                    true => MAINTAIN_INTERVAL,
                    false => MAINTAIN_INTERVAL_AT_REST,
                };
            let taken = self.queue.take(due.saturating_sub(self.env.now()));
            let idle = taken.works.is_empty();
            if !idle {
                idle_rounds = 0;
                if self.write(taken.works).is_err() {
                    return;
                }
            }
            if self.env.now() >= due {
                maintained = self.env.now();
                match self.maintain() {
                    Ok(Found::Nothing) => idle_rounds = idle_rounds.saturating_add(1),
                    Ok(Found::Work) => idle_rounds = 0,
                    Err(Stopped) => return,
                }
            }
            if taken.closed && idle {
                return;
            }
        }
    }

    fn write(&mut self, works: Vec<WalWork>) -> Result<(), Stopped> {
        let mut merged = Merged::default();
        for work in works {
            merged.add(work);
        }
        if !merged.batch.is_empty() {
            let begun = self.env.now();
            self.metrics.latencies.on_sync_begun(begun);
            self.append(&mut merged)?;
            if let Err(error) = self.wal.sync() {
                return Err(self.stop(&error));
            }
            let taken = self.env.now().saturating_sub(begun);
            self.metrics.latencies.on_sync_ended(taken);
            self.metrics.log_sync_seconds.observe(taken.as_secs_f64());
            self.metrics
                .log_batch_bytes
                .observe(merged.batch.size() as f64);
            self.discard(installed_snapshots(&merged.batch));
        }
        self.transport.send(merged.messages);
        for (shard, token) in merged.tokens {
            (self.notify)(Notice::Persisted(shard, token));
        }
        Ok(())
    }

    /// Appends; waits for space as long as there is none.
    fn append(&mut self, merged: &mut Merged) -> Result<(), Stopped> {
        let mut stuck = false;
        let outcome = loop {
            match self.wal.append(&merged.batch) {
                Ok(_) => break Ok(()),
                Err(error @ (WalError::Full { .. } | WalError::DiskFull(_))) => {
                    if !stuck {
                        stuck = true;
                        tracing::warn!("the log waits for space: {error}");
                        self.admission.set_log_is_stuck(true);
                    }
                    if let Err(error) = self.make_room(merged) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(self.stop(&error)),
            }
        };
        if stuck {
            self.admission.set_log_is_stuck(false);
            tracing::info!("the log goes on");
        }
        outcome
    }

    /// What frees space stands behind what waits for it: flushes let the shards cut their logs,
    /// and those cuts are records that come through the queue. They are written ahead of their
    /// turn, which is allowed: they name entries that are applied and flushed.
    fn make_room(&mut self, merged: &mut Merged) -> Result<(), Stopped> {
        self.maintain()?;
        let taken = self.queue.take(RETRY_INTERVAL);
        if taken.closed && taken.works.is_empty() {
            tracing::warn!("the process ends while its log waits for space");
            return Err(Stopped);
        }
        let mut cuts = Batch::default();
        for mut work in taken.works {
            let records = std::mem::take(&mut work.batch.records);
            for record in records {
                match record {
                    cut @ Record::Truncated { .. } => cuts.push(cut),
                    other => work.batch.push(other),
                }
            }
            merged.add(work);
        }
        if !cuts.is_empty() {
            match self.wal.append(&cuts) {
                Ok(_) => {}
                Err(WalError::Full { .. } | WalError::DiskFull(_)) => merged.put_first(cuts),
                Err(error) => return Err(self.stop(&error)),
            }
        }
        Ok(())
    }

    /// Recycles what is not needed any more; a log that is too long has the engine flush.
    fn maintain(&mut self) -> Result<Found, Stopped> {
        match self.engine.maintain(&mut self.wal) {
            Ok(upkeep) => {
                let found = match upkeep == Upkeep::default() {
                    true => Found::Nothing,
                    false => Found::Work,
                };
                if !upkeep.truncated.is_empty() {
                    (self.notify)(Notice::Cut(upkeep.truncated));
                }
                for group in upkeep.unreadable {
                    tracing::error!(%group, "the log of a replica cannot be read");
                }
                Ok(found)
            }
            Err(EngineError::Wal(WalError::Full { .. } | WalError::DiskFull(_))) => Ok(Found::Work),
            Err(error) => {
                self.trouble.stop(&error);
                Err(Stopped)
            }
        }
    }

    fn discard(&self, installed: Vec<SnapshotHandle>) {
        for handle in installed {
            let files = self.files.clone();
            self.pool.push(Box::new(move || {
                if let Err(error) = files.discard(handle) {
                    tracing::warn!("cannot remove an installed snapshot: {error}");
                }
            }));
        }
    }

    fn stop(&self, error: &WalError) -> Stopped {
        self.trouble.stop(&EngineError::from(error.clone()));
        Stopped
    }
}

/// Work of all shards as one.
#[derive(Default)]
struct Merged {
    batch: Batch,
    messages: Vec<tinykv_replica::PeerMessage>,
    /// The newest token of each shard: it stands for all before it.
    tokens: BTreeMap<usize, PersistToken>,
}

impl Merged {
    fn add(&mut self, work: WalWork) {
        self.batch.extend(work.batch);
        self.messages.extend(work.messages);
        let before = self.tokens.insert(work.shard, work.token);
        assert!(
            before.is_none_or(|before| before < work.token),
            "shard {} pushed {:?} behind {before:?}",
            work.shard,
            work.token
        );
    }

    fn put_first(&mut self, mut first: Batch) {
        first.extend(std::mem::take(&mut self.batch));
        self.batch = first;
    }
}

/// Snapshots whose files nobody needs once the batch is durable.
fn installed_snapshots(batch: &Batch) -> Vec<SnapshotHandle> {
    let payloads = batch.records.iter().filter_map(|record| match record {
        Record::Installed { payload, .. } => Some(payload),
        _ => None,
    });
    payloads
        .filter_map(|payload| InstallRecord::decode(payload).ok())
        .map(|record| record.handle)
        .collect()
}
