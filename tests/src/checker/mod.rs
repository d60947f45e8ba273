//! Is there an order of the operations that explains what every client saw?
//!
//! Linearizability (Herlihy and Wing 1990), checked key by key because the property is local. The
//! search is that of Wing and Gong (1993) with Lowe's memory of visited configurations (2017): a
//! configuration is the set of operations already placed and the register's content after them.
//!
//! * An operation whose outcome is unknown stays open: it may be placed anywhere after its
//!   beginning, or never. An open write whose value nobody ever saw is left out: if an order with
//!   it exists, one without it does.
//! * An operation that was refused for certain must not be seen: it is left out, and a read of
//!   its value fails the check.
//! * A search that exceeds its budget is **undecided**, and undecided counts as failed.
//! * Operations that say they took effect together must have had an instant for it (`at_once`).
//!
//! A key is a register, a list or a counter, by what is done to it (`model`); mixing is an error.

mod at_once;
mod history;
mod model;
mod search;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use history::{Action, Operation, Outcome, Value, parse, print};

/// Why a history was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// No order explains what was seen.
    NotLinearizable {
        /// The register, list or counter.
        key: String,
        /// The operations of the smallest prefix found that no order explains, by their end.
        operations: Vec<Operation>,
    },
    /// The search was given up.
    Undecided {
        /// The register.
        key: String,
        /// Configurations visited.
        visited: usize,
    },
    /// Each key for itself may be in order, but not what happened to several at one instant.
    Torn(String),
    /// It cannot be checked as it is.
    Malformed {
        /// Where.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NotLinearizable { key, operations } => {
                writeln!(
                    f,
                    "key {key} is not linearizable; the last operations of it:"
                )?;
                for operation in operations.iter().rev().take(20).rev() {
                    let Operation {
                        client,
                        action,
                        outcome,
                        begin,
                        end,
                        ..
                    } = operation;
                    writeln!(
                        f,
                        "  [{begin} .. {end}] client {client}: {action:?} -> {outcome:?}"
                    )?;
                }
                Ok(())
            }
            Violation::Undecided { key, visited } => {
                write!(f, "key {key}: undecided after {visited} configurations")
            }
            Violation::Torn(what) => f.write_str(what),
            Violation::Malformed { key, problem } => write!(f, "key {key}: {problem}"),
        }
    }
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Registers, lists and counters.
    pub keys: usize,
    /// Operations whose effect or result a client was told.
    pub succeeded: usize,
    /// Operations whose fate was open.
    pub unknown: usize,
}

/// Configurations a search may visit per key before it is undecided.
pub const BUDGET: usize = 2_000_000;

/// Checks a history whose keys are empty at the beginning: every key, and then what happened to
/// several at once.
///
/// # Errors
/// The first key in order for which no order of operations was found, or the first reads that are
/// torn.
pub fn check(history: &[Operation]) -> Result<Checked, Violation> {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    let mut checked = Checked::default();
    for operation in history {
        checked.succeeded += usize::from(operation.succeeded());
        checked.unknown += usize::from(operation.outcome == Outcome::Unknown);
        by_key.entry(&operation.key).or_default().push(operation);
    }
    checked.keys = by_key.len();
    for (key, operations) in by_key {
        let key = key.to_owned();
        match verdict(&operations) {
            Ok(search::Verdict::Linearizable) => {}
            Ok(search::Verdict::Undecided { visited }) => {
                return Err(Violation::Undecided { key, visited });
            }
            Ok(search::Verdict::Impossible) => {
                let operations = smallest_bad_prefix(&operations);
                return Err(Violation::NotLinearizable { key, operations });
            }
            Err(problem) => return Err(Violation::Malformed { key, problem }),
        }
    }
    at_once::check(history).map_err(Violation::Torn)?;
    Ok(checked)
}

/// Whether there is an order for the operations on one key.
fn verdict(operations: &[&Operation]) -> Result<search::Verdict, String> {
    Ok(match model::prepare(operations)? {
        Some(items) => search::search(items, BUDGET),
        None => search::Verdict::Impossible,
    })
}

/// Cuts the history at the earliest answer after which it is already impossible: what happened
/// last there is what went wrong.
fn smallest_bad_prefix(operations: &[&Operation]) -> Vec<Operation> {
    let mut ends: Vec<u64> = operations
        .iter()
        .filter(|o| o.succeeded())
        .map(|operation| operation.end)
        .collect();
    ends.sort_unstable();
    let prefix = |end: u64| -> Vec<Operation> {
        let mut prefix: Vec<Operation> = operations
            .iter()
            .filter(|operation| operation.begin <= end)
            .map(
                |operation| match operation.succeeded() && operation.end > end {
                    true => Operation {
                        outcome: Outcome::Unknown,
                        ..(*operation).clone()
                    },
                    false => (*operation).clone(),
                },
            )
            .collect();
        prefix.sort_by_key(|operation| (operation.end, operation.begin));
        prefix
    };
    let is_bad = |end: &u64| {
        let prefix = prefix(*end);
        let prefix: Vec<&Operation> = prefix.iter().collect();
        verdict(&prefix) == Ok(search::Verdict::Impossible)
    };
    let first_bad = ends.partition_point(|end| !is_bad(end));
    ends.get(first_bad)
        .map_or_else(Vec::new, |end| prefix(*end))
}
