//! What a merge merges: a memtable, a table, or a sorted level of tables.

use std::sync::Arc;

use bytes::Bytes;

use crate::LsmError;
use crate::memtable::MemtableIter;
use crate::table::{Fetch, TableIter};
use crate::version::TableFile;

/// A sorted run of internal keys, walked in both directions.
#[derive(Debug)]
pub(crate) enum Source {
    Memtable(MemtableIter),
    Level(LevelIter),
}

impl Source {
    pub(crate) fn valid(&self) -> bool {
        match self {
            Source::Memtable(iter) => iter.valid(),
            Source::Level(iter) => iter.valid(),
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Source::Memtable(iter) => iter.key(),
            Source::Level(iter) => iter.key(),
        }
    }

    pub(crate) fn value(&self) -> Bytes {
        match self {
            Source::Memtable(iter) => iter.value(),
            Source::Level(iter) => iter.value(),
        }
    }

    pub(crate) fn apply(&mut self, step: Step<'_>) -> Result<(), LsmError> {
        match self {
            Source::Level(iter) => iter.apply(step),
            Source::Memtable(iter) => {
                match step {
                    Step::First => iter.first(),
                    Step::Last => iter.last(),
                    Step::Next => iter.next(),
                    Step::Prev => iter.prev(),
                    Step::Seek(target) => iter.seek(target),
                    Step::SeekBefore(target) => iter.seek_before(target),
                }
                Ok(())
            }
        }
    }
}

/// A move of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    First,
    Last,
    Next,
    Prev,
    /// To the first entry at or after the internal key.
    Seek(&'a [u8]),
    /// To the last entry before the internal key.
    SeekBefore(&'a [u8]),
}

/// Walks tables that are sorted and disjoint; opens one at a time, when it gets there.
#[derive(Debug)]
pub(crate) struct LevelIter {
    files: Vec<Arc<TableFile>>,
    fetch: Fetch,
    /// The table it is in.
    index: usize,
    table: Option<TableIter>,
}

impl LevelIter {
    pub(crate) fn new(files: Vec<Arc<TableFile>>, fetch: Fetch) -> LevelIter {
        LevelIter {
            files,
            fetch,
            index: 0,
            table: None,
        }
    }

    fn valid(&self) -> bool {
        self.table.as_ref().is_some_and(TableIter::valid)
    }

    fn key(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], TableIter::key)
    }

    fn value(&self) -> Bytes {
        self.table
            .as_ref()
            .map_or_else(Bytes::new, TableIter::value)
    }

    fn apply(&mut self, step: Step<'_>) -> Result<(), LsmError> {
        match step {
            Step::First => {
                self.enter(Some(0))?;
                self.table.as_mut().map_or(Ok(()), TableIter::first)?;
                self.skip_forward()
            }
            Step::Last => {
                self.enter(self.files.len().checked_sub(1))?;
                self.table.as_mut().map_or(Ok(()), TableIter::last)?;
                self.skip_backward()
            }
            Step::Next => {
                self.table.as_mut().map_or(Ok(()), TableIter::next)?;
                self.skip_forward()
            }
            Step::Prev => {
                self.table.as_mut().map_or(Ok(()), TableIter::prev)?;
                self.skip_backward()
            }
            Step::Seek(target) => {
                self.enter(Some(self.file_at(target)))?;
                let sought = self.table.as_mut().map(|table| table.seek(target));
                sought.unwrap_or(Ok(()))?;
                self.skip_forward()
            }
            Step::SeekBefore(target) => {
                // Every entry of a table behind the one that may hold the target is too large.
                let last = self.files.len().checked_sub(1);
                self.enter(last.map(|last| last.min(self.file_at(target))))?;
                let sought = self.table.as_mut().map(|table| table.seek_before(target));
                sought.unwrap_or(Ok(()))?;
                self.skip_backward()
            }
        }
    }

    fn file_at(&self, target: &[u8]) -> usize {
        let user = crate::key::user(target);
        self.files
            .partition_point(|file| file.meta().range.ends_before(user))
    }

    fn skip_forward(&mut self) -> Result<(), LsmError> {
        while self.table.as_ref().is_some_and(|table| !table.valid()) {
            self.enter(Some(self.index + 1))?;
            self.table.as_mut().map_or(Ok(()), TableIter::first)?;
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<(), LsmError> {
        while self.table.as_ref().is_some_and(|table| !table.valid()) {
            self.enter(self.index.checked_sub(1))?;
            self.table.as_mut().map_or(Ok(()), TableIter::last)?;
        }
        Ok(())
    }

    fn enter(&mut self, index: Option<usize>) -> Result<(), LsmError> {
        let Some((index, file)) = index.and_then(|i| Some((i, self.files.get(i)?))) else {
            self.table = None;
            return Ok(());
        };
        if self.table.is_none() || self.index != index {
            self.table = None;
            self.table = Some(TableIter::new(file.table()?, self.fetch));
            self.index = index;
        }
        Ok(())
    }
}
