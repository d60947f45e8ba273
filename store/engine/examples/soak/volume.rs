//! Much data: memory stays within its budget, and what compactions leave takes hardly more space
//! than the data itself.

use std::path::Path;

use serde_json::json;
use tinykv_engine::{Direction, Durability, Standalone, StandaloneOptions};
use tinykv_env::{OsEnv, Prng};
use tinykv_lsm::WriteBatch;

use crate::arguments::Arguments;
use crate::{Findings, Outcome};

/// Operations of a batch.
const BATCH: u64 = 100;
/// What the process may take beside cache and memtables.
const REST_BYTES: u64 = 64 << 20;

pub(crate) fn run(dir: &Path, arguments: &Arguments) -> Outcome<Findings> {
    let keys = arguments.number("--keys", 200_000)?;
    let key_bytes = arguments.number("--key-bytes", 16)? as usize;
    let value_bytes = arguments.number("--value-bytes", 100)? as usize;
    let dir = &dir.join("store");
    let mut options = StandaloneOptions::default();
    options.engine.lsm.memtable_bytes_max = 16 << 20;
    let lsm = &options.engine.lsm;
    let memtables = lsm.memtable_bytes_max * (1 + lsm.immutable_memtables_max as u64);
    let budget = lsm.cache_bytes_max + memtables + REST_BYTES;

    let store = Standalone::open(OsEnv::shared(), dir, options.clone())?;
    let writer = Writer {
        store: &store,
        key_bytes,
        value_bytes,
    };
    writer.write(0..keys, 1)?;
    // A quarter of all keys once more.
    writer.write((0..keys).step_by(4), 2)?;
    store.flush()?;
    let loaded = store.statistics();
    store.close()?;
    drop(store);

    // Without threads of its own the store does everything due before it says that nothing is.
    let threadless = StandaloneOptions {
        background_threads: 0,
        ..options
    };
    let store = Standalone::open(OsEnv::shared(), dir, threadless)?;
    while store.run_job()? {}
    let mut random = Prng::new(3);
    for _ in 0..keys.min(300_000) {
        let key = scatter(random.below(keys), key_bytes);
        if store.get(&key)?.is_none() {
            return Err("a key is lost".into());
        }
    }
    let mut scanned = 0;
    for item in store.scan(b"", b"", Direction::Forward)? {
        item?;
        scanned += 1;
    }
    let peak = peak_bytes()?;
    let statistics = store.statistics();
    let space = statistics.space_amplification();
    let table_bytes: u64 = statistics.levels.iter().map(|level| level.bytes).sum();
    let figures = json!({
        "keys": keys,
        "key_bytes": key_bytes,
        "value_bytes": value_bytes,
        "mebibytes_of_data": (keys * (key_bytes + value_bytes) as u64) >> 20,
        "mebibytes_of_tables": table_bytes >> 20,
        "peak_mebibytes": peak >> 20,
        "budget_mebibytes": budget >> 20,
        "cache_mebibytes": statistics.cache_bytes >> 20,
        "space_amplification": space,
        "write_amplification": loaded.write_amplification(),
        "filter_hit_rate": statistics.filter_hit_rate(),
        "cache_hit_rate": statistics.cache_hit_rate(),
    });
    Ok(Findings::new(figures)
        .expect(scanned == keys, "a scan shows every key once")
        .expect(
            peak <= budget,
            "memory stays within cache, memtables and 64 MiB",
        )
        .expect(
            space <= 1.15,
            "settled tables take at most 1.15 of the last level",
        ))
}

struct Writer<'a> {
    store: &'a Standalone,
    key_bytes: usize,
    value_bytes: usize,
}

impl Writer<'_> {
    fn write(&self, numbers: impl Iterator<Item = u64>, seed: u64) -> Outcome<()> {
        let mut random = Prng::new(seed);
        let mut batch = WriteBatch::new();
        for number in numbers {
            let mut value = vec![b'.'; self.value_bytes];
            // Half of it can be compressed.
            random.fill(&mut value[..self.value_bytes / 2]);
            batch.put(scatter(number, self.key_bytes), value);
            if batch.len() as u64 == BATCH {
                self.store
                    .write(std::mem::take(&mut batch), Durability::Buffered)?;
            }
        }
        self.store.write(batch, Durability::Buffered)?;
        Ok(())
    }
}

/// Numbers in scattered order, each once, as keys of at least 16 bytes.
fn scatter(number: u64, bytes: usize) -> Vec<u8> {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = format!("{scattered:016x}").into_bytes();
    key.resize(bytes.max(16), b'-');
    key
}

/// The most memory this process has ever had.
fn peak_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.ok_or("/proc/self/status does not say VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes << 10)
}
