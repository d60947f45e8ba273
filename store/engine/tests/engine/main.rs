//! Log and tree together, on a simulated machine.
//!
//! `TINYKV_CASES` multiplies the number of generated cases; `TINYKV_LEDGER` (an absolute path) is
//! where a run appends its figures.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../tests/src/ledger.rs"]
pub mod ledger;
/// For the ledger: what is checked out.
pub const BUILT_FROM: Option<&str> = None;

mod groups;
mod limits;
mod shared_fsync;
mod standalone;
mod stress;

use std::path::Path;
use std::time::Duration;

use tinykv_engine::{EngineOptions, StandaloneOptions};
use tinykv_env::{Env, SimEnv};
use tinykv_lsm::LsmOptions;
use tinykv_wal::WalOptions;

const DIR: &str = "data/engine";

/// Multiplies the number of generated cases.
fn cases(base: u64) -> u64 {
    let factor = std::env::var("TINYKV_CASES").ok();
    base * factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn machine(seed: u64) -> SimEnv {
    let env = SimEnv::new(seed);
    env.create_dir_all(Path::new("data")).expect("create");
    env.sync_dir(Path::new("")).expect("sync");
    env
}

/// Everything so small that a short trace flushes, compacts and recycles.
fn tiny_options() -> EngineOptions {
    EngineOptions {
        wal: WalOptions {
            segment_bytes: 16 << 10,
            segments_target: 3,
            segments_max: 10,
            segments_spare: 1,
        },
        lsm: LsmOptions {
            memtable_bytes_max: 2 << 10,
            block_bytes: 256,
            index_partition_bytes: 256,
            level_base_bytes: 8 << 10,
            table_bytes_max: 4 << 10,
            l0_compaction_files: 2,
            l0_slowdown_files: 4,
            l0_stop_files: 6,
            cache_bytes_max: 64 << 10,
            ..LsmOptions::default()
        },
    }
}

fn tiny_standalone() -> StandaloneOptions {
    StandaloneOptions {
        engine: tiny_options(),
        batch_bytes_max: 8 << 10,
        group_bytes_max: 8 << 10,
        background_threads: 0,
        revisit_every: Duration::from_secs(3600),
    }
}
