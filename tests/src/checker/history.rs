//! What clients saw: operations on single keys, with the times at which they began and ended.
//!
//! A key is a register, a list or a counter, by what is done to it; reads are the same for all. On
//! disk a history is one operation a line, in JSON:
//!
//! ```text
//! {"client":1,"key":"r1","action":{"put":"a"},"outcome":"done","begin":10,"end":20}
//! {"client":1,"key":"r1","action":"get","outcome":{"found":"a"},"begin":30,"end":40}
//! {"client":2,"key":"l1","action":{"append":"x;"},"outcome":{"appended":2},"begin":10,"end":20}
//! {"client":2,"key":"c1","action":{"increment":3},"outcome":{"sum":3},"begin":10,"end":20}
//! {"client":3,"key":"r1","action":"delete","outcome":"unknown","begin":50,"end":60}
//! ```

use serde::{Deserialize, Serialize};

/// A value as a history knows it. Writers use each value once, so that a read names its write.
pub type Value = String;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Reads what is there.
    Get,
    /// Writes the register.
    Put(Value),
    /// Empties the register.
    Delete,
    /// Writes `new` if the register holds `expected`.
    CompareAndSwap {
        /// What it must hold; `None`: nothing.
        expected: Option<Value>,
        /// What it holds then.
        new: Value,
    },
    /// Adds an element to the end of a list. It ends with `;`, which stands nowhere else in it, and
    /// is added once in a history, so that a read shows which appends it has seen.
    Append(Value),
    /// Adds to a counter; a missing one counts as 0.
    Increment(i64),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A put or delete took effect.
    Done,
    /// A read (or what a compare-and-swap found before it decided).
    Found(Option<Value>),
    /// A compare-and-swap and whether it swapped, with what it found.
    Swapped {
        /// Whether `new` was written.
        swapped: bool,
        /// What the register held before.
        previous: Option<Value>,
    },
    /// An append, and how many bytes the list had then.
    Appended(u64),
    /// An increment, and what the counter held then.
    Sum(i64),
    /// Certainly without effect, now and later.
    DefinitelyNot,
    /// Nobody knows; it may take effect at any time after its beginning, or never.
    Unknown,
}

/// One operation of one client on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The client; for messages only.
    pub client: u64,
    /// The register, list or counter.
    pub key: String,
    /// What was asked.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began, in nanoseconds of one clock for the whole history.
    pub begin: u64,
    /// When its answer was known. Meaningless for [`Outcome::Unknown`].
    pub end: u64,
    /// Operations of one client with the same number took effect at one instant: the reads of one
    /// region by a scan, the puts of a batch within a region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u64>,
}

impl Operation {
    /// Whether a client was told that this operation took effect or what it read.
    pub fn succeeded(&self) -> bool {
        !matches!(self.outcome, Outcome::DefinitelyNot | Outcome::Unknown)
    }
}

/// Reads a history of JSON lines, one operation each.
///
/// # Errors
/// The first line that is not an operation, by its number.
pub fn parse(text: &str) -> Result<Vec<Operation>, String> {
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(line)
        .collect()
}

/// Writes a history as [`parse`] reads it.
pub fn print(history: &[Operation]) -> String {
    let mut text = String::new();
    for operation in history {
        text += &serde_json::to_string(operation).expect("an operation is plain data");
        text.push('\n');
    }
    text
}
