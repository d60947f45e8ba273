//! `kill -9` against clusters of real processes on this machine, with figures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tinykv_tests::cluster::scenario;
use tinykv_tests::ledger;

/// Kills real processes under load and checks that nothing acknowledged is lost.
#[derive(Debug, Parser)]
struct Args {
    /// Append the figures to the ledger
    #[arg(long, value_name = "FILE", global = true)]
    ledger: Option<PathBuf>,
    /// Concurrent writers
    #[arg(long, default_value_t = 16, global = true)]
    writers: usize,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Write records while stores are killed and started again in turn
    Rolling {
        /// Records to write
        #[arg(long, default_value_t = 100_000)]
        records: u64,
        /// Kills, each in the middle of its part of the records
        #[arg(long, default_value_t = 30)]
        kills: u64,
    },
    /// Kill the busiest leader store and time every region until it writes again
    Failover {
        /// Kills
        #[arg(long, default_value_t = 20)]
        rounds: u64,
    },
    /// Kill all processes in the same moment
    Power {
        /// Times
        #[arg(long, default_value_t = 20)]
        rounds: u64,
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
    // The processes are this program's neighbour, built by the same cargo call.
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let binary = here.with_file_name("role");
    if !binary.exists() {
        return Err(format!(
            "{} is not built: cargo build -p tinykv-tests",
            binary.display()
        ));
    }
    let note = |kind: &str, figures: &serde_json::Value| match &args.ledger {
        Some(path) => ledger::append(path, kind, figures).map_err(|error| error.to_string()),
        None => Ok(()),
    };
    let json = |error: serde_json::Error| error.to_string();
    match args.scenario {
        Scenario::Rolling { records, kills } => {
            let report = scenario::rolling(&binary, records, args.writers, kills).await?;
            println!("{report:?}");
            note(
                "kill9_rolling",
                &serde_json::to_value(&report).map_err(json)?,
            )
        }
        Scenario::Failover { rounds } => {
            let times = scenario::failover(&binary, rounds, args.writers).await?;
            print!("{times}");
            note(
                "kill9_failover",
                &serde_json::to_value(&times).map_err(json)?,
            )
        }
        Scenario::Power { rounds } => {
            let report = scenario::power(&binary, rounds, args.writers).await?;
            println!("{report:?}");
            note("kill9_power", &serde_json::to_value(&report).map_err(json)?)
        }
    }
}
