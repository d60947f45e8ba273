//! Real processes under one nemesis after the other, with figures.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tinykv_tests::chaos::{self, End, Nemesis, Options, Report};
use tinykv_tests::cluster::role_binary;
use tinykv_tests::ledger;

/// Strikes a cluster of three placement members and five stores, in network namespaces of their
/// own, while clients work, and checks what the clients saw. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// What strikes: a name, several, or `all`
    #[arg(long, value_delimiter = ',', value_parser = which, required = true)]
    nemesis: Vec<Vec<Nemesis>>,
    /// How long it strikes, in all
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Everything that is drawn is drawn from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Append the figures to the ledger
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Keep histories and logs here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// After the last strike every region must take a write within this time.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

/// A nemesis that the machine does not allow.
#[derive(Serialize)]
struct Skipped {
    nemesis: String,
    skipped: String,
}

fn which(name: &str) -> Result<Vec<Nemesis>, String> {
    match name {
        "all" => Ok(Nemesis::value_variants().to_vec()),
        name => Nemesis::from_str(name, false)
            .map(|nemesis| vec![nemesis])
            .map_err(|_| {
                let known: Vec<String> = Nemesis::value_variants()
                    .iter()
                    .map(|known| known.name())
                    .collect();
                format!("give `all` or one of {}", known.join(", "))
            }),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(problem) => {
            println!("FAILED: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let binary = role_binary()?;
    let options = Options {
        nemeses: args.nemesis.concat(),
        time: Duration::from_secs(args.seconds),
        seed: args.seed,
        keep: args.keep.clone(),
        recovery_limit: RECOVERY_LIMIT,
        patience: Duration::MAX,
        limit: Duration::from_secs(10 * args.seconds + 3_600),
    };
    let survived = |report: &Report| {
        println!("{report}");
        record(args, report)
    };
    match chaos::run(&binary, &options, survived)? {
        End::Interrupted => {
            println!("interrupted; nothing is left behind");
            Ok(ExitCode::FAILURE)
        }
        End::Skipped(reason) => {
            println!("SKIPPED: {reason}");
            Ok(ExitCode::SUCCESS)
        }
        End::Done(reports, skipped) => {
            for (nemesis, reason) in &skipped {
                println!("SKIPPED: {}: {reason}", nemesis.name());
                let skipped = Skipped {
                    nemesis: nemesis.name(),
                    skipped: reason.clone(),
                };
                record(args, &skipped)?;
            }
            println!(
                "{} nemeses survived in {} s, {} skipped; {} operations succeeded",
                reports.len(),
                reports.iter().map(|report| report.seconds).sum::<u64>(),
                skipped.len(),
                reports.iter().map(|report| report.succeeded).sum::<u64>()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn record(args: &Args, figures: &impl Serialize) -> Result<(), String> {
    match &args.ledger {
        Some(path) => ledger::append(path, "chaos", figures).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}
