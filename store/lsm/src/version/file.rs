//! A table as a version names it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tinykv_sync::atomic::{AtomicBool, Ordering};

use tinykv_env::Env;
use tinykv_sync::Mutex;

use crate::LsmError;
use crate::cache::BlockCache;
use crate::changes::Changes;
use crate::range::KeyRange;
use crate::table::{Properties, Table, TableSource, TableSummary};

/// Where the table of this number stands.
pub(crate) fn table_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.sst"))
}

/// What the MANIFEST records about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileMeta {
    pub(crate) number: u64,
    /// Size on disk.
    pub(crate) size: u64,
    /// The checksum of its footer: a file that was swapped for another is found out.
    pub(crate) tag: u32,
    /// All keys and range tombstones lie inside.
    pub(crate) range: KeyRange,
    pub(crate) smallest_sequence: u64,
    pub(crate) largest_sequence: u64,
    /// The sequence of every entry, for a table taken in from outside.
    pub(crate) sequence: Option<u64>,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) range_tombstones: u64,
    /// Bytes of user keys and values.
    pub(crate) raw_bytes: u64,
}

impl FileMeta {
    /// The record of a table just written.
    pub(crate) fn new(number: u64, summary: &TableSummary) -> FileMeta {
        FileMeta::from_parts(number, summary.size, summary.tag, &summary.properties)
    }

    pub(crate) fn from_parts(
        number: u64,
        size: u64,
        tag: u32,
        properties: &Properties,
    ) -> FileMeta {
        FileMeta {
            number,
            size,
            tag,
            range: KeyRange {
                start: properties.smallest.clone(),
                end: properties.largest.clone(),
                end_excluded: properties.largest_excluded,
            },
            smallest_sequence: properties.smallest_sequence,
            largest_sequence: properties.largest_sequence,
            sequence: None,
            entries: properties.entries,
            deletes: properties.deletes,
            range_tombstones: properties.range_tombstones,
            raw_bytes: properties.raw_bytes,
        }
    }
}

/// What every table of a tree needs.
#[derive(Debug)]
pub(crate) struct FileContext {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) dir: PathBuf,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) graveyard: Graveyard,
    pub(crate) changes: Changes,
}

/// Files that no version names any more and that wait for their removal.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    paths: Mutex<Vec<PathBuf>>,
}

impl Graveyard {
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.lock().is_empty()
    }

    pub(crate) fn push(&self, path: PathBuf) {
        self.paths.lock().push(path);
    }

    pub(crate) fn take(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.paths.lock())
    }
}

/// A table named by at least one version. Opened when first needed.
#[derive(Debug)]
pub(crate) struct TableFile {
    meta: FileMeta,
    context: Arc<FileContext>,
    table: OnceLock<Arc<Table>>,
    /// Set once the edit that removes it is durable; the last one to let go buries the file.
    obsolete: AtomicBool,
}

impl TableFile {
    pub(crate) fn new(meta: FileMeta, context: &Arc<FileContext>) -> Arc<TableFile> {
        Arc::new(TableFile {
            meta,
            context: context.clone(),
            table: OnceLock::new(),
            obsolete: AtomicBool::new(false),
        })
    }

    pub(crate) fn meta(&self) -> &FileMeta {
        &self.meta
    }

    pub(crate) fn path(&self) -> PathBuf {
        table_path(&self.context.dir, self.meta.number)
    }

    /// The table if it is open already.
    pub(crate) fn opened(&self) -> Option<&Arc<Table>> {
        self.table.get()
    }

    /// The table, opened if need be.
    pub(crate) fn table(&self) -> Result<Arc<Table>, LsmError> {
        if let Some(table) = self.table.get() {
            return Ok(table.clone());
        }
        let table = self.open()?;
        // Two readers may open it at once; either handle does.
        Ok(self.table.get_or_init(|| table).clone())
    }

    /// Opens and checks the table, whether it is open already or not.
    pub(crate) fn open(&self) -> Result<Arc<Table>, LsmError> {
        let source = TableSource {
            path: self.path(),
            number: self.meta.number,
            tag: Some(self.meta.tag),
            size: Some(self.meta.size),
            sequence: self.meta.sequence,
        };
        let table = Table::open(&self.context.env, source, &self.context.cache)?;
        Ok(Arc::new(table))
    }

    /// Lets the file go with its last version.
    pub(crate) fn mark_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.context.graveyard.push(self.path());
            self.context.changes.note();
        }
    }
}
