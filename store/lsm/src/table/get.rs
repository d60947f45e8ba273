//! Looks keys up in a table.

use std::sync::Arc;

use super::block::BlockIter;
use super::filter::Filter;
use super::format::Handle;
use super::reader::{Fetch, Lookup, Table};
use crate::LsmError;
use crate::codec::Malformed;
use crate::key::{self, Kind};
use crate::memtable::Found;

/// Looks up one key after the other. It keeps the filter, the index block and the data block it
/// used last, so that keys asked in their order share them.
#[derive(Debug)]
pub(crate) struct Getter {
    table: Arc<Table>,
    fetch: Fetch,
    partition: Option<PartitionParts>,
    data: Option<(Handle, BlockIter)>,
}

/// What is loaded of one partition.
#[derive(Debug)]
struct PartitionParts {
    number: usize,
    filter: Option<Arc<Filter>>,
    index: Option<BlockIter>,
}

impl Getter {
    pub(crate) fn new(table: Arc<Table>, fetch: Fetch) -> Getter {
        Getter {
            table,
            fetch,
            partition: None,
            data: None,
        }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The newest version at or before the sequence of `seek`, which is the user key's seek key.
    pub(crate) fn get(&mut self, user: &[u8], seek: &[u8]) -> Result<Lookup, LsmError> {
        let translated;
        let target = match self.table.sequence() {
            None => seek,
            Some(_) => {
                translated = self.table.stored_target(seek);
                &translated
            }
        };
        let number = self.table.partition_at(target);
        let Some(partition) = self.table.partitions().get(number) else {
            return Ok(Lookup::Missing);
        };
        let (filter, index) = (partition.filter, partition.index);
        if self.partition.as_ref().is_none_or(|p| p.number != number) {
            self.partition = Some(PartitionParts {
                number,
                filter: None,
                index: None,
            });
        }
        let passes = filter.is_none() || {
            let Some(passes) = self.ask_filter(filter, user)? else {
                return Ok(Lookup::NeedsRead);
            };
            self.table.filter_counters().asked(passes);
            passes
        };
        if !passes {
            return Ok(Lookup::Missing);
        }
        let Some(handle) = self.seek_index(index, target)? else {
            return Ok(Lookup::NeedsRead);
        };
        let Some(found) = self.seek_data(handle, user, target)? else {
            return Ok(Lookup::NeedsRead);
        };
        if found == Lookup::Missing && !filter.is_none() {
            self.table.filter_counters().missed();
        }
        Ok(found)
    }

    /// Whether the filter lets the key pass; `None` if it would have to be read.
    fn ask_filter(&mut self, handle: Handle, user: &[u8]) -> Result<Option<bool>, LsmError> {
        let Some(parts) = &mut self.partition else {
            return Ok(None);
        };
        if parts.filter.is_none() {
            parts.filter = self.table.filter(handle, self.fetch)?;
        }
        let hash = self.table.filter_hash(user);
        let filter = parts.filter.as_ref();
        Ok(filter.map(|filter| filter.may_contain(hash)))
    }

    /// The data block that may hold the target; `None` if the index would have to be read.
    fn seek_index(&mut self, handle: Handle, target: &[u8]) -> Result<Option<Handle>, LsmError> {
        let Some(parts) = &mut self.partition else {
            return Ok(None);
        };
        if parts.index.is_none() {
            let block = self.table.try_block(handle, self.fetch)?;
            parts.index = block.map(|block| BlockIter::new(block, None));
        }
        let Some(index) = &mut parts.index else {
            return Ok(None);
        };
        let sought = index.seek(target);
        sought.map_err(|m| self.table.corrupt(handle, m))?;
        if !index.valid() {
            let reason = Malformed("the index ends before its last key");
            return Err(self.table.corrupt(handle, reason));
        }
        self.table.data_handle(handle, index).map(Some)
    }

    /// What the data block says of the key; `None` if it would have to be read.
    fn seek_data(
        &mut self,
        handle: Handle,
        user: &[u8],
        target: &[u8],
    ) -> Result<Option<Lookup>, LsmError> {
        if self
            .data
            .as_ref()
            .is_none_or(|(loaded, _)| *loaded != handle)
        {
            let block = self.table.try_block(handle, self.fetch)?;
            let sequence = self.table.sequence();
            self.data = block.map(|block| (handle, BlockIter::new(block, sequence)));
        }
        let Some((_, data)) = &mut self.data else {
            return Ok(None);
        };
        let sought = data.seek(target);
        sought.map_err(|m| self.table.corrupt(handle, m))?;
        if !data.valid() || key::user(data.key()) != user {
            return Ok(Some(Lookup::Missing));
        }
        let (sequence, kind) = key::split_trailer(data.key()).unwrap_or((0, u8::MAX));
        let value = match Kind::from_byte(kind) {
            Some(Kind::Put) => Some(data.value()),
            Some(Kind::Delete) => None,
            None => {
                let reason = Malformed("an unknown kind of entry");
                return Err(self.table.corrupt(handle, reason));
            }
        };
        Ok(Some(Lookup::Found(Found { sequence, value })))
    }
}
