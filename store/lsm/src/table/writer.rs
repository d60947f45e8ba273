//! Writes a table from entries in rising order.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::{Env, FileHandle};

use super::block::BlockBuilder;
use super::compress::{Codec, Compressor};
use super::filter;
use super::format::{self, BLOCK_TRAILER_BYTES, Footer, Handle, Properties};
use crate::key::{self, Kind};
use crate::tombstone::Fragments;
use crate::{Compression, FilterKind, LsmError, LsmOptions};

/// Bytes collected before they are handed to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// How a table is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableSettings {
    pub(crate) block_bytes: usize,
    pub(crate) block_restart_interval: usize,
    pub(crate) index_partition_bytes: usize,
    pub(crate) compression: Compression,
    pub(crate) filter: FilterKind,
}

impl TableSettings {
    pub(crate) fn new(options: &LsmOptions, last_level: bool) -> TableSettings {
        TableSettings {
            block_bytes: options.block_bytes,
            block_restart_interval: options.block_restart_interval,
            index_partition_bytes: options.index_partition_bytes,
            compression: if last_level {
                options.compression_last_level
            } else {
                options.compression
            },
            filter: options.filter,
        }
    }
}

/// A finished table.
#[derive(Clone, Debug)]
pub(crate) struct TableSummary {
    /// Size on disk.
    pub(crate) size: u64,
    /// The checksum of its footer.
    pub(crate) tag: u32,
    pub(crate) properties: Properties,
}

/// A table being written. Its name is not durable before the directory is synced; whoever gives it
/// up removes the file.
#[derive(Debug)]
pub(crate) struct TableWriter {
    file: FileHandle,
    settings: TableSettings,
    salt: u64,
    compressor: Compressor,
    /// Bytes not handed to the file yet.
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    buffer_offset: u64,
    data: BlockBuilder,
    index: BlockBuilder,
    top: BlockBuilder,
    /// Hashes of the user keys of this partition, or of their prefixes.
    hashes: Vec<u64>,
    last_key: Vec<u8>,
    properties: Properties,
}

impl TableWriter {
    pub(crate) fn create(
        env: &Arc<dyn Env>,
        path: &Path,
        settings: TableSettings,
        external: bool,
    ) -> Result<TableWriter, LsmError> {
        Ok(TableWriter {
            file: env.create(path)?,
            settings,
            salt: env.random_u64(),
            compressor: Compressor::default(),
            buffer: Vec::new(),
            buffer_offset: 0,
            data: BlockBuilder::new(settings.block_restart_interval),
            index: BlockBuilder::new(1),
            top: BlockBuilder::new(1),
            hashes: Vec::new(),
            last_key: Vec::new(),
            properties: Properties {
                smallest_sequence: u64::MAX,
                external,
                prefix_rule: match settings.filter {
                    FilterKind::Prefix(rule) => Some(rule),
                    FilterKind::None | FilterKind::WholeKey => None,
                },
                ..Properties::default()
            },
        })
    }

    /// Bytes of the file so far, those of the open block included.
    pub(crate) fn size(&self) -> u64 {
        self.offset() + self.data.size() as u64
    }

    /// The last internal key; empty at the beginning.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Adds a version of a key, behind all that were added.
    pub(crate) fn add(&mut self, internal: &[u8], value: &[u8]) -> Result<(), LsmError> {
        assert!(
            self.last_key.is_empty() || key::compare(&self.last_key, internal).is_lt(),
            "entries of a table rise"
        );
        let (sequence, kind) = key::split_trailer(internal).expect("internal keys have a trailer");
        let user = key::user(internal);
        if self.properties.entries == 0 {
            self.properties.smallest = Bytes::copy_from_slice(user);
        }
        if self.settings.filter != FilterKind::None
            && (self.hashes.is_empty() || key::user(&self.last_key) != user)
        {
            let hash = filter::hash(user, self.properties.prefix_rule.as_ref());
            if self.hashes.last() != Some(&hash) {
                self.hashes.push(hash);
            }
        }
        self.data.add(internal, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(internal);
        let properties = &mut self.properties;
        properties.entries += 1;
        properties.deletes += u64::from(kind == Kind::Delete as u8);
        properties.raw_bytes += (user.len() + value.len()) as u64;
        properties.smallest_sequence = properties.smallest_sequence.min(sequence);
        properties.largest_sequence = properties.largest_sequence.max(sequence);
        if self.data.size() >= self.settings.block_bytes {
            self.end_block()?;
        }
        Ok(())
    }

    /// Completes and syncs the file. `tombstones` may reach beyond the keys.
    pub(crate) fn finish(mut self, tombstones: &Fragments) -> Result<TableSummary, LsmError> {
        self.end_block()?;
        self.end_partition()?;
        self.set_bounds(tombstones);
        let top_index = if self.top.is_empty() {
            Handle::default()
        } else {
            let top = self.top.finish();
            self.append(&top, Compression::None)?
        };
        let tombstones = if tombstones.is_empty() {
            Handle::default()
        } else {
            self.append(&tombstones.encode(), self.settings.compression)?
        };
        let encoded = self.properties.encode();
        let properties = self.append(&encoded, Compression::None)?;
        let footer = Footer {
            salt: self.salt,
            top_index,
            tombstones,
            properties,
        }
        .encode();
        let (_, tag) = Footer::decode(&footer).expect("what was just encoded decodes");
        self.buffer.extend_from_slice(&footer);
        self.write_buffer()?;
        self.file.sync_data().map_err(LsmError::from_sync)?;
        Ok(TableSummary {
            size: self.offset(),
            tag,
            properties: self.properties,
        })
    }

    fn set_bounds(&mut self, tombstones: &Fragments) {
        let properties = &mut self.properties;
        let has_entries = properties.entries > 0;
        if has_entries {
            properties.largest = Bytes::copy_from_slice(key::user(&self.last_key));
        }
        if let (Some((start, end)), Some((oldest, newest))) =
            (tombstones.span(), tombstones.sequences())
        {
            if !has_entries || start < &properties.smallest {
                properties.smallest = start.clone();
            }
            if !has_entries || end > &properties.largest {
                properties.largest = end.clone();
                properties.largest_excluded = true;
            }
            properties.range_tombstones = tombstones.len() as u64;
            properties.smallest_sequence = properties.smallest_sequence.min(oldest);
            properties.largest_sequence = properties.largest_sequence.max(newest);
        }
        if properties.smallest_sequence == u64::MAX {
            properties.smallest_sequence = 0;
        }
    }

    fn end_block(&mut self) -> Result<(), LsmError> {
        if self.data.is_empty() {
            return Ok(());
        }
        let block = self.data.finish();
        let handle = self.append(&block, self.settings.compression)?;
        let mut value = Vec::new();
        handle.encode_into(&mut value);
        self.index.add(&self.last_key, &value);
        self.properties.data_blocks += 1;
        if self.index.size() >= self.settings.index_partition_bytes {
            self.end_partition()?;
        }
        Ok(())
    }

    fn end_partition(&mut self) -> Result<(), LsmError> {
        if self.index.is_empty() {
            return Ok(());
        }
        let filter = match filter::build(std::mem::take(&mut self.hashes)) {
            Some(filter) => self.append(&filter, Compression::None)?,
            None => Handle::default(),
        };
        let block = self.index.finish();
        let index = self.append(&block, Compression::None)?;
        let mut value = Vec::new();
        index.encode_into(&mut value);
        filter.encode_into(&mut value);
        self.top.add(&self.last_key, &value);
        Ok(())
    }

    fn append(&mut self, block: &[u8], compression: Compression) -> Result<Handle, LsmError> {
        let offset = self.offset();
        let compressed = self.compressor.compress(block, compression);
        let body = match &compressed {
            Some((codec, bytes)) => (*codec, bytes.as_slice()),
            None => (Codec::Stored, block),
        };
        let len = format::frame_into(&mut self.buffer, body, self.salt, offset);
        assert_eq!(
            self.offset(),
            offset + u64::from(len) + BLOCK_TRAILER_BYTES as u64
        );
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(Handle { offset, len })
    }

    fn write_buffer(&mut self) -> Result<(), LsmError> {
        self.file.write_at(&self.buffer, self.buffer_offset)?;
        self.buffer_offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn offset(&self) -> u64 {
        self.buffer_offset + self.buffer.len() as u64
    }
}
