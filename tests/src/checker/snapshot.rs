//! Reads of several registers at one instant: is there such an instant?
//!
//! The registers are linearizable one by one ([`super::check`]); a snapshot demands more: that all
//! the values it shows were there at the same time. A value was there from some moment after its
//! write began until some moment before the end of the first write that began after its own had
//! ended. If these spans have no instant in common, the snapshot is torn. This is a necessary
//! condition, not a sufficient one: spans are taken as wide as the history allows.

use super::history::{Action, Operation, Outcome, Value};

/// What a scan of one region showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The client; for messages only.
    pub client: u64,
    /// Every register in its range with what it held.
    pub reads: Vec<(String, Option<Value>)>,
    /// When it was asked for, in the nanoseconds of the history.
    pub begin: u64,
    /// When it was answered.
    pub end: u64,
}

/// Checks every snapshot against the history of the registers.
///
/// # Errors
/// A sentence about the first snapshot that is torn.
pub fn check_snapshots(history: &[Operation], snapshots: &[Snapshot]) -> Result<(), String> {
    snapshots.iter().try_for_each(|snapshot| {
        let (mut first, mut last) = (snapshot.begin, snapshot.end);
        for (key, value) in &snapshot.reads {
            let (from, upto) = span(history, key, value.as_ref());
            (first, last) = (first.max(from), last.min(upto));
        }
        match first <= last {
            true => Ok(()),
            false => Err(format!(
                "a scan of client {} from {} to {} is torn, its values were never there at the \
                 same time: {:?}",
                snapshot.client, snapshot.begin, snapshot.end, snapshot.reads
            )),
        }
    })
}

/// The longest time in which the register can have held the value.
fn span(history: &[Operation], key: &str, value: Option<&Value>) -> (u64, u64) {
    let of_key = || history.iter().filter(|operation| operation.key == key);
    let written_until = match value {
        None => match of_key().any(|operation| operation.action == Action::Delete) {
            true => return (0, u64::MAX),
            false => (0, 0),
        },
        Some(value) => {
            let Some(write) = of_key().find(|operation| writes(&operation.action) == Some(value))
            else {
                return (u64::MAX, 0);
            };
            match write.outcome {
                Outcome::Unknown => return (write.begin, u64::MAX),
                _ => (write.begin, write.end),
            }
        }
    };
    let overwritten = of_key()
        .filter(|operation| operation.begin > written_until.1 && took_effect(operation))
        .map(|operation| operation.end)
        .min();
    (written_until.0, overwritten.unwrap_or(u64::MAX))
}

fn writes(action: &Action) -> Option<&Value> {
    match action {
        Action::Put(new) | Action::CompareAndSwap { new, .. } => Some(new),
        Action::Get | Action::Delete => None,
    }
}

fn took_effect(operation: &Operation) -> bool {
    match (&operation.action, &operation.outcome) {
        (Action::Put(_) | Action::Delete, Outcome::Done) => true,
        (Action::CompareAndSwap { .. }, Outcome::Swapped { swapped, .. }) => *swapped,
        _ => false,
    }
}
