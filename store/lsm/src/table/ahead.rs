//! Reads ahead of an iterator that walks forward.
//!
//! Data blocks of a partition stand one behind the other. Once an iterator has read two of them in
//! a row, the next read fetches more than one, then twice as much, up to a limit. Every block is
//! verified when it is its turn. Blocks that are in the cache are not read at all.

use bytes::Bytes;

use super::format::{BLOCK_TRAILER_BYTES, Handle};
use super::reader::Table;
use crate::LsmError;

/// The first read ahead.
const BYTES_MIN: usize = 16 << 10;
/// No read is larger, unless one block is.
const BYTES_MAX: usize = 256 << 10;
/// Between two data blocks there may be the filter and the index of a partition.
const GAP_MAX: u64 = 128 << 10;

/// See the module. Belongs to one iterator over one table.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Bytes of the file.
    window: Vec<u8>,
    /// Where they stand in it.
    offset: u64,
    /// Where the last block read ends; 0 before the first.
    expected: u64,
    /// Size of the next read ahead.
    bytes: usize,
    #[cfg(test)]
    reads: usize,
}

impl ReadAhead {
    #[cfg(test)]
    pub(super) fn reads(&self) -> usize {
        self.reads
    }

    /// The framed block, not verified yet; the handle lies inside the file.
    pub(super) fn read(&mut self, table: &Table, handle: Handle) -> Result<Bytes, LsmError> {
        let len = handle.len as usize + BLOCK_TRAILER_BYTES;
        let gap = handle.offset.checked_sub(self.expected);
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let in_a_row = self.expected > 0 && gap.is_some_and(|gap| gap <= GAP_MAX);
        self.expected = handle.offset + len as u64;
        if !in_a_row {
            self.window.clear();
            self.bytes = 0;
            return table.read_bytes(handle.offset, len).map(Bytes::from);
        }
        if let Some(framed) = self.in_window(handle.offset, len) {
            #[cfg(test)]
            {
                self.reads -= 1;
            }
            return Ok(framed);
        }
        self.bytes = (self.bytes * 2).clamp(BYTES_MIN, BYTES_MAX);
        let rest = usize::try_from(table.size() - handle.offset).unwrap_or(usize::MAX);
        let wanted = self.bytes.max(len).min(rest);
        // What stands behind the block may be unreadable, and nobody asked for it.
        match table.read_bytes(handle.offset, wanted) {
            Ok(window) => self.window = window,
            Err(_) => return table.read_bytes(handle.offset, len).map(Bytes::from),
        }
        self.offset = handle.offset;
        Ok(Bytes::copy_from_slice(&self.window[..len]))
    }

    /// A copy, for a block in the cache should not keep its neighbours alive.
    fn in_window(&self, offset: u64, len: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let framed = self.window.get(start..)?.get(..len)?;
        Some(Bytes::copy_from_slice(framed))
    }
}
