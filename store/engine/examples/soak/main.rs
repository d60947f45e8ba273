//! Long runs of the standalone store on a real disk. Each prints its figures and appends them to
//! the ledger that `TINYKV_LEDGER` names; it fails when a figure is worse than promised.
//!
//! ```text
//! cargo run --release -p tinykv-engine --example soak -- steady --seconds 600
//! cargo run --release -p tinykv-engine --example soak -- reopen --mebibytes 1024
//! cargo run --release -p tinykv-engine --example soak -- volume --keys 20000000
//! ```
//!
//! `--dir` says below which directory the data goes (`.` by default); it is removed afterwards.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../tests/src/ledger.rs"]
pub mod ledger;
/// For the ledger: what is checked out.
pub const BUILT_FROM: Option<&str> = None;

mod arguments;
mod latency;
mod reopen;
mod steady;
mod volume;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use arguments::Arguments;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a run found.
struct Findings {
    figures: Value,
    /// Promises that were not kept, as sentences.
    broken: Vec<String>,
}

impl Findings {
    fn new(figures: Value) -> Findings {
        Findings {
            figures,
            broken: Vec::new(),
        }
    }

    fn expect(mut self, kept: bool, promise: &str) -> Findings {
        if !kept {
            self.broken.push(promise.to_owned());
        }
        self
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            for promise in broken {
                eprintln!("not kept: {promise}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<Vec<String>> {
    let arguments = Arguments::read()?;
    if arguments.what == "fill" {
        reopen::fill(Path::new(arguments.text("--dir", ".")), &arguments)?;
        return Ok(Vec::new());
    }
    let below = Path::new(arguments.text("--dir", "."));
    let dir = tempfile::Builder::new().prefix("soak-").tempdir_in(below)?;
    let findings = match arguments.what.as_str() {
        "steady" => steady::run(dir.path(), &arguments)?,
        "reopen" => reopen::run(dir.path(), &arguments)?,
        "volume" => volume::run(dir.path(), &arguments)?,
        other => return Err(format!("{other} is none of steady, reopen, volume").into()),
    };
    println!("{:#}", findings.figures);
    ledger::append_if_asked(&format!("soak_{}", arguments.what), &findings.figures)?;
    Ok(findings.broken)
}
