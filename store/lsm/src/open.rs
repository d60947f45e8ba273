//! Opening: read what the MANIFEST says, remove what it does not name, begin a new MANIFEST.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use std::sync::{Arc, OnceLock};

use tinykv_env::{DirEntry, Env};
use tinykv_mutants::{Mutant, planted};
use tinykv_sync::atomic::AtomicU64;
use tinykv_sync::{ArcSwap, Condvar, Mutex};

use crate::batch::OriginId;
use crate::cache::BlockCache;
use crate::changes::Changes;
use crate::codec::Malformed;
use crate::job::Jobs;
use crate::memtable::Memtable;
use crate::pace::Pace;
use crate::pressure::Stalls;
use crate::snapshot::SuperVersion;
use crate::statistics::Counters;
use crate::tree::{Inner, Writer};
use crate::version::{
    CURRENT_TMP, FileContext, Graveyard, Manifest, ManifestState, Recovered, TableFile, Version,
    is_manifest_name, manifest_name, recover, table_path,
};
use crate::{LsmError, LsmOptions};

pub(crate) fn open(
    env: Arc<dyn Env>,
    dir: &Path,
    options: LsmOptions,
) -> Result<Arc<Inner>, LsmError> {
    options.validate()?;
    env.create_dir_all(dir)?;
    let lock = env.lock_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LsmError::InUse {
            dir: dir.to_owned(),
        },
        _ => error.into(),
    })?;
    let entries = env.list_dir(dir)?;
    let (mut state, manifest_in_force) = match read(&env, dir, &entries)? {
        Some(recovered) => (recovered.state, Some(recovered.number)),
        None => (ManifestState::default(), None),
    };
    let context = Arc::new(FileContext {
        cache: Arc::new(BlockCache::new(
            options.cache_bytes_max,
            options.block_bytes,
        )),
        dir: dir.to_owned(),
        graveyard: Graveyard::default(),
        changes: Changes::default(),
        env,
    });
    let version = version_of(&context, &options, &state, manifest_in_force)?;
    let env = &context.env;
    if let Some(number) = manifest_in_force {
        // A killed process leaves edits and names unsynced; they count once they were read, so no
        // file may go on their word before they are durable.
        let manifest = env.open(&dir.join(manifest_name(number)))?;
        manifest.sync_data().map_err(LsmError::from_sync)?;
        env.sync_dir(dir).map_err(LsmError::from_sync)?;
    }
    remove_orphans(env, dir, &state, manifest_in_force, &entries)?;
    if manifest_in_force.is_none()
        && let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty())
    {
        env.sync_dir(parent).map_err(LsmError::from_sync)?;
    }
    let number = state.next_file.max(first_free_number(&entries));
    state.next_file = number + 1;
    let last_sequence = match planted(Mutant::SequenceRestarts) {
        true => 0,
        false => state.last_sequence,
    };
    let mut applied = state.applied.clone();
    if planted(Mutant::AppliedTwice) {
        for index in applied.values_mut() {
            *index = index.saturating_sub(1);
        }
    }
    let manifest = Manifest::create(env, dir, number, state)?;
    if let Some(old) = manifest_in_force {
        env.remove_file(&dir.join(manifest_name(old)))?;
    }
    Ok(Arc::new(Inner {
        state: ArcSwap::from_pointee(SuperVersion {
            active: Arc::new(Memtable::new()),
            immutables: Vec::new(),
            version: Arc::new(version),
            floor: last_sequence,
        }),
        structure: Mutex::new(()),
        visible: AtomicU64::new(last_sequence),
        writer: Mutex::new(Writer {
            last_sequence,
            applied: applied.clone(),
        }),
        manifest: Mutex::new(manifest),
        flushed: ArcSwap::from_pointee(applied),
        next_file: AtomicU64::new(number + 1),
        revisit_before: AtomicU64::new(0),
        jobs: Mutex::new(Jobs::default()),
        changed: Condvar::new(),
        failure: OnceLock::new(),
        counters: Counters::default(),
        stalls: Stalls::default(),
        pace: Pace::default(),
        options,
        context,
        _lock: lock,
    }))
}

/// What the MANIFEST says, if there is a tree; refuses one of which files are gone.
fn read(
    env: &Arc<dyn Env>,
    dir: &Path,
    entries: &[DirEntry],
) -> Result<Option<Recovered>, LsmError> {
    let recovered = recover(env, dir)?;
    if let Some(recovered) = &recovered {
        refuse_missing(dir, &recovered.state, entries)?;
    }
    Ok(recovered)
}

/// See [`Lsm::look`](crate::Lsm::look).
pub(crate) fn look(
    env: &Arc<dyn Env>,
    dir: &Path,
) -> Result<Option<BTreeMap<OriginId, u64>>, LsmError> {
    if !env.exists(dir)? {
        return Ok(None);
    }
    let recovered = read(env, dir, &env.list_dir(dir)?)?;
    Ok(recovered.map(|recovered| recovered.state.applied))
}

fn table_number(name: &str) -> Option<u64> {
    name.strip_suffix(".sst")?.parse().ok()
}

/// A table that the MANIFEST names and nobody finds: part of the directory is gone.
fn refuse_missing(dir: &Path, state: &ManifestState, entries: &[DirEntry]) -> Result<(), LsmError> {
    let present: BTreeMap<u64, u64> = entries
        .iter()
        .filter_map(|entry| Some((table_number(&entry.name)?, entry.len)))
        .collect();
    match state
        .files
        .keys()
        .find(|number| !present.contains_key(number))
    {
        None => Ok(()),
        Some(number) => {
            let path = table_path(dir, *number);
            let reason = "missing, though the MANIFEST names it";
            Err(LsmError::corruption(&path, 0, reason))
        }
    }
}

fn version_of(
    context: &Arc<FileContext>,
    options: &LsmOptions,
    state: &ManifestState,
    manifest: Option<u64>,
) -> Result<Version, LsmError> {
    let files: Vec<(usize, Arc<TableFile>)> = state
        .files
        .values()
        .map(|(level, meta)| (*level, TableFile::new(meta.clone(), context)))
        .collect();
    Version::from_files(vec![Vec::new(); options.levels], &files).map_err(|Malformed(reason)| {
        let path = context.dir.join(manifest_name(manifest.unwrap_or(0)));
        LsmError::corruption(&path, 0, reason)
    })
}

/// Removes what a crash left behind: tables no edit names, other MANIFESTs, a half-made CURRENT.
fn remove_orphans(
    env: &Arc<dyn Env>,
    dir: &Path,
    state: &ManifestState,
    manifest_in_force: Option<u64>,
    entries: &[DirEntry],
) -> Result<(), LsmError> {
    let in_force = manifest_in_force.map(manifest_name);
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let orphan = match table_number(&entry.name) {
            Some(number) => !state.files.contains_key(&number),
            None => {
                entry.name == CURRENT_TMP
                    || (is_manifest_name(&entry.name) && in_force.as_deref() != Some(&entry.name))
            }
        };
        if orphan {
            env.remove_file(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}

/// Above the number of every file that is or was there. The first MANIFEST of a tree is number 1.
fn first_free_number(entries: &[DirEntry]) -> u64 {
    let numbers = entries.iter().filter_map(|entry| {
        let digits = entry.name.strip_prefix("MANIFEST-");
        digits
            .and_then(|digits| digits.parse().ok())
            .or_else(|| table_number(&entry.name))
    });
    // A MANIFEST that never came into force leaves the tree without CURRENT: begin with 1 again.
    let fresh = !entries.iter().any(|entry| entry.name == "CURRENT");
    if fresh {
        1
    } else {
        numbers.max().map_or(1, |n: u64| n.saturating_add(1))
    }
}
