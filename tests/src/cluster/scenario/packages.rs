//! Debian's package index goes in through `import` and comes out through `export`, byte for byte,
//! over many regions, while stores are killed with -9 and regions are split and moved.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use crate::cluster::health::overview;
use crate::cluster::operator::{move_peer, region_of, split, transfer_leader};
use crate::cluster::packages::Packages;
use crate::cluster::{Cluster, Node};

use super::{start, wait};

/// One more than the replicas, so that there is somewhere to move to.
const STORES: usize = 4;

/// Regions that the keys are cut into.
const PARTS: usize = 12;

/// How long a killed store stays down.
const DOWN: Duration = Duration::from_millis(700);

/// How long one wish may take.
const WISH_LIMIT: Duration = Duration::from_secs(60);

/// How long an import or export may take.
const RUN_LIMIT: Duration = Duration::from_secs(3600);

/// What went in and out, and through what.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PackagesReport {
    /// Records imported.
    pub records: u64,
    /// Bytes of the lines imported.
    pub bytes: u64,
    /// Different names, each exported once.
    pub names: u64,
    /// Regions at the end, those without a package among them.
    pub regions: u64,
    /// Stores killed while records went in.
    pub kills: u64,
    /// Splits while records went in.
    pub splits: u64,
    /// Leaderships handed over while records went in.
    pub transfers: u64,
    /// Peers moved while records went in.
    pub moves: u64,
    /// Seconds the import took, with all that happened meanwhile.
    pub import_seconds: f64,
    /// Seconds the export took.
    pub export_seconds: f64,
}

/// Imports these packages under faults and exports them again.
///
/// # Errors
/// What came out is not what went in, or something did not come about.
pub async fn packages(binary: &Path, packages: &Packages) -> Result<PackagesReport, String> {
    let planned = Cluster::new(binary, 1, STORES).map_err(|error| error.to_string())?;
    let mut cluster = start(planned).await?;
    let done = run(&mut cluster, packages).await;
    done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))
}

async fn run(cluster: &mut Cluster, packages: &Packages) -> Result<PackagesReport, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let exported = dir.path().join("out.tsv");
    let lines = packages.tsv();
    let mut report = PackagesReport {
        records: packages.len() as u64,
        bytes: lines.len() as u64,
        ..PackagesReport::default()
    };
    let begin = Instant::now();
    let mut import = ctl(cluster, &["import", "--resend"])?;
    let mut stdin = import.stdin.take().ok_or("the import reads nothing")?;
    let borders = packages.borders(PARTS);
    // A portion for each round, so that records go in through all of them.
    let portion = lines.len().div_ceil(borders.len().max(1)).max(1);
    let mut portions = lines.chunks(portion);
    for (round, border) in borders.iter().enumerate() {
        let portion = portions.next().unwrap_or_default();
        let (written, disturbed) = tokio::join!(
            stdin.write_all(portion),
            disturb(cluster, round, border, &mut report)
        );
        disturbed?;
        written.map_err(|error| format!("the import ended early: {error}"))?;
    }
    drop(stdin);
    end(import, "import").await?;
    report.import_seconds = begin.elapsed().as_secs_f64();

    wait(cluster).await?;
    let whole = overview(&cluster.placements()).await;
    report.regions = whole.map_or(0, |whole| whole.regions_total);
    let begin = Instant::now();
    let export = ctl(cluster, &["export", "--file", &exported.to_string_lossy()])?;
    end(export, "export").await?;
    report.export_seconds = begin.elapsed().as_secs_f64();
    let found = std::fs::read(&exported).map_err(|error| error.to_string())?;
    let expected = packages.tsv_of_last();
    report.names = expected.iter().filter(|byte| **byte == b'\n').count() as u64;
    compare(&found, &expected)?;
    Ok(report)
}

/// Kills a store for a while; cuts a region, hands it over and moves a peer of it.
async fn disturb(
    cluster: &mut Cluster,
    round: usize,
    border: &str,
    report: &mut PackagesReport,
) -> Result<(), String> {
    let node = Node::Store(round % STORES);
    cluster.kill(node).map_err(|error| error.to_string())?;
    report.kills += 1;
    sleep_until(Instant::now() + DOWN).await;
    cluster.start(node).map_err(|error| error.to_string())?;
    wait(cluster).await?;

    let placements = cluster.placements();
    split(&placements, &[border], WISH_LIMIT).await?;
    report.splits += 1;
    let whole = wait(cluster).await?;
    let region = region_of(&whole, border).ok_or("the key space has a hole")?;
    let leader = region.leader.unwrap_or_default().store_id;
    let peers: Vec<u64> = region
        .region
        .iter()
        .flat_map(|region| &region.peers)
        .map(|peer| peer.store_id)
        .collect();
    if let Some(other) = peers.iter().find(|store| **store != leader) {
        transfer_leader(&placements, border, *other, WISH_LIMIT).await?;
        report.transfers += 1;
    }
    let stores = whole
        .stores
        .iter()
        .filter_map(|status| status.store.as_ref());
    if let Some(to) = stores.map(|store| store.id).find(|id| !peers.contains(id)) {
        move_peer(&placements, border, (leader, to), WISH_LIMIT).await?;
        report.moves += 1;
    }
    Ok(())
}

/// Starts the command line with these arguments.
fn ctl(cluster: &Cluster, arguments: &[&str]) -> Result<Child, String> {
    Command::new(cluster.binary())
        .args(["-u", &cluster.placements().join(",")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())
}

/// Waits for its end, which must be a good one.
async fn end(child: Child, what: &str) -> Result<(), String> {
    let output = tokio::time::timeout(RUN_LIMIT, child.wait_with_output()).await;
    let output = output.map_err(|_| format!("{what} did not end"))?;
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{what} ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Tells the first line that differs.
fn compare(found: &[u8], expected: &[u8]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count();
    let mut pairs = found
        .split(|byte| *byte == b'\n')
        .zip(expected.split(|byte| *byte == b'\n'));
    let differ = pairs.find(|(found, expected)| found != expected);
    let shown = |line: &[u8]| line[..line.len().min(200)].escape_ascii().to_string();
    let (found_line, expected_line) = differ.map_or_else(
        || ("the end".to_owned(), "the end".to_owned()),
        |(found, expected)| (shown(found), shown(expected)),
    );
    Err(format!(
        "{} lines came out, {} went in; the first that differs is\n{found_line}\nnot\n{expected_line}",
        lines(found),
        lines(expected)
    ))
}
