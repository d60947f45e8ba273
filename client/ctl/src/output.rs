//! Tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// What `-o` can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns.
    Table,
    /// snake_case; lists are arrays of objects with `id` first.
    Json,
}

impl Output {
    /// As asked; else a table on a terminal and JSON in a pipe.
    pub(crate) fn or_by_terminal(asked: Option<Output>) -> Output {
        asked.unwrap_or(match std::io::stdout().is_terminal() {
            true => Output::Table,
            false => Output::Json,
        })
    }
}

/// Prints a list as a table or as JSON.
pub(crate) fn list<T: Serialize>(
    output: Output,
    items: &[T],
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) {
    match output {
        Output::Json => json(&items),
        Output::Table => {
            let mut table = Table::new();
            table
                .load_style(presets::NOTHING)
                .set_content_arrangement(ContentArrangement::Disabled)
                .set_header(header.iter().map(|title| title.to_uppercase()));
            for item in items {
                table.add_row(row(item));
            }
            line(&table.trim_fmt());
        }
    }
}

/// Prints a value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => line(&format!("{{\"error\": \"{error}\"}}")),
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) {
    bytes(text.as_bytes());
}

/// Prints bytes and a line feed. A reader that went away (`| head`) ends the process quietly.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout
        .write_all(bytes)
        .and_then(|()| stdout.write_all(b"\n"))
        .is_err()
    {
        std::process::exit(0);
    }
}

/// "12.3 MiB".
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(96 << 20), "96.0 MiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
