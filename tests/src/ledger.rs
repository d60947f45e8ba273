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

/// Not the commit that is checked out: a program may be older.
fn commit() -> String {
    let status = Command::new("git")
        .args(["status", "--porcelain", "--untracked-files=no"])
        .output();
    let changes = status.map_or_else(|_| Vec::new(), |output| output.stdout);
    let changes = String::from_utf8_lossy(&changes);
    let is_changed = changes.lines().any(|line| !line.ends_with("ledger.jsonl"));
    let mark = if is_changed { "+" } else { "" };
    format!("{}{mark}", tinykv_node::settings::COMMIT)
}
