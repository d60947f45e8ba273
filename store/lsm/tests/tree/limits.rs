//! Options that contradict each other: one sentence that names the option, and nothing touched.

use std::path::Path;

use tinykv_env::{Env, SimEnv};
use tinykv_lsm::{Lsm, LsmError, LsmOptions};

/// Spoils one option.
type Spoil = fn(&mut LsmOptions);

#[test]
fn contradictory_options_are_refused_by_name() {
    let spoils: [(&str, Spoil); 13] = [
        ("memtable_bytes_max", |o| o.memtable_bytes_max = 100),
        ("immutable_memtables_max", |o| o.immutable_memtables_max = 0),
        ("block_bytes", |o| o.block_bytes = 2 << 20),
        ("block_restart_interval", |o| o.block_restart_interval = 0),
        ("index_partition_bytes", |o| o.index_partition_bytes = 1),
        ("levels", |o| o.levels = 1),
        ("level_base_bytes", |o| o.level_base_bytes = 0),
        ("level_multiplier", |o| o.level_multiplier = 1),
        ("table_bytes_max", |o| o.table_bytes_max = 1),
        ("l0_slowdown_files", |o| {
            o.l0_slowdown_files = o.l0_stop_files
        }),
        ("debt_stop_bytes", |o| {
            o.debt_stop_bytes = o.debt_slowdown_bytes
        }),
        ("compactions_max", |o| o.compactions_max = 0),
        ("compaction_bytes_per_second_min", |o| {
            o.compaction_bytes_per_second_min = 1000;
        }),
    ];
    let env = SimEnv::new(1);
    let dir = Path::new("/tree");
    for (name, spoil) in spoils {
        let mut options = LsmOptions::default();
        spoil(&mut options);
        let error = Lsm::open(env.shared(), dir, options).expect_err(name);
        assert!(matches!(error, LsmError::InvalidOptions { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!env.exists(dir).expect("exists"), "{name}");
    }
}
