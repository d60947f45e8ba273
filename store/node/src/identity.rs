//! Whose data a directory holds (D9).
//!
//! The file `IDENTITY` in the data directory says to which cluster the directory belongs, which
//! member lives in it, under which random incarnation it was first set up and how often it was
//! started. Every start raises the start number and makes it durable before anything else is
//! done, so that an old copy of a disk that comes back shows a number the cluster has already
//! seen, and a wiped one another incarnation. The file is replaced whole: written under another
//! name, synced, renamed, directory synced.
//!
//! The directory also holds the lock of the process, the marker a failed fsync leaves behind
//! (D4) and, in folders of their own, what engine and snapshots keep.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tinykv_env::{DirLock, Env};

use crate::failure::Failure;

const IDENTITY: &str = "IDENTITY";
/// Added to the name of a file that is to replace another one.
const NEW: &str = ".new";
const MARKER: &str = "FSYNC-FAILED";
const ENGINE: &str = "engine";
const SNAPSHOTS: &str = "snapshots";

/// The layout of the data directory this program writes. A higher number is refused.
const FORMAT: u32 = 1;

/// What kind of process owns a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `tinykv-store`.
    Store,
    /// `tinykv-placement`.
    Placement,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Store => "store",
            Role::Placement => "placement member",
        })
    }
}

/// Who this process is, durable in its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The kind of process.
    pub role: Role,
    /// The cluster the data belongs to. Never 0.
    pub cluster_id: u64,
    /// The store id, or the id of the placement member. Never 0.
    pub member_id: u64,
    /// Drawn at random when the directory was set up.
    pub incarnation: u64,
    /// 1 at the first start, raised at each further one.
    pub start_number: u64,
}

/// The file's contents: the identity and what tells a reader whether it may trust it.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    identity: serde_json::Value,
}

/// A data directory, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    env: Arc<dyn Env>,
    path: PathBuf,
    role: Role,
    identity: Option<Identity>,
    marker: Option<String>,
    _lock: Box<dyn DirLock>,
}

impl DataDir {
    /// Creates the directory if it is not there, locks it, and, if it was set up before, raises
    /// and syncs its start number.
    ///
    /// # Errors
    /// [`Failure::Storage`] when the directory is in use, belongs to something else, was written
    /// by a newer version or cannot be read.
    pub fn open(env: Arc<dyn Env>, path: &Path, role: Role) -> Result<DataDir, Failure> {
        let fail = |error: io::Error| Failure::storage(format!("data directory {error}"));
        create_durably(env.as_ref(), path).map_err(fail)?;
        let lock = env.lock_dir(path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Failure::storage(format!(
                "the data directory {} is in use by another process",
                path.display()
            )),
            _ => fail(error),
        })?;
        let identity = read_identity(env.as_ref(), path, role)?;
        let marker = read_marker(env.as_ref(), path).map_err(fail)?;
        let mut dir = DataDir {
            env,
            path: path.to_owned(),
            role,
            identity: None,
            marker,
            _lock: lock,
        };
        if let Some(mut identity) = identity {
            identity.start_number += 1;
            dir.store(identity)?;
        }
        Ok(dir)
    }

    /// Who lives here; `None` until [`DataDir::establish`] was called once in its life.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What the marker of a failed fsync says, if an earlier process left one (D4). Its replicas
    /// must be treated as damaged.
    pub fn failed_sync_marker(&self) -> Option<&str> {
        self.marker.as_deref()
    }

    /// Sets the directory up for a member of a cluster, with a new incarnation and start number 1.
    ///
    /// # Errors
    /// [`Failure::Storage`] when the file cannot be written.
    ///
    /// # Panics
    /// When the directory already has an identity, or an id is 0.
    pub fn establish(&mut self, cluster_id: u64, member_id: u64) -> Result<Identity, Failure> {
        assert_eq!(self.identity, None, "an identity is established once");
        assert!(cluster_id != 0 && member_id != 0, "ids are never 0");
        let identity = Identity {
            role: self.role,
            cluster_id,
            member_id,
            incarnation: self.env.random_u64().max(1),
            start_number: 1,
        };
        self.store(identity)?;
        Ok(identity)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine keeps its files.
    pub fn engine_dir(&self) -> PathBuf {
        self.path.join(ENGINE)
    }

    /// Where snapshot files under construction lie; emptied at every start.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }

    /// Where the files of this directory live.
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    /// Forgets the marker, once what it stands for is recorded elsewhere.
    pub(crate) fn remove_marker(&self) -> io::Result<()> {
        self.env.remove_file(&self.path.join(MARKER))?;
        self.env.sync_dir(&self.path)
    }

    fn store(&mut self, identity: Identity) -> Result<(), Failure> {
        write_identity(self.env.as_ref(), &self.path, &identity)
            .map_err(|error| Failure::storage(format!("cannot write the identity: {error}")))?;
        self.identity = Some(identity);
        Ok(())
    }
}

/// Leaves a note for the next start that an fsync failed (D4). Best effort: the process ends
/// anyway, and the disk has just shown that it cannot be trusted.
pub fn leave_marker(env: &dyn Env, data_dir: &Path, sentence: &str) -> io::Result<()> {
    let file = env.create(&data_dir.join(MARKER))?;
    file.write_at(sentence.as_bytes(), 0)?;
    file.sync_data()?;
    env.sync_dir(data_dir)
}

/// Creates a directory and those above it that are missing, each durable in its parent (D2).
fn create_durably(env: &dyn Env, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor.as_os_str().is_empty() || env.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    env.create_dir_all(path)?;
    for created in missing.into_iter().rev() {
        match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => env.sync_dir(parent)?,
            _ => env.sync_dir(Path::new("."))?,
        }
    }
    Ok(())
}

fn read_marker(env: &dyn Env, path: &Path) -> io::Result<Option<String>> {
    let marker = path.join(MARKER);
    if !env.exists(&marker)? {
        return Ok(None);
    }
    let bytes = read_whole(env, &marker)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn read_identity(env: &dyn Env, path: &Path, role: Role) -> Result<Option<Identity>, Failure> {
    let name = path.display();
    let Some(body) = read_checked(env, path, IDENTITY)? else {
        refuse_foreign(env, path)?;
        return Ok(None);
    };
    let damaged = |_| damaged(&path.join(IDENTITY));
    let stored: Stored = serde_json::from_str(&body).map_err(damaged)?;
    if stored.format > FORMAT {
        return Err(Failure::storage(format!(
            "the data directory {name} was written by a newer version (format {}, this program \
             knows up to {FORMAT})",
            stored.format
        )));
    }
    let identity: Identity = serde_json::from_value(stored.identity).map_err(damaged)?;
    if identity.role != role {
        return Err(Failure::storage(format!(
            "the data directory {name} belongs to a {}, not to a {role}",
            identity.role
        )));
    }
    Ok(Some(identity))
}

/// A directory without identity must hold nothing we did not put there ourselves before a crash.
fn refuse_foreign(env: &dyn Env, path: &Path) -> Result<(), Failure> {
    let ours = ["LOCK", "IDENTITY.new", "lost+found"];
    let entries = env
        .list_dir(path)
        .map_err(|error| Failure::storage(format!("data directory {error}")))?;
    match entries
        .iter()
        .find(|entry| !ours.contains(&entry.name.as_str()))
    {
        None => Ok(()),
        Some(entry) => Err(Failure::storage(format!(
            "{} is no TinyKV data directory: it holds `{}` but no identity",
            path.display(),
            entry.name
        ))),
    }
}

fn write_identity(env: &dyn Env, path: &Path, identity: &Identity) -> io::Result<()> {
    let stored = Stored {
        format: FORMAT,
        identity: serde_json::to_value(identity)?,
    };
    write_checked(env, path, IDENTITY, &serde_json::to_string_pretty(&stored)?)
}

/// Replaces a file as a whole: new file, sync, rename, directory sync.
fn write_checked(env: &dyn Env, dir: &Path, name: &str, body: &str) -> io::Result<()> {
    let text = format!("{body}\n{}\n", checksum_line(body));
    let new = dir.join(format!("{name}{NEW}"));
    if env.exists(&new)? {
        env.remove_file(&new)?;
    }
    let file = env.create(&new)?;
    file.write_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    env.rename(&new, &dir.join(name))?;
    env.sync_dir(dir)
}

/// What [`write_checked`] wrote; `None` if there is no such file.
fn read_checked(env: &dyn Env, dir: &Path, name: &str) -> Result<Option<String>, Failure> {
    let fail = |error: io::Error| Failure::storage(format!("data directory {error}"));
    let file = dir.join(name);
    if !env.exists(&file).map_err(fail)? {
        return Ok(None);
    }
    let bytes = read_whole(env, &file).map_err(fail)?;
    let checked = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim_end().rsplit_once('\n'))
        .filter(|(body, checksum)| *checksum == checksum_line(body));
    match checked {
        Some((body, _)) => Ok(Some(body.to_owned())),
        None => Err(damaged(&file)),
    }
}

fn damaged(file: &Path) -> Failure {
    Failure::storage(format!(
        "the file {} is damaged: its checksum is wrong",
        file.display()
    ))
}

fn checksum_line(body: &str) -> String {
    format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes()))
}

fn read_whole(env: &dyn Env, path: &Path) -> io::Result<Vec<u8>> {
    /// Far above anything written here; a longer file is not ours.
    const LEN_MAX: u64 = 64 << 20;
    let file = env.open(path)?;
    let len = file.len()?.min(LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
