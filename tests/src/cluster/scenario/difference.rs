//! One store holds what the others do not: `tinykv-ctl check` finds it, and names that store.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tinykv_engine::EngineOptions;
use tinykv_env::{Env, OsEnv};
use tinykv_lsm::WriteBatch;
use tinykv_node::identity::{DataDir, Role};
use tinykv_node::storage::Storage;
use tinykv_store::space::Space;
use tinykv_store::value::StoredValue;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::cluster::load::{Load, client};
use crate::cluster::{Cluster, Node};

use super::{wait, whole_cluster};

/// Writes that are acknowledged before anything is checked; they go on meanwhile.
const WRITES_MIN: u64 = 200;
/// How long that may take, and until all replicas tell what they hold.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two checks of a cluster in which a replica does not tell yet.
const PAUSE: Duration = Duration::from_millis(200);
/// The store that is made to differ.
const ODD: Node = Node::Store(2);

/// What `check` prints about a region, as far as is looked at here.
#[derive(Debug, Deserialize)]
struct Verdict {
    result: String,
    replicas: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    store_id: u64,
    is_different: bool,
}

/// What was found, with the exit codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DifferenceReport {
    /// Regions that were compared under writes.
    pub regions: usize,
    /// Exit code then, and once a store differed.
    pub codes: (Option<i32>, Option<i32>),
    /// Stores that were said to differ, region by region.
    pub odd: Vec<u64>,
    /// The store that does.
    pub planted_on: u64,
}

/// Checks a cluster under writes; then again after a pair was put straight into one store's engine.
///
/// # Errors
/// The cluster or the command line fails.
pub async fn difference(binary: &Path) -> Result<DifferenceReport, String> {
    let mut cluster = whole_cluster(binary).await?;
    let writing = client(&cluster.placements(), Duration::from_secs(10)).await?;
    let load = Load::start(&writing, 4, 50, false, 1);
    load.reaches(WRITES_MIN, LIMIT).await?;
    let (code, found) = check(&cluster).await?;
    load.stop().await;
    let mut report = DifferenceReport {
        regions: found.iter().filter(|it| it.result == "equal").count(),
        codes: (code, None),
        ..DifferenceReport::default()
    };
    cluster.kill(ODD).map_err(|error| error.to_string())?;
    plant(cluster.data_dir(ODD))?;
    cluster.start(ODD).map_err(|error| error.to_string())?;
    let whole = wait(&mut cluster).await?;
    let Node::Store(at) = ODD else {
        return Err("a store is to differ".to_owned());
    };
    let address = &cluster.stores()[at];
    let mut stores = whole.stores.iter().filter_map(|it| it.store.as_ref());
    let planted_on = stores.find(|store| store.address == *address);
    report.planted_on = planted_on.map_or(0, |store| store.id);
    let (code, found) = check(&cluster).await?;
    report.codes.1 = code;
    let replicas = found.iter().flat_map(|it| &it.replicas);
    let odd = replicas.filter(|it| it.is_different);
    report.odd = odd.map(|it| it.store_id).collect();
    Ok(report)
}

/// Runs `check` until every replica has told: after a start that may take a moment.
async fn check(cluster: &Cluster) -> Result<(Option<i32>, Vec<Verdict>), String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut command = Command::new(cluster.binary());
        command.args(["-u", &cluster.placements().join(","), "-o", "json", "check"]);
        let output = command.kill_on_drop(true).output().await;
        let Output {
            status,
            stdout,
            stderr,
        } = output.map_err(|error| error.to_string())?;
        let found: Result<Vec<Verdict>, _> = serde_json::from_slice(&stdout);
        let told = match found {
            Ok(found) if found.iter().all(|it| it.result != "unchecked") => {
                return Ok((status.code(), found));
            }
            Ok(found) => format!("{found:?}"),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let said = String::from_utf8_lossy(&stderr);
            return Err(format!("{told}\n{said}\n{}", cluster.logs()));
        }
        sleep(PAUSE).await;
    }
}

/// Puts a pair into the engine of a store that does not run, past the log.
fn plant(data_dir: &Path) -> Result<(), String> {
    let env: Arc<dyn Env> = OsEnv::shared();
    let dir = DataDir::open(env, data_dir, Role::Store).map_err(|error| error.to_string())?;
    let storage = Storage::open(&dir, EngineOptions::default());
    let storage = storage.map_err(|error| error.to_string())?;
    let mut batch = WriteBatch::new();
    batch.put(
        Space::Plain.engine_key(b"planted"),
        StoredValue::encode_plain(b"that nobody wrote"),
    );
    let written = storage.lsm().write(&batch);
    written.map_err(|error| error.to_string())?;
    storage.lsm().flush().map_err(|error| error.to_string())
}
