//! The block cache: uncompressed, verified blocks and filters of all tables, bounded in bytes.
//!
//! Sharded and scan-resistant (the `quick_cache` crate: S3-FIFO-like with ghosts). The hasher is
//! fixed, so that what is evicted, and with it what can be answered without I/O, is the same in
//! every run of a simulation.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::table::{Block, Filter};

/// What a cache entry costs besides its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;
const SHARDS: usize = 16;

/// Which block: file number and offset.
pub(crate) type CacheKey = (u64, u64);

/// A block of either sort.
#[derive(Clone, Debug)]
pub(crate) enum Cached {
    /// Entries of data or of an index.
    Block(Arc<Block>),
    /// A filter partition.
    Filter(Arc<Filter>),
}

/// See the module.
pub(crate) struct BlockCache {
    cache: Cache<CacheKey, Cached, Weigh, FixedState>,
    hits: AtomicU64,
    misses: AtomicU64,
    pub(crate) filters: FilterCounters,
}

/// How useful filters are, all tables together.
#[derive(Debug, Default)]
pub(crate) struct FilterCounters {
    checks: AtomicU64,
    skips: AtomicU64,
    misses: AtomicU64,
}

impl FilterCounters {
    /// A filter was asked; `passes`: it did not make the lookup unnecessary.
    pub(crate) fn asked(&self, passes: bool) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        if !passes {
            self.skips.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It let a lookup pass that found nothing.
    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    pub(crate) fn skips(&self) -> u64 {
        self.skips.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl BlockCache {
    pub(crate) fn new(bytes_max: u64, block_bytes: usize) -> BlockCache {
        let items = bytes_max / (block_bytes + ENTRY_OVERHEAD_BYTES) as u64;
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(usize::try_from(items).unwrap_or(usize::MAX).max(1))
            .weight_capacity(bytes_max)
            .build()
            .expect("both capacities are given");
        BlockCache {
            cache: Cache::with_options(options, Weigh, FixedState, DefaultLifecycle::default()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            filters: FilterCounters::default(),
        }
    }

    pub(crate) fn get(&self, key: CacheKey) -> Option<Cached> {
        let found = self.cache.get(&key);
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn insert(&self, key: CacheKey, value: Cached) {
        self.cache.insert(key, value);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug)]
struct Weigh;

impl Weighter<CacheKey, Cached> for Weigh {
    fn weight(&self, _: &CacheKey, value: &Cached) -> u64 {
        let bytes = match value {
            Cached::Block(block) => block.size(),
            Cached::Filter(filter) => filter.size(),
        };
        (bytes + ENTRY_OVERHEAD_BYTES) as u64
    }
}

/// Builds the same hasher every time.
#[derive(Clone, Copy, Debug, Default)]
struct FixedState;

impl BuildHasher for FixedState {
    type Hasher = FixedHasher;

    fn build_hasher(&self) -> FixedHasher {
        FixedHasher(0)
    }
}

/// Multiplies and mixes; made for a few integers.
#[derive(Clone, Copy, Debug)]
struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
}
