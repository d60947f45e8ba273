//! Every setting of a tree, in one place.

use std::sync::Arc;

use crate::{CompactionFilter, LsmError, PrefixRule};

/// How blocks are compressed on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// LZ4 block format; a block that would not shrink is stored as it is.
    Lz4,
    /// Zstandard: smaller, several times slower to write and to read than LZ4. For the last level,
    /// which holds nearly all data and is rewritten least.
    Zstd,
}

/// Which filter tables carry against needless reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    /// None: every lookup that falls into a table's range reads it.
    None,
    /// A binary fuse filter over whole user keys, about 9 bits a key, 0.4 % false positives.
    WholeKey,
    /// The same over the part of the user key that the rule leaves: for keys that end in a version.
    /// [`Snapshot::iter_versions`](crate::Snapshot::iter_versions) asks it, too.
    Prefix(PrefixRule),
}

/// Settings of a tree. None of them changes the format of what is already on disk, so a tree may
/// be reopened with others.
#[derive(Clone, Debug, PartialEq)]
pub struct LsmOptions {
    /// A memtable of this size (keys, values and bookkeeping) is closed and waits for its flush.
    pub memtable_bytes_max: u64,
    /// Closed memtables at which [`Pressure`](crate::Pressure) says stop.
    pub immutable_memtables_max: usize,
    /// Uncompressed size at which a data block is cut.
    pub block_bytes: usize,
    /// Every so many entries of a data block one carries its whole key.
    pub block_restart_interval: usize,
    /// Uncompressed size at which a partition of a table's index (and with it of its filter) is cut.
    pub index_partition_bytes: usize,
    /// Compression of data blocks in the levels above the last.
    pub compression: Compression,
    /// Compression of data blocks in the last level.
    pub compression_last_level: Compression,
    /// Filters of tables written from now on.
    pub filter: FilterKind,
    /// Bytes of uncompressed blocks kept in memory, all tables together.
    pub cache_bytes_max: u64,
    /// Levels, level 0 included; 2 to 16.
    pub levels: usize,
    /// Target size of the first level below level 0 that holds data.
    pub level_base_bytes: u64,
    /// How many times larger than the level above it a level may be.
    pub level_multiplier: u64,
    /// Size on disk at which a table written by a compaction is cut.
    pub table_bytes_max: u64,
    /// Tables in level 0 that make its compaction due.
    pub l0_compaction_files: usize,
    /// Tables in level 0 at which back-pressure begins.
    pub l0_slowdown_files: usize,
    /// Tables in level 0 at which [`Pressure`](crate::Pressure) says stop.
    pub l0_stop_files: usize,
    /// Bytes that wait for compaction at which back-pressure begins.
    pub debt_slowdown_bytes: u64,
    /// Bytes that wait for compaction at which [`Pressure`](crate::Pressure) says stop.
    pub debt_stop_bytes: u64,
    /// Compactions and parts of compactions that may run at once.
    pub compactions_max: usize,
    /// Bytes a second that compactions write, all together, while nothing is urgent; the limit rises
    /// with what waits and is gone where back-pressure begins. 0: no limit. It binds jobs that are
    /// run by [`Job::run_paced`](crate::Job::run_paced).
    pub compaction_bytes_per_second_min: u64,
    /// Parts a large compaction is cut into, for several threads to work on.
    pub compaction_parts_max: usize,
    /// Asked what compactions may leave out; `None`: they keep whatever was not deleted.
    pub compaction_filter: Option<Arc<dyn CompactionFilter>>,
    /// Size of the MANIFEST at which a new one is begun.
    pub manifest_bytes_max: u64,
}

impl Default for LsmOptions {
    fn default() -> LsmOptions {
        LsmOptions {
            memtable_bytes_max: 64 << 20,
            immutable_memtables_max: 4,
            block_bytes: 4 << 10,
            block_restart_interval: 16,
            index_partition_bytes: 16 << 10,
            compression: Compression::Lz4,
            compression_last_level: Compression::Zstd,
            filter: FilterKind::WholeKey,
            cache_bytes_max: 256 << 20,
            levels: 7,
            level_base_bytes: 256 << 20,
            level_multiplier: 10,
            table_bytes_max: 64 << 20,
            l0_compaction_files: 4,
            l0_slowdown_files: 8,
            l0_stop_files: 24,
            debt_slowdown_bytes: 8 << 30,
            debt_stop_bytes: 64 << 30,
            compactions_max: 4,
            compaction_bytes_per_second_min: 64 << 20,
            compaction_parts_max: 4,
            compaction_filter: None,
            manifest_bytes_max: 16 << 20,
        }
    }
}

impl LsmOptions {
    /// Checks that the settings can work together; the error names the one that cannot.
    pub fn validate(&self) -> Result<(), LsmError> {
        let rules: [(bool, &str); 14] = [
            (
                self.memtable_bytes_max >= 1 << 10,
                "memtable_bytes_max must be at least 1 KiB",
            ),
            (
                self.immutable_memtables_max >= 1,
                "immutable_memtables_max must be at least 1",
            ),
            (
                (64..=1 << 20).contains(&self.block_bytes),
                "block_bytes must lie between 64 bytes and 1 MiB",
            ),
            (
                (1..=1 << 10).contains(&self.block_restart_interval),
                "block_restart_interval must lie between 1 and 1024",
            ),
            (
                (64..=1 << 24).contains(&self.index_partition_bytes),
                "index_partition_bytes must lie between 64 bytes and 16 MiB",
            ),
            (
                (2..=16).contains(&self.levels),
                "levels must lie between 2 and 16",
            ),
            (
                self.level_base_bytes > 0,
                "level_base_bytes must be more than 0",
            ),
            (
                self.level_multiplier >= 2,
                "level_multiplier must be at least 2",
            ),
            (
                self.table_bytes_max >= 1 << 10,
                "table_bytes_max must be at least 1 KiB",
            ),
            (
                self.l0_compaction_files >= 1
                    && self.l0_compaction_files <= self.l0_slowdown_files
                    && self.l0_slowdown_files < self.l0_stop_files,
                "l0_compaction_files, l0_slowdown_files and l0_stop_files must rise in this order",
            ),
            (
                self.debt_slowdown_bytes < self.debt_stop_bytes,
                "debt_slowdown_bytes must be less than debt_stop_bytes",
            ),
            (
                self.compactions_max >= 1,
                "compactions_max must be at least 1",
            ),
            (
                self.compaction_bytes_per_second_min == 0
                    || self.compaction_bytes_per_second_min >= 1 << 20,
                "compaction_bytes_per_second_min must be 0 or at least 1 MiB",
            ),
            (
                self.compaction_parts_max >= 1,
                "compaction_parts_max must be at least 1",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, reason)) => Err(LsmError::InvalidOptions {
                reason: (*reason).to_owned(),
            }),
        }
    }
}
