//! Three placement members, whose leader is killed with -9 again and again under load.
//!
//! Calls of clients that know their routes need no placement: none of them may fail. Ids and
//! timestamps are drawn all the time and must never repeat or go back; regions must be split again
//! soon after each kill.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::cluster::draw::{Drawing, Drawn};
use crate::cluster::exact::{Exact, ExactLoad, KEYS, key};
use crate::cluster::health::leading_member;
use crate::cluster::load::client;
use crate::cluster::operator::split;

use super::{start, wait};

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

/// Kills the leading member `kills` times, once in each `pause`. After each kill a region must be
/// split within `split_limit`.
///
/// # Errors
/// A call failed, an id or timestamp repeated, or splits do not work again.
pub async fn placement(
    binary: &Path,
    kills: u64,
    pause: Duration,
    split_limit: Duration,
    workers: usize,
) -> Result<PlacementReport, String> {
    let planned = Cluster::new(binary, 3, 3).map_err(|error| error.to_string())?;
    let mut cluster = start(planned).await?;
    let done = run(&mut cluster, kills, pause, split_limit, workers).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(
    cluster: &mut Cluster,
    kills: u64,
    pause: Duration,
    split_limit: Duration,
    workers: usize,
) -> Result<PlacementReport, String> {
    let placements = cluster.placements();
    let writing = client(&placements, CALL_LIMIT).await?;
    let reading = client(&placements, CALL_LIMIT).await?;
    let drawing = Drawing::start(&placements, Duration::ZERO);
    let load = ExactLoad::start(&writing, &reading, workers).await?;
    let mut report = PlacementReport::default();
    for number in 0..kills {
        let next = Instant::now() + pause;
        let whole = wait(cluster).await?;
        let leader = leading_member(cluster, &whole).ok_or("no member leads")?;
        let kill = Instant::now();
        cluster.kill(leader).map_err(|error| error.to_string())?;
        report.kills += 1;
        let at = (number as usize * 11 + 5) % KEYS;
        split(&placements, &[&key(at)], split_limit).await?;
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
