//! The hunt for one mutant, from outside its process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use tinykv_mutants::Mutant;

use super::child::Said;

/// A seed takes a fraction of a second; one that takes so long hangs.
const SEED_TIME_MAX: Duration = Duration::from_secs(60);

/// How a hunt is done.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// What is planted; `None`: nothing.
    pub mutant: Option<Mutant>,
    /// Seeds to run at most, from 0 on.
    pub seeds: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Seeds run, with the one that failed.
    pub seeds: u64,
    /// The check that spoke up, by its id where it has one.
    pub check: String,
    /// All it said.
    pub violation: String,
}

impl Hunt {
    /// Runs the child at `program`, this program again; `None`: it survived all seeds.
    ///
    /// # Errors
    /// One sentence, if there is no telling.
    pub fn run(&self, program: &Path) -> Result<Option<Found>, String> {
        let name = self.mutant.map_or("none".to_owned(), |m| format!("{m:?}"));
        let mut child = Command::new(program)
            .args(["--child", &name, "--seeds", &self.seeds.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let said = listen(&mut child);
        let mut clean = 0;
        let failed = loop {
            match said.recv_timeout(SEED_TIME_MAX) {
                Ok(Said::Clean(_)) => clean += 1,
                Ok(Said::Failed(_, violation)) => break Some(violation),
                Err(RecvTimeoutError::Timeout) => {
                    break Some(format!("hang: no end within {SEED_TIME_MAX:?}"));
                }
                Err(RecvTimeoutError::Disconnected) => break None,
            }
        };
        let status = end(&mut child, failed.is_some()).map_err(|error| error.to_string())?;
        let failed = failed.or_else(|| (!status.success()).then(|| format!("death: {status}")));
        Ok(failed.map(|violation| Found {
            seeds: clean + 1,
            check: check_of(&violation),
            violation,
        }))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a child hangs can only be seen beside a thread that waits for its next line"
)]
fn listen(child: &mut Child) -> Receiver<Said> {
    let (tell, said) = mpsc::channel();
    let out = child.stdout.take().expect("it is piped");
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some(line) = Said::parse(&line)
                && tell.send(line).is_err()
            {
                break;
            }
        }
    });
    said
}

fn end(child: &mut Child, is_over: bool) -> std::io::Result<ExitStatus> {
    if is_over {
        child.kill()?;
    }
    child.wait()
}

/// The check that a violation begins with: an id of the contract, or a word.
fn check_of(violation: &str) -> String {
    let mut parts = violation.split(": ");
    let first = parts.next().unwrap_or_default();
    let is_id = |word: &str| {
        let mut chars = word.chars();
        chars.next().is_some_and(|c| c.is_ascii_uppercase())
            && word.len() > 1
            && chars.all(|c| c.is_ascii_digit())
    };
    if is_id(first) || first == "liveness" || first == "hang" || first == "death" {
        return first.to_owned();
    }
    match parts.find(|part| is_id(part)) {
        Some(id) if first == "assertion" => format!("{id} (assertion)"),
        Some(id) => id.to_owned(),
        None if first == "assertion" => first.to_owned(),
        None => "refused to start".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::check_of;

    #[test]
    fn a_check_is_named_by_its_id_if_it_has_one() {
        assert_eq!(check_of("R1: group 2 has leaders 3 and 4"), "R1");
        assert_eq!(
            check_of("assertion: D5: a crash looks like damage"),
            "D5 (assertion)"
        );
        assert_eq!(check_of("assertion: left == right"), "assertion");
        assert_eq!(
            check_of("liveness: 15s after everything was mended"),
            "liveness"
        );
        assert_eq!(
            check_of("store 1001: the log is unusable"),
            "refused to start"
        );
    }
}
