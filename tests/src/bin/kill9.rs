//! `kill -9` against clusters of real processes on this machine, with figures.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tinykv_tests::cluster::packages::Packages;
use tinykv_tests::cluster::{role_binary, scenario};
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
    /// Import this machine's Debian package index while stores die and regions split and move;
    /// export it and compare
    Packages {
        /// At most so many records
        #[arg(long)]
        records: Option<usize>,
    },
    /// Split regions, move them and hand them over under load of which no call may fail
    Moves {
        /// Seconds
        #[arg(long, default_value_t = 120)]
        seconds: u64,
    },
    /// Kill the leader of three placement members again and again
    Placement {
        /// Seconds
        #[arg(long, default_value_t = 120)]
        seconds: u64,
        /// Seconds from kill to kill
        #[arg(long, default_value_t = 10)]
        every: u64,
    },
}

/// After a leader of placement was killed, regions are split again within this time.
const SPLIT_LIMIT: Duration = Duration::from_secs(3);

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
        Scenario::Rolling { records, kills } => {
            let report = scenario::rolling(&binary, records, args.writers, kills).await?;
            ("kill9_rolling", serde_json::to_value(&report))
        }
        Scenario::Failover { rounds } => {
            let times = scenario::failover(&binary, rounds, args.writers).await?;
            print!("{times}");
            ("kill9_failover", serde_json::to_value(&times))
        }
        Scenario::Power { rounds } => {
            let report = scenario::power(&binary, rounds, args.writers).await?;
            ("kill9_power", serde_json::to_value(&report))
        }
        Scenario::Packages { records } => {
            let packages = Packages::of_this_machine(records.unwrap_or(usize::MAX))?;
            let report = scenario::packages(&binary, &packages).await?;
            ("kill9_packages", serde_json::to_value(&report))
        }
        Scenario::Moves { seconds } => {
            let time = Duration::from_secs(seconds);
            let report = scenario::moves(&binary, 1, time, args.writers).await?;
            ("kill9_moves", serde_json::to_value(&report))
        }
        Scenario::Placement { seconds, every } => {
            let (kills, pause) = (seconds / every.max(1), Duration::from_secs(every));
            let report =
                scenario::placement(&binary, kills, pause, SPLIT_LIMIT, args.writers).await?;
            ("kill9_placement", serde_json::to_value(&report))
        }
    };
    let figures = figures.map_err(|error| error.to_string())?;
    println!("{kind}: {figures:#}");
    match &args.ledger {
        Some(path) => ledger::append(path, kind, &figures).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}
