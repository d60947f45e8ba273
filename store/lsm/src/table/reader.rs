//! An open table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::{Env, FileHandle};

use super::ahead::ReadAhead;
use super::block::{Block, BlockIter};
use super::filter::{self, Filter};
use super::format::{
    self, BLOCK_TRAILER_BYTES, FOOTER_BYTES, FORMAT_VERSION, Footer, FooterError, Handle,
    Properties,
};
use crate::LsmError;
use crate::cache::{BlockCache, Cached, FilterCounters};
use crate::codec::{Malformed, Reader};
use crate::key::{self, Kind};
use crate::memtable::Found;
use crate::tombstone::Fragments;

/// How a lookup may get at blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// From the cache alone.
    CacheOnly,
    /// From the cache or the file; what is read goes into the cache.
    Read,
    /// Likewise, but what is read does not go into the cache (compactions).
    ReadOnce,
    /// From the file, whatever the cache holds (verification).
    FileOnly,
}

/// What a table says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found(Found),
    Missing,
    NeedsRead,
}

/// Where a table comes from and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct TableSource {
    pub(crate) path: PathBuf,
    /// File number: its name in the cache.
    pub(crate) number: u64,
    /// The footer checksum that a version edit recorded; `None` for a file from outside.
    pub(crate) tag: Option<u32>,
    /// The size that a version edit recorded; `None` for a file from outside.
    pub(crate) size: Option<u64>,
    /// The sequence all entries have, if the table was taken in from outside.
    pub(crate) sequence: Option<u64>,
}

/// One partition of the index.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its last internal key, as stored.
    pub(super) last_key: Bytes,
    pub(super) index: Handle,
    pub(super) filter: Handle,
}

/// See the module. Immutable; the file is read on demand.
#[derive(Debug)]
pub(crate) struct Table {
    source: TableSource,
    file: FileHandle,
    size: u64,
    tag: u32,
    salt: u64,
    partitions: Vec<Partition>,
    tombstones: Arc<Fragments>,
    properties: Properties,
    cache: Arc<BlockCache>,
}

impl Table {
    pub(crate) fn open(
        env: &Arc<dyn Env>,
        source: TableSource,
        cache: &Arc<BlockCache>,
    ) -> Result<Table, LsmError> {
        let path = &source.path;
        let file = env.open(path)?;
        let size = file.len()?;
        if source.size.is_some_and(|recorded| recorded != size) {
            let reason = format!("{size} bytes long instead of {}", source.size.unwrap_or(0));
            return Err(LsmError::corruption(path, size, reason));
        }
        let footer_offset = size
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| LsmError::corruption(path, 0, "too short for a table"))?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, footer_offset)?;
        let (footer, tag) = Footer::decode(&footer).map_err(|error| match error {
            FooterError::Malformed(Malformed(reason)) => {
                LsmError::corruption(path, footer_offset, reason)
            }
            FooterError::Newer(found) => LsmError::NewerFormat {
                file: path.clone(),
                found,
                known: FORMAT_VERSION,
            },
        })?;
        if source.tag.is_some_and(|recorded| recorded != tag) {
            let reason = "another table than the MANIFEST names";
            return Err(LsmError::corruption(path, footer_offset, reason));
        }
        let mut table = Table {
            file,
            size,
            tag,
            salt: footer.salt,
            partitions: Vec::new(),
            tombstones: Arc::new(Fragments::default()),
            properties: Properties::default(),
            cache: cache.clone(),
            source,
        };
        table.load(&footer)?;
        Ok(table)
    }

    fn load(&mut self, footer: &Footer) -> Result<(), LsmError> {
        let bytes = self.read(footer.properties)?;
        self.properties =
            Properties::decode(&bytes).map_err(|m| self.corrupt(footer.properties, m))?;
        if !footer.tombstones.is_none() {
            let bytes = self.read(footer.tombstones)?;
            let tombstones =
                Fragments::decode(&bytes).map_err(|m| self.corrupt(footer.tombstones, m))?;
            self.tombstones = Arc::new(tombstones);
        }
        if !footer.top_index.is_none() {
            let bytes = self.read(footer.top_index)?;
            self.partitions =
                decode_top_index(bytes).map_err(|m| self.corrupt(footer.top_index, m))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.source.path
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn tag(&self) -> u32 {
        self.tag
    }

    pub(crate) fn properties(&self) -> &Properties {
        &self.properties
    }

    pub(crate) fn tombstones(&self) -> &Arc<Fragments> {
        &self.tombstones
    }

    pub(super) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    pub(super) fn sequence(&self) -> Option<u64> {
        self.source.sequence
    }

    /// The hash by which its filters know a user key.
    pub(super) fn filter_hash(&self, user: &[u8]) -> u64 {
        filter::hash(user, self.properties.prefix_rule.as_ref())
    }

    /// Where its filters are counted.
    pub(super) fn filter_counters(&self) -> &FilterCounters {
        &self.cache.filters
    }

    /// The partition that holds the first entry at or after `target`, as stored.
    pub(super) fn partition_at(&self, target: &[u8]) -> usize {
        self.partitions
            .partition_point(|p| key::compare(&p.last_key, target).is_lt())
    }

    /// What to look for in the file for a seek to `target`: in a table from outside all entries
    /// are stored with sequence 0, whatever sequence they have in the tree.
    pub(super) fn stored_target(&self, target: &[u8]) -> Vec<u8> {
        let Some(sequence) = self.source.sequence else {
            return target.to_vec();
        };
        let user = key::user(target);
        if key::sequence(target) >= sequence {
            key::encode_seek(user, 0)
        } else {
            // Behind every version of the user key, for all are too new.
            key::encode(user, 0, Kind::Delete)
        }
    }

    /// Whether the filters know any key that is `prefix` and so many bytes more. Reads filters,
    /// never data; what cannot be read may contain anything.
    pub(crate) fn may_contain_versions(&self, prefix: &[u8], suffix_bytes: usize) -> bool {
        let rule = self.properties.prefix_rule.as_ref();
        if !rule.is_some_and(|rule| rule.leaves(prefix, suffix_bytes)) {
            return true;
        }
        let mut last = prefix.to_vec();
        last.resize(prefix.len() + suffix_bytes, 0xff);
        let first = self.partition_at(&key::encode_seek(prefix, key::SEQUENCE_MAX));
        let last = self.partition_at(&key::encode(&last, 0, Kind::Delete));
        let hash = filter::hash(prefix, None);
        let partitions = self.partitions.iter().take(last + 1).skip(first);
        let mut filters = partitions.map(|partition| partition.filter);
        let found = filters.any(|filter| {
            filter.is_none()
                || !matches!(self.filter(filter, Fetch::Read), Ok(Some(f)) if !f.may_contain(hash))
        });
        self.cache.filters.asked(found);
        found
    }

    /// The data block an index entry points to.
    pub(super) fn data_handle(
        &self,
        index_handle: Handle,
        index: &BlockIter,
    ) -> Result<Handle, LsmError> {
        Handle::decode(&mut Reader::new(index.value_slice()))
            .map_err(|m| self.corrupt(index_handle, m))
    }

    /// About how many bytes of the file stand before the user key.
    pub(crate) fn offset_of(&self, user: &[u8]) -> u64 {
        let target = key::encode_seek(user, key::SEQUENCE_MAX);
        let Some(partition) = self.partitions.get(self.partition_at(&target)) else {
            return self.size;
        };
        // The index of the partition stands behind its data; a cached one knows better.
        if let Ok(Some(index)) = self.try_block(partition.index, Fetch::Read) {
            let mut index = BlockIter::new(index, None);
            if index.seek(&target).is_ok()
                && index.valid()
                && let Ok(handle) = Handle::decode(&mut Reader::new(index.value_slice()))
            {
                return handle.offset;
            }
        }
        partition.index.offset
    }

    /// Reads and verifies every block, and that the entries rise.
    pub(crate) fn verify(self: &Arc<Table>) -> Result<(), LsmError> {
        for partition in &self.partitions {
            if !partition.filter.is_none() {
                self.filter(partition.filter, Fetch::FileOnly)?;
            }
        }
        let mut entries = 0;
        let mut last: Vec<u8> = Vec::new();
        let mut iter = super::TableIter::new(self.clone(), Fetch::FileOnly);
        iter.first()?;
        while iter.valid() {
            if !last.is_empty() && key::compare(&last, iter.key()).is_ge() {
                return Err(LsmError::corruption(self.path(), 0, "keys out of order"));
            }
            last.clear();
            last.extend_from_slice(iter.key());
            entries += 1;
            iter.next()?;
        }
        if entries != self.properties.entries {
            let reason = "another number of entries than it says";
            return Err(LsmError::corruption(self.path(), 0, reason));
        }
        Ok(())
    }

    /// A block of entries; `fetch` is not [`Fetch::CacheOnly`].
    pub(super) fn block(&self, handle: Handle, fetch: Fetch) -> Result<Arc<Block>, LsmError> {
        self.try_block(handle, fetch)?
            .ok_or_else(|| LsmError::corruption(self.path(), handle.offset, "not in the cache"))
    }

    /// Likewise, for an iterator that reads ahead.
    pub(super) fn block_ahead(
        &self,
        handle: Handle,
        fetch: Fetch,
        ahead: &mut ReadAhead,
    ) -> Result<Arc<Block>, LsmError> {
        self.find_block(handle, fetch, |table| ahead.read(table, handle))?
            .ok_or_else(|| LsmError::corruption(self.path(), handle.offset, "not in the cache"))
    }

    pub(super) fn try_block(
        &self,
        handle: Handle,
        fetch: Fetch,
    ) -> Result<Option<Arc<Block>>, LsmError> {
        self.find_block(handle, fetch, |table| table.read_framed(handle))
    }

    fn find_block(
        &self,
        handle: Handle,
        fetch: Fetch,
        read: impl FnOnce(&Table) -> Result<Bytes, LsmError>,
    ) -> Result<Option<Arc<Block>>, LsmError> {
        let cache_key = (self.source.number, handle.offset);
        if fetch != Fetch::FileOnly
            && let Some(Cached::Block(block)) = self.cache.get(cache_key)
        {
            return Ok(Some(block));
        }
        if fetch == Fetch::CacheOnly {
            return Ok(None);
        }
        self.check_inside(handle)?;
        let bytes = self.unframe(read(self)?, handle)?;
        let block = Arc::new(Block::parse(bytes).map_err(|m| self.corrupt(handle, m))?);
        if fetch == Fetch::Read {
            self.cache.insert(cache_key, Cached::Block(block.clone()));
        }
        Ok(Some(block))
    }

    pub(super) fn filter(
        &self,
        handle: Handle,
        fetch: Fetch,
    ) -> Result<Option<Arc<Filter>>, LsmError> {
        let cache_key = (self.source.number, handle.offset);
        if fetch != Fetch::FileOnly
            && let Some(Cached::Filter(filter)) = self.cache.get(cache_key)
        {
            return Ok(Some(filter));
        }
        if fetch == Fetch::CacheOnly {
            return Ok(None);
        }
        let bytes = self.read(handle)?;
        let filter = Arc::new(Filter::parse(&bytes).map_err(|m| self.corrupt(handle, m))?);
        if fetch == Fetch::Read {
            self.cache.insert(cache_key, Cached::Filter(filter.clone()));
        }
        Ok(Some(filter))
    }

    /// Reads and verifies a block.
    fn read(&self, handle: Handle) -> Result<Bytes, LsmError> {
        self.check_inside(handle)?;
        self.unframe(self.read_framed(handle)?, handle)
    }

    fn check_inside(&self, handle: Handle) -> Result<(), LsmError> {
        let len = u64::from(handle.len) + BLOCK_TRAILER_BYTES as u64;
        let end = handle.offset.checked_add(len);
        if end.is_none_or(|end| end > self.size) {
            return Err(self.corrupt(handle, Malformed("a block behind the end of the file")));
        }
        Ok(())
    }

    fn read_framed(&self, handle: Handle) -> Result<Bytes, LsmError> {
        let len = handle.len as usize + BLOCK_TRAILER_BYTES;
        self.read_bytes(handle.offset, len).map(Bytes::from)
    }

    /// Bytes of the file, inside it.
    pub(super) fn read_bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, LsmError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn unframe(&self, framed: Bytes, handle: Handle) -> Result<Bytes, LsmError> {
        format::unframe(framed, self.salt, handle.offset).map_err(|m| self.corrupt(handle, m))
    }

    pub(super) fn corrupt(&self, handle: Handle, malformed: Malformed) -> LsmError {
        LsmError::corruption(self.path(), handle.offset, malformed.0)
    }
}

pub(super) fn decode_top_index(bytes: Bytes) -> Result<Vec<Partition>, Malformed> {
    let mut iter = BlockIter::new(Arc::new(Block::parse(bytes)?), None);
    let mut partitions: Vec<Partition> = Vec::new();
    iter.first()?;
    while iter.valid() {
        let value = iter.value();
        let mut reader = Reader::new(&value);
        let index = Handle::decode(&mut reader)?;
        let filter = Handle::decode(&mut reader)?;
        let last_key = Bytes::copy_from_slice(iter.key());
        let rises = partitions
            .last()
            .is_none_or(|last| key::compare(&last.last_key, &last_key).is_lt());
        if !rises {
            return Err(Malformed("partitions out of order"));
        }
        partitions.push(Partition {
            last_key,
            index,
            filter,
        });
        iter.next()?;
    }
    Ok(partitions)
}
