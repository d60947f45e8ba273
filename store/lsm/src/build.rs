//! Turns a merge into tables: flushes and compactions.
//!
//! Of every key only the newest version goes on, and not even that when a newer range tombstone
//! covers it, or when it is a delete, or something the compaction filter drops, and there is nothing
//! below that it hides. Older versions are needed by nobody: whoever may still see them holds the
//! memtables and tables they came from.

use std::sync::Arc;

use tinykv_mutants::{Mutant, planted};

use crate::iter::Merge;
use crate::key::{self, Kind};
use crate::table::{TableSettings, TableWriter};
use crate::tombstone::Fragments;
use crate::tree::Inner;
use crate::version::{FileMeta, TableFile, table_path};
use crate::{CompactionFilter, LsmError};

/// Bytes between two reports of what was written.
const REPORT_BYTES: u64 = 256 << 10;

/// What the tables are to be.
pub(crate) struct Output<'a> {
    /// The level they are for.
    pub(crate) level: usize,
    pub(crate) settings: TableSettings,
    /// Size at which a table is cut, always between two keys.
    pub(crate) bytes_max: u64,
    /// Range tombstones that take effect on the entries.
    pub(crate) covering: &'a Fragments,
    /// Those of them that go on into the tables.
    pub(crate) kept: &'a Fragments,
    /// Asked about entries that hide nothing below.
    pub(crate) filter: Option<&'a dyn CompactionFilter>,
    /// The first key to go on; `None`: the first there is.
    pub(crate) start: Option<&'a [u8]>,
    /// The first key that does not; `None`: all go on.
    pub(crate) end: Option<&'a [u8]>,
}

/// Tables in order of their keys, synced, with durable names. After an error none is left. `wrote`
/// is called after every so many bytes of keys and values, with their number.
pub(crate) fn build_tables(
    inner: &Arc<Inner>,
    merge: &mut Merge,
    output: &Output<'_>,
    nothing_below: impl Fn(&[u8]) -> bool,
    wrote: &mut dyn FnMut(u64),
) -> Result<Vec<(usize, Arc<TableFile>)>, LsmError> {
    let mut builder = Builder {
        inner,
        output,
        open: None,
        cut: output.start.map(<[u8]>::to_vec),
        created: Vec::new(),
        finished: Vec::new(),
        unreported: 0,
        wrote,
    };
    let built = builder.build(merge, nothing_below).and_then(|()| {
        if builder.finished.is_empty() {
            return Ok(());
        }
        inner.sync_dir()
    });
    if let Err(error) = built {
        inner.remove_tables(&builder.created, &error);
        return Err(error);
    }
    Ok(builder.finished)
}

struct Builder<'a> {
    inner: &'a Arc<Inner>,
    output: &'a Output<'a>,
    open: Option<(u64, TableWriter)>,
    /// The user key at which the last table was cut; at first where everything begins.
    cut: Option<Vec<u8>>,
    /// Numbers of all files created.
    created: Vec<u64>,
    finished: Vec<(usize, Arc<TableFile>)>,
    /// Bytes of keys and values since `wrote` was last called.
    unreported: u64,
    wrote: &'a mut dyn FnMut(u64),
}

impl Builder<'_> {
    fn build(
        &mut self,
        merge: &mut Merge,
        nothing_below: impl Fn(&[u8]) -> bool,
    ) -> Result<(), LsmError> {
        let mut last_user: Option<Vec<u8>> = None;
        match self.output.start {
            None => merge.first()?,
            Some(start) => merge.seek(&key::encode_seek(start, key::SEQUENCE_MAX))?,
        }
        while merge.valid() {
            let internal = merge.key();
            let user = key::user(internal);
            if self.output.end.is_some_and(|end| end <= user) {
                break;
            }
            if last_user.as_deref() == Some(user) {
                merge.step()?;
                continue;
            }
            let last_user = last_user.get_or_insert_default();
            last_user.clear();
            last_user.extend_from_slice(user);
            let (sequence, kind) = key::split_trailer(internal).unwrap_or((0, 0));
            let covered = self.output.covering.cover(user, u64::MAX) > sequence;
            let value = merge.value();
            let unneeded = match self.output.filter {
                _ if kind == Kind::Delete as u8 => true,
                Some(filter) => !covered && filter.drops(user, &value),
                None => false,
            };
            let is_hasty = planted(Mutant::TombstoneDroppedEarly);
            let goes = covered || (unneeded && (nothing_below(user) || is_hasty));
            if !goes {
                self.add(internal, &value)?;
            }
            merge.step()?;
        }
        let rest = self.output.kept.clip(self.cut.as_deref(), self.output.end);
        if self.open.is_some() || !rest.is_empty() {
            let (number, writer) = self.writer()?;
            self.finish(number, writer, &rest)?;
        }
        Ok(())
    }

    fn add(&mut self, internal: &[u8], value: &[u8]) -> Result<(), LsmError> {
        let full = |writer: &TableWriter| writer.size() >= self.output.bytes_max;
        if let Some((number, writer)) = self.open.take_if(|(_, writer)| full(writer)) {
            let user = key::user(internal).to_vec();
            let tombstones = self.output.kept.clip(self.cut.as_deref(), Some(&user));
            self.finish(number, writer, &tombstones)?;
            self.cut = Some(user);
        }
        let (number, mut writer) = self.writer()?;
        writer.add(internal, value)?;
        self.open = Some((number, writer));
        self.unreported += (internal.len() + value.len()) as u64;
        if self.unreported >= REPORT_BYTES {
            (self.wrote)(std::mem::take(&mut self.unreported));
        }
        Ok(())
    }

    /// The open table, or a new one.
    fn writer(&mut self) -> Result<(u64, TableWriter), LsmError> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let number = self.inner.new_file_number();
        let context = &self.inner.context;
        let path = table_path(&context.dir, number);
        let writer = TableWriter::create(&context.env, &path, self.output.settings, false)?;
        self.created.push(number);
        Ok((number, writer))
    }

    fn finish(
        &mut self,
        number: u64,
        writer: TableWriter,
        tombstones: &Fragments,
    ) -> Result<(), LsmError> {
        let summary = writer.finish(tombstones)?;
        let meta = FileMeta::new(number, &summary);
        let file = TableFile::new(meta, &self.inner.context);
        self.finished.push((self.output.level, file));
        Ok(())
    }
}
