//! How far a long transfer is: a bar on standard error while that is a terminal, and the summary.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::output;

/// What a transfer has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    pub(crate) records: u64,
    /// Of keys and values.
    pub(crate) bytes: u64,
}

impl Moved {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    /// "63436 records, 61.2 MiB in 3.1 s (20463 a second)".
    pub(crate) fn sentence(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64();
        let rate = (self.records as f64 / seconds.max(0.001)) as u64;
        format!(
            "{}, {} in {seconds:.1} s ({rate} a second)",
            records(self.records),
            output::size(self.bytes)
        )
    }
}

/// "1 record", "2 records".
pub(crate) fn records(count: u64) -> String {
    match count {
        1 => "1 record".to_owned(),
        count => format!("{count} records"),
    }
}

/// The bar.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// With the bytes to go where they are known. Nothing is drawn unless standard error is a
    /// terminal.
    pub(crate) fn new(bytes_total: Option<u64>) -> Progress {
        let (bar, template) = match bytes_total {
            Some(total) => (
                ProgressBar::new(total),
                "{bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  \
                 {binary_bytes_per_sec}  {msg}  {eta} to go",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}  {elapsed}",
            ),
        };
        let style = ProgressStyle::with_template(template).expect("the templates are constant");
        Progress {
            bar: bar.with_style(style),
        }
    }

    /// So many more bytes of the file, so many records in all.
    pub(crate) fn advance(&self, bytes: u64, records: u64) {
        self.bar.inc(bytes);
        self.bar.set_message(self::records(records));
    }

    /// Takes the bar away; returns how long it took.
    pub(crate) fn finish(&self) -> Duration {
        let took = self.bar.elapsed();
        self.bar.finish_and_clear();
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bars_can_be_made() {
        for total in [None, Some(7)] {
            let progress = Progress::new(total);
            progress.advance(7, 1);
            progress.finish();
        }
    }

    #[test]
    fn a_summary_is_a_sentence() {
        let mut moved = Moved::default();
        moved.add(b"key", b"value");
        assert_eq!(
            moved.sentence(Duration::from_millis(500)),
            "1 record, 8 B in 0.5 s (2 a second)"
        );
    }
}
