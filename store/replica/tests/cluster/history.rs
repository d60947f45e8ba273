//! What clients asked and heard, and whether that can be the truth.
//!
//! A list that only grows makes linearizability easy to check: there is one final order per key,
//! everything seen must be a prefix of it, and prefixes seen later (in real time) are not shorter.

use std::collections::BTreeMap;

/// One operation of a client.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) key: String,
    /// The appended number; `None` for a read.
    pub(crate) append: Option<u32>,
    pub(crate) invoked: u64,
    /// When it ended and how.
    pub(crate) ended: Option<(u64, Ending)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The whole list, after the append or as read.
    Saw(Vec<u32>),
    DefinitelyNot,
    Undetermined,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    clock: u64,
}

impl History {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn invoke(&mut self, key: &str, append: Option<u32>) -> usize {
        let invoked = self.now();
        let key = key.to_owned();
        self.operations.push(Operation {
            key,
            append,
            invoked,
            ended: None,
        });
        self.operations.len() - 1
    }

    pub(crate) fn end(&mut self, operation: usize, ending: Ending) {
        let at = self.now();
        let operation = &mut self.operations[operation];
        assert!(operation.ended.is_none(), "{operation:?} ended twice");
        operation.ended = Some((at, ending));
    }

    /// Checks all against the final lists.
    pub(crate) fn check(&self, finals: &BTreeMap<String, Vec<u32>>) -> Result<(), String> {
        let invoked: BTreeMap<u32, u64> = self
            .operations
            .iter()
            .filter_map(|op| Some((op.append?, op.invoked)))
            .collect();
        for (key, list) in finals {
            let mut sorted = list.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.len() != list.len() {
                return Err(format!("{key}: a number was appended twice in {list:?}"));
            }
        }
        for operation in &self.operations {
            let list = &finals[&operation.key];
            check_alone(operation, list, &invoked)?;
        }
        for (key, list) in finals {
            self.check_order(key, list)?;
        }
        Ok(())
    }

    /// Real time: nothing sees less than what was known when it began.
    fn check_order(&self, key: &str, list: &[u32]) -> Result<(), String> {
        let mut moments: Vec<(u64, bool, &Operation)> = Vec::new();
        for operation in self
            .operations
            .iter()
            .filter(|operation| operation.key == key)
        {
            moments.push((operation.invoked, false, operation));
            if let Some((at, Ending::Saw(_))) = &operation.ended {
                moments.push((*at, true, operation));
            }
        }
        moments.sort_by_key(|moment| moment.0);
        let mut known = 0;
        let mut floor: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, is_end, operation) in moments {
            if !is_end {
                floor.insert(operation.invoked, known);
                continue;
            }
            let Some((_, Ending::Saw(seen))) = &operation.ended else {
                continue;
            };
            let needed = floor[&operation.invoked] + usize::from(operation.append.is_some());
            if seen.len() < needed {
                return Err(format!(
                    "{key}: {operation:?} saw {} of {needed} known numbers of {list:?}",
                    seen.len()
                ));
            }
            known = known.max(seen.len());
        }
        Ok(())
    }
}

fn check_alone(
    operation: &Operation,
    list: &[u32],
    invoked: &BTreeMap<u32, u64>,
) -> Result<(), String> {
    let Some((at, ending)) = &operation.ended else {
        return Ok(());
    };
    match ending {
        Ending::Saw(seen) => {
            if !list.starts_with(seen) {
                return Err(format!(
                    "{operation:?} saw what is no beginning of {list:?}"
                ));
            }
            if operation.append.is_some() && seen.last() != operation.append.as_ref() {
                return Err(format!("{operation:?} is not the last of its own answer"));
            }
            if let Some(early) = seen.iter().find(|number| invoked[*number] > *at) {
                return Err(format!("{operation:?} saw {early} before it was asked for"));
            }
        }
        Ending::DefinitelyNot => {
            if let Some(number) = operation.append.filter(|number| list.contains(number)) {
                return Err(format!(
                    "{number} was refused but stands in {list:?}: {operation:?}"
                ));
            }
        }
        Ending::Undetermined => {}
    }
    Ok(())
}
