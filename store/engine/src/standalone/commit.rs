//! Group commit, led by the calling thread.
//!
//! Writers queue up. Whoever finds nobody leading becomes the leader: takes what waits (up to a
//! limit in bytes), appends it as one record, syncs once if anybody asked for that, applies it in
//! order, and wakes everybody. While it does, the next group gathers. Leadership is also how
//! everything else that needs the log (upkeep, a flush that wants a sync, a checkpoint) gets it
//! for itself.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tinykv_sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tinykv_lsm::{OriginId, WriteBatch};
use tinykv_raft::{Entry, EntryId, LogIndex, Payload};
use tinykv_sync::{Condvar, Mutex, MutexGuard};
use tinykv_wal::{Batch, Record, Wal, WalError};

use super::{Durability, Inner, LOCAL, TERM, command};
use crate::{EngineError, ErrorKind, StandaloneOptions};

/// Bytes that the record of an entry takes in the log beside its payload, at most.
const RECORD_OVERHEAD: usize = 96;

/// The log and who may use it.
#[derive(Debug)]
pub(super) struct Committer {
    queue: Mutex<Queue>,
    /// A group is done, or leadership is free.
    changed: Condvar,
    /// A job of the tree is done, or none will be. Not told of other writers' groups, so that a
    /// writer that brakes does so however many there are.
    relieved: Condvar,
    /// There may be work for the background threads.
    work: Condvar,
    /// Bytes written since they were last told so.
    unannounced: AtomicU64,
    /// Held by the leader alone, so nobody ever waits for it.
    log: Mutex<Log>,
    group_bytes_max: u64,
    /// Largest command that the log takes.
    command_bytes_max: usize,
}

/// What the leader owns.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) wal: Wal,
    /// The last entry appended.
    pub(super) last: LogIndex,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Ticket>>,
    leading: bool,
    /// The error after which no write is accepted any more.
    failed: Option<EngineError>,
    /// Why the last background job could not be done, until one is.
    stalled: Option<EngineError>,
    closed: bool,
}

/// One caller's write.
#[derive(Debug)]
struct Ticket {
    command: Bytes,
    /// Taken by the leader.
    batch: Mutex<WriteBatch>,
    bytes: u64,
    durability: Durability,
    outcome: Mutex<Option<Result<(), EngineError>>>,
}

impl Committer {
    pub(super) fn new(log: Log, options: &StandaloneOptions) -> Committer {
        Committer {
            queue: Mutex::default(),
            changed: Condvar::new(),
            relieved: Condvar::new(),
            work: Condvar::new(),
            unannounced: AtomicU64::new(0),
            group_bytes_max: options.group_bytes_max,
            command_bytes_max: log.wal.record_bytes_max() - RECORD_OVERHEAD,
            log: Mutex::new(log),
        }
    }

    /// Fails when the store was closed.
    pub(super) fn open(&self) -> Result<(), EngineError> {
        if self.queue.lock().closed {
            return Err(EngineError::Closed);
        }
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Nothing is accepted from now on; who waits is refused. Returns when nobody leads.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        self.changed.notify_all();
        self.relieved.notify_all();
        self.work.notify_all();
        while queue.leading {
            self.changed.wait(&mut queue);
        }
    }

    /// Waits until background threads may have something to do, or for a while; false when the
    /// time is over or the store closed.
    pub(super) fn wait_for_work(&self, at_most: Duration) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return false;
        }
        let waited = self.work.wait_for(&mut queue, at_most);
        !waited.timed_out() && !queue.closed
    }

    /// Wakes the background threads once in so many written bytes.
    pub(super) fn wake_after(&self, bytes: u64, step: u64) {
        if self.unannounced.fetch_add(bytes, Ordering::Relaxed) + bytes >= step {
            self.unannounced.store(0, Ordering::Relaxed);
            self.work.notify_all();
        }
    }

    /// A job of the tree is done, or could not be.
    pub(super) fn job_ended(&self, result: Result<(), EngineError>) {
        let mut queue = self.queue.lock();
        match result {
            Ok(()) => queue.stalled = None,
            Err(error) if error.kind() == ErrorKind::Retry => queue.stalled = Some(error),
            Err(error) => queue.failed = queue.failed.take().or(Some(error)),
        }
        self.relieved.notify_all();
    }

    /// Waits for a job to end, as one brake step of a writer.
    pub(super) fn brake(&self, at_most: Duration) -> Result<(), EngineError> {
        let mut queue = self.queue.lock();
        queue.accepting()?;
        self.relieved.wait_for(&mut queue, at_most);
        queue.accepting()
    }

    /// The error that keeps background work from being done.
    pub(super) fn stalled(&self) -> Option<EngineError> {
        self.queue.lock().stalled.clone()
    }

    /// The log for oneself.
    pub(super) fn lead<R>(
        &self,
        act: impl FnOnce(&mut Log) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let mut queue = self.queue.lock();
        while queue.leading {
            self.changed.wait(&mut queue);
        }
        queue.accepting()?;
        let leadership = Leadership::take(self, queue);
        let result = act(&mut self.log.lock());
        if let Err(error) = &result {
            self.queue.lock().note(error);
        }
        drop(leadership);
        result
    }
}

/// Being the leader; given up when dropped. A leader that panics leaves log and tree in a state
/// nobody knows, so nobody writes after it.
#[derive(Debug)]
struct Leadership<'a> {
    committer: &'a Committer,
}

impl<'a> Leadership<'a> {
    fn take(committer: &'a Committer, mut queue: MutexGuard<'a, Queue>) -> Leadership<'a> {
        assert!(!queue.leading, "there is one leader");
        queue.leading = true;
        Leadership { committer }
    }
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        let mut queue = self.committer.queue.lock();
        if std::thread::panicking() {
            let error = io::Error::other("a thread panicked while it wrote the log");
            queue.note(&EngineError::Wal(WalError::Failed(Arc::new(error))));
        }
        queue.leading = false;
        self.committer.changed.notify_all();
    }
}

impl Queue {
    fn accepting(&self) -> Result<(), EngineError> {
        if self.closed {
            return Err(EngineError::Closed);
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Remembers an error after which the log or the tree cannot be trusted to go on.
    fn note(&mut self, error: &EngineError) {
        if error.kind() == ErrorKind::Failed && self.failed.is_none() {
            self.failed = Some(error.clone());
        }
    }
}

impl Inner {
    /// One caller's write, from queue to outcome.
    pub(super) fn write(
        &self,
        batch: WriteBatch,
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.admit(batch.bytes())?;
        let command = command::encode(&batch);
        if command.len() > self.committer.command_bytes_max {
            return Err(EngineError::BatchTooLarge {
                bytes: command.len() as u64,
                bytes_max: self.committer.command_bytes_max as u64,
            });
        }
        let ticket = Arc::new(Ticket {
            bytes: command.len() as u64,
            command,
            batch: Mutex::new(batch),
            durability,
            outcome: Mutex::new(None),
        });
        let mut queue = self.committer.queue.lock();
        queue.accepting()?;
        queue.waiting.push_back(ticket.clone());
        let outcome = loop {
            if let Some(outcome) = ticket.outcome.lock().take() {
                break outcome;
            }
            if queue.leading {
                self.committer.changed.wait(&mut queue);
            } else {
                queue = self.lead_group(queue);
            }
        };
        drop(queue);
        outcome?;
        self.after_write(ticket.bytes);
        Ok(())
    }

    /// Commits the oldest group as its leader.
    fn lead_group<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let mut group: Vec<Arc<Ticket>> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.waiting.front() {
            bytes += next.bytes;
            if bytes > self.committer.group_bytes_max && !group.is_empty() {
                break;
            }
            group.extend(queue.waiting.pop_front());
        }
        let accepting = queue.accepting();
        let leadership = Leadership::take(&self.committer, queue);
        let result = accepting.and_then(|()| self.commit(&mut self.committer.log.lock(), &group));
        for ticket in group {
            *ticket.outcome.lock() = Some(result.clone());
        }
        if let Err(error) = &result {
            self.committer.queue.lock().note(error);
        }
        drop(leadership);
        self.committer.queue.lock()
    }

    /// Append, sync, apply.
    fn commit(&self, log: &mut Log, group: &[Arc<Ticket>]) -> Result<(), EngineError> {
        let mut last = log.last;
        let entry = |ticket: &Arc<Ticket>| {
            last = last.next();
            Entry {
                id: EntryId {
                    term: TERM,
                    index: last,
                },
                payload: Payload::Command(ticket.command.clone()),
            }
        };
        let entries: Vec<Entry> = group.iter().map(entry).collect();
        let batch = Batch::from(vec![Record::Entries {
            group: LOCAL,
            entries,
        }]);
        match log.wal.append(&batch) {
            Err(WalError::Full { .. }) => {
                self.make_room(log)?;
                log.wal.append(&batch)?;
            }
            other => {
                other?;
            }
        }
        log.last = last;
        if group.iter().any(|t| t.durability == Durability::Synced) {
            log.wal.sync()?;
        }
        let mut all = WriteBatch::new();
        for ticket in group {
            all.append(std::mem::take(&mut *ticket.batch.lock()));
        }
        all.applied(OriginId(LOCAL.0), last.0);
        // Not `Engine::write`: buffered writes are applied before they are durable, and a flush
        // of theirs syncs the log first (`run_job`).
        match self.engine.lsm().write(&all) {
            Ok(_) => Ok(()),
            Err(error) => Err(EngineError::Diverged(error)),
        }
    }
}
