//! How the bytes of a table are spread over its keys, as its index tells.

use bytes::Bytes;

use super::block::BlockIter;
use super::reader::{Fetch, Table};
use crate::LsmError;
use crate::key;

/// So many bytes of keys behind `after`, up to and with `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// A user key at or before the first one.
    pub(crate) after: Bytes,
    /// The last user key, or one a little behind it.
    pub(crate) last: Bytes,
    /// Bytes, on disk or in memory.
    pub(crate) bytes: u64,
}

impl Table {
    /// Its index partitions, each with the data before it and its filter.
    pub(crate) fn partition_stretches(&self) -> Vec<Stretch> {
        let (mut after, mut offset) = (self.properties().smallest.clone(), 0);
        let stretches = self.partitions().iter().map(|partition| {
            let last = Bytes::copy_from_slice(key::user(&partition.last_key));
            let index = partition.index;
            let end = index.offset.saturating_add(u64::from(index.len));
            let stretch = Stretch {
                after: std::mem::replace(&mut after, last.clone()),
                last,
                bytes: end.saturating_sub(offset),
            };
            offset = end;
            stretch
        });
        stretches.collect()
    }

    /// The data blocks of a partition, the first of which begins behind `after`.
    pub(crate) fn block_stretches(
        &self,
        partition: usize,
        mut after: Bytes,
    ) -> Result<Vec<Stretch>, LsmError> {
        let Some(partition) = self.partitions().get(partition) else {
            return Ok(Vec::new());
        };
        let corrupt = |m| self.corrupt(partition.index, m);
        let mut index = BlockIter::new(self.block(partition.index, Fetch::Read)?, None);
        let mut stretches = Vec::new();
        index.first().map_err(corrupt)?;
        while index.valid() {
            let handle = self.data_handle(partition.index, &index)?;
            let last = Bytes::copy_from_slice(key::user(index.key()));
            stretches.push(Stretch {
                after: std::mem::replace(&mut after, last.clone()),
                last,
                bytes: u64::from(handle.len),
            });
            index.next().map_err(corrupt)?;
        }
        Ok(stretches)
    }
}
