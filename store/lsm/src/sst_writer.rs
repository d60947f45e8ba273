//! Tables made outside a tree, for [`Ingest`](crate::Ingest): Raft snapshots and bulk loads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::Env;

use crate::key::{self, Kind};
use crate::table::{TableSettings, TableWriter};
use crate::tombstone::Fragments;
use crate::{LsmError, LsmOptions};

/// Writes a table outside a tree. One that is given up leaves its file behind.
#[derive(Debug)]
pub struct SstWriter {
    env: Arc<dyn Env>,
    path: PathBuf,
    writer: TableWriter,
    entries: u64,
}

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
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken.
    pub fn create(
        env: &Arc<dyn Env>,
        path: &Path,
        options: &LsmOptions,
    ) -> Result<SstWriter, LsmError> {
        options.validate()?;
        let settings = TableSettings::new(options, true);
        Ok(SstWriter {
            env: env.clone(),
            path: path.to_owned(),
            writer: TableWriter::create(env, path, settings, true)?,
            entries: 0,
        })
    }

    /// Adds a key behind all that were added.
    ///
    /// # Errors
    /// `InvalidInput` if it does not rise or is too long.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), LsmError> {
        if self.entries > 0 && key <= key::user(self.writer.last_key()) {
            return Err(LsmError::invalid("keys of a table must rise"));
        }
        key::check_lengths(key.len(), value.len())?;
        self.writer.add(&key::encode(key, 0, Kind::Put), value)?;
        self.entries += 1;
        Ok(())
    }

    /// Bytes of the file so far, about.
    pub fn bytes(&self) -> u64 {
        self.writer.size()
    }

    /// Completes and syncs the file and its directory. `None`: nothing was added and no file is
    /// left.
    ///
    /// # Errors
    /// A failed sync is final.
    pub fn finish(self) -> Result<Option<SstSummary>, LsmError> {
        if self.entries == 0 {
            self.env.remove_file(&self.path)?;
            return Ok(None);
        }
        let summary = self.writer.finish(&Fragments::default())?;
        if let Some(dir) = self.path.parent() {
            self.env.sync_dir(dir).map_err(LsmError::from_sync)?;
        }
        Ok(Some(SstSummary {
            bytes: summary.size,
            entries: summary.properties.entries,
            smallest: summary.properties.smallest,
            largest: summary.properties.largest,
        }))
    }
}
