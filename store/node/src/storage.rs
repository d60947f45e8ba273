//! Log and engine of a process, opened and brought into step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tinykv_engine::{Engine, EngineError, EngineOptions, ErrorKind, GroupRecovery, Recovery};
use tinykv_lsm::Lsm;
use tinykv_raft::{Entry, GroupId, LogIndex};
use tinykv_replica::{InstallRecord, RecoveredReplica, RecoveredTombstone, StateMachine};
use tinykv_wal::{Batch, Record, RecoveredGroup, Wal, WalReader};

use crate::failure::Failure;
use crate::identity::DataDir;
use crate::install::{self, Ingestion};
use crate::transport::snapshot::SnapshotFiles;

/// Entries of each group that are read into memory at the start, at most …
const TAIL_ENTRIES: u64 = 64;
/// … and their bytes.
const TAIL_BYTES: usize = 256 << 10;

/// What a process keeps on disk, open.
#[derive(Debug)]
pub struct Storage {
    pub(crate) engine: Engine,
    pub(crate) wal: Wal,
    groups: BTreeMap<GroupId, GroupRecovery>,
    tombstones: BTreeMap<GroupId, bytes::Bytes>,
}

/// What a restart found, per group.
pub(crate) struct Found {
    pub(crate) groups: Vec<RecoveredReplica>,
    pub(crate) tombstones: Vec<RecoveredTombstone>,
    pub(crate) files: SnapshotFiles,
}

impl Storage {
    /// Opens log and engine under the data directory, creating them if there are none. After a
    /// failed fsync of an earlier process every replica that was here then is damaged (D4, D6).
    ///
    /// # Errors
    /// [`Failure::Storage`] when they are damaged, newer or in use, [`Failure::FailedSync`] when
    /// they cannot be made durable, [`Failure::Configuration`] for options that contradict
    /// each other.
    pub fn open(dir: &DataDir, options: EngineOptions) -> Result<Storage, Failure> {
        let env = Arc::clone(dir.env());
        let (engine, recovery) =
            Engine::open(env, &dir.engine_dir(), options).map_err(|error| failure(&error))?;
        let Recovery {
            writer: mut wal,
            mut groups,
            tombstones,
            damaged,
            ..
        } = recovery;
        for damage in &damaged {
            tracing::error!(
                file = %damage.path.display(),
                offset = damage.offset,
                "acknowledged data is damaged: {}",
                damage.what
            );
        }
        if let Some(marker) = dir.failed_sync_marker() {
            tracing::error!(
                replicas = groups.len(),
                "an earlier fsync failed ({marker}): the replicas that are here are damaged and \
                 wait to be replaced"
            );
            let hit: Vec<GroupId> = groups.keys().copied().collect();
            wal.mark_damaged(&hit)
                .map_err(|error| failure(&EngineError::from(error)))?;
            for found in groups.values_mut() {
                found.log.damaged = true;
            }
            dir.remove_marker().map_err(Failure::storage)?;
        }
        Ok(Storage {
            engine,
            wal,
            groups,
            tombstones,
        })
    }

    /// The engine, for instance to look at what a state machine left in it.
    pub fn lsm(&self) -> &Lsm {
        self.engine.lsm()
    }

    /// Whether acknowledged data was ever found damaged in the log: then the node has to be told which
    /// peers are new ([`NodeHandle::new_peers_from`](crate::handle::NodeHandle::new_peers_from)).
    pub fn was_damaged(&self) -> bool {
        self.wal.was_damaged()
    }

    /// Whether no group lives or ever lived here: the process has not been bootstrapped.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.tombstones.is_empty()
    }

    /// Finishes what a crash interrupted and gathers what the shards start from.
    pub(crate) fn recover<S: StateMachine>(&mut self, dir: &DataDir) -> Result<Found, Failure> {
        let installing = self.unfinished()?;
        let keep: BTreeSet<_> = installing.values().map(|record| record.handle).collect();
        let files = SnapshotFiles::open(
            Arc::clone(dir.env()),
            dir.snapshot_dir(),
            self.lsm().options().clone(),
            &keep,
        )
        .map_err(Failure::storage)?;
        for (group, record) in &installing {
            self.redo::<S>(*group, record, &files)?;
        }
        let reader = self.engine.log_reader();
        let found = self.groups.iter().map(|(group, found)| RecoveredReplica {
            group: *group,
            log: found.log.clone(),
            tail: tail(&reader, *group, &found.log),
            applied: self.engine.applied(*group),
        });
        let tombstone = |(group, payload): (&GroupId, &bytes::Bytes)| RecoveredTombstone {
            group: *group,
            payload: payload.clone(),
        };
        Ok(Found {
            groups: found.collect(),
            tombstones: self.tombstones.iter().map(tombstone).collect(),
            files,
        })
    }

    /// Installs again what was being installed at the crash, and says so in the log: from there
    /// on it is as if the crash had come a moment later.
    fn redo<S: StateMachine>(
        &mut self,
        group: GroupId,
        record: &InstallRecord,
        files: &SnapshotFiles,
    ) -> Result<(), Failure> {
        let found = self.groups.get_mut(&group);
        let log = &mut found.expect("the record stands in this group's log").log;
        let Some((snapshot, payload)) = log.installing.take() else {
            return Ok(());
        };
        let drop: Vec<_> = record.dropped().flat_map(S::ranges).collect();
        let ingestion = Ingestion {
            group,
            snapshot,
            state: &record.after,
            state_key: S::state_key(group),
            drop: &drop,
            handle: record.handle,
        };
        match install::ingest(&self.engine, files, &ingestion) {
            Ok(()) => {}
            // What was received is no good: one replica is damaged, the others go on (D7).
            Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Unusable) => {
                tracing::error!(%group, %snapshot, "a snapshot cannot be installed: {error}");
                log.installing = Some((snapshot, payload));
                log.damaged = true;
                return Ok(());
            }
            Err(error) => return Err(failure(&error)),
        }
        let installed = Record::Installed {
            group,
            snapshot,
            payload: payload.clone(),
        };
        let appended = self.wal.append(&Batch::from(vec![installed]));
        appended
            .and_then(|_| self.wal.sync())
            .map_err(|error| failure(&EngineError::from(error)))?;
        log.installed = Some((snapshot, payload));
        files.discard(record.handle).map_err(Failure::storage)?;
        tracing::info!(%group, %snapshot, "finished the installation of a snapshot");
        Ok(())
    }

    fn unfinished(&self) -> Result<BTreeMap<GroupId, InstallRecord>, Failure> {
        let mut unfinished = BTreeMap::new();
        for (group, found) in &self.groups {
            if let Some((_, payload)) = &found.log.installing {
                let record = InstallRecord::decode(payload)
                    .map_err(|error| Failure::storage(format!("group {group}: {error}")))?;
                unfinished.insert(*group, record);
            }
        }
        Ok(unfinished)
    }
}

/// The newest entries of a group's log, as many as are worth having in memory. What cannot be
/// read now is read when it is needed, which is also when the error matters.
fn tail(reader: &WalReader, group: GroupId, log: &RecoveredGroup) -> Vec<Entry> {
    let (truncated, last) = (log.truncated.index, log.last.index);
    let mut count = (last.0 - truncated.0).min(TAIL_ENTRIES);
    while count > 0 {
        let from = LogIndex(last.0 - count + 1);
        match reader.entries(group, from, last, TAIL_BYTES) {
            Ok(entries) if entries.last().is_some_and(|entry| entry.id == log.last) => {
                return entries;
            }
            Ok(_) => count /= 2,
            Err(error) => {
                tracing::warn!(%group, "cannot read the end of the log: {error}");
                return Vec::new();
            }
        }
    }
    Vec::new()
}

/// The way a process ends over an error of the engine.
pub(crate) fn failure(error: &EngineError) -> Failure {
    match error.kind() {
        ErrorKind::Refused => Failure::configuration(error),
        ErrorKind::Failed => Failure::FailedSync(error.to_string()),
        ErrorKind::Retry | ErrorKind::Unusable | ErrorKind::Closed => Failure::storage(error),
    }
}

#[cfg(test)]
mod tests;
