//! Opening after `kill -9`: it takes as long as the unflushed log, whatever the amount of data.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tinykv_engine::{Durability, Standalone, StandaloneOptions};
use tinykv_env::{Env, OsEnv, Prng};
use tinykv_lsm::WriteBatch;

use crate::arguments::Arguments;
use crate::{Findings, Outcome};

/// Bytes of every value, and values of a batch.
const VALUE_BYTES: usize = 1000;
const BATCH: u64 = 50;

/// The other process: writes so much, says so, and goes on until it is killed.
pub(crate) fn fill(dir: &Path, arguments: &Arguments) -> Outcome<()> {
    let wanted = arguments.number("--mebibytes", 64)? << 20;
    let store = Standalone::open(OsEnv::shared(), dir, StandaloneOptions::default())?;
    let mut random = Prng::new(1);
    for number in 0.. {
        let mut batch = WriteBatch::new();
        for key in number * BATCH..(number + 1) * BATCH {
            let mut value = vec![0; VALUE_BYTES];
            random.fill(&mut value);
            batch.put(format!("key-{key:012}"), value);
        }
        store.write(batch, Durability::Buffered)?;
        let written = (number + 1) * BATCH * VALUE_BYTES as u64;
        if written >= wanted && written - wanted < BATCH * VALUE_BYTES as u64 {
            println!("{}", (number + 1) * BATCH);
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

pub(crate) fn run(dir: &Path, arguments: &Arguments) -> Outcome<Findings> {
    let mebibytes = arguments.number("--mebibytes", 64)?;
    let small = killed_and_opened(&dir.join("small"), mebibytes / 4)?;
    let large = killed_and_opened(&dir.join("large"), mebibytes)?;
    let slowest = large["open_ms"].as_u64().max(small["open_ms"].as_u64());
    Ok(Findings::new(json!({ "small": small, "large": large }))
        .expect(slowest < Some(2000), "opening takes less than two seconds")
        .expect(
            large["open_flushed_ms"].as_u64() < Some(500),
            "opening what is flushed takes no time, however much it is",
        ))
}

fn killed_and_opened(dir: &Path, mebibytes: u64) -> Outcome<Value> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["fill", "--mebibytes", &mebibytes.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = child
        .stdout
        .take()
        .ok_or("the other process has no output")?;
    BufReader::new(output).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    let written: u64 = line.trim().parse()?;

    let env = OsEnv::shared();
    let (store, took) = open(env.as_ref(), dir)?;
    let replayed = store.statistics();
    let mut random = Prng::new(2);
    for number in (0..1000)
        .map(|_| random.below(written))
        .chain([0, written - 1])
    {
        let found = store.get(format!("key-{number:012}").as_bytes())?;
        if found.is_none_or(|value| value.len() != VALUE_BYTES) {
            return Err(format!("key {number} of {written} is lost").into());
        }
    }
    store.flush()?;
    store.close()?;
    drop(store);
    let (store, took_flushed) = open(env.as_ref(), dir)?;
    store.close()?;
    Ok(json!({
        "mebibytes": mebibytes,
        "replayed_mebibytes": (replayed.memtable_bytes + replayed.immutable_bytes + replayed.flush_bytes) >> 20,
        "open_ms": took.as_millis() as u64,
        "open_flushed_ms": took_flushed.as_millis() as u64,
    }))
}

fn open(env: &dyn Env, dir: &Path) -> Outcome<(Standalone, Duration)> {
    let begun = env.now();
    let store = Standalone::open(OsEnv::shared(), dir, StandaloneOptions::default())?;
    Ok((store, env.now() - begun))
}
