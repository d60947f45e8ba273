//! Clients that people already have, unchanged, against clusters of real processes.
//!
//! What a machine lacks (redis-cli, a Python with the client) is skipped with a line that begins
//! with SKIPPED.

mod redis;
mod resp;
mod tikv_python;
mod tikv_rust;

use std::path::Path;
use std::time::Duration;

use tinykv_tests::cluster::operator::split;
use tinykv_tests::cluster::{Cluster, scenario};

/// Any of these tests is over by then, or has failed.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// How long splits may take before a test begins.
const SPLIT_LIMIT: Duration = Duration::from_secs(60);

/// Borders of regions within the keys that the tests use; with those of the bootstrap, far more
/// than eight regions.
const BORDERS: [&str; 8] = [
    "k020", "k040", "k060", "k080", "k100", "k120", "k140", "k160",
];

/// A cluster with a region from each border to the next.
fn cluster() -> Cluster {
    let planned = Cluster::new(binary(), 1, 3).expect("a plan");
    within_limit(async {
        let cluster = scenario::start(planned).await?;
        let done = split(&cluster.placements(), &BORDERS, SPLIT_LIMIT).await;
        done.map_err(|problem| format!("{problem}\n{}", cluster.logs()))?;
        Ok(cluster)
    })
}

fn within_limit<T>(work: impl Future<Output = Result<T, String>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(async { tokio::time::timeout(TIME_LIMIT, work).await });
    match result {
        Ok(Ok(value)) => value,
        Ok(Err(problem)) => panic!("{problem}"),
        Err(_) => panic!("not done within {TIME_LIMIT:?}"),
    }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_role"))
}

/// Says loudly that something was not tested.
fn skip(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
    eprintln!("SKIPPED: {what}: {why}");
}

/// The key with a number: numbers from 0 to 199 lie in nine regions.
fn key(number: u32) -> String {
    format!("k{number:03}")
}
