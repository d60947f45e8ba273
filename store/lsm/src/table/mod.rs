//! Sorted tables (SSTs).
//!
//! ```text
//! partition 0   data block … data block, filter block, index block
//! partition 1   …
//! top index     one entry a partition: its last key, where its index and filter stand
//! tombstones    range tombstones, if any
//! properties    counts and bounds
//! footer        where the three stand, the file's salt, format version, checksum, magic
//! ```
//!
//! The index and the filter are cut into partitions that are read through the block cache, so the
//! memory a table needs for being open does not grow with its keys. Every block is followed by one
//! byte that names its codec and by a checksum over the file's salt, the block's offset,
//! its bytes and that byte: a block that was moved, or belongs to another file, does not verify.

mod ahead;
mod block;
mod compress;
mod filter;
mod format;
mod get;
mod iter;
mod reader;
mod stretch;
mod writer;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

pub(crate) use block::Block;
pub(crate) use filter::Filter;
pub(crate) use format::Properties;
pub(crate) use get::Getter;
pub(crate) use iter::TableIter;
pub(crate) use reader::{Fetch, Lookup, Table, TableSource};
pub(crate) use stretch::Stretch;
pub(crate) use writer::{TableSettings, TableSummary, TableWriter};

#[cfg(test)]
mod tests;
