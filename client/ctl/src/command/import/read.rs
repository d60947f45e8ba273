//! From lines to batches, on a thread of its own: reading may wait for a pipe, and writes under
//! way must not wait with it.
//!
//! A batch is closed when it is full, or early when all that has arrived is read and the writer
//! has nothing to do: a slow pipe is not held back, a fast one fills its batches.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use super::super::record::{LINE_BYTES_MAX, RecordFormat};

/// Records in a batch at most: what one request to a store may carry.
pub(super) const BATCH_RECORDS_MAX: usize = 512;

/// Bytes of keys and values after which a batch is full; the last record may go beyond.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// One record of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its line, from 1.
    pub(super) line: u64,
    /// Checked against the limits.
    pub(super) key: Bytes,
    /// Checked against the limits.
    pub(super) value: Bytes,
    /// Bytes of its line, the end included.
    pub(super) line_bytes: usize,
}

/// Records that are written together, in the order of their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// Bytes of keys and values.
    pub(super) bytes: usize,
    /// Bytes of the input.
    pub(super) input_bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.key.len() + record.value.len();
        self.input_bytes += record.line_bytes;
        self.records.push(record);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

/// Why the input ends before its end.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// A line that is no record.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong and what would be right.
        what: String,
    },
    /// The input cannot be read.
    #[error("line {line}: cannot be read: {error}")]
    Io {
        /// From 1.
        line: u64,
        /// Why.
        error: std::io::Error,
    },
}

/// Lines of an input, parsed.
struct Lines<R> {
    input: BufReader<R>,
    format: RecordFormat,
    /// Number of the last line read.
    line: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(input: R, format: RecordFormat) -> Lines<R> {
        Lines {
            input: BufReader::with_capacity(READ_BYTES, input),
            format,
            line: 0,
            buffer: Vec::new(),
        }
    }

    /// The next record; `None` at the end.
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        self.line += 1;
        let line = self.line;
        self.buffer.clear();
        let line_bytes = (&mut self.input)
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| ReadError::Io { line, error })?;
        if line_bytes == 0 {
            return Ok(None);
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if line_bytes > LINE_BYTES_MAX {
            let what = format!("more than {LINE_BYTES_MAX} bytes; no record is so long");
            return Err(ReadError::Line { line, what });
        }
        let (key, value) = self
            .format
            .parse(&self.buffer)
            .map_err(|what| ReadError::Line { line, what })?;
        Ok(Some(Record {
            line,
            key,
            value,
            line_bytes,
        }))
    }

    /// Whether the next record may have to be waited for.
    fn may_wait(&self) -> bool {
        self.input.buffer().is_empty()
    }
}

/// Starts reading. The channel holds one batch, so with the one being built and those under way
/// memory is bounded. After an error, or when the receiver is gone, nothing more is read.
pub(super) fn start(
    input: impl Read + Send + 'static,
    format: RecordFormat,
) -> std::io::Result<mpsc::Receiver<Result<Batch, ReadError>>> {
    let (sender, receiver) = mpsc::channel(1);
    // Nobody joins it: a read that waits for a terminal must not keep the process from ending.
    std::thread::Builder::new()
        .name("import-reader".to_owned())
        .spawn(move || read(Lines::new(input, format), &sender))?;
    Ok(receiver)
}

fn read<R: Read>(mut lines: Lines<R>, sender: &mpsc::Sender<Result<Batch, ReadError>>) {
    let mut batch = Batch::default();
    let end = loop {
        match lines.next() {
            Ok(Some(record)) => batch.push(record),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        let writer_is_idle = sender.capacity() == sender.max_capacity();
        if (batch.is_full() || (lines.may_wait() && writer_is_idle))
            && sender
                .blocking_send(Ok(std::mem::take(&mut batch)))
                .is_err()
        {
            return;
        }
    };
    // If the receiver is gone, it has said why already.
    if !batch.records.is_empty() {
        let _ = sender.blocking_send(Ok(batch));
    }
    if let Some(error) = end {
        let _ = sender.blocking_send(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn all(input: impl Into<Vec<u8>>) -> (Vec<Batch>, Option<String>) {
        let input = Cursor::new(input.into());
        let mut receiver = start(input, RecordFormat::Tsv).expect("a thread");
        let mut batches = Vec::new();
        while let Some(read) = receiver.blocking_recv() {
            match read {
                Ok(batch) => batches.push(batch),
                Err(error) => return (batches, Some(error.to_string())),
            }
        }
        (batches, None)
    }

    #[test]
    fn batches_are_bounded_and_in_order() {
        let input: String = (0..2_000).map(|n| format!("key {n}\tvalue\n")).collect();
        let (batches, error) = all(input.clone());
        assert_eq!(error, None);
        let lines: Vec<u64> = batches
            .iter()
            .flat_map(|batch| batch.records.iter().map(|record| record.line))
            .collect();
        assert_eq!(lines, (1..=2_000).collect::<Vec<u64>>());
        assert!(
            batches
                .iter()
                .all(|batch| batch.records.len() <= BATCH_RECORDS_MAX)
        );
        let bytes: usize = batches.iter().map(|batch| batch.input_bytes).sum();
        assert_eq!(bytes, input.len());
    }

    #[test]
    fn big_records_fill_a_batch() {
        let value = "v".repeat(BATCH_BYTES_MAX / 2);
        let input: String = (0..6).map(|n| format!("{n}\t{value}\n")).collect();
        let (batches, error) = all(input);
        assert_eq!(error, None);
        assert!(batches.iter().all(|batch| batch.records.len() <= 2));
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let (batches, error) = all("a\tb");
        assert_eq!(error, None);
        assert_eq!(batches[0].records[0].value, "b");
    }

    #[test]
    fn a_wrong_line_is_named_after_the_records_before_it() {
        let (batches, error) = all("a\tb\nc\td\nno tab\ne\tf\n");
        assert_eq!(
            error.as_deref(),
            Some(
                "line 3: no tab between key and value; write the key, a tab and the value on one \
                 line"
            )
        );
        let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
        assert_eq!(records, 2);
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut receiver = start(std::io::repeat(b'x'), RecordFormat::Tsv).expect("a thread");
        let error = receiver
            .blocking_recv()
            .expect("an answer")
            .expect_err("refused");
        assert!(
            error.to_string().starts_with("line 1: more than"),
            "{error}"
        );
    }
}
