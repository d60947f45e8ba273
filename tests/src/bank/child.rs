//! What the process of a mutant does: seeds, until one fails.

use std::io::{self, Write};

use tinykv_mutants::{Mutant, plant};

use crate::sim::{self, Profile};

/// A line from a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A seed was clean.
    Clean(u64),
    /// A seed was not, and why.
    Failed(u64, String),
}

impl Said {
    /// Reads a line as [`run`] writes it.
    pub fn parse(line: &str) -> Option<Said> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "clean" => Some(Said::Clean(rest.parse().ok()?)),
            "failed" => {
                let (seed, why) = rest.split_once(' ')?;
                Some(Said::Failed(seed.parse().ok()?, why.to_owned()))
            }
            _ => None,
        }
    }
}

/// Runs the seeds from 0 on, until one fails, and says so line by line.
///
/// # Errors
/// Nobody listens any more.
pub fn run(mutant: Option<Mutant>, seeds: u64) -> io::Result<()> {
    limit_memory();
    if let Some(mutant) = mutant {
        plant(mutant);
    }
    let mut out = io::stdout().lock();
    for seed in 0..seeds {
        match sim::run(seed, Profile::Quick, false).violation {
            None => writeln!(out, "clean {seed}")?,
            Some(violation) => {
                let violation = violation.replace('\n', " ");
                writeln!(out, "failed {seed} {violation}")?;
                return out.flush();
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// A mutant that eats memory dies before the machine does.
fn limit_memory() {
    const BYTES_MAX: u64 = 4 << 30;
    let limit = libc::rlimit {
        rlim_cur: BYTES_MAX,
        rlim_max: BYTES_MAX,
    };
    // SAFETY: `limit` is readable; the call changes nothing but this process.
    let code = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(code, 0, "the memory of this process cannot be limited");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        assert_eq!(Said::parse("clean 7"), Some(Said::Clean(7)));
        let failed = Said::Failed(3, "R1: two leaders".to_owned());
        assert_eq!(Said::parse("failed 3 R1: two leaders"), Some(failed));
        assert_eq!(Said::parse("thread panicked"), None);
    }
}
