//! Thousands of regions of which nobody wants anything: what they cost, how soon one is awake that
//! is wanted, and how soon all are that a killed store led.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tinykv_client::RawClient;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::health::{overview, store_at, wait_until_whole};
use crate::cluster::load::client;
use crate::cluster::operator::split_often;
use crate::cluster::tally::{in_ms, percentile};
use crate::cluster::{Cluster, Usage};

use super::failover::busiest;
use super::whole_cluster;

/// A call may take so long.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// The regions are there, led and complete, within this time.
const SPLIT_LIMIT: Duration = Duration::from_secs(600);
/// How long nobody touches the cluster before it is measured: the default of
/// `--hibernate-after-s` several times over.
const FALL_ASLEEP: Duration = Duration::from_secs(30);
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(60);
/// How many sleeping regions are read, one after the other.
const FIRST_READS: usize = 200;
/// Writes under way at once after the kill.
const WRITES_AT_ONCE: usize = 256;

/// What sleeping regions cost.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IdleReport {
    /// Regions.
    pub regions: u64,
    /// From the first order to split until all were there with all their peers, in seconds.
    pub split_seconds: f64,
    /// Time on a processor of all processes together while nothing happened, in percent of one core.
    pub cpu_percent: f64,
    /// The same of each process, placement first.
    pub cpu_percent_each: Vec<f64>,
    /// Resident memory of each process, in mebibytes.
    pub resident_mebibytes: Vec<u64>,
    /// First reads of sleeping regions: the middle one, in microseconds.
    pub first_read_p50_us: u64,
    /// What 99 of 100 did not exceed.
    pub first_read_p99_us: u64,
    /// The longest.
    pub first_read_longest_us: u64,
    /// Regions that the killed store led.
    pub lost_leaders: u32,
    /// From the kill until every region had acknowledged a write: the middle one, in milliseconds.
    pub writable_p50_ms: u64,
    /// What 99 of 100 regions did not exceed.
    pub writable_p99_ms: u64,
    /// The last region.
    pub writable_longest_ms: u64,
}

/// Cuts the key space into so many regions, lets them sleep, measures, and kills a store.
///
/// # Errors
/// The regions did not come about, or a call failed.
pub async fn idle(binary: &Path, regions: u64) -> Result<IdleReport, String> {
    let mut cluster = whole_cluster(binary).await?;
    let done = run(&mut cluster, regions).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(cluster: &mut Cluster, regions: u64) -> Result<IdleReport, String> {
    let placements = cluster.placements();
    let whole = overview(&placements).await;
    let there = whole.map_or(0, |whole| whole.regions_total);
    let keys: Vec<Bytes> = (1..=regions.saturating_sub(there)).map(key).collect();
    let begin = Instant::now();
    split_often(&placements, &keys, SPLIT_LIMIT).await?;
    let whole = wait_until_whole(&placements, cluster.stores().len(), SPLIT_LIMIT).await?;
    let mut report = IdleReport {
        regions: whole.regions_total,
        split_seconds: begin.elapsed().as_secs_f64(),
        ..IdleReport::default()
    };
    let client = client(&placements, CALL_LIMIT).await?;
    // Routes are known and connections stand.
    for key in &keys {
        let read = client.get(key.clone()).await;
        read.map_err(|error| error.to_string())?;
    }
    sleep(FALL_ASLEEP).await;
    cost(cluster, &mut report).await?;
    first_reads(&client, &keys, &mut report).await?;
    sleep(FALL_ASLEEP).await;
    kill(cluster, &client, &keys, &mut report).await?;
    Ok(report)
}

/// What the processes use while nothing happens.
async fn cost(cluster: &Cluster, report: &mut IdleReport) -> Result<(), String> {
    let begin = Instant::now();
    let before = usages(cluster)?;
    sleep(MEASURED).await;
    let (after, lasted) = (usages(cluster)?, begin.elapsed().as_secs_f64());
    report.cpu_percent_each = before
        .iter()
        .zip(&after)
        .map(|(before, after)| (after.cpu - before.cpu).as_secs_f64() / lasted * 100.0)
        .collect();
    report.cpu_percent = report.cpu_percent_each.iter().sum();
    report.resident_mebibytes = after
        .iter()
        .map(|usage| usage.resident_bytes >> 20)
        .collect();
    Ok(())
}

fn usages(cluster: &Cluster) -> Result<Vec<Usage>, String> {
    let ids = cluster
        .nodes()
        .into_iter()
        .filter_map(|node| cluster.process_id(node));
    ids.map(Usage::of)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

async fn first_reads(
    client: &RawClient,
    keys: &[Bytes],
    report: &mut IdleReport,
) -> Result<(), String> {
    let mut took = Vec::new();
    for key in keys.iter().step_by((keys.len() / FIRST_READS).max(1)) {
        let begin = Instant::now();
        let read = client.get(key.clone()).await;
        read.map_err(|error| error.to_string())?;
        took.push(begin.elapsed().as_micros() as u64);
    }
    took.sort_unstable();
    report.first_read_p50_us = percentile(&took, 50);
    report.first_read_p99_us = percentile(&took, 99);
    report.first_read_longest_us = percentile(&took, 100);
    Ok(())
}

/// Kills the store that leads most, and writes to every region until it acknowledges.
async fn kill(
    cluster: &mut Cluster,
    client: &RawClient,
    keys: &[Bytes],
    report: &mut IdleReport,
) -> Result<(), String> {
    let whole = overview(&cluster.placements()).await;
    let whole = whole.ok_or("placement did not answer")?;
    let (id, address) = busiest(&whole).ok_or("no store leads anything")?;
    let node = store_at(cluster, &address).ok_or("the busiest store is not ours")?;
    let status = whole.stores.iter().find(|status| {
        let store = status.store.as_ref();
        store.is_some_and(|store| store.id == id)
    });
    report.lost_leaders = status.map_or(0, |status| status.leaders);
    let turns = Arc::new(Semaphore::new(WRITES_AT_ONCE));
    let begin = Instant::now();
    cluster.kill(node).map_err(|error| error.to_string())?;
    let mut writes = JoinSet::new();
    for key in keys {
        let (client, key, turns) = (client.clone(), key.clone(), Arc::clone(&turns));
        writes.spawn(async move {
            while begin.elapsed() < CALL_LIMIT {
                let turn = turns.acquire().await.map_err(|error| error.to_string())?;
                let put = client.put(key.clone(), "awake").await;
                drop(turn);
                // A write of unknown fate is followed by another one, as an application would.
                if put.is_ok() {
                    return Ok(in_ms(begin.elapsed()));
                }
            }
            Err(format!("{key:?} was not written in {CALL_LIMIT:?}"))
        });
    }
    let mut took = Vec::new();
    while let Some(written) = writes.join_next().await {
        took.push(written.map_err(|error| error.to_string())??);
    }
    took.sort_unstable();
    report.writable_p50_ms = percentile(&took, 50);
    report.writable_p99_ms = percentile(&took, 99);
    report.writable_longest_ms = percentile(&took, 100);
    Ok(())
}

/// The first key of a region.
fn key(number: u64) -> Bytes {
    Bytes::from(format!("i{number:06}"))
}
