//! Regions are split, moved and led from elsewhere, again and again, under load of which no call
//! may fail.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tinykv_proto::placement::{OverviewResponse, RegionStatus};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::cluster::exact::{Exact, ExactLoad, KEYS, key};
use crate::cluster::health::overview;
use crate::cluster::load::client;
use crate::cluster::operator::{move_peer, region_of, split, transfer_leader};

use super::start;

/// One more than the replicas, so that there is somewhere to move to.
const STORES: usize = 4;

/// How long one wish may take.
const WISH_LIMIT: Duration = Duration::from_secs(60);

/// A call may take so long, far more than a move needs.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What was done, and what the load saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MovesReport {
    /// Splits.
    pub splits: u64,
    /// Peers moved to another store.
    pub moves: u64,
    /// Leaderships handed over.
    pub transfers: u64,
    /// The longest of each in milliseconds.
    pub slowest_ms: [u64; 3],
    /// Regions at the end.
    pub regions: u64,
    /// The load.
    pub load: Exact,
}

/// Splits, moves and hands over for so many rounds, and for at least so long.
///
/// # Errors
/// A call failed, a read was stale, or a wish did not come true.
pub async fn moves(
    binary: &Path,
    rounds: u64,
    time: Duration,
    workers: usize,
) -> Result<MovesReport, String> {
    let planned = Cluster::new(binary, 1, STORES).map_err(|error| error.to_string())?;
    let cluster = start(planned).await?;
    let done = run(&cluster, rounds, time, workers).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(
    cluster: &Cluster,
    rounds: u64,
    time: Duration,
    workers: usize,
) -> Result<MovesReport, String> {
    let placements = cluster.placements();
    let writing = client(&placements, CALL_LIMIT).await?;
    let reading = client(&placements, CALL_LIMIT).await?;
    let load = ExactLoad::start(&writing, &reading, workers).await?;
    let (begin, mut report) = (Instant::now(), MovesReport::default());
    let mut round = 0;
    while round < rounds || begin.elapsed() < time {
        let number = (round as usize * 7 + 3) % KEYS;
        one_round(&placements, &key(number), &mut report).await?;
        round += 1;
    }
    report.load = load.stop().await?;
    let whole = overview(&placements).await;
    report.regions = whole.map_or(0, |whole| whole.regions_total);
    Ok(report)
}

/// Cuts at a key, then hands over and moves what lies behind it.
async fn one_round(
    placements: &[String],
    at: &str,
    report: &mut MovesReport,
) -> Result<(), String> {
    let begin = Instant::now();
    split(placements, &[at], WISH_LIMIT).await?;
    report.splits += 1;
    slowest(&mut report.slowest_ms[0], begin);

    let (whole, region) = find(placements, at).await?;
    let leader = region.leader.unwrap_or_default().store_id;
    let peers = || region.region.iter().flat_map(|region| &region.peers);
    if let Some(other) = peers().find(|peer| peer.store_id != leader) {
        let begin = Instant::now();
        transfer_leader(placements, at, other.store_id, WISH_LIMIT).await?;
        report.transfers += 1;
        slowest(&mut report.slowest_ms[1], begin);
    }
    let stores = whole
        .stores
        .iter()
        .filter_map(|status| status.store.as_ref());
    let free = stores
        .map(|store| store.id)
        .find(|id| peers().all(|peer| peer.store_id != *id));
    if let Some(to) = free {
        // The old leader's peer, which led until a moment ago.
        let begin = Instant::now();
        move_peer(placements, at, (leader, to), WISH_LIMIT).await?;
        report.moves += 1;
        slowest(&mut report.slowest_ms[2], begin);
    }
    Ok(())
}

/// The cluster, and the region with a key once it has a leader.
async fn find(placements: &[String], at: &str) -> Result<(OverviewResponse, RegionStatus), String> {
    let deadline = Instant::now() + WISH_LIMIT;
    while Instant::now() < deadline {
        let Some(whole) = overview(placements).await else {
            continue;
        };
        match region_of(&whole, at).cloned() {
            Some(region) if region.leader.is_some() => return Ok((whole, region)),
            _ => {}
        }
    }
    Err(format!("the region of {at} has no leader"))
}

fn slowest(slowest: &mut u64, begin: Instant) {
    *slowest = (*slowest).max(begin.elapsed().as_millis() as u64);
}
