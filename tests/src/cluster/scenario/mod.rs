//! What the stores of a cluster go through while clients write.

mod difference;
mod drain;
mod failover;
mod growth;
mod idle;
mod moves;
mod packages;
mod placement;
mod power;
mod rolling;

pub use difference::{DifferenceReport, difference};
pub use drain::{DrainReport, drain};
pub use failover::{Distribution, failover};
pub use growth::{GrowthReport, growth};
pub use idle::{IdleReport, idle};
pub use moves::{MovesReport, moves};
pub use packages::{PackagesReport, packages};
pub use placement::{PlacementReport, placement};
pub use power::{PowerReport, power};
pub use rolling::{RollingReport, rolling};

use std::path::Path;
use std::time::Duration;

use super::Cluster;
use super::health::wait_until_whole;

/// How long a cluster may take to become whole.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one placement member and three stores, whole.
async fn whole_cluster(binary: &Path) -> Result<Cluster, String> {
    start(Cluster::new(binary, 1, 3).map_err(|error| error.to_string())?).await
}

/// Starts a cluster and waits until it is whole.
///
/// # Errors
/// What is missing, and the logs.
pub async fn start(mut cluster: Cluster) -> Result<Cluster, String> {
    cluster.start_all().map_err(|error| error.to_string())?;
    wait(&mut cluster).await?;
    Ok(cluster)
}

/// Waits until it is whole again.
///
/// # Errors
/// What is missing, and the logs.
pub async fn wait(
    cluster: &mut Cluster,
) -> Result<tinykv_proto::placement::OverviewResponse, String> {
    let (placements, stores) = (cluster.placements(), cluster.stores().len());
    let whole = wait_until_whole(&placements, stores, WHOLE_LIMIT).await;
    whole.map_err(|problem| {
        let ended: Vec<String> = cluster
            .nodes()
            .into_iter()
            .filter_map(|node| match cluster.ended(node) {
                Ok(Some(status)) => Some(format!("{node:?} ended: {status}")),
                _ => None,
            })
            .collect();
        format!("{problem}\n{}\n{}", ended.join("\n"), cluster.logs())
    })
}
