//! Walks a table: partition, index block, data block.

use std::sync::Arc;

use bytes::Bytes;

use super::ahead::ReadAhead;
use super::block::BlockIter;
use super::format::Handle;
use super::reader::{Fetch, Table};
use crate::LsmError;

/// A position in one of the blocks of a table, and where the block stands for messages.
#[derive(Debug)]
struct Cursor {
    handle: Handle,
    iter: BlockIter,
}

/// Both directions; stands on no entry at first and after running off either end.
#[derive(Debug)]
pub(crate) struct TableIter {
    table: Arc<Table>,
    fetch: Fetch,
    /// The partition of the index cursor.
    partition: usize,
    index: Option<Cursor>,
    data: Option<Cursor>,
    ahead: Box<ReadAhead>,
}

impl TableIter {
    pub(crate) fn new(table: Arc<Table>, fetch: Fetch) -> TableIter {
        TableIter {
            table,
            fetch,
            partition: 0,
            index: None,
            data: None,
            ahead: Box::default(),
        }
    }

    /// How often the file was read for data.
    #[cfg(test)]
    pub(super) fn reads(&self) -> usize {
        self.ahead.reads()
    }

    pub(crate) fn valid(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.iter.valid())
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.data.as_ref().map_or(&[], |data| data.iter.key())
    }

    pub(crate) fn value(&self) -> Bytes {
        let data = self.data.as_ref();
        data.map_or_else(Bytes::new, |data| data.iter.value())
    }

    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<(), LsmError> {
        let target = self.table.stored_target(target);
        self.enter_partition(self.table.partition_at(&target))?;
        self.move_index(|index| index.seek(&target))?;
        self.enter_block()?;
        self.move_data(|data| data.seek(&target))?;
        self.skip_forward()
    }

    /// Goes to the last entry before `target`.
    pub(crate) fn seek_before(&mut self, target: &[u8]) -> Result<(), LsmError> {
        self.seek(target)?;
        if self.valid() {
            self.prev()
        } else {
            self.last()
        }
    }

    pub(crate) fn first(&mut self) -> Result<(), LsmError> {
        self.enter_partition(0)?;
        self.move_index(BlockIter::first)?;
        self.enter_block()?;
        self.move_data(BlockIter::first)
    }

    pub(crate) fn last(&mut self) -> Result<(), LsmError> {
        let Some(partition) = self.table.partitions().len().checked_sub(1) else {
            self.data = None;
            return Ok(());
        };
        self.enter_partition(partition)?;
        self.move_index(BlockIter::last)?;
        self.enter_block()?;
        self.move_data(BlockIter::last)
    }

    pub(crate) fn next(&mut self) -> Result<(), LsmError> {
        self.move_data(BlockIter::next)?;
        self.skip_forward()
    }

    pub(crate) fn prev(&mut self) -> Result<(), LsmError> {
        self.move_data(BlockIter::prev)?;
        while self.data.as_ref().is_some_and(|data| !data.iter.valid()) {
            self.move_index(BlockIter::prev)?;
            if !self.index_valid() {
                let Some(partition) = self.partition.checked_sub(1) else {
                    self.data = None;
                    return Ok(());
                };
                self.enter_partition(partition)?;
                self.move_index(BlockIter::last)?;
            }
            self.enter_block()?;
            self.move_data(BlockIter::last)?;
        }
        Ok(())
    }

    /// Leaves a block whose entries are used up for the next one.
    fn skip_forward(&mut self) -> Result<(), LsmError> {
        while self.data.as_ref().is_some_and(|data| !data.iter.valid()) {
            self.move_index(BlockIter::next)?;
            if !self.index_valid() {
                self.enter_partition(self.partition + 1)?;
                self.move_index(BlockIter::first)?;
            }
            self.enter_block()?;
            self.move_data(BlockIter::first)?;
        }
        Ok(())
    }

    fn index_valid(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.iter.valid())
    }

    /// Loads the index of a partition; none behind the last.
    fn enter_partition(&mut self, partition: usize) -> Result<(), LsmError> {
        if self.index.is_some() && self.partition == partition {
            return Ok(());
        }
        self.partition = partition;
        self.index = match self.table.partitions().get(partition) {
            None => None,
            Some(entry) => Some(Cursor {
                handle: entry.index,
                iter: BlockIter::new(self.table.block(entry.index, self.fetch)?, None),
            }),
        };
        Ok(())
    }

    /// Loads the data block the index cursor points to; none if it points nowhere.
    fn enter_block(&mut self) -> Result<(), LsmError> {
        let Some(index) = self.index.as_ref().filter(|index| index.iter.valid()) else {
            self.data = None;
            return Ok(());
        };
        let handle = self.table.data_handle(index.handle, &index.iter)?;
        if self.data.as_ref().is_some_and(|data| data.handle == handle) {
            return Ok(());
        }
        let block = self
            .table
            .block_ahead(handle, self.fetch, &mut self.ahead)?;
        self.data = Some(Cursor {
            handle,
            iter: BlockIter::new(block, self.table.sequence()),
        });
        Ok(())
    }

    fn move_index(
        &mut self,
        step: impl FnOnce(&mut BlockIter) -> Result<(), crate::codec::Malformed>,
    ) -> Result<(), LsmError> {
        move_cursor(&self.table, self.index.as_mut(), step)
    }

    fn move_data(
        &mut self,
        step: impl FnOnce(&mut BlockIter) -> Result<(), crate::codec::Malformed>,
    ) -> Result<(), LsmError> {
        move_cursor(&self.table, self.data.as_mut(), step)
    }
}

fn move_cursor(
    table: &Table,
    cursor: Option<&mut Cursor>,
    step: impl FnOnce(&mut BlockIter) -> Result<(), crate::codec::Malformed>,
) -> Result<(), LsmError> {
    match cursor {
        None => Ok(()),
        Some(cursor) => {
            let moved = step(&mut cursor.iter);
            moved.map_err(|malformed| table.corrupt(cursor.handle, malformed))
        }
    }
}
