//! Waiting until a cluster is whole, and finding out where its leaders are.

use std::time::Duration;

use tinykv_proto::placement::placement_client::PlacementClient;
use tinykv_proto::placement::{OverviewRequest, OverviewResponse};
use tokio::time::{Instant, interval, timeout};

use super::{Cluster, Node};

/// How often the cluster is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// The overview of whichever placement member answers.
pub async fn overview(placements: &[String]) -> Option<OverviewResponse> {
    for address in placements {
        let look = async {
            let mut client = PlacementClient::connect(format!("http://{address}"))
                .await
                .ok()?;
            let request = OverviewRequest {
                with_regions: true,
                ..OverviewRequest::default()
            };
            client.overview(request).await.ok()
        };
        if let Ok(Some(answer)) = timeout(LOOK_TIMEOUT, look).await {
            let answer = answer.into_inner();
            if answer
                .header
                .as_ref()
                .is_some_and(|header| header.error.is_none())
            {
                return Some(answer);
            }
        }
    }
    None
}

/// Waits until `stores` stores are up and every region has a leader and all its replicas.
///
/// # Errors
/// What was wrong when the time was up.
pub async fn wait_until_whole(
    placements: &[String],
    stores: usize,
    limit: Duration,
) -> Result<OverviewResponse, String> {
    let deadline = Instant::now() + limit;
    let mut look = interval(LOOK_INTERVAL);
    let mut last = "placement did not answer".to_owned();
    loop {
        look.tick().await;
        if let Some(answer) = overview(placements).await {
            let up = answer
                .stores
                .iter()
                .filter(|store| store.state == "up")
                .count();
            let led = answer
                .regions
                .iter()
                .filter(|region| region.leader.is_some())
                .count();
            let regions = answer.regions_total as usize;
            if up >= stores
                && regions > 0
                && led == regions
                && answer.regions_complete == answer.regions_total
            {
                return Ok(answer);
            }
            last = format!(
                "{up} of {stores} stores up, {led} of {regions} regions led, {} complete",
                answer.regions_complete
            );
        }
        if Instant::now() >= deadline {
            return Err(format!("the cluster was not whole after {limit:?}: {last}"));
        }
    }
}

/// The placement member that leads.
pub fn leading_member(cluster: &Cluster, whole: &OverviewResponse) -> Option<Node> {
    let leader = whole
        .members
        .iter()
        .find(|member| member.member_id == whole.leader_member_id)?;
    let leads = |address: &String| {
        let mut urls = leader.client_urls.iter();
        urls.any(|url| url.ends_with(address.as_str()))
    };
    let at = cluster.placements().iter().position(leads);
    at.map(Node::Placement)
}

/// The process of a store.
pub fn store_of(cluster: &Cluster, whole: &OverviewResponse, store_id: u64) -> Option<Node> {
    let mut stores = whole
        .stores
        .iter()
        .filter_map(|status| status.store.as_ref());
    let store = stores.find(|store| store.id == store_id)?;
    store_at(cluster, &store.address)
}

/// The store with this address.
pub fn store_at(cluster: &Cluster, address: &str) -> Option<Node> {
    let at = cluster.stores().iter().position(|store| store == address);
    at.map(Node::Store)
}
