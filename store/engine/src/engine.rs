//! The shared half: what every thread of a store may hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tinykv_env::{DirLock, Env};
use tinykv_lsm::{AppliedChange, Ingest, Lsm, OriginId, Sequence, WriteBatch};
use tinykv_raft::{EntryId, GroupId, LogIndex};
use tinykv_sync::Mutex;
use tinykv_wal::WalReader;

use crate::open::open;
use crate::{EngineError, EngineOptions, Job, Recovery};

/// An open engine; clones are the same one. The log's writer is not in it: it has one owner, who
/// gets it by [`Recovery::writer`].
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    lsm: Lsm,
    log: WalReader,
    /// A flush asked for on behalf of groups that hold the log, and the indexes it must reach;
    /// no other is asked for meanwhile.
    flush_awaited: Mutex<Vec<(GroupId, u64)>>,
    /// Released with the last clone.
    _lock: Box<dyn DirLock>,
}

impl Engine {
    /// Opens or creates the engine in `dir` (`dir/wal`, `dir/lsm`), and recovers it.
    ///
    /// An installation that was under way is left to the caller, who knows what its payload says:
    /// it is found in [`tinykv_wal::RecoveredGroup::installing`], to be done again by
    /// [`Engine::install`] before the group is used.
    ///
    /// # Errors
    /// See [`EngineError::kind`]; damage of single groups is no error but in the [`Recovery`].
    pub fn open(
        env: Arc<dyn Env>,
        dir: &Path,
        options: EngineOptions,
    ) -> Result<(Engine, Recovery), EngineError> {
        open(env, dir, options)
    }

    /// The tree: snapshots, pressure, figures. Writes go through [`Engine::write`].
    pub fn lsm(&self) -> &Lsm {
        &self.shared.lsm
    }

    /// A reader of old log entries.
    pub fn log_reader(&self) -> WalReader {
        self.shared.log.clone()
    }

    /// The directory it lives in.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Applies a batch: visible at once, durable because the log is.
    ///
    /// # Panics
    /// When the batch moves no applied index (invariant 1), or moves one beyond what is durable
    /// in the own log (6).
    pub fn write(&self, batch: &WriteBatch) -> Result<Sequence, EngineError> {
        assert!(
            !batch.applied_changes().is_empty(),
            "a batch of {} operations moves no applied index",
            batch.len()
        );
        for (origin, change) in batch.applied_changes() {
            if let AppliedChange::Advance(index) = change {
                self.assert_durable(*origin, *index, "applied");
            }
        }
        Ok(self.shared.lsm.write(batch)?)
    }

    /// Replaces a group's data by a snapshot; does nothing when that is durable already, so it
    /// serves the first time and after a crash alike (invariant 5).
    ///
    /// The caller has the group's `Installing` record synced before, and appends `Installed` to
    /// the log after. The files stay where they are; removing them is the caller's.
    ///
    /// # Panics
    /// When `ingest.applied` is not this group at this index, or nothing in the log says that the
    /// snapshot is being installed.
    pub fn install(
        &self,
        group: GroupId,
        snapshot: EntryId,
        ingest: &Ingest,
    ) -> Result<(), EngineError> {
        let origin = OriginId(group.0);
        assert_eq!(
            ingest.applied,
            Some((origin, snapshot.index.0)),
            "group {group}: the ingest of snapshot {snapshot} moves another applied index"
        );
        assert_eq!(
            self.shared.log.installing(group),
            Some(snapshot),
            "group {group}: the log does not say that snapshot {snapshot} is being installed"
        );
        if self.flushed(group) >= snapshot.index {
            return Ok(());
        }
        Ok(self.shared.lsm.ingest(ingest)?)
    }

    /// The applied index of a group that a crash now would leave: entries up to it are never
    /// needed again by this store.
    pub fn flushed(&self, group: GroupId) -> LogIndex {
        LogIndex(self.shared.lsm.flushed_of(OriginId(group.0)))
    }

    /// The applied index of a group as readers see it.
    pub fn applied(&self, group: GroupId) -> LogIndex {
        LogIndex(self.shared.lsm.applied(OriginId(group.0)))
    }

    /// Seals what was applied so far, to be flushed by the next [`Engine::plan`].
    pub fn flush_soon(&self) -> Result<(), EngineError> {
        self.shared.lsm.rotate()?;
        Ok(())
    }

    /// The most urgent piece of background work that nobody works on yet; any thread runs it.
    pub fn plan(&self) -> Option<Job> {
        let job = self.shared.lsm.plan()?;
        Some(Job::new(self.clone(), job))
    }

    /// Work that must not wait behind a long compaction, see [`Lsm::plan_brief`]: for a thread that
    /// does nothing else, and for one that pauses in a compaction.
    pub fn plan_brief(&self) -> Option<Job> {
        let job = self.shared.lsm.plan_brief()?;
        Some(Job::new(self.clone(), job))
    }

    pub(crate) fn new(dir: &Path, lock: Box<dyn DirLock>, lsm: Lsm, log: WalReader) -> Engine {
        Engine {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                lsm,
                log,
                flush_awaited: Mutex::default(),
                _lock: lock,
            }),
        }
    }

    /// Whether the log holds everything of the origin up to an index durably. A group that is
    /// dead in the log by now has no log to be held to.
    pub(crate) fn is_durable(&self, origin: OriginId, index: u64) -> bool {
        let durable = self.shared.log.durable_index(GroupId(origin.0));
        durable.is_none_or(|durable| index <= durable.0)
    }

    pub(crate) fn assert_durable(&self, origin: OriginId, index: u64, what: &str) {
        assert!(
            self.is_durable(origin, index),
            "group {}: {what} up to {index}, but its log is durable up to {:?}",
            origin.0,
            self.shared.log.durable_index(GroupId(origin.0))
        );
    }

    /// Asks the tree for a flush that reaches these indexes, unless one asked for earlier is
    /// still to come.
    pub(crate) fn ask_for_flush(&self, groups: &[GroupId]) -> Result<bool, EngineError> {
        let mut awaited = self.shared.flush_awaited.lock();
        // A group that died since is forgotten by the tree, and no flush will ever reach it.
        awaited.retain(|(group, index)| {
            self.flushed(*group).0 < *index && self.applied(*group).0 >= *index
        });
        if !awaited.is_empty() || groups.is_empty() {
            return Ok(false);
        }
        let reached = |group: &GroupId| (*group, self.applied(*group).0);
        *awaited = groups.iter().map(reached).collect();
        Ok(self.shared.lsm.rotate()?)
    }
}

#[cfg(test)]
mod tests {
    use tinykv_env::SimEnv;
    use tinykv_raft::{Entry, HardState, Payload, Term};
    use tinykv_wal::{Batch, Record, Wal};

    use super::*;

    /// A group with one entry, which is applied.
    fn live(engine: &Engine, wal: &mut Wal, id: u64) {
        let group = GroupId(id);
        let entry = Entry {
            id: EntryId {
                term: Term(1),
                index: LogIndex(1),
            },
            payload: Payload::Empty,
        };
        let records = vec![
            Record::Birth {
                group,
                birth: bytes::Bytes::new(),
                hard_state: HardState::default(),
                truncated: EntryId::default(),
            },
            Record::Entries {
                group,
                entries: vec![entry],
            },
        ];
        wal.append(&Batch::from(records)).expect("append");
        wal.sync().expect("sync");
        let mut batch = WriteBatch::new();
        batch.put("key", "value").applied(OriginId(id), 1);
        engine.write(&batch).expect("write");
    }

    #[test]
    fn a_group_that_dies_keeps_nobody_from_a_flush() {
        let env = SimEnv::new(1);
        let options = EngineOptions::default();
        let (engine, recovery) =
            Engine::open(env.shared(), Path::new("engine"), options).expect("open");
        let mut wal = recovery.writer;
        live(&engine, &mut wal, 3);
        let asked = |id: u64| engine.ask_for_flush(&[GroupId(id)]).expect("asked");
        assert!(asked(3));
        assert!(!asked(3), "it is under way");
        let mut death = WriteBatch::new();
        death.forget(OriginId(3));
        engine.write(&death).expect("write");
        engine.lsm().flush().expect("flush");
        live(&engine, &mut wal, 4);
        assert!(asked(4));
    }
}
