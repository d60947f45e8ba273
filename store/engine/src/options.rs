//! Settings.

use std::time::Duration;

use tinykv_lsm::LsmOptions;
use tinykv_wal::WalOptions;

use crate::EngineError;

/// Settings of the two halves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineOptions {
    /// Of the log.
    pub wal: WalOptions,
    /// Of the tree.
    pub lsm: LsmOptions,
}

impl EngineOptions {
    /// Refuses options that contradict each other, with one sentence.
    pub fn validate(&self) -> Result<(), EngineError> {
        self.wal.validate()?;
        self.lsm.validate()?;
        Ok(())
    }
}

/// Settings of a [`crate::Standalone`] store.
#[derive(Clone, Debug, PartialEq)]
pub struct StandaloneOptions {
    /// Of log and tree.
    pub engine: EngineOptions,
    /// A batch whose keys and values take more bytes than this is refused. It must fit a segment
    /// of the log.
    pub batch_bytes_max: u64,
    /// Writes of concurrent callers are committed together up to this many bytes.
    pub group_bytes_max: u64,
    /// Threads for flushes and compactions. 0: none; callers do the work that is due behind their
    /// own writes, which makes the store deterministic.
    pub background_threads: usize,
    /// How often every table goes through the tree's compaction filter once more, if it has one, so
    /// that what has outlived its use goes even where nobody writes. All tables are written anew each
    /// time. Zero: only when other compactions come by.
    pub revisit_every: Duration,
}

/// Once a day: in so long a time what a store holds is written anew without being noticed.
const REVISIT_EVERY: Duration = Duration::from_hours(24);

impl Default for StandaloneOptions {
    fn default() -> StandaloneOptions {
        StandaloneOptions {
            engine: EngineOptions::default(),
            batch_bytes_max: 8 << 20,
            group_bytes_max: 4 << 20,
            background_threads: 2,
            revisit_every: REVISIT_EVERY,
        }
    }
}

/// Bytes a batch may take in the log beyond its keys and values: its record, and a few for each
/// of its operations, of which there is at least one key byte each in all but odd cases.
const BATCH_OVERHEAD: u64 = 64 << 10;

impl StandaloneOptions {
    /// For stores of some megabytes that should reserve little: log segments of 1 MiB, memtables
    /// of 4 MiB, a cache of 8 MiB, one background thread.
    pub fn small() -> StandaloneOptions {
        StandaloneOptions {
            engine: EngineOptions {
                wal: WalOptions {
                    segment_bytes: 1 << 20,
                    segments_target: 8,
                    segments_max: 32,
                    segments_spare: 1,
                },
                lsm: LsmOptions {
                    memtable_bytes_max: 4 << 20,
                    cache_bytes_max: 8 << 20,
                    ..LsmOptions::default()
                },
            },
            batch_bytes_max: 512 << 10,
            group_bytes_max: 512 << 10,
            background_threads: 1,
            revisit_every: REVISIT_EVERY,
        }
    }

    /// Refuses options that contradict each other, with one sentence.
    pub fn validate(&self) -> Result<(), EngineError> {
        self.engine.validate()?;
        let segment = u64::from(self.engine.wal.segment_bytes);
        let needed = self.batch_bytes_max.saturating_mul(9) / 8 + BATCH_OVERHEAD.min(segment / 4);
        if needed > segment {
            return Err(EngineError::InvalidOptions(format!(
                "batch_bytes_max is {}, too much for log segments of {segment} bytes",
                self.batch_bytes_max
            )));
        }
        if self.group_bytes_max == 0 || self.batch_bytes_max == 0 {
            return Err(EngineError::InvalidOptions(
                "batch_bytes_max and group_bytes_max must be more than 0".to_owned(),
            ));
        }
        Ok(())
    }
}
