//! Regions that look after themselves, in clusters of real processes on this machine, with figures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tinykv_tests::cluster::{role_binary, scenario};
use tinykv_tests::ledger;

/// Lets regions grow, move and sleep, and measures what clients notice.
#[derive(Debug, Parser)]
struct Args {
    /// Append the figures to the ledger
    #[arg(long, value_name = "FILE", global = true)]
    ledger: Option<PathBuf>,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Load records into one region of three stores, and wait until what came of it is even
    Growth {
        /// Records to write
        #[arg(long, default_value_t = 10_000_000)]
        records: u64,
        /// Records in a batch
        #[arg(long, default_value_t = 200)]
        batch: u64,
        /// Concurrent writers
        #[arg(long, default_value_t = 16)]
        writers: usize,
    },
    /// Under load a fourth store joins and one of the old is drained
    Drain {
        /// Records that lie in the stores
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        /// Concurrent workers, each writing and reading in turn
        #[arg(long, default_value_t = 8)]
        workers: usize,
    },
    /// Measure sleeping regions, wake some, and kill a store
    Idle {
        /// How many
        #[arg(long, default_value_t = 5_000)]
        regions: u64,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("FAILED: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), String> {
    let binary = role_binary()?;
    let (kind, figures) = match args.scenario {
        Scenario::Growth {
            records,
            batch,
            writers,
        } => {
            let report = scenario::growth(&binary, records, batch, writers).await?;
            ("regions_growth", serde_json::to_value(&report))
        }
        Scenario::Drain { records, workers } => {
            let report = scenario::drain(&binary, records, workers).await?;
            ("regions_drain", serde_json::to_value(&report))
        }
        Scenario::Idle { regions } => {
            let report = scenario::idle(&binary, regions).await?;
            ("regions_idle", serde_json::to_value(&report))
        }
    };
    let figures = figures.map_err(|error| error.to_string())?;
    println!("{kind}: {figures:#}");
    match &args.ledger {
        Some(path) => ledger::append(path, kind, &figures).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}
