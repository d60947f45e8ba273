//! Records are written while one store after the other is killed with -9 and started again.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use tinykv_client::RawClient;

use crate::cluster::health::{overview, store_of};
use crate::cluster::load::{Load, client};
use crate::cluster::{Cluster, Node};

use super::{wait, whole_cluster};

/// How long a killed store stays down.
const DOWN: Duration = Duration::from_millis(700);

/// What was written, and through how many deaths.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RollingReport {
    /// Records read back and found right.
    pub records: usize,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose fate was unknown.
    pub undetermined: u64,
    /// `kill -9`.
    pub kills: u64,
    /// Of those, the ones that hit the leader of a region that was being written.
    pub leader_kills: u64,
    /// From the first write to the last restart.
    pub seconds: f64,
}

/// Writes `records` records through `writers` writers in as many portions as there are kills;
/// in the middle of each portion a store is killed.
///
/// # Errors
/// An acknowledged record is missing or wrong, or the cluster does not recover.
pub async fn rolling(
    binary: &Path,
    records: u64,
    writers: usize,
    kills: u64,
) -> Result<RollingReport, String> {
    let mut cluster = whole_cluster(binary).await?;
    let client = client(&cluster.placements(), Duration::from_secs(10)).await?;
    let begin = Instant::now();
    let keys = records.div_ceil(kills.max(1) * writers as u64);
    let mut report = RollingReport::default();
    let mut ledgers = Vec::new();
    for kill in 0..kills {
        let node = Node::Store(kill as usize % cluster.stores().len());
        let load = Load::start(&client, writers, keys, true, kill);
        let mut acknowledged = load.acknowledged();
        let mut written = Box::pin(load.finish());
        let half = keys * writers as u64 / 2;
        let early = tokio::select! {
            ledger = &mut written => Some(ledger),
            _ = acknowledged.wait_for(|count| *count >= half) => None,
        };
        report.leader_kills += u64::from(leads(&cluster, &client, node).await);
        cluster.kill(node).map_err(|error| error.to_string())?;
        report.kills += 1;
        let restart_at = Instant::now() + DOWN;
        let ledger = match early {
            Some(ledger) => ledger,
            None => written.await,
        };
        sleep_until(restart_at).await;
        cluster.start(node).map_err(|error| error.to_string())?;
        report.acknowledged += ledger.acknowledged;
        report.undetermined += ledger.undetermined;
        ledgers.push(ledger);
    }
    report.seconds = begin.elapsed().as_secs_f64();
    wait(&mut cluster).await?;
    for ledger in ledgers {
        let checked = ledger.verify(&client).await;
        report.records += checked.map_err(|e| format!("{e}\n{}", cluster.logs()))?;
    }
    Ok(report)
}

/// Whether the store leads the region that the writers' keys lie in.
async fn leads(cluster: &Cluster, client: &RawClient, node: Node) -> bool {
    let Some(whole) = overview(&cluster.placements()).await else {
        return false;
    };
    let Ok(location) = client.locate("life0-").await else {
        return false;
    };
    let led_from = whole
        .regions
        .iter()
        .find(|status| {
            status
                .region
                .as_ref()
                .is_some_and(|r| r.id == location.route.region.0)
        })
        .and_then(|status| status.leader.as_ref());
    led_from.is_some_and(|leader| store_of(cluster, &whole, leader.store_id) == Some(node))
}
