//! Runs the simulator: `sim --seed N` replays one seed, `sim --seeds A..B` a batch.
//!
//! `sim --seed N --minimize` finds out what a failing seed needs to fail.
//!
//! It ends with 0 when every seed is clean, every probe that must be hit was hit, and the batch
//! did real work; with 1 otherwise, printing the command that replays the failure.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tinykv_tests::ledger;
use tinykv_tests::sim::{self, Profile, Report, Setup};

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
    /// Leave out a kind of fault (may be given several times)
    #[arg(long, value_name = "KIND", value_parser = kind)]
    without: Vec<&'static str>,
    /// Let only the first faults happen
    #[arg(long, value_name = "N")]
    faults: Option<u64>,
    /// Have at most so many clients
    #[arg(long, value_name = "N")]
    clients: Option<u64>,
    /// Let the faults last so many milliseconds
    #[arg(long, value_name = "MS")]
    phase_ms: Option<u64>,
    /// Make a failing seed smaller: what it does not need to fail is taken from it
    #[arg(long, requires = "seed")]
    minimize: bool,
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
    let outcome = match (args.minimize, args.seed) {
        (true, Some(seed)) => minimize(&args.setup(), seed),
        _ => run(&args, seeds),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn setup(&self) -> Setup {
        Setup {
            profile: self.profile,
            without: self.without.iter().copied().collect::<BTreeSet<_>>(),
            faults: self.faults,
            clients: self.clients,
            phase_ms: self.phase_ms,
        }
    }
}

/// The command that runs a seed again.
fn replay(seed: u64, setup: &Setup) -> String {
    let arguments = setup.arguments();
    format!("cargo run --release -p tinykv-tests --bin sim -- --seed {seed} {arguments}")
}

fn minimize(setup: &Setup, seed: u64) -> Result<(), String> {
    // A panic is one way to fail; hundreds of them are not worth reading.
    std::panic::set_hook(Box::new(|_| {}));
    let mut progress = |arguments: &str| println!("still fails: {arguments}");
    let smallest = sim::minimize(seed, setup, &mut progress)
        .ok_or_else(|| format!("seed {seed} does not fail, so there is nothing to minimize"))?;
    println!(
        "seed {seed} after {} runs: {}\nreplay: {}",
        smallest.runs,
        smallest.violation,
        replay(seed, &smallest.setup)
    );
    Ok(())
}

fn run(args: &Args, seeds: Range<u64>) -> Result<(), String> {
    let begin = cpu_time();
    let setup = args.setup();
    let mut total = Report::default();
    for seed in seeds.clone() {
        let outcome = sim::run_with(seed, &setup, args.trace.is_some());
        if let (Some(path), Some(trace)) = (&args.trace, &outcome.trace) {
            std::fs::write(path, trace).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(violation) = outcome.violation {
            let replay = replay(seed, &setup);
            println!("{}", outcome.report);
            return Err(format!(
                "seed {seed} FAILED: {violation}\nreplay: {replay}\nminimize: {replay} --minimize"
            ));
        }
        if args.twice {
            let again = sim::run_with(seed, &setup, false);
            if again.report != outcome.report {
                let replay = replay(seed, &setup);
                return Err(format!(
                    "seed {seed} gave two traces: not deterministic\n{replay} --twice"
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
    print_figures(args, &seeds, &total, cpu_time().saturating_sub(begin));
    // A batch with something taken from it need not meet everything.
    if seeds.end - seeds.start >= sim::BATCH_MIN && setup == Setup::new(setup.profile) {
        sim::judge_batch(&total, setup.profile)?;
    }
    if let Some(path) = &args.ledger {
        ledger::append(path, "sim", &total).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn print_figures(args: &Args, seeds: &Range<u64>, total: &Report, cpu: Duration) {
    if total.seeds == 1 {
        println!("seed {}", seeds.start);
    }
    println!("{total}");
    let runs = total.seeds.max(1) as f64 * if args.twice { 2.0 } else { 1.0 };
    let simulated = total.simulated.as_secs_f64();
    println!(
        "{:.1} CPU seconds: {:.3} a seed, {:.0} simulated seconds per CPU second, {:.0} operations \
         per simulated second",
        cpu.as_secs_f64(),
        cpu.as_secs_f64() / runs,
        simulated * runs / total.seeds.max(1) as f64 / cpu.as_secs_f64(),
        total.operations as f64 / simulated.max(1.0)
    );
}

fn kind(text: &str) -> Result<&'static str, String> {
    Setup::kinds().find(|kind| *kind == text).ok_or_else(|| {
        let kinds: Vec<&str> = Setup::kinds().collect();
        format!("it is none of {}", kinds.join(", "))
    })
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
