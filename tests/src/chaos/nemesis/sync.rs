//! An fsync of a store fails (D4): it must end with exit code 74 and leave a marker, and after its
//! next start all replicas it had must be replaced (D6).

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tinykv_proto::placement::OverviewResponse;
use tokio::time::{Instant, interval, timeout};

use crate::chaos::fleet::{Fleet, STORES};
use crate::cluster::{Node, Site};

use super::Scene;

/// A store that writes comes to its next fsyncs long before.
const END_LIMIT: Duration = Duration::from_secs(40);
/// How long it may take to replace all replicas of a store.
const REPLACE_LIMIT: Duration = Duration::from_secs(120);
/// How often the state of things is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The exit code of a failed fsync.
const FAILED_SYNC: i32 = 74;
/// What the store leaves in its data directory.
const MARKER: &str = "FSYNC-FAILED";

pub(super) async fn strike(scene: &mut Scene<'_>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let Ok(before) = scene.fleet.look().await else {
        return Ok(());
    };
    let any = Node::Store(scene.random.below(STORES as u64) as usize);
    let leader = scene.fleet.leader_of_a_region(&before, scene.random);
    let node = leader.unwrap_or(any);
    let damaged = peers_on(scene.fleet, &before, node);
    let after = scene.random.between(1, 30);
    let injection = Injection::begin(scene.fleet, node, after)?;
    let code = ended(scene.fleet, node).await?;
    drop(injection);
    if code != Some(FAILED_SYNC) {
        return Err(format!("{node:?} ended with {code:?} after a failed fsync"));
    }
    scene.count("ended_with_74", 1);
    let marker = scene.fleet.cluster.data_dir(node).join(MARKER);
    if !marker.exists() {
        return Err(format!("{node:?} left no {}", marker.display()));
    }
    scene.hold(0, 1_000).await;
    scene.fleet.cluster.start(node).map_err(failed)?;
    replaced(scene.fleet, &damaged).await?;
    scene.count("replicas_replaced", damaged.len() as u64);
    Ok(())
}

/// `strace` on a store. Dropping it ends it.
struct Injection(Child);

impl Injection {
    fn begin(fleet: &Fleet, node: Node, after: u64) -> Result<Injection, String> {
        let id = fleet.cluster.process_id(node).ok_or("it does not run")?;
        let inject = format!("inject=fdatasync,fsync:error=EIO:when={after}");
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-q", "-e", "trace=fdatasync,fsync", "-e", &inject])
            .args(["-o", "/dev/null", "-p", &id.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let site = Site::default();
        let child = site.prepare(&mut strace).and_then(|()| strace.spawn());
        child
            .map(Injection)
            .map_err(|error| format!("strace: {error}"))
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It has mostly ended with the store.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn ended(fleet: &mut Fleet, node: Node) -> Result<Option<i32>, String> {
    match timeout(END_LIMIT, fleet.cluster.end_of(node)).await {
        Ok(status) => status
            .map(|status| status.code())
            .map_err(|e| e.to_string()),
        Err(_) => Err(format!(
            "{node:?} went on for {END_LIMIT:?} after an fsync that fails"
        )),
    }
}

/// Ids of all peers on a store.
fn peers_on(fleet: &Fleet, whole: &OverviewResponse, node: Node) -> BTreeSet<u64> {
    let Node::Store(number) = node else {
        return BTreeSet::new();
    };
    let address = &fleet.cluster.stores()[number];
    let stores = whole
        .stores
        .iter()
        .filter_map(|status| status.store.as_ref());
    let id = stores
        .filter(|store| store.address == *address)
        .map(|store| store.id)
        .next();
    peers(whole)
        .filter(|(_, store)| Some(*store) == id)
        .map(|(peer, _)| peer)
        .collect()
}

/// Waits until no region counts any of these peers as its own.
async fn replaced(fleet: &Fleet, damaged: &BTreeSet<u64>) -> Result<(), String> {
    let mut look = interval(LOOK_INTERVAL);
    let deadline = Instant::now() + REPLACE_LIMIT;
    let mut left = damaged.clone();
    while Instant::now() < deadline {
        look.tick().await;
        if let Ok(whole) = fleet.look().await {
            let members: BTreeSet<u64> = peers(&whole).map(|(peer, _)| peer).collect();
            left = damaged.intersection(&members).copied().collect();
            if left.is_empty() {
                return Ok(());
            }
        }
    }
    Err(format!(
        "damaged peers {left:?} were not replaced within {REPLACE_LIMIT:?}"
    ))
}

/// All peers of all regions, each with its store.
fn peers(whole: &OverviewResponse) -> impl Iterator<Item = (u64, u64)> {
    let regions = whole
        .regions
        .iter()
        .filter_map(|status| status.region.as_ref());
    regions
        .flat_map(|region| &region.peers)
        .map(|peer| (peer.id, peer.store_id))
}
