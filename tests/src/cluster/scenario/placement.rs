//! Three placement members, whose leader is killed with -9 again and again under load.
//!
//! Calls of clients that know their routes need no placement: none of them may fail. Ids and
//! timestamps are drawn all the time and must never repeat or go back; regions must be split again
//! soon after each kill.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tinykv_proto::placement::OverviewResponse;
use tokio::time::{Instant, sleep_until};

use crate::cluster::draw::{Drawing, Drawn};
use crate::cluster::exact::{Exact, ExactLoad, KEYS, key};
use crate::cluster::load::client;
use crate::cluster::operator::split;
use crate::cluster::{Cluster, Node};

use super::{start, wait};

/// How long a split may take, fail-over included, before the run is called failed. The report says
/// how long it took.
const SPLIT_LIMIT: Duration = Duration::from_secs(60);

/// A call may take so long.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PlacementReport {
    /// Leaders killed.
    pub kills: u64,
    /// From each kill until a region was split, in milliseconds, sorted.
    pub split_after_ms: Vec<u64>,
    /// Ids and timestamps.
    pub drawn: Drawn,
    /// The load.
    pub load: Exact,
}

/// Kills the leading member `kills` times, once in each `pause`.
///
/// # Errors
/// A call failed, an id or timestamp repeated, or splits do not work again.
pub async fn placement(
    binary: &Path,
    kills: u64,
    pause: Duration,
    workers: usize,
) -> Result<PlacementReport, String> {
    let planned = Cluster::new(binary, 3, 3).map_err(|error| error.to_string())?;
    let mut cluster = start(planned).await?;
    let done = run(&mut cluster, kills, pause, workers).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(
    cluster: &mut Cluster,
    kills: u64,
    pause: Duration,
    workers: usize,
) -> Result<PlacementReport, String> {
    let placements = cluster.placements();
    let writing = client(&placements, CALL_LIMIT).await?;
    let reading = client(&placements, CALL_LIMIT).await?;
    let drawing = Drawing::start(&placements);
    let load = ExactLoad::start(&writing, &reading, workers).await?;
    let mut report = PlacementReport::default();
    for number in 0..kills {
        let next = Instant::now() + pause;
        let whole = wait(cluster).await?;
        let leader = leading(cluster, &whole).ok_or("no member leads")?;
        let kill = Instant::now();
        cluster.kill(leader).map_err(|error| error.to_string())?;
        report.kills += 1;
        let at = (number as usize * 11 + 5) % KEYS;
        split(&placements, &[&key(at)], SPLIT_LIMIT).await?;
        report
            .split_after_ms
            .push(kill.elapsed().as_millis() as u64);
        cluster.start(leader).map_err(|error| error.to_string())?;
        sleep_until(next).await;
    }
    report.split_after_ms.sort_unstable();
    report.load = load.stop().await?;
    report.drawn = drawing.stop().await?;
    Ok(report)
}

/// The member that leads.
fn leading(cluster: &Cluster, whole: &OverviewResponse) -> Option<Node> {
    let leader = whole
        .members
        .iter()
        .find(|member| member.member_id == whole.leader_member_id)?;
    let addresses = cluster.placements();
    let at = addresses.iter().position(|address| {
        leader
            .client_urls
            .iter()
            .any(|url| url.ends_with(address.as_str()))
    });
    at.map(Node::Placement)
}
