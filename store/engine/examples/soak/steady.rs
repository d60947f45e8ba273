//! A write-heavy run: no second may pass without a write, and hardly a write may take long.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tinykv_engine::{Durability, EngineError, Standalone, StandaloneOptions};
use tinykv_env::{Env, OsEnv, Prng};

use crate::arguments::Arguments;
use crate::latency::Latencies;
use crate::{Findings, Outcome};

/// Bytes of every value.
const VALUE_BYTES: usize = 200;

pub(crate) fn run(dir: &Path, arguments: &Arguments) -> Outcome<Findings> {
    let seconds = arguments.number("--seconds", 10)?;
    let writers = arguments.number("--writers", 4)?;
    let keys = arguments.number("--keys", 5_000_000)?;
    let env = OsEnv::shared();
    let store = Standalone::open(
        env.clone(),
        &dir.join("store"),
        StandaloneOptions::default(),
    )?;
    let by_second: Vec<AtomicU64> = (0..=seconds).map(|_| AtomicU64::new(0)).collect();
    let run = Run {
        begun: env.now(),
        length: Duration::from_secs(seconds),
        env,
        store: &store,
        keys,
        by_second: &by_second,
    };
    let results: Vec<Result<(Latencies, Latencies), EngineError>> = std::thread::scope(|scope| {
        let start = |number| {
            let run = &run;
            scope.spawn(move || run.write(number))
        };
        let threads: Vec<_> = (0..writers).map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
        let joined = threads.into_iter().map(join);
        joined.map(|r| r.expect("writers do not panic")).collect()
    });
    let (mut buffered, mut synced) = (Latencies::new(), Latencies::new());
    for result in results {
        let (of_buffered, of_synced) = result?;
        buffered.add(&of_buffered);
        synced.add(&of_synced);
    }
    let each: Vec<u64> = by_second[..seconds as usize]
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect();
    let empty = each.iter().filter(|count| **count == 0).count();
    let mut all = buffered.clone();
    all.add(&synced);
    let statistics = store.statistics();
    store.close()?;
    let figures = json!({
        "seconds": seconds,
        "writers": writers,
        "writes": all.count(),
        "mebibytes_in": statistics.bytes_in >> 20,
        "writes_per_second_least": each.iter().min(),
        "seconds_without_writes": empty,
        "p50_us": all.within(0.5),
        "p99_us": all.within(0.99),
        "p999_us": all.within(0.999),
        "longest_ms": all.longest().as_millis() as u64,
        "synced": { "writes": synced.count(), "p50_us": synced.within(0.5), "p999_us": synced.within(0.999) },
        "stalled_ms": statistics.stalled.as_millis() as u64,
        "write_amplification": statistics.write_amplification(),
        "space_amplification": statistics.space_amplification(),
    });
    Ok(Findings::new(figures)
        .expect(empty == 0, "no second passes without a write")
        .expect(
            all.within(0.999) < 50_000,
            "999 of 1000 writes take less than 50 ms",
        ))
}

struct Run<'a> {
    env: Arc<dyn Env>,
    store: &'a Standalone,
    begun: Duration,
    length: Duration,
    keys: u64,
    /// Writes acknowledged in each second.
    by_second: &'a [AtomicU64],
}

impl Run<'_> {
    /// One writer; every thousandth write is synced. Answers the latencies of the two kinds.
    fn write(&self, number: u64) -> Result<(Latencies, Latencies), EngineError> {
        let mut random = Prng::new(number + 1);
        let (mut buffered, mut synced) = (Latencies::new(), Latencies::new());
        let mut before = self.env.now();
        while before - self.begun < self.length {
            let key = format!("key-{:012}", random.below(self.keys));
            let mut value = vec![b'.'; VALUE_BYTES];
            // Half of it can be compressed.
            random.fill(&mut value[..VALUE_BYTES / 2]);
            let is_synced = random.chance(1000);
            let durability = match is_synced {
                true => Durability::Synced,
                false => Durability::Buffered,
            };
            before = self.env.now();
            self.store.put(key, value, durability)?;
            let after = self.env.now();
            let latencies = if is_synced {
                &mut synced
            } else {
                &mut buffered
            };
            latencies.note(after - before);
            let second = (after - self.begun).as_secs() as usize;
            if let Some(count) = self.by_second.get(second) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            before = after;
        }
        Ok((buffered, synced))
    }
}
