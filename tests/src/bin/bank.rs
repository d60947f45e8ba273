//! The bug bank: `bank` plants every mutant in turn and prints after how many seeds which check of
//! the simulator found it. It ends with 0 when all were found.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use tinykv_mutants::Mutant;
use tinykv_tests::bank::{self, Figures, Found, Hunt};
use tinykv_tests::ledger;

/// Plants mistakes in the production code, one at a time, for the simulator to find.
#[derive(Debug, Parser)]
struct Args {
    /// Only these mutants
    #[arg(long, value_name = "NAME", value_parser = mutant, value_delimiter = ',')]
    only: Vec<Mutant>,
    /// Seeds that each gets at most, from 0 on
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Mutants at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Append the figures to the ledger
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Print the names of all mutants
    #[arg(long)]
    list: bool,
    /// Do not run the seeds without a mutant first
    #[arg(long)]
    no_control: bool,
    /// Be the process of one mutant, or of none
    #[arg(long, hide = true)]
    child: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for mutant in Mutant::ALL {
            println!("{mutant:?}: {}", mutant.breaks());
        }
        return ExitCode::SUCCESS;
    }
    let done = match &args.child {
        Some(name) => run_child(name, args.seeds),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run_child(name: &str, seeds: u64) -> Result<(), String> {
    let planted = match name {
        "none" => None,
        name => Some(mutant(name)?),
    };
    bank::run_child(planted, seeds).map_err(|error| error.to_string())
}

fn run(args: &Args) -> Result<(), String> {
    if !args.no_control {
        let control = Hunt {
            mutant: None,
            seeds: args.seeds,
        };
        if let Some(found) = control.run(&program()?)? {
            let Found {
                seeds, violation, ..
            } = found;
            return Err(format!(
                "without any mutant {seeds} seeds end with: {violation}"
            ));
        }
    }
    let results = hunt_all(args)?;
    let figures = Figures::new(&results, args.seeds);
    print!("{}", bank::markdown(&results, args.seeds));
    println!("\n{} of {} found", figures.found, figures.mutants);
    if let Some(path) = &args.ledger {
        ledger::append(path, "bank", &figures).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    match figures.survived.is_empty() {
        true => Ok(()),
        false => Err(format!("survived: {}", figures.survived.join(", "))),
    }
}

/// Hunts for them in parallel; the results are in the order of the mutants.
fn hunt_all(args: &Args) -> Result<Vec<(Mutant, Option<Found>)>, String> {
    let program = program()?;
    let is_wanted = |mutant: &&Mutant| args.only.is_empty() || args.only.contains(mutant);
    let wanted: Vec<Mutant> = Mutant::ALL.iter().filter(is_wanted).copied().collect();
    let waiting = Mutex::new(wanted.clone().into_iter().rev().collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    let next = || waiting.lock().map_or(None, |mut waiting| waiting.pop());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while let Some(mutant) = next() {
                    let hunt = Hunt {
                        mutant: Some(mutant),
                        seeds: args.seeds,
                    };
                    let result = hunt.run(&program);
                    let seen = result.as_ref().map(|found| found.as_ref());
                    let seen = seen.map(|found| found.map(|it| (it.seeds, it.violation.as_str())));
                    eprintln!("{mutant:?}: {seen:?}");
                    if let Ok(mut results) = results.lock() {
                        results.push((mutant, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().map_err(|error| error.to_string())?;
    results.sort_by_key(|(mutant, _)| wanted.iter().position(|it| it == mutant));
    let each = results.into_iter();
    each.map(|(mutant, result)| Ok((mutant, result?))).collect()
}

fn program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program again: {error}"))
}

fn mutant(name: &str) -> Result<Mutant, String> {
    Mutant::named(name).ok_or_else(|| format!("there is no mutant {name}; --list names them"))
}
