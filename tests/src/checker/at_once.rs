//! Operations on several keys at one instant: is there such an instant?
//!
//! Keys are linearizable one by one; reads of one region by a scan, and puts of a batch within a
//! region, promise more: all of them happened at the same time. What is checked is necessary, not
//! sufficient.
//!
//! * A value was there from some moment after its write began until some moment before the end of
//!   the first write that began after its own had ended. The spans of all values that one scan
//!   shows of a region must have an instant in common.
//! * Who sees one value of a batch does not see, under another key of it, what was certainly there
//!   before the batch.

use std::collections::BTreeMap;

use super::history::{Action, Operation, Outcome, Value};

/// Checks all operations that say that they took effect together.
///
/// # Errors
/// A sentence about the first reads that are torn.
pub(super) fn check(history: &[Operation]) -> Result<(), String> {
    let writes = Writes::of(history);
    for reads in groups(history, |action| *action == Action::Get) {
        let torn = match writes.have_an_instant(&reads) {
            true => writes.half_a_batch(&reads),
            false => Some("its values were never there at the same time".to_owned()),
        };
        if let Some(why) = torn {
            let shown = reads.iter().map(|read| (&read.key, found(read)));
            return Err(format!(
                "a scan of client {} from {} to {} is torn, {why}: {:?}",
                reads[0].client,
                reads[0].begin,
                reads[0].end,
                shown.collect::<Vec<_>>()
            ));
        }
    }
    Ok(())
}

/// Operations of a kind that belong together.
fn groups(history: &[Operation], is: impl Fn(&Action) -> bool) -> Vec<Vec<&Operation>> {
    let mut groups: BTreeMap<(u64, u64), Vec<&Operation>> = BTreeMap::new();
    for operation in history.iter().filter(|it| is(&it.action)) {
        if let Some(number) = operation.at_once {
            let group = groups.entry((operation.client, number)).or_default();
            group.push(operation);
        }
    }
    groups.into_values().collect()
}

fn found(read: &Operation) -> Option<&Value> {
    match &read.outcome {
        Outcome::Found(found) => found.as_ref(),
        _ => None,
    }
}

/// All writes to registers.
struct Writes<'a> {
    /// Who wrote a value to a key.
    writers: BTreeMap<(&'a str, &'a str), &'a Operation>,
    /// Beginnings and ends of writes of a key that took effect.
    effective: BTreeMap<&'a str, Vec<(u64, u64)>>,
    /// The ends of deletions of a key; open ones may take effect at any time.
    deletions: BTreeMap<&'a str, Vec<u64>>,
    /// Keys and values of batches.
    batches: BTreeMap<(u64, u64), BTreeMap<&'a str, &'a Operation>>,
}

impl<'a> Writes<'a> {
    fn of(history: &'a [Operation]) -> Writes<'a> {
        let mut writes = Writes {
            writers: BTreeMap::new(),
            effective: BTreeMap::new(),
            deletions: BTreeMap::new(),
            batches: BTreeMap::new(),
        };
        for operation in history {
            let key = operation.key.as_str();
            match &operation.action {
                _ if operation.outcome == Outcome::DefinitelyNot => continue,
                Action::Put(new) | Action::CompareAndSwap { new, .. } => {
                    writes.writers.insert((key, new), operation);
                }
                Action::Delete => {
                    let end = match operation.outcome {
                        Outcome::Unknown => u64::MAX,
                        _ => operation.end,
                    };
                    writes.deletions.entry(key).or_default().push(end);
                }
                // Lists and counters show by their content alone what came before what.
                Action::Get | Action::Append(_) | Action::Increment(_) => continue,
            }
            if took_effect(operation) {
                let times = (operation.begin, operation.end);
                writes.effective.entry(key).or_default().push(times);
            }
        }
        for batch in groups(history, |action| matches!(action, Action::Put(_))) {
            let number = batch[0].at_once.unwrap_or_default();
            let keys = batch.iter().map(|put| (put.key.as_str(), *put));
            let id = (batch[0].client, number);
            writes.batches.insert(id, keys.collect());
        }
        writes
    }

    /// Whether all that was read can have been there at some instant of the reads.
    fn have_an_instant(&self, reads: &[&Operation]) -> bool {
        let (mut first, mut last) = (reads[0].begin, reads[0].end);
        for read in reads {
            let (from, upto) = self.span(&read.key, found(read));
            (first, last) = (first.max(from), last.min(upto));
        }
        first <= last
    }

    /// The longest time in which the key can have held the value.
    fn span(&self, key: &str, value: Option<&Value>) -> (u64, u64) {
        let (from, written_until) = match value {
            None if self.deletions.contains_key(key) => return (0, u64::MAX),
            None => (0, 0),
            Some(value) => match self.writers.get(&(key, value.as_str())) {
                // The check of the key itself knows whether somebody wrote it.
                None => return (0, u64::MAX),
                Some(write) if write.outcome == Outcome::Unknown => return (write.begin, u64::MAX),
                Some(write) => (write.begin, write.end),
            },
        };
        let later = self.effective.get(key).into_iter().flatten();
        let overwritten = later
            .filter(|(begin, _)| *begin > written_until)
            .map(|(_, end)| *end)
            .min();
        (from, overwritten.unwrap_or(u64::MAX))
    }

    /// A batch of which one value was read, and of another key what was there before.
    fn half_a_batch(&self, reads: &[&Operation]) -> Option<String> {
        reads.iter().find_map(|read| {
            let write = self
                .writers
                .get(&(read.key.as_str(), found(read)?.as_str()))?;
            let batch = self.batches.get(&(write.client, write.at_once?))?;
            let missing = reads.iter().find(|other| {
                let put = batch.get(other.key.as_str());
                put.is_some_and(|put| self.is_from_before(&other.key, found(other), put.begin))
            })?;
            let (one, other) = (&read.key, &missing.key);
            Some(format!(
                "it shows half a batch, {one} with it and {other} without"
            ))
        })
    }

    /// Whether what was read was certainly overwritten, or never there, once a write that began
    /// then had taken effect.
    fn is_from_before(&self, key: &str, value: Option<&Value>, begin: u64) -> bool {
        match value {
            None => {
                let mut deletions = self.deletions.get(key).into_iter().flatten();
                deletions.all(|end| *end < begin)
            }
            Some(value) => {
                let writer = self.writers.get(&(key, value.as_str()));
                writer.is_some_and(|write| took_effect(write) && write.end < begin)
            }
        }
    }
}

fn took_effect(operation: &Operation) -> bool {
    match (&operation.action, &operation.outcome) {
        (Action::Put(_) | Action::Delete, Outcome::Done) => true,
        (Action::CompareAndSwap { .. }, Outcome::Swapped { swapped, .. }) => *swapped,
        _ => false,
    }
}
