//! Where received snapshots lie: one folder per handle under the data directory.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::Env;
use tinykv_lsm::{LsmError, LsmOptions, SstWriter};
use tinykv_replica::{KeyRange, SnapshotHandle};

use super::chunk::{Totals, split_pair};

/// Size on disk at which a table is closed and the next one begun.
const TABLE_BYTES: u64 = 64 << 20;
/// The table that holds the region's state.
const STATE_TABLE: &str = "state.sst";

/// The folder of received snapshots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SnapshotFiles {
    env: Arc<dyn Env>,
    dir: PathBuf,
    options: LsmOptions,
}

impl SnapshotFiles {
    /// Opens the folder and removes what no unfinished installation refers to.
    pub(crate) fn open(
        env: Arc<dyn Env>,
        dir: PathBuf,
        options: LsmOptions,
        keep: &BTreeSet<SnapshotHandle>,
    ) -> io::Result<SnapshotFiles> {
        let files = SnapshotFiles { env, dir, options };
        files.env.create_dir_all(&files.dir)?;
        if let Some(parent) = files.dir.parent() {
            files.env.sync_dir(parent)?;
        }
        let keep: BTreeSet<String> = keep.iter().map(|handle| folder(*handle)).collect();
        for entry in files.env.list_dir(&files.dir)? {
            if !keep.contains(&entry.name) {
                files.remove(&files.dir.join(entry.name))?;
            }
        }
        Ok(files)
    }

    /// Begins a new snapshot.
    pub(super) fn begin(&self, ranges: Vec<KeyRange>) -> io::Result<SnapshotWriter> {
        let handle = SnapshotHandle(self.env.random_u64());
        let dir = self.dir.join(folder(handle));
        self.env.create_dir_all(&dir)?;
        self.env.sync_dir(&self.dir)?;
        Ok(SnapshotWriter {
            env: Arc::clone(&self.env),
            options: self.options.clone(),
            handle,
            dir,
            ranges,
            table: None,
            tables: 0,
            range: None,
            last_key: None,
            totals: Totals::default(),
        })
    }

    /// Adds a table with the one pair that does not travel with the data, the region's state,
    /// and names all tables of the snapshot.
    pub(crate) fn complete(
        &self,
        handle: SnapshotHandle,
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<PathBuf>, LsmError> {
        let dir = self.dir.join(folder(handle));
        let state = dir.join(STATE_TABLE);
        if self.env.exists(&state)? {
            self.env.remove_file(&state)?;
        }
        let mut table = SstWriter::create(&self.env, &state, &self.options)?;
        table.add(key, value)?;
        table.finish()?;
        let entries = self.env.list_dir(&dir)?;
        Ok(entries.iter().map(|entry| dir.join(&entry.name)).collect())
    }

    /// Removes a snapshot, if it is still there.
    pub(crate) fn discard(&self, handle: SnapshotHandle) -> io::Result<()> {
        let dir = self.dir.join(folder(handle));
        match self.env.exists(&dir)? {
            true => self.remove(&dir),
            false => Ok(()),
        }
    }

    fn remove(&self, dir: &Path) -> io::Result<()> {
        for entry in self.env.list_dir(dir)? {
            self.env.remove_file(&dir.join(entry.name))?;
        }
        self.env.remove_dir(dir)
    }
}

/// A snapshot being received.
pub(super) struct SnapshotWriter {
    env: Arc<dyn Env>,
    options: LsmOptions,
    handle: SnapshotHandle,
    dir: PathBuf,
    ranges: Vec<KeyRange>,
    table: Option<SstWriter>,
    tables: u32,
    /// Which of `ranges` the last key lies in. A table has keys of one range only: what stands
    /// between the ranges, such as the region's state, is none of its business.
    range: Option<usize>,
    last_key: Option<Bytes>,
    totals: Totals,
}

impl SnapshotWriter {
    pub(super) fn handle(&self) -> SnapshotHandle {
        self.handle
    }

    /// Adds the pairs of a chunk. The error is a sentence for the other side and the log.
    pub(super) fn add(&mut self, chunk: &[u8]) -> Result<(), String> {
        let mut rest = chunk;
        let mut pairs = 0;
        while !rest.is_empty() {
            let (key, value, after) = split_pair(rest).ok_or("a chunk is malformed")?;
            self.add_pair(key, value)?;
            pairs += 1;
            rest = after;
        }
        self.totals.add(chunk, pairs);
        Ok(())
    }

    /// Completes the tables if the whole is what the sender says it is.
    pub(super) fn finish(mut self, expected: Totals) -> Result<SnapshotHandle, String> {
        if self.totals != expected {
            return Err(format!(
                "the snapshot amounts to {:?} instead of {expected:?}",
                self.totals
            ));
        }
        self.close_table()?;
        Ok(self.handle)
    }

    fn add_pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if self.last_key.as_ref().is_some_and(|last| key <= last) {
            return Err("the keys of a snapshot do not ascend".to_owned());
        }
        let inside = |range: &KeyRange| range.start <= key && key < range.end;
        let range = self.ranges.iter().position(inside);
        if range.is_none() {
            return Err("a key of a snapshot lies outside its region".to_owned());
        }
        let is_full = |table: &SstWriter| table.bytes() >= TABLE_BYTES;
        if range != self.range || self.table.as_ref().is_some_and(is_full) {
            self.close_table()?;
            self.range = range;
        }
        if self.table.is_none() {
            let path = self.dir.join(format!("{:06}.sst", self.tables));
            let table = SstWriter::create(&self.env, &path, &self.options);
            self.table = Some(table.map_err(|error| error.to_string())?);
            self.tables += 1;
        }
        let table = self.table.as_mut().expect("it was created above");
        table.add(key, value).map_err(|error| error.to_string())?;
        self.last_key = Some(Bytes::copy_from_slice(key));
        Ok(())
    }

    fn close_table(&mut self) -> Result<(), String> {
        if let Some(table) = self.table.take() {
            table.finish().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn folder(handle: SnapshotHandle) -> String {
    format!("{:016x}", handle.0)
}

#[cfg(test)]
mod tests {
    use tinykv_env::OsEnv;
    use tinykv_lsm::{Ingest, Lsm};

    use super::super::chunk::ChunkBuilder;
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange {
            start: Bytes::from_static(start.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
        }
    }

    #[test]
    fn the_regions_state_fits_between_its_ranges() {
        let temp = tempfile::tempdir().expect("temp dir");
        let env = OsEnv::shared();
        let dir = temp.path().join("snapshots");
        let files = SnapshotFiles::open(
            Arc::clone(&env),
            dir,
            LsmOptions::default(),
            &BTreeSet::new(),
        )
        .expect("a folder");
        let mut writer = files
            .begin(vec![range("k", "l"), range("r", "s")])
            .expect("begun");
        let mut chunk = ChunkBuilder::default();
        chunk.add(b"k1", &Bytes::from_static(b"of a keyspace"));
        chunk.add(b"r1", &Bytes::from_static(b"of none"));
        let (payload, pairs) = chunk.finish();
        let mut totals = Totals::default();
        totals.add(&payload, pairs);
        writer.add(&payload).expect("in its ranges");
        let handle = writer.finish(totals).expect("whole");
        let tables = files.complete(handle, b"m1", b"state").expect("tables");
        let tree = temp.path().join("tree");
        let lsm = Lsm::open(env, &tree, LsmOptions::default()).expect("a tree");
        lsm.ingest(&Ingest {
            files: tables,
            ..Ingest::default()
        })
        .expect("taken in");
        let snapshot = lsm.snapshot();
        for key in ["k1", "m1", "r1"] {
            let value = snapshot.get(key.as_bytes()).expect("read");
            assert!(value.is_some(), "{key} is missing");
        }
    }
}
