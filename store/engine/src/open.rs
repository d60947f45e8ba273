//! Opening both halves and comparing what they know.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::Env;
use tinykv_lsm::Lsm;
use tinykv_raft::{GroupId, LogIndex};
use tinykv_wal::{Damage, RecoveredGroup, Wal};

use crate::{Engine, EngineError, EngineOptions};

/// What a start found, and the log's writer.
#[derive(Debug)]
pub struct Recovery {
    /// The log's writer, for its one owner.
    pub writer: Wal,
    /// Every group that lives here.
    pub groups: BTreeMap<GroupId, GroupRecovery>,
    /// Payloads of the tombstones that nobody has forgotten.
    pub tombstones: BTreeMap<GroupId, Bytes>,
    /// Damage found at this start; the groups it may have hit carry
    /// [`RecoveredGroup::damaged`], at this start and all later ones (D6).
    pub damaged: Vec<Damage>,
    /// Log frames thrown away behind a torn end: they were never promised to anybody.
    pub torn_frames: u64,
}

/// One group as log and tree know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRecovery {
    /// What the log knows.
    pub log: RecoveredGroup,
    /// What the tree holds of it, durably. Entries behind are applied again. 0 for a group whose
    /// birth is still to be replayed by another one's entry (invariant 7).
    pub applied: LogIndex,
}

/// See [`Engine::open`].
pub(crate) fn open(
    env: Arc<dyn Env>,
    dir: &Path,
    options: EngineOptions,
) -> Result<(Engine, Recovery), EngineError> {
    options.validate()?;
    env.create_dir_all(dir)?;
    if let Some(parent) = dir.parent() {
        env.sync_dir(parent)?;
    }
    let lock = env.lock_dir(dir).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => EngineError::InUse {
            dir: dir.to_owned(),
        },
        _ => EngineError::from(e),
    })?;
    let (wal_dir, lsm_dir) = (dir.join("wal"), dir.join("lsm"));
    // Opening either half writes, so the tree is looked at before.
    let tree = Lsm::look(&env, &lsm_dir)?;
    let tree_is_used = tree.as_ref().is_some_and(|applied| !applied.is_empty());
    if tree_is_used && !Wal::exists(&*env, &wal_dir)? {
        return Err(missing(wal_dir, "the tree holds what stood in it"));
    }
    let (mut writer, recovered) = Wal::open(env.clone(), &wal_dir, options.wal)?;
    if tree.is_none() && !(recovered.groups.is_empty() && recovered.tombstones.is_empty()) {
        return Err(missing(lsm_dir, "the log knows groups"));
    }
    let lsm = Lsm::open(env, &lsm_dir, options.lsm)?;
    let engine = Engine::new(dir, lock, lsm, writer.reader());

    let mut damaged = recovered.damaged;
    let with_tree = |(group, log): (GroupId, RecoveredGroup)| {
        let applied = engine.flushed(group);
        (group, GroupRecovery { log, applied })
    };
    let mut groups: BTreeMap<_, _> = recovered.groups.into_iter().map(with_tree).collect();
    // Of a group that is neither born nor dead the log has lost everything; the tree gives it away.
    for (origin, applied) in engine.lsm().flushed() {
        let (group, applied) = (GroupId(origin.0), LogIndex(applied));
        if !recovered.tombstones.contains_key(&group) {
            let log = RecoveredGroup::default();
            groups
                .entry(group)
                .or_insert(GroupRecovery { log, applied });
        }
    }
    let found = contradictions(&engine, &mut groups);
    if !found.is_empty() {
        let hit: Vec<GroupId> = groups
            .iter()
            .filter_map(|(group, found)| found.log.damaged.then_some(*group))
            .collect();
        writer.mark_damaged(&hit)?;
        damaged.extend(found);
    }
    let recovery = Recovery {
        writer,
        groups,
        tombstones: recovered.tombstones,
        damaged,
        torn_frames: recovered.torn_frames,
    };
    Ok((engine, recovery))
}

/// Half of the directory is gone.
fn missing(path: PathBuf, though: &str) -> EngineError {
    EngineError::Damaged {
        path,
        what: format!("it is missing, though {though}"),
    }
}

/// Where log and tree cannot both be right: acknowledged data is gone. Marks the groups.
///
/// This also finds what no watermark convicts: the loss of the log's last frames, when the tree
/// has flushed what stood in them. And it finds groups that the log does not know at all any more.
fn contradictions(engine: &Engine, groups: &mut BTreeMap<GroupId, GroupRecovery>) -> Vec<Damage> {
    let mut damage = Vec::new();
    for found in groups.values_mut() {
        let (log, applied) = (&mut found.log, found.applied);
        let what = if applied > log.last.index {
            "the log of a group ends before what the tree has flushed"
        } else if applied.0 > 0 && applied < log.truncated.index && log.installing.is_none() {
            "the log of a group is cut beyond what the tree holds"
        } else {
            continue;
        };
        if !log.damaged {
            damage.push(Damage {
                path: engine.dir().to_owned(),
                offset: 0,
                what,
            });
            log.damaged = true;
        }
    }
    damage
}
