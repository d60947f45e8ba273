//! Checks recorded histories: `check FILE…`, one operation a line as `checker` describes them.
//!
//! It prints a line for each file and ends with 0 if all are linearizable, with 1 if one is not or
//! could not be decided, with 2 if one cannot be read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tinykv_tests::checker::{self, Checked};

/// Is there an order of the operations that explains what every client saw?
#[derive(Debug, Parser)]
struct Args {
    /// Histories, JSON lines
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let verdicts = Args::parse().files.iter().map(|path| check(path)).max();
    ExitCode::from(verdicts.unwrap_or(0))
}

/// Prints the verdict on one file, and returns the exit code for it.
fn check(path: &Path) -> u8 {
    let name = path.display();
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let history = match read.and_then(|text| checker::parse(&text)) {
        Ok(history) => history,
        Err(problem) => {
            println!("{name}: cannot be read: {problem}");
            return 2;
        }
    };
    match checker::check(&history) {
        Ok(Checked {
            keys,
            succeeded,
            unknown,
        }) => {
            println!(
                "{name}: linearizable: {keys} keys, {succeeded} operations answered, {unknown} of unknown fate"
            );
            0
        }
        Err(violation) => {
            println!("{name}: NOT accepted: {violation}");
            1
        }
    }
}
