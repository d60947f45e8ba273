//! A fourth store joins and one of the old is drained under load: its data moves, it becomes a
//! tombstone, and clients must notice nothing but a little time.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tinykv_client::RawClient;
use tinykv_proto::placement::OverviewResponse;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use crate::cluster::health::{overview, store_of, wait_until_whole};
use crate::cluster::load::client;
use crate::cluster::records::{key, value};
use crate::cluster::tally::{Stretch, Tally, in_ms};
use crate::cluster::{Cluster, Node};

use super::WHOLE_LIMIT;
use super::growth::fill;

/// A call may take so long.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long is measured before and after.
const CALM: Duration = Duration::from_secs(20);
/// The new store has its share, and the old one has left, within this time each.
const MOVE_LIMIT: Duration = Duration::from_secs(300);
/// How often progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Records in one batch of the first load.
const BATCH: u64 = 200;
/// Small regions, so that there is much to move.
const ARGUMENTS: [&str; 2] = ["--region-split-size", "16MiB"];

/// What the clients saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seen {
    /// Reads.
    pub reads: Stretch,
    /// Writes.
    pub writes: Stretch,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DrainReport {
    /// Records that lie in the stores.
    pub records: u64,
    /// Regions at the end.
    pub regions: u64,
    /// Peers of the new store when it had its share.
    pub share_of_new: u32,
    /// From the start of the new store's process until then, in milliseconds.
    pub joined_ms: u64,
    /// Peers of the old store when its drain began.
    pub peers_of_old: u32,
    /// From the order to drain until it is a tombstone, in milliseconds.
    pub drained_ms: u64,
    /// How the drained store's process ended.
    pub exit_code: Option<i32>,
    /// With three stores.
    pub before: Seen,
    /// While the new one gets its share.
    pub joining: Seen,
    /// While the old one is drained.
    pub draining: Seen,
    /// With the three that are left.
    pub after: Seen,
}

/// Loads so many records, then joins and drains under the load of so many workers.
///
/// # Errors
/// A call failed, or the stores did not get where they should.
pub async fn drain(binary: &Path, records: u64, workers: usize) -> Result<DrainReport, String> {
    let planned = Cluster::new(binary, 1, 4).map_err(|error| error.to_string())?;
    let mut cluster = planned.with_store_arguments(&ARGUMENTS);
    let done = run(&mut cluster, records, workers).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(cluster: &mut Cluster, records: u64, workers: usize) -> Result<DrainReport, String> {
    const NEW: Node = Node::Store(3);
    let placements = cluster.placements();
    for node in cluster.nodes().into_iter().filter(|node| *node != NEW) {
        cluster.start(node).map_err(|error| error.to_string())?;
    }
    wait_until_whole(&placements, 3, WHOLE_LIMIT).await?;
    let client = client(&placements, CALL_LIMIT).await?;
    fill(&client, records, BATCH, workers).await?;
    let mut report = DrainReport {
        records,
        ..DrainReport::default()
    };
    let load = MixedLoad::start(&client, records, workers);
    load.take();
    sleep(CALM).await;
    report.before = load.take();

    let begin = Instant::now();
    cluster.start(NEW).map_err(|error| error.to_string())?;
    let shared = |whole: &OverviewResponse| {
        let peers: Vec<u32> = whole.stores.iter().map(|store| store.regions).collect();
        let most = peers.iter().max().copied().unwrap_or(0);
        peers.len() == 4 && peers.iter().all(|count| count + 2 >= most)
    };
    let whole = until(&placements, "the new store has its share", shared).await?;
    report.joined_ms = in_ms(begin.elapsed());
    report.share_of_new = whole.stores.last().map_or(0, |store| store.regions);
    report.joining = load.take();

    let old = whole.stores.first().ok_or("there is no store")?;
    let id = old.store.as_ref().map_or(0, |store| store.id);
    let node = store_of(cluster, &whole, id).ok_or("the first store is not ours")?;
    report.peers_of_old = old.regions;
    let begin = Instant::now();
    drain_store(cluster, id).await?;
    let gone = |whole: &OverviewResponse| {
        let mut stores = whole.stores.iter();
        stores.any(|status| {
            let is_it = status.store.as_ref().is_some_and(|store| store.id == id);
            is_it && status.state == "tombstone"
        })
    };
    let whole = until(&placements, "the drained store is a tombstone", gone).await?;
    report.drained_ms = in_ms(begin.elapsed());
    report.draining = load.take();
    let status = cluster.end_of(node).await;
    report.exit_code = status.map_err(|error| error.to_string())?.code();

    sleep(CALM).await;
    report.after = load.take();
    report.regions = whole.regions_total;
    load.stop().await?;
    Ok(report)
}

/// `tinykv-ctl store drain ID --wait`, as an operator types it.
async fn drain_store(cluster: &Cluster, id: u64) -> Result<(), String> {
    let mut command = Command::new(cluster.binary());
    command
        .args(["store", "drain", &id.to_string(), "--wait", "-u"])
        .arg(cluster.placements().join(","))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "store drain --wait ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

async fn until(
    placements: &[String],
    what: &str,
    there: impl Fn(&OverviewResponse) -> bool,
) -> Result<OverviewResponse, String> {
    let deadline = Instant::now() + MOVE_LIMIT;
    let mut look = interval(LOOK_INTERVAL);
    loop {
        look.tick().await;
        let whole = overview(placements).await;
        if let Some(whole) = whole.filter(|whole| there(whole)) {
            return Ok(whole);
        }
        if Instant::now() >= deadline {
            return Err(format!("not after {MOVE_LIMIT:?}: {what}"));
        }
    }
}

/// Reads and writes in turn, of which none may fail.
struct MixedLoad {
    stop: Arc<AtomicBool>,
    reads: Arc<Tally>,
    writes: Arc<Tally>,
    tasks: JoinSet<Result<(), String>>,
}

impl MixedLoad {
    fn start(client: &RawClient, records: u64, workers: usize) -> MixedLoad {
        let mut load = MixedLoad {
            stop: Arc::default(),
            reads: Arc::default(),
            writes: Arc::default(),
            tasks: JoinSet::new(),
        };
        let next = Arc::new(AtomicU64::new(0));
        for _ in 0..workers {
            let (client, next, stop) = (client.clone(), Arc::clone(&next), Arc::clone(&load.stop));
            let (reads, writes) = (Arc::clone(&load.reads), Arc::clone(&load.writes));
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed) % records;
                    let begin = Instant::now();
                    let put = client.put(key(number), value(number)).await;
                    put.map_err(|error| format!("a put failed: {error}"))?;
                    writes.ended(begin, 1);
                    let begin = Instant::now();
                    let got = client.get(key(number)).await;
                    let got = got.map_err(|error| format!("a get failed: {error}"))?;
                    reads.ended(begin, 1);
                    if got != Some(value(number)) {
                        return Err(format!("record {number} holds {got:?}"));
                    }
                }
                Ok(())
            });
        }
        load
    }

    fn take(&self) -> Seen {
        Seen {
            reads: self.reads.take(),
            writes: self.writes.take(),
        }
    }

    async fn stop(mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    }
}
