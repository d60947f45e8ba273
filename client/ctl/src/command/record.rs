//! Records as text: the formats of `import` and `export`.
//!
//! Both write any bytes on one line and read back exactly what was written:
//!
//! * TSV: key, tab, value. Tab, newline, return and backslash stand as `\t`, `\n`, `\r` and `\\`;
//!   all other bytes stand as they are, text or not.
//! * JSON lines: an object with `key` and `value`; bytes that are not UTF-8 stand in base64 under
//!   `key_base64` or `value_base64`.
//!
//! Reading is strict: what no export would write is refused with what would be right, because a
//! guess about somebody's data cannot be taken back. Parsing is pure; lines are numbered from 1
//! by the one who reads them.

mod json;
mod tsv;

use std::path::Path;

use bytes::Bytes;
use tinykv_keys::{KEY_BYTES_MAX, VALUE_BYTES_MAX, check_key, check_value};

/// Bytes in a line at most: JSON may need six (`\u0001`) for one.
pub(crate) const LINE_BYTES_MAX: usize = 6 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 1024;

/// How records stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RecordFormat {
    /// A line each: key, tab, value; `\t`, `\n`, `\r` and `\\` inside them.
    Tsv,
    /// A JSON object each: key and value, or key_base64 and value_base64.
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
}

impl RecordFormat {
    /// As asked; else as the name of the file ends; else TSV.
    pub(crate) fn or_by_name(asked: Option<RecordFormat>, file: Option<&Path>) -> RecordFormat {
        let ending = file.and_then(Path::extension).and_then(|end| end.to_str());
        asked.unwrap_or(match ending {
            Some("jsonl" | "ndjson" | "json") => RecordFormat::Jsonl,
            _ => RecordFormat::Tsv,
        })
    }

    /// Reads a line, its end cut off, into a key and a value that can be stored.
    ///
    /// # Errors
    /// What is wrong and what would be right, to be printed behind the number of the line.
    pub(crate) fn parse(self, line: &[u8]) -> Result<(Bytes, Bytes), String> {
        let (key, value) = match self {
            RecordFormat::Tsv => tsv::parse(line)?,
            RecordFormat::Jsonl => json::parse(line)?,
        };
        check_key(&key).map_err(|error| error.to_string())?;
        check_value(&value).map_err(|error| error.to_string())?;
        Ok((Bytes::from(key), Bytes::from(value)))
    }

    /// Appends a record and the end of its line.
    pub(crate) fn write(self, line: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        match self {
            RecordFormat::Tsv => tsv::write(line, key, value),
            RecordFormat::Jsonl => json::write(line, key, value),
        }
        line.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
