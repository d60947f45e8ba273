//! `tests/ledger.jsonl`: figures appended by the run that made them, never typed.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use serde::Serialize;

#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'a str,
    /// The commit this program is built from; with `+` if the tree it runs in is changed.
    commit: String,
    /// The arguments of the run.
    command: String,
    figures: &'a T,
}

/// Appends one line.
///
/// # Errors
/// The file cannot be written.
pub fn append<T: Serialize>(path: &Path, kind: &str, figures: &T) -> io::Result<()> {
    let mut arguments: Vec<String> = std::env::args().collect();
    if let Some(program) = arguments.first_mut() {
        *program = Path::new(program)
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    }
    let line = Line {
        kind,
        commit: commit(),
        command: arguments.join(" "),
        figures,
    };
    let mut text = serde_json::to_string(&line)?;
    text.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Appends a line to the ledger that the environment names (`TINYKV_LEDGER`, an absolute path), if it
/// names one: for tests whose long form makes figures.
///
/// # Errors
/// The file cannot be written.
pub fn append_if_asked<T: Serialize>(kind: &str, figures: &T) -> io::Result<()> {
    match std::env::var_os("TINYKV_LEDGER") {
        Some(path) => append(Path::new(&path), kind, figures),
        None => Ok(()),
    }
}

/// What this is built from. A test that takes this file in by its path does not know, but was built
/// just now, from what is checked out; a program may be older.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let commit = super::BUILT_FROM
        .map(str::to_owned)
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    let is_changed = changes.lines().any(|line| !line.ends_with("ledger.jsonl"));
    let mark = if is_changed { "+" } else { "" };
    format!("{commit}{mark}")
}
