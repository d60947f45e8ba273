//! What became of the records of a batch, over its first sending and those that repeat what was
//! undetermined.

use std::collections::BTreeSet;

use bytes::Bytes;
use tinykv_client::BatchError;

use super::super::Failure;
use super::read::Batch;

/// Keys of a batch that are not known to be written. All others are.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// May be written, now or later, or not.
    pub(super) undetermined: BTreeSet<Bytes>,
    /// Not written, and will not be.
    pub(super) not_written: BTreeSet<Bytes>,
    /// Why something was refused; then nothing is sent again, and the import ends.
    pub(super) refused: Option<Failure>,
    /// Why something is undetermined, the last time it was.
    pub(super) doubt: Option<String>,
    /// Records sent again, each time counted.
    pub(super) resent: u64,
}

impl Fate {
    /// Takes in the answer to a sending: the first one of the whole batch, a later one of exactly
    /// what was undetermined.
    pub(super) fn on_answer(&mut self, answer: Result<(), BatchError>) {
        let doubted = std::mem::take(&mut self.undetermined);
        let Err(error) = answer else {
            return;
        };
        for part in error.failed {
            if part.error.is_undetermined() {
                self.doubt = Some(part.error.to_string());
                self.undetermined.extend(part.keys);
                continue;
            }
            for key in part.keys {
                // What is refused now may have been written by the sending before.
                if doubted.contains(&key) {
                    self.undetermined.insert(key);
                } else {
                    self.not_written.insert(key);
                }
            }
            self.refused.get_or_insert_with(|| part.error.into());
        }
    }

    /// What to send again, if that is allowed: of each undetermined key the last record.
    pub(super) fn to_repeat(&self, batch: &Batch) -> Vec<(Bytes, Bytes)> {
        if self.refused.is_some() {
            return Vec::new();
        }
        let doubted = batch
            .records
            .iter()
            .filter(|record| self.undetermined.contains(&record.key));
        doubted
            .map(|record| (record.key.clone(), record.value.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tinykv_client::{Doubt, Error, FailedPart, Reason, Story};

    use super::super::read::Record;
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::default();
        for (line, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
            batch.push(Record {
                line,
                key: Bytes::from(key),
                value: Bytes::from(line.to_string()),
                line_bytes: 4,
            });
        }
        batch
    }

    fn story() -> Box<Story> {
        Box::new(Story::new(Duration::ZERO, Duration::ZERO))
    }

    fn lost(keys: &[&'static str]) -> FailedPart {
        let doubt = Doubt::Told {
            message: "lost".to_owned(),
        };
        FailedPart {
            keys: keys.iter().map(|key| Bytes::from(*key)).collect(),
            error: Error::Undetermined {
                doubt,
                story: story(),
            },
        }
    }

    fn refused(keys: &[&'static str]) -> FailedPart {
        FailedPart {
            keys: keys.iter().map(|key| Bytes::from(*key)).collect(),
            error: Error::DefinitelyNot {
                reason: Reason::NoLeader,
                story: story(),
            },
        }
    }

    fn answer(failed: Vec<FailedPart>) -> Result<(), BatchError> {
        let applied = Vec::new();
        Err(BatchError { applied, failed })
    }

    #[test]
    fn only_what_is_undetermined_is_repeated_in_order() {
        let mut fate = Fate::default();
        fate.on_answer(answer(vec![lost(&["a", "c"])]));
        let repeated = fate.to_repeat(&batch());
        let expected = [("a", "1"), ("c", "3"), ("a", "4")];
        assert_eq!(
            repeated,
            expected.map(|(key, value)| (Bytes::from(key), Bytes::from(value)))
        );
        fate.on_answer(answer(vec![lost(&["c"])]));
        assert_eq!(fate.to_repeat(&batch()).len(), 1);
        fate.on_answer(Ok(()));
        assert!(fate.to_repeat(&batch()).is_empty());
        assert!(fate.undetermined.is_empty() && fate.not_written.is_empty());
    }

    #[test]
    fn what_is_refused_is_not_written_and_ends_it() {
        let mut fate = Fate::default();
        fate.on_answer(answer(vec![refused(&["b"]), lost(&["a"])]));
        assert_eq!(fate.not_written, BTreeSet::from([Bytes::from("b")]));
        assert_eq!(fate.undetermined, BTreeSet::from([Bytes::from("a")]));
        assert!(fate.to_repeat(&batch()).is_empty());
        assert_eq!(fate.refused.map(|failure| failure.exit_code()), Some(1));
    }

    #[test]
    fn what_was_undetermined_and_is_refused_then_stays_undetermined() {
        let mut fate = Fate::default();
        fate.on_answer(answer(vec![lost(&["a"])]));
        fate.on_answer(answer(vec![refused(&["a"])]));
        assert_eq!(fate.undetermined, BTreeSet::from([Bytes::from("a")]));
        assert!(fate.not_written.is_empty());
    }
}
