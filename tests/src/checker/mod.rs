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

mod history;
mod search;
mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use history::{Action, Operation, Outcome, Value, parse, print};
pub use snapshot::{Snapshot, check_snapshots};

/// Why a history was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// No order explains what was seen.
    NotLinearizable {
        /// The register.
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
        }
    }
}

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Registers.
    pub keys: usize,
    /// Operations whose effect or result a client was told.
    pub succeeded: usize,
    /// Operations whose fate was open.
    pub unknown: usize,
}

/// Configurations a search may visit per key before it is undecided.
pub const BUDGET: usize = 2_000_000;

/// Checks every key of a history, whose registers are empty at the beginning.
///
/// # Errors
/// The first key in order for which no order of operations was found.
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
        match search::search(&operations, BUDGET) {
            search::Verdict::Linearizable => {}
            search::Verdict::Undecided { visited } => {
                return Err(Violation::Undecided {
                    key: key.to_owned(),
                    visited,
                });
            }
            search::Verdict::Impossible => {
                return Err(Violation::NotLinearizable {
                    key: key.to_owned(),
                    operations: smallest_bad_prefix(&operations),
                });
            }
        }
    }
    Ok(checked)
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
        search::search(&prefix, BUDGET) == search::Verdict::Impossible
    };
    let first_bad = ends.partition_point(|end| !is_bad(end));
    ends.get(first_bad)
        .map_or_else(Vec::new, |end| prefix(*end))
}
