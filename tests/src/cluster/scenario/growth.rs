//! One region is filled with millions of keys: it splits and splits by itself, and what came of it
//! spreads evenly.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tinykv_client::RawClient;
use tinykv_proto::placement::OverviewResponse;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::cluster::Cluster;
use crate::cluster::health::overview;
use crate::cluster::load::client;
use crate::cluster::records::{key, value};
use crate::cluster::tally::{Stretch, Tally, in_ms};

use super::whole_cluster;

/// A call may take so long.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Balance may take so long after the last write.
const EVEN_LIMIT: Duration = Duration::from_secs(300);
/// How often balance is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// So far from the mean counts as even: a tenth.
const EVEN: f64 = 0.1;
/// One of so many records is read back.
const READ_BACK_EVERY: u64 = 100;

/// What was loaded, and what the cluster looked like afterwards.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GrowthReport {
    /// Records written, each counted afterwards.
    pub records: u64,
    /// Records read back and found right.
    pub read_back: u64,
    /// The batches they were written in.
    pub load: Stretch,
    /// Records a second.
    pub records_per_second: u64,
    /// Regions before the load.
    pub regions_before: u64,
    /// Regions at the end.
    pub regions: u64,
    /// From the last write until leaders and sizes were even, in milliseconds.
    pub even_after_ms: u64,
    /// Regions led by each store.
    pub leaders: Vec<u32>,
    /// Peers on each store.
    pub peers: Vec<u32>,
    /// Mebibytes of the regions on each store.
    pub mebibytes: Vec<u64>,
    /// Mebibytes of the regions that each store leads.
    pub led_mebibytes: Vec<u64>,
}

/// Writes so many records in batches through so many writers, then waits for balance.
///
/// # Errors
/// A call failed, a record is missing, or balance did not come.
pub async fn growth(
    binary: &Path,
    records: u64,
    batch: u64,
    writers: usize,
) -> Result<GrowthReport, String> {
    let cluster = whole_cluster(binary).await?;
    let done = run(&cluster, records, batch, writers).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(
    cluster: &Cluster,
    records: u64,
    batch: u64,
    writers: usize,
) -> Result<GrowthReport, String> {
    let placements = cluster.placements();
    let client = client(&placements, CALL_LIMIT).await?;
    let whole = overview(&placements).await;
    let mut report = GrowthReport {
        records,
        regions_before: whole.map_or(0, |whole| whole.regions_total),
        ..GrowthReport::default()
    };
    report.load = fill(&client, records, batch, writers).await?;
    report.records_per_second = (records as f64 / report.load.seconds) as u64;
    let loaded = Instant::now();
    even(&placements, &mut report).await?;
    report.even_after_ms = in_ms(loaded.elapsed());
    let counted = client.count("", "").await;
    let counted = counted.map_err(|error| error.to_string())?;
    if counted != records {
        return Err(format!("{records} records were written, {counted} counted"));
    }
    report.read_back = read_back(&client, records).await?;
    Ok(report)
}

/// Writes every record once.
///
/// # Errors
/// The first call that failed.
pub(super) async fn fill(
    client: &RawClient,
    records: u64,
    batch: u64,
    writers: usize,
) -> Result<Stretch, String> {
    let next = Arc::new(AtomicU64::new(0));
    let tally = Arc::new(Tally::new());
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    for _ in 0..writers {
        let (client, next, tally) = (client.clone(), Arc::clone(&next), Arc::clone(&tally));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                let numbers = first..records.min(first + batch);
                if numbers.is_empty() {
                    return Ok(());
                }
                let items = numbers.end - numbers.start;
                let pairs = numbers.map(|number| (key(number), value(number))).collect();
                let begin = Instant::now();
                let put = client.batch_put(pairs).await;
                put.map_err(|error| format!("a batch failed: {error}"))?;
                tally.ended(begin, items);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(tally.take())
}

async fn read_back(client: &RawClient, records: u64) -> Result<u64, String> {
    let numbers: Vec<u64> = (0..records).step_by(READ_BACK_EVERY as usize).collect();
    for chunk in numbers.chunks(500) {
        let keys: Vec<Bytes> = chunk.iter().map(|number| key(*number)).collect();
        let mut found = client
            .batch_get(keys)
            .await
            .map_err(|error| error.to_string())?;
        let mut expected: Vec<(Bytes, Bytes)> = chunk
            .iter()
            .map(|number| (key(*number), value(*number)))
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            return Err("a record holds what was not written to it".to_owned());
        }
    }
    Ok(numbers.len() as u64)
}

/// Waits until nothing is being done any more and leaders and sizes are even.
async fn even(placements: &[String], report: &mut GrowthReport) -> Result<(), String> {
    let deadline = Instant::now() + EVEN_LIMIT;
    let mut look = interval(LOOK_INTERVAL);
    loop {
        look.tick().await;
        if let Some(whole) = overview(placements).await {
            describe(&whole, report);
            let leaders = report.leaders.iter().map(|count| f64::from(*count));
            let sizes = report.mebibytes.iter().map(|size| *size as f64);
            let led = whole.regions.iter().all(|region| region.leader.is_some());
            if led && is_even(leaders) && is_even(sizes) {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            return Err(format!("not even after {EVEN_LIMIT:?}: {report:?}"));
        }
    }
}

/// Whether each is within a tenth of the mean, or as near to it as whole things can be.
fn is_even(values: impl Iterator<Item = f64> + Clone) -> bool {
    let mean = values.clone().sum::<f64>() / values.clone().count().max(1) as f64;
    let allowed = (mean * EVEN).max(1.0);
    values
        .into_iter()
        .all(|value| (value - mean).abs() <= allowed)
}

fn describe(whole: &OverviewResponse, report: &mut GrowthReport) {
    report.regions = whole.regions_total;
    report.leaders = whole.stores.iter().map(|store| store.leaders).collect();
    report.peers = whole.stores.iter().map(|store| store.regions).collect();
    let ids = whole
        .stores
        .iter()
        .map(|status| status.store.as_ref().map_or(0, |store| store.id));
    let sizes = |on: &dyn Fn(&tinykv_proto::placement::RegionStatus, u64) -> bool| {
        ids.clone()
            .map(|id| {
                let regions = whole.regions.iter().filter(|region| on(region, id));
                regions.map(|region| region.approximate_size).sum::<u64>() >> 20
            })
            .collect()
    };
    report.mebibytes = sizes(&|status, id| {
        let mut peers = status.region.iter().flat_map(|region| &region.peers);
        peers.any(|peer| peer.store_id == id)
    });
    report.led_mebibytes = sizes(&|status, id| {
        let leader = status.leader.as_ref();
        leader.is_some_and(|leader| leader.store_id == id)
    });
}

#[cfg(test)]
mod tests {
    use super::is_even;

    #[test]
    fn even_is_within_a_tenth() {
        assert!(is_even([100.0, 91.0, 109.0].into_iter()));
        assert!(!is_even([100.0, 80.0, 120.0].into_iter()));
        // Of whole things no more can be asked for.
        assert!(is_even([2.0, 2.0, 3.0].into_iter()));
    }
}
