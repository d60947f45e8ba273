//! Figures of a tree.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::job::JobReport;

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
    /// Table lookups that a filter made unnecessary, in tables still in use.
    pub filter_skips: u64,
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
