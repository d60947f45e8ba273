//! Records are written while one store after the other is killed with -9 and started again.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use tinykv_client::RawClient;

use crate::cluster::health::overview;
use crate::cluster::load::{Load, client};
use crate::cluster::{Cluster, Node};

use super::{store_at, wait, whole_cluster};

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
    /// From the first write to the last.
    pub seconds: f64,
}

/// Writes `records` records through `writers` writers, killing a store every `pause`.
///
/// # Errors
/// An acknowledged record is missing or wrong, or the cluster does not recover.
pub async fn rolling(
    binary: &Path,
    records: u64,
    writers: usize,
    pause: Duration,
) -> Result<RollingReport, String> {
    let mut cluster = whole_cluster(binary).await?;
    let client = client(&cluster.placements(), Duration::from_secs(10)).await?;
    let begin = Instant::now();
    let load = Load::start(&client, writers, records.div_ceil(writers as u64), true, 0);
    let mut written = Box::pin(load.finish());
    let (mut kills, mut leader_kills) = (0, 0);
    let ledger = loop {
        let kill_at = Instant::now() + pause;
        tokio::select! {
            ledger = &mut written => break ledger,
            () = sleep_until(kill_at) => {}
        }
        let node = Node::Store(kills as usize % cluster.stores().len());
        leader_kills += u64::from(leads(&cluster, &client, node).await);
        cluster.kill(node).map_err(|error| error.to_string())?;
        kills += 1;
        let restart_at = Instant::now() + DOWN;
        let ledger = tokio::select! {
            ledger = &mut written => Some(ledger),
            () = sleep_until(restart_at) => None,
        };
        cluster.start(node).map_err(|error| error.to_string())?;
        if let Some(ledger) = ledger {
            break ledger;
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    wait(&mut cluster).await?;
    let checked = ledger
        .verify(&client)
        .await
        .map_err(|e| format!("{e}\n{}", cluster.logs()))?;
    Ok(RollingReport {
        records: checked,
        acknowledged: ledger.acknowledged,
        undetermined: ledger.undetermined,
        kills,
        leader_kills,
        seconds,
    })
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
    let address = led_from.and_then(|leader| {
        whole
            .stores
            .iter()
            .filter_map(|s| s.store.as_ref())
            .find(|s| s.id == leader.store_id)
    });
    address.is_some_and(|store| store_at(cluster, &store.address) == Some(node))
}
