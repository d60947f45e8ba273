//! Every process is killed with -9 in the same moment, under load, again and again.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::cluster::load::{Load, client};

use super::{wait, whole_cluster};

/// How many writes are acknowledged before the lights go out.
const WRITES_MIN: u64 = 500;
/// How long that may take.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// What was written, and through how many deaths.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PowerReport {
    /// Times that everything was killed.
    pub rounds: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose fate was unknown.
    pub undetermined: u64,
    /// Keys read back over all rounds.
    pub checked: usize,
}

/// Kills everything `rounds` times; after each, all keys of all rounds are read back.
///
/// # Errors
/// An acknowledged write is lost, or the cluster does not come back.
pub async fn power(binary: &Path, rounds: u64, writers: usize) -> Result<PowerReport, String> {
    let mut cluster = whole_cluster(binary).await?;
    let mut report = PowerReport::default();
    let mut ledgers = Vec::new();
    for round in 0..rounds {
        let writing = client(&cluster.placements(), Duration::from_secs(2)).await?;
        let load = Load::start(&writing, writers, 50, false, round);
        load.reaches(WRITES_MIN, WRITE_LIMIT).await?;
        cluster.kill_all().map_err(|error| error.to_string())?;
        let ledger = load.stop().await;
        report.rounds += 1;
        report.acknowledged += ledger.acknowledged;
        report.undetermined += ledger.undetermined;
        ledgers.push(ledger);
        cluster.start_all().map_err(|error| error.to_string())?;
        wait(&mut cluster).await?;
        let reading = client(&cluster.placements(), Duration::from_secs(10)).await?;
        for ledger in &ledgers {
            let checked = ledger.verify(&reading).await;
            report.checked +=
                checked.map_err(|e| format!("round {round}: {e}\n{}", cluster.logs()))?;
        }
    }
    Ok(report)
}
