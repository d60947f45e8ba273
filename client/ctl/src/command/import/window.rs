//! Which batches may be under way at the same time.
//!
//! The last record of a key wins, as if the records had been written one after the other. Within
//! a batch the client sees to it. Between batches this does: batches start in their order, and a
//! batch waits while any of its keys is under way in another. So of two writes to one key the
//! later is not sent before the fate of the earlier is told.
//!
//! At most `batches_max` are under way; with the limits of a batch this bounds memory.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::read::Batch;

/// The batches under way.
#[derive(Debug)]
pub(super) struct Window {
    /// How many batches may be under way; at least 1.
    batches_max: usize,
    /// How many are.
    batches: usize,
    /// Their keys: of no two batches the same.
    keys: BTreeSet<Bytes>,
}

impl Window {
    pub(super) fn new(batches_max: usize) -> Window {
        assert!(batches_max > 0, "a window for no batch");
        Window {
            batches_max,
            batches: 0,
            keys: BTreeSet::new(),
        }
    }

    /// Whether a batch may start now.
    pub(super) fn admits(&self, batch: &Batch) -> bool {
        self.batches < self.batches_max
            && !batch
                .records
                .iter()
                .any(|record| self.keys.contains(&record.key))
    }

    /// An admitted batch starts.
    pub(super) fn start(&mut self, batch: &Batch) {
        assert!(self.admits(batch), "a batch started that was not admitted");
        self.batches += 1;
        let keys = batch.records.iter().map(|record| record.key.clone());
        self.keys.extend(keys);
    }

    /// The fate of a started batch is told, as far as it can be.
    pub(super) fn finish(&mut self, batch: &Batch) {
        assert!(self.batches > 0, "a batch finished that was not started");
        self.batches -= 1;
        for record in &batch.records {
            // A key may stand in its batch more than once.
            self.keys.remove(&record.key);
        }
        assert!(
            self.batches > 0 || self.keys.is_empty(),
            "keys of finished batches are left"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::read::{Batch, Record};
    use super::*;

    fn batch(lines: &[(u64, u8)]) -> Batch {
        let mut batch = Batch::default();
        for (line, key) in lines {
            batch.push(Record {
                line: *line,
                key: Bytes::from(vec![*key]),
                value: Bytes::from(line.to_string()),
                line_bytes: 4,
            });
        }
        batch
    }

    fn apply(store: &mut BTreeMap<Bytes, Bytes>, batch: &Batch) {
        for record in &batch.records {
            store.insert(record.key.clone(), record.value.clone());
        }
    }

    #[test]
    fn a_key_under_way_holds_back_later_batches() {
        let mut window = Window::new(3);
        let (first, second, third) = (batch(&[(1, 7), (2, 7)]), batch(&[(3, 8)]), batch(&[(4, 7)]));
        window.start(&first);
        assert!(window.admits(&second));
        window.start(&second);
        assert!(!window.admits(&third));
        window.finish(&second);
        assert!(!window.admits(&third));
        window.finish(&first);
        assert!(window.admits(&third));
    }

    #[test]
    fn no_more_batches_than_allowed() {
        let mut window = Window::new(1);
        window.start(&batch(&[(1, 1)]));
        assert!(!window.admits(&batch(&[(2, 2)])));
        window.finish(&batch(&[(1, 1)]));
        assert!(window.admits(&batch(&[(2, 2)])));
    }

    proptest! {
        /// However the batches overtake one another, what stays is what one writer would have left.
        #[test]
        fn the_last_record_of_a_key_wins(
            batches in proptest::collection::vec(proptest::collection::vec(0u8..12, 1..6), 1..30),
            window_size in 1usize..6,
            choices in proptest::collection::vec(any::<usize>(), 64),
        ) {
            let mut line = 0;
            let batches: Vec<Batch> = batches
                .iter()
                .map(|keys| {
                    let lines: Vec<(u64, u8)> = keys
                        .iter()
                        .map(|key| {
                            line += 1;
                            (line, *key)
                        })
                        .collect();
                    batch(&lines)
                })
                .collect();
            let mut expected = BTreeMap::new();
            batches.iter().for_each(|batch| apply(&mut expected, batch));

            let mut store = BTreeMap::new();
            let mut window = Window::new(window_size);
            let mut under_way: Vec<&Batch> = Vec::new();
            let mut choices = choices.into_iter().cycle();
            let mut finish_one = |window: &mut Window, under_way: &mut Vec<&Batch>| {
                let choice = choices.next().expect("a cycle") % under_way.len();
                let batch = under_way.swap_remove(choice);
                apply(&mut store, batch);
                window.finish(batch);
            };
            for batch in &batches {
                while !window.admits(batch) {
                    finish_one(&mut window, &mut under_way);
                }
                window.start(batch);
                under_way.push(batch);
            }
            while !under_way.is_empty() {
                finish_one(&mut window, &mut under_way);
            }
            prop_assert_eq!(store, expected);
        }
    }
}
