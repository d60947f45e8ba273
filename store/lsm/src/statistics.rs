//! Figures of a tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::compaction;
use crate::job::JobReport;
use crate::tree::Inner;
use crate::version::TableFile;

/// Figures for the status page; counters count since the tree was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Tables and bytes of each level.
    pub levels: Vec<LevelStatistics>,
    /// Bytes in the active memtable.
    pub memtable_bytes: u64,
    /// Closed memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes in them.
    pub immutable_bytes: u64,
    /// Bytes that wait for compaction.
    pub debt_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Block lookups answered by the cache.
    pub cache_hits: u64,
    /// Block lookups that had to read.
    pub cache_misses: u64,
    /// Table lookups for which a filter was asked.
    pub filter_checks: u64,
    /// Of these, those that it made unnecessary.
    pub filter_skips: u64,
    /// Of the others, those that found nothing all the same.
    pub filter_misses: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Compactions done, moves not counted.
    pub compactions: u64,
    /// Parts they were done in.
    pub compaction_parts: u64,
    /// Bytes of keys and values written.
    pub bytes_in: u64,
    /// Bytes of tables written by flushes.
    pub flush_bytes: u64,
    /// Bytes of tables read by compactions.
    pub compaction_read_bytes: u64,
    /// Bytes of tables written by compactions.
    pub compaction_write_bytes: u64,
    /// How long [`Pressure`](crate::Pressure) said stop.
    pub stalled: Duration,
}

impl Statistics {
    /// Bytes of tables written for each byte of keys and values that came in; 0 while none did.
    /// More than the truth for data that was there when the tree was opened.
    pub fn write_amplification(&self) -> f64 {
        ratio(
            self.flush_bytes + self.compaction_write_bytes,
            self.bytes_in,
        )
    }

    /// Bytes of all tables for each byte in the last level that holds any: in that level every key
    /// stands once, and what stands above may be its newer versions. 0 while there are no tables.
    pub fn space_amplification(&self) -> f64 {
        let all = self.levels.iter().map(|level| level.bytes).sum();
        let mut from_below = self.levels.iter().rev();
        let last = from_below.find(|level| level.bytes > 0);
        ratio(all, last.map_or(0, |level| level.bytes))
    }

    /// The part of block lookups that the cache answered; 0 while there were none.
    pub fn cache_hit_rate(&self) -> f64 {
        ratio(self.cache_hits, self.cache_hits + self.cache_misses)
    }

    /// The part of needless table lookups that filters prevented; 0 while there were none.
    pub fn filter_hit_rate(&self) -> f64 {
        ratio(self.filter_skips, self.filter_skips + self.filter_misses)
    }
}

/// 0 for nothing of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Reads all figures.
pub(crate) fn gather(inner: &Inner) -> Statistics {
    let state = inner.state();
    let level = |files: &[Arc<TableFile>]| LevelStatistics {
        files: files.len(),
        bytes: files.iter().map(|f| f.meta().size).sum(),
        entries: files.iter().map(|f| f.meta().entries).sum(),
    };
    let cache = &inner.context.cache;
    let levels = state.version.levels().map(|(_, files)| level(files));
    let mut statistics = Statistics {
        levels: levels.collect(),
        memtable_bytes: state.active.bytes(),
        immutable_memtables: state.immutables.len(),
        immutable_bytes: state.immutables.iter().map(|m| m.bytes()).sum(),
        debt_bytes: compaction::debt_bytes(&state.version, &inner.options),
        cache_bytes: cache.bytes(),
        cache_hits: cache.hits(),
        cache_misses: cache.misses(),
        filter_checks: cache.filters.checks(),
        filter_skips: cache.filters.skips(),
        filter_misses: cache.filters.misses(),
        stalled: inner.stalls.total(inner.context.env.now()),
        ..Statistics::default()
    };
    inner.counters.fill(&mut statistics);
    statistics
}

/// One level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStatistics {
    /// Tables.
    pub files: usize,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Versions of keys in them.
    pub entries: u64,
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    flushes: AtomicU64,
    compactions: AtomicU64,
    compaction_parts: AtomicU64,
    bytes_in: AtomicU64,
    flush_bytes: AtomicU64,
    compaction_read_bytes: AtomicU64,
    compaction_write_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn written(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn flushed(&self, report: &JobReport) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.flush_bytes
            .fetch_add(report.bytes_written, Ordering::Relaxed);
    }

    pub(crate) fn compacted(&self, report: &JobReport, parts: usize) {
        self.compaction_parts
            .fetch_add(parts as u64, Ordering::Relaxed);
        self.compactions.fetch_add(1, Ordering::Relaxed);
        self.compaction_read_bytes
            .fetch_add(report.bytes_read, Ordering::Relaxed);
        self.compaction_write_bytes
            .fetch_add(report.bytes_written, Ordering::Relaxed);
    }

    pub(crate) fn fill(&self, statistics: &mut Statistics) {
        statistics.flushes = self.flushes.load(Ordering::Relaxed);
        statistics.compactions = self.compactions.load(Ordering::Relaxed);
        statistics.compaction_parts = self.compaction_parts.load(Ordering::Relaxed);
        statistics.bytes_in = self.bytes_in.load(Ordering::Relaxed);
        statistics.flush_bytes = self.flush_bytes.load(Ordering::Relaxed);
        statistics.compaction_read_bytes = self.compaction_read_bytes.load(Ordering::Relaxed);
        statistics.compaction_write_bytes = self.compaction_write_bytes.load(Ordering::Relaxed);
    }
}
