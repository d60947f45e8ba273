//! `import`: records from a file or standard input, written in batches, several at once.
//!
//! The parts: a thread reads lines into batches ([`read`]), a window says which batches may be
//! under way together so that the last record of a key wins ([`window`]), and each batch's answers
//! are kept account of ([`fate`]). This file moves batches between them.
//!
//! A record that is refused ends the import: nothing more is read, what is under way is waited
//! for, and the records written, undetermined and not written are told. A record whose fate is
//! unknown does not end it. With `--resend` it is sent again, with its own value, while its key is
//! still kept from later batches; this is the only place where anything does so. Undetermined is
//! told of records, not of keys: a later record of the key may have been written since, but as
//! the earlier write may still arrive, nobody can promise that the later one stays.

mod fate;
mod read;
mod window;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use tinykv_client::RawClient;
use tokio::sync::mpsc;

use self::fate::Fate;
use self::read::{Batch, ReadError};
use self::window::Window;
use super::progress::{Moved, Progress, records};
use super::record::RecordFormat;
use super::{Failure, Global, data};
use crate::output::{self, Output};

/// How often what is undetermined is sent again before it is left so. Each sending may take the
/// time of a call.
const RESENDS_MAX: usize = 8;

/// Runs of undetermined lines that are told.
const RUNS_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
TSV: key, tab, value on a line; tab, newline, return and backslash inside them are written \\t \\n \
\\r \\\\.
JSON lines: {\"key\":\"a\",\"value\":\"b\"}; key_base64 and value_base64 for bytes that are no \
text.
Of several records of a key the last one stays. A wrong line ends the import; the records before \
it are written.")]
pub(crate) struct Import {
    /// File to read; standard input if left out or -
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the records are written [default: by the file's name (.jsonl), else tsv]
    #[arg(long, value_enum, value_name = "FORMAT")]
    records: Option<RecordFormat>,
    /// Batches written at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
    /// Send records again whose fate is unknown (a connection was lost before the answer). Without
    /// it they are counted and their lines told
    #[arg(long)]
    resend: bool,
}

impl Import {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let file = self.file.filter(|file| file.as_os_str() != "-");
        let format = RecordFormat::or_by_name(self.records, file.as_deref());
        let (input, bytes_total): (Box<dyn Read + Send>, Option<u64>) = match &file {
            None => (Box::new(std::io::stdin()), None),
            Some(path) => {
                let wrong = |error| Failure::Refused(format!("{}: {error}", path.display()));
                let file = File::open(path).map_err(wrong)?;
                let metadata = file.metadata().map_err(wrong)?;
                (Box::new(file), metadata.is_file().then_some(metadata.len()))
            }
        };
        let client = data::connect(global);
        let batches = read::start(input, format)
            .map_err(|error| Failure::Refused(format!("cannot start reading: {error}")))?;
        let mut import = Running {
            client,
            resend: self.resend,
            window: Window::new(usize::from(self.concurrency)),
            progress: Progress::new(bytes_total),
            account: Account::default(),
            end: None,
        };
        import.drive(batches).await;
        let took = import.progress.finish();
        import.account.print(global.output(), took);
        match import.end {
            Some(failure) => Err(failure),
            None => import.account.verdict(),
        }
    }
}

/// An import under way.
struct Running {
    client: RawClient,
    resend: bool,
    window: Window,
    progress: Progress,
    account: Account,
    /// Why no more is read.
    end: Option<Failure>,
}

impl Running {
    /// Reads and writes to the end of the input, or until something ends it; returns when nothing
    /// is under way any more.
    async fn drive(&mut self, mut batches: mpsc::Receiver<Result<Batch, ReadError>>) {
        let mut under_way = FuturesUnordered::new();
        let mut next: Option<Batch> = None;
        let mut more = true;
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            if self.end.is_some() {
                next = None;
                more = false;
            }
            if let Some(batch) = next.take() {
                if self.window.admits(&batch) {
                    self.window.start(&batch);
                    under_way.push(write(self.client.clone(), batch, self.resend));
                } else {
                    next = Some(batch);
                }
            }
            if !more && next.is_none() && under_way.is_empty() {
                return;
            }
            tokio::select! {
                Some((batch, fate)) = under_way.next() => {
                    self.window.finish(&batch);
                    self.on_written(&batch, fate);
                }
                read = batches.recv(), if more && next.is_none() => match read {
                    Some(Ok(batch)) => next = Some(batch),
                    Some(Err(error)) => self.end_with(Failure::Refused(error.to_string())),
                    None => more = false,
                },
                _ = &mut interrupt, if more => {
                    self.end_with(Failure::Refused("interrupted".to_owned()));
                }
            }
        }
    }

    fn on_written(&mut self, batch: &Batch, fate: Fate) {
        self.account.add(batch, &fate);
        self.progress
            .advance(batch.input_bytes as u64, self.account.written.records);
        if let Some(failure) = fate.refused {
            self.end_with(failure);
        }
    }

    /// The first reason is the one that is told.
    fn end_with(&mut self, failure: Failure) {
        self.end.get_or_insert(failure);
    }
}

/// Writes a batch, and again what of it is undetermined, if that is allowed.
async fn write(client: RawClient, batch: Batch, resend: bool) -> (Batch, Fate) {
    let mut fate = Fate::default();
    let pair = |record: &read::Record| (record.key.clone(), record.value.clone());
    let all: Vec<(Bytes, Bytes)> = batch.records.iter().map(pair).collect();
    fate.on_answer(client.batch_put(all).await);
    if resend {
        for _ in 0..RESENDS_MAX {
            let again = fate.to_repeat(&batch);
            if again.is_empty() {
                break;
            }
            fate.resent += again.len() as u64;
            fate.on_answer(client.batch_put(again).await);
        }
    }
    (batch, fate)
}

/// What became of all records so far.
#[derive(Debug, Default)]
struct Account {
    written: Moved,
    undetermined: u64,
    not_written: u64,
    /// Records sent again, each time counted.
    resent: u64,
    /// First and last line of runs of undetermined records; at most [`RUNS_MAX`].
    runs: Vec<(u64, u64)>,
    doubt: Option<String>,
}

/// The account as it is printed.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    written: Moved,
    undetermined: u64,
    not_written: u64,
    resent: u64,
    seconds: f64,
}

impl Account {
    fn add(&mut self, batch: &Batch, fate: &Fate) {
        for record in &batch.records {
            if fate.undetermined.contains(&record.key) {
                self.undetermined += 1;
                self.add_line(record.line);
            } else if fate.not_written.contains(&record.key) {
                self.not_written += 1;
            } else {
                self.written.add(&record.key, &record.value);
            }
        }
        self.resent += fate.resent;
        if self.doubt.is_none() {
            self.doubt.clone_from(&fate.doubt);
        }
    }

    fn add_line(&mut self, line: u64) {
        if let Some((_, last)) = self.runs.last_mut()
            && *last + 1 == line
        {
            *last = line;
        } else if self.runs.len() < RUNS_MAX {
            self.runs.push((line, line));
        }
    }

    /// Exit code 2 when an answer got lost.
    fn verdict(&self) -> Result<(), Failure> {
        if self.undetermined == 0 {
            return Ok(());
        }
        Err(Failure::Unreachable(format!(
            "the fate of {} is unknown; import the same file again, or use --resend at once\n{}",
            self.undetermined_lines(),
            self.doubt.as_deref().unwrap_or("no answer came")
        )))
    }

    /// "1025 records (lines 1-1024, 2000)".
    fn undetermined_lines(&self) -> String {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        let told: u64 = runs.iter().map(|(first, last)| last - first + 1).sum();
        let run = |(first, last): &(u64, u64)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let lines: Vec<String> = runs.iter().map(run).collect();
        let others = match self.undetermined - told {
            0 => String::new(),
            others => format!(" and {others} others"),
        };
        let word = if self.undetermined == 1 {
            "line"
        } else {
            "lines"
        };
        format!(
            "{} ({word} {}{others})",
            records(self.undetermined),
            lines.join(", ")
        )
    }

    fn print(&self, output: Output, took: Duration) {
        if output == Output::Json {
            output::json(&Summary {
                written: self.written,
                undetermined: self.undetermined,
                not_written: self.not_written,
                resent: self.resent,
                seconds: took.as_secs_f64(),
            });
            return;
        }
        output::line(&format!(
            "imported {}, {} undetermined",
            self.written.sentence(took),
            self.undetermined
        ));
        if self.resent > 0 {
            output::line(&format!("sent again: {}", records(self.resent)));
        }
        if self.not_written > 0 {
            output::line(&format!("refused: {}", records(self.not_written)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read::Record;
    use super::*;

    #[test]
    fn the_account_names_lines_in_runs() {
        let mut batch = Batch::default();
        let mut fate = Fate::default();
        for line in 1..=60 {
            let key = Bytes::from(line.to_string());
            if line <= 4 || line % 2 == 0 {
                fate.undetermined.insert(key.clone());
            }
            batch.push(Record {
                line,
                key,
                value: Bytes::from_static(b"v"),
                line_bytes: 5,
            });
        }
        let mut account = Account::default();
        account.add(&batch, &fate);
        assert_eq!(account.undetermined, 32);
        assert_eq!(account.written.records, 28);
        let told = account.undetermined_lines();
        assert!(told.starts_with("32 records (lines 1-4, 6, 8, "), "{told}");
        assert!(told.ends_with(" 42 and 9 others)"), "{told}");
        assert_eq!(account.verdict().expect_err("lost").exit_code(), 2);
    }
}
