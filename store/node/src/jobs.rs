//! What shards have done for them on the pool: reads of log and engine, sums over replicas, snapshots,
//! destruction.
//!
//! A full disk costs no replica (D8): what cannot be installed or dropped for lack of space takes
//! another turn later. Nothing is lost meanwhile, because the log says durably what is to be done.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_engine::{Engine, EngineError, ErrorKind};
use tinykv_raft::GroupId;
use tinykv_replica::{
    Check, Destroy, EntryFetch, Event, InstallError, SnapshotHandle, SnapshotInstall, SnapshotSend,
    StateMachine, ValueFetch,
};

use crate::checksum::{Checksums, NotSummed, Summing};
use crate::directory::Directory;
use crate::inbox::Inbox;
use crate::install::{self, Ingestion};
use crate::pool::{Pool, Turn};
use crate::shard_thread::read_error;
use crate::transport::snapshot::{SnapshotFiles, SnapshotSender};
use crate::trouble::Trouble;

/// Turns after which an error that is not a lack of space is taken to be lasting.
const TURNS_MAX: u32 = 50;

/// The jobs of one shard; what they find goes to its inbox.
pub(crate) struct Jobs<S: StateMachine> {
    pub(crate) pool: Pool,
    pub(crate) engine: Engine,
    pub(crate) files: SnapshotFiles,
    pub(crate) snapshots: SnapshotSender,
    pub(crate) inbox: Arc<Inbox<S>>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) checksums: Arc<Checksums>,
    pub(crate) trouble: Trouble,
}

impl<S: StateMachine> Jobs<S> {
    pub(crate) fn fetch_entries(&self, request: EntryFetch) {
        let log = self.engine.log_reader();
        let inbox = Arc::clone(&self.inbox);
        self.pool.push(Box::new(move || {
            let fetch = &request.fetch;
            let entries = log.entries(request.group, fetch.from, fetch.upto, fetch.bytes_max);
            let entries = match entries {
                // Cut meanwhile: the asker sends a snapshot instead.
                Err(tinykv_wal::ReadError::Truncated { .. }) => Ok(Vec::new()),
                other => other.map_err(read_error),
            };
            inbox.push_notice(Event::EntriesFetched { request, entries });
        }));
    }

    pub(crate) fn fetch_values(&self, fetch: ValueFetch) {
        let snapshot = self.engine.lsm().snapshot();
        let inbox = Arc::clone(&self.inbox);
        self.pool.push(Box::new(move || {
            let values = snapshot.multi_get(&fetch.keys).map_err(read_error);
            let values = values.map(|values| fetch.keys.into_iter().zip(values).collect());
            inbox.push_notice(Event::ValuesFetched {
                group: fetch.group,
                entry: fetch.entry,
                values,
            });
        }));
    }

    /// Reads blocks into the cache. The pool being busy is no reason to wait: it is a hint.
    pub(crate) fn prefetch(&self, keys: Vec<Bytes>) {
        if keys.is_empty() {
            return;
        }
        let snapshot = self.engine.lsm().snapshot();
        self.pool.push_hint(Box::new(move || {
            if let Err(error) = snapshot.multi_get(&keys) {
                tracing::debug!("a read ahead of need failed: {error}");
            }
        }));
    }

    pub(crate) fn send_snapshot(&self, send: SnapshotSend) {
        let view = self.engine.lsm().snapshot();
        let inbox = Arc::clone(&self.inbox);
        let (group, to) = (send.message.group, send.message.to.id);
        self.snapshots.start(send, view, move |delivered| {
            inbox.push_notice(Event::SnapshotSent {
                group,
                to,
                delivered,
            });
        });
    }

    /// Sums a replica up, as the engine is now; turn by turn, so that others get to the disk.
    pub(crate) fn check(&self, check: Check) {
        if !self.checksums.begin(&check) {
            return;
        }
        let snapshot = self.engine.lsm().snapshot();
        let mut summing = Summing::new(&check, snapshot, S::is_content);
        let sums = Arc::clone(&self.checksums);
        self.pool.push_patient(Box::new(move || {
            let result = match summing.turn() {
                Ok(None) => return Turn::Again,
                Ok(Some(sum)) => Ok(sum),
                Err(error) => {
                    tracing::error!(group = %check.group, "a replica cannot be summed up: {error}");
                    Err(NotSummed::Unreadable(error.to_string()))
                }
            };
            sums.end(&check, result);
            Turn::Done
        }));
    }

    pub(crate) fn install(&self, install: SnapshotInstall) {
        let engine = self.engine.clone();
        let files = self.files.clone();
        let directory = Arc::clone(&self.directory);
        let inbox = Arc::clone(&self.inbox);
        let trouble = self.trouble.clone();
        let mut patience = Patience::default();
        self.pool.push_patient(Box::new(move || {
            let (group, peer, snapshot) = (install.group, install.peer.id, install.snapshot);
            let result = match directory.overlapping(&install.state.region) {
                Some(other) => Err(InstallError::Overlap(other)),
                None => match install::ingest(&engine, &files, &ingestion::<S>(&install)) {
                    Ok(()) => Ok(()),
                    Err(error) if trouble.is_final(&error) => return Turn::Done,
                    Err(error) if patience.lasts(group, &error) => return Turn::Again,
                    Err(error) => {
                        tracing::error!(%group, "a snapshot was not installed: {error}");
                        Err(InstallError::Damaged(read_error(error)))
                    }
                },
            };
            inbox.push_notice(Event::SnapshotInstalled {
                group,
                peer,
                snapshot,
                result,
            });
            Turn::Done
        }));
    }

    /// Begins a flush: somebody's burial waits for it.
    pub(crate) fn flush(&self) {
        let engine = self.engine.clone();
        let trouble = self.trouble.clone();
        self.pool.push(Box::new(move || {
            if let Err(error) = engine.flush_soon()
                && !trouble.is_final(&error)
            {
                tracing::warn!("a flush was not begun and will be asked for again: {error}");
            }
        }));
    }

    pub(crate) fn discard(&self, handle: SnapshotHandle) {
        let files = self.files.clone();
        self.pool.push(Box::new(move || {
            if let Err(error) = files.discard(handle) {
                tracing::warn!("cannot remove a snapshot nobody needs: {error}");
            }
        }));
    }

    pub(crate) fn destroy(&self, destroy: Destroy) {
        let engine = self.engine.clone();
        let inbox = Arc::clone(&self.inbox);
        let state_key = S::state_key(destroy.group);
        let trouble = self.trouble.clone();
        let mut patience = Patience::default();
        self.pool.push_patient(Box::new(move || {
            match install::destroy(&engine, &destroy, state_key.clone()) {
                Ok(()) => inbox.push_notice(Event::Destroyed {
                    group: destroy.group,
                    peer: destroy.peer,
                }),
                Err(error) if trouble.is_final(&error) => {}
                Err(error) if patience.lasts(destroy.group, &error) => return Turn::Again,
                // The tombstone keeps the ranges; the next start tries again.
                Err(error) => tracing::error!(
                    group = %destroy.group,
                    "the data of a removed replica was not dropped: {error}"
                ),
            }
            Turn::Done
        }));
    }
}

/// How long a job is done again.
#[derive(Default)]
struct Patience {
    turns: u32,
}

impl Patience {
    /// Whether the error may pass: no space, for as long as it takes; another failed read or
    /// write, for some turns.
    fn lasts(&mut self, group: GroupId, error: &EngineError) -> bool {
        self.turns = self.turns.saturating_add(1);
        if self.turns == 1 {
            tracing::warn!(%group, "a snapshot or a removal has to wait: {error}");
        }
        install::is_disk_full(error) || error.kind() == ErrorKind::Retry && self.turns < TURNS_MAX
    }
}

fn ingestion<S: StateMachine>(install: &SnapshotInstall) -> Ingestion<'_> {
    Ingestion {
        group: install.group,
        snapshot: install.snapshot,
        state: &install.state,
        state_key: S::state_key(install.group),
        drop: &install.drop,
        handle: install.handle,
    }
}

#[cfg(test)]
mod tests;
