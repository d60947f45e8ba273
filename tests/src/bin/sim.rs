//! Runs the simulator: `sim --seed N` replays one seed, `sim --seeds A..B` a batch.
//!
//! It ends with 0 when every seed is clean, every probe that must be hit was hit, and the batch
//! did real work; with 1 otherwise, printing the command that replays the failure.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tinykv_tests::ledger;
use tinykv_tests::sim::{self, Profile, Report};

/// Whole clusters in virtual time: production code under faults drawn from a seed.
#[derive(Debug, Parser)]
struct Args {
    /// Replay one seed
    #[arg(long, conflicts_with = "seeds", required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A up to and without B
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// How much work a seed is
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Run each seed twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Write the trace of a seed to a file
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<PathBuf>,
    /// Append the figures to the ledger
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seeds = match (args.seed, &args.seeds) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => seeds.clone(),
        (None, None) => 0..0,
    };
    match run(&args, seeds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, seeds: Range<u64>) -> Result<(), String> {
    let begin = cpu_time();
    let mut total = Report::default();
    for seed in seeds.clone() {
        let outcome = sim::run(seed, args.profile, args.trace.is_some());
        if let (Some(path), Some(trace)) = (&args.trace, &outcome.trace) {
            std::fs::write(path, trace).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let replay = format!(
            "cargo run --release -p tinykv-tests --bin sim -- --seed {seed} --profile {}",
            args.profile.name()
        );
        if let Some(violation) = outcome.violation {
            println!("{}", outcome.report);
            return Err(format!("seed {seed} FAILED: {violation}\nreplay: {replay}"));
        }
        if args.twice {
            let again = sim::run(seed, args.profile, false);
            if again.report != outcome.report {
                return Err(format!(
                    "seed {seed} gave two traces: not deterministic\n{replay}"
                ));
            }
        }
        total.add(&outcome.report);
        if seeds.end - seeds.start > 1 && (seed + 1 - seeds.start).is_multiple_of(100) {
            println!("{} seeds clean", seed + 1 - seeds.start);
            // A progress line that cannot be written is no reason to stop.
            let _ = std::io::stdout().flush();
        }
    }
    let cpu = cpu_time().saturating_sub(begin);
    println!("{total}");
    let runs = total.seeds.max(1) as f64 * if args.twice { 2.0 } else { 1.0 };
    println!(
        "{:.1} CPU seconds: {:.3} a seed, {:.0} simulated seconds per CPU second",
        cpu.as_secs_f64(),
        cpu.as_secs_f64() / runs,
        total.simulated.as_secs_f64() * runs / total.seeds.max(1) as f64 / cpu.as_secs_f64()
    );
    if seeds.end - seeds.start >= sim::BATCH_MIN {
        sim::judge_batch(&total)?;
    }
    if let Some(path) = &args.ledger {
        ledger::append(path, "sim", &total).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || "give A..B, like 0..1000".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let parse = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let range = parse(from)?..parse(to)?;
    if range.is_empty() {
        Err(wrong())
    } else {
        Ok(range)
    }
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable and the clock exists on every supported Linux.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(code, 0, "the CPU clock cannot be read");
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
