//! The store that leads most is killed with -9, and every region is asked when it writes again.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tinykv_client::RawClient;
use tinykv_keys::Bounds;
use tinykv_proto::placement::{OverviewResponse, RegionStatus};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::health::store_at;
use crate::cluster::load::{Load, client};
use crate::cluster::tally::percentile;

use super::{wait, whole_cluster};

/// How many writes the load has made before the kill, so that it hits a busy store.
const WARM_UP: u64 = 200;
/// A region that does not write within this time counts as this long.
const LIMIT: Duration = Duration::from_secs(20);

/// How long regions took to write again, in milliseconds, sorted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Distribution {
    /// Kills.
    pub rounds: u64,
    /// Regions whose leader was killed.
    pub lost_leader: Vec<u64>,
    /// The others.
    pub kept_leader: Vec<u64>,
    /// Writes of the load that were acknowledged; all were read back.
    pub acknowledged: u64,
    /// Writes of the load whose fate was unknown.
    pub undetermined: u64,
}

impl Distribution {
    /// The `percent`-th percentile over all regions.
    pub fn percentile(&self, percent: usize) -> u64 {
        let mut all = [self.lost_leader.clone(), self.kept_leader.clone()].concat();
        all.sort_unstable();
        percentile(&all, percent)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, times: &[u64]| {
            writeln!(
                f,
                "{name}: {} regions, ms until writes succeed: median {}, p90 {}, p99 {}, worst {}",
                times.len(),
                percentile(times, 50),
                percentile(times, 90),
                percentile(times, 99),
                times.last().copied().unwrap_or(0)
            )
        };
        let mut all = [self.lost_leader.clone(), self.kept_leader.clone()].concat();
        all.sort_unstable();
        writeln!(
            f,
            "{} kills of the busiest leader store; {} writes acknowledged and read back, {} of \
             unknown fate",
            self.rounds, self.acknowledged, self.undetermined
        )?;
        row(f, "leader killed", &self.lost_leader)?;
        row(f, "leader elsewhere", &self.kept_leader)?;
        row(f, "all regions", &all)
    }
}

/// Kills the busiest leader store `rounds` times under load and measures every region.
///
/// # Errors
/// The cluster does not become whole again, or a region has no key to write.
pub async fn failover(binary: &Path, rounds: u64, writers: usize) -> Result<Distribution, String> {
    let mut cluster = whole_cluster(binary).await?;
    let client = client(&cluster.placements(), LIMIT).await?;
    let mut result = Distribution::default();
    for round in 0..rounds {
        let before = wait(&mut cluster).await?;
        let load = Load::start(&client, writers, 50, false, round);
        // Routes are known and connections stand, as they do for clients that are at work.
        for region in &before.regions {
            client
                .put(key_in(region)?, "warm")
                .await
                .map_err(|error| error.to_string())?;
        }
        load.reaches(WARM_UP, LIMIT).await?;
        let now = crate::cluster::health::overview(&cluster.placements())
            .await
            .unwrap_or(before);
        let (store_id, address) = busiest(&now).ok_or("no store leads anything")?;
        let node = store_at(&cluster, &address).ok_or("the busiest store is not ours")?;
        let kill = Instant::now();
        cluster.kill(node).map_err(|error| error.to_string())?;
        let mut writes = JoinSet::new();
        for region in &now.regions {
            let lost = region
                .leader
                .as_ref()
                .is_some_and(|leader| leader.store_id == store_id);
            writes.spawn(time_until_written(
                client.clone(),
                key_in(region)?,
                kill,
                lost,
            ));
        }
        while let Some(measured) = writes.join_next().await {
            let (time, lost) = measured.map_err(|error| error.to_string())?;
            let times = if lost {
                &mut result.lost_leader
            } else {
                &mut result.kept_leader
            };
            times.push(time.as_millis() as u64);
        }
        let ledger = load.stop().await;
        ledger
            .verify(&client)
            .await
            .map_err(|e| format!("{e}\n{}", cluster.logs()))?;
        result.acknowledged += ledger.acknowledged;
        result.undetermined += ledger.undetermined;
        cluster.start(node).map_err(|error| error.to_string())?;
        result.rounds += 1;
    }
    wait(&mut cluster).await?;
    result.lost_leader.sort_unstable();
    result.kept_leader.sort_unstable();
    Ok(result)
}

/// From the kill to the first write that is acknowledged. A write whose fate is unknown is
/// followed by another one, as an application would.
async fn time_until_written(
    client: RawClient,
    key: Bytes,
    kill: Instant,
    lost: bool,
) -> (Duration, bool) {
    let mut number = 0u64;
    while kill.elapsed() < LIMIT {
        number += 1;
        if client
            .put(key.clone(), format!("after-{number}"))
            .await
            .is_ok()
        {
            break;
        }
    }
    (kill.elapsed(), lost)
}

/// The store that leads most: its id and address.
pub(super) fn busiest(overview: &OverviewResponse) -> Option<(u64, String)> {
    let leaders = |store: u64| {
        let leads = |region: &&RegionStatus| {
            region
                .leader
                .as_ref()
                .is_some_and(|leader| leader.store_id == store)
        };
        overview.regions.iter().filter(leads).count()
    };
    overview
        .stores
        .iter()
        .filter_map(|status| status.store.as_ref())
        .max_by_key(|store| leaders(store.id))
        .map(|store| (store.id, store.address.clone()))
}

/// A raw key that lives in the region.
fn key_in(status: &RegionStatus) -> Result<Bytes, String> {
    let region = status.region.clone().unwrap_or_default();
    let bounds = Bounds::new(&region.start_key, &region.end_key);
    let candidates = [b"\x01".as_slice(), b"\0\x01", b"\0", b"~"];
    candidates
        .iter()
        .map(|suffix| [region.start_key.as_ref(), suffix].concat())
        .find(|key| bounds.contains_raw(key))
        .map(Bytes::from)
        .ok_or_else(|| format!("region {} holds no raw key", region.id))
}
