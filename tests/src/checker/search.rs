//! The search for an order of the operations on one register.

use std::collections::{BTreeMap, HashSet};

use super::history::{Action, Operation, Outcome, Value};

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    Impossible,
    Undecided { visited: usize },
}

/// The content of the register: an interned value, or nothing.
type Content = Option<u32>;

/// What placing an operation demands of the content and makes of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read(Content),
    Write(Content),
    /// A compare-and-swap that answered: what it found, and what it left.
    Swap {
        found: Content,
        left: Content,
    },
    /// One that never answered: swaps or not, as the content decides.
    MaybeSwap {
        expected: Content,
        new: Content,
    },
}

#[derive(Clone, Copy, Debug)]
struct Placeable {
    step: Step,
    begin: u64,
    /// `u64::MAX`: open.
    end: u64,
}

pub(super) fn search(operations: &[&Operation], budget: usize) -> Verdict {
    let Some(mut items) = prepare(operations) else {
        return Verdict::Impossible;
    };
    items.sort_by_key(|item| (item.begin, item.end));
    Search {
        items,
        visited: HashSet::new(),
        budget,
    }
    .run()
}

struct Search {
    /// By beginning.
    items: Vec<Placeable>,
    visited: HashSet<(Vec<u64>, Content)>,
    budget: usize,
}

/// One decision of the depth-first search: what was placed, and the content before it.
struct Choice {
    item: usize,
    content: Content,
}

impl Search {
    fn run(mut self) -> Verdict {
        let mut placed = vec![0u64; self.items.len().div_ceil(64)];
        let mut content: Content = None;
        let mut choices: Vec<Choice> = Vec::new();
        let mut first_free = 0;
        let mut next = 0;
        loop {
            while first_free < self.items.len() && bit(&placed, first_free) {
                first_free += 1;
            }
            if self.only_open_left(&placed, first_free) {
                return Verdict::Linearizable;
            }
            match self.candidate(&placed, first_free.max(next), first_free, content) {
                Some((item, left)) => {
                    set(&mut placed, item, true);
                    if self.visited.insert((placed.clone(), left)) {
                        choices.push(Choice { item, content });
                        content = left;
                        next = 0;
                    } else {
                        set(&mut placed, item, false);
                        next = item + 1;
                    }
                    if self.visited.len() > self.budget {
                        return Verdict::Undecided {
                            visited: self.visited.len(),
                        };
                    }
                }
                None => {
                    let Some(choice) = choices.pop() else {
                        return Verdict::Impossible;
                    };
                    set(&mut placed, choice.item, false);
                    content = choice.content;
                    next = choice.item + 1;
                    first_free = first_free.min(choice.item);
                }
            }
        }
    }

    fn only_open_left(&self, placed: &[u64], first_free: usize) -> bool {
        (first_free..self.items.len())
            .all(|item| bit(placed, item) || self.items[item].end == u64::MAX)
    }

    /// The next operation from `from` on that may come first among those not placed: it began
    /// before any of them ended, and the content allows it.
    fn candidate(
        &self,
        placed: &[u64],
        from: usize,
        first_free: usize,
        content: Content,
    ) -> Option<(usize, Content)> {
        let mut earliest_end = u64::MAX;
        for item in first_free..self.items.len() {
            let Placeable { begin, end, step } = self.items[item];
            if begin > earliest_end {
                return None;
            }
            if bit(placed, item) {
                continue;
            }
            earliest_end = earliest_end.min(end);
            if item >= from
                && let Some(left) = apply(step, content)
                && self.began_before_all_ends(placed, item, first_free)
            {
                return Some((item, left));
            }
        }
        None
    }

    /// Items are sorted by their beginning, so an unplaced one behind `item` cannot have ended
    /// before `item` began.
    fn began_before_all_ends(&self, placed: &[u64], item: usize, first_free: usize) -> bool {
        (first_free..item)
            .all(|other| bit(placed, other) || self.items[other].end >= self.items[item].begin)
    }
}

fn apply(step: Step, content: Content) -> Option<Content> {
    match step {
        Step::Read(found) => (found == content).then_some(content),
        Step::Write(new) => Some(new),
        Step::Swap { found, left } => (found == content).then_some(left),
        Step::MaybeSwap { expected, new } => Some(if content == expected { new } else { content }),
    }
}

/// Interns values, drops what need not be placed. `None`: a value was seen that nobody wrote.
fn prepare(operations: &[&Operation]) -> Option<Vec<Placeable>> {
    let mut names: BTreeMap<Value, u32> = BTreeMap::new();
    let mut intern = |value: &Option<Value>| -> Content {
        let value = value.as_ref()?;
        let fresh = names.len() as u32;
        Some(*names.entry(value.clone()).or_insert(fresh))
    };
    let mut items = Vec::new();
    for operation in operations {
        let end = operation.end;
        let (step, end) = match (&operation.action, &operation.outcome) {
            (_, Outcome::DefinitelyNot) | (Action::Get, Outcome::Unknown) => continue,
            (Action::Put(_), Outcome::Unknown)
            | (Action::CompareAndSwap { .. }, Outcome::Unknown)
                if !is_seen(operations, operation) =>
            {
                continue;
            }
            (Action::Get, Outcome::Found(found)) => (Step::Read(intern(found)), end),
            (Action::Put(new), Outcome::Done) => (Step::Write(intern(&Some(new.clone()))), end),
            (Action::Put(new), Outcome::Unknown) => {
                (Step::Write(intern(&Some(new.clone()))), u64::MAX)
            }
            (Action::Delete, Outcome::Done) => (Step::Write(None), end),
            (Action::Delete, Outcome::Unknown) => (Step::Write(None), u64::MAX),
            (Action::CompareAndSwap { expected, new }, Outcome::Swapped { swapped, previous }) => {
                if (previous == expected) != *swapped {
                    return None;
                }
                let found = intern(previous);
                let left = if *swapped {
                    intern(&Some(new.clone()))
                } else {
                    found
                };
                (Step::Swap { found, left }, end)
            }
            (Action::CompareAndSwap { expected, new }, Outcome::Unknown) => {
                let (expected, new) = (intern(expected), intern(&Some(new.clone())));
                (Step::MaybeSwap { expected, new }, u64::MAX)
            }
            // An answer of another kind than the question: nothing explains it.
            _ => return None,
        };
        items.push(Placeable {
            step,
            begin: operation.begin,
            end,
        });
    }
    Some(items)
}

/// Whether anybody was told of the value that an open operation would have written, or an open
/// compare-and-swap may build on it.
fn is_seen(operations: &[&Operation], open: &Operation) -> bool {
    let value = match &open.action {
        Action::Put(new) | Action::CompareAndSwap { new, .. } => new,
        Action::Get | Action::Delete => return true,
    };
    operations.iter().any(|operation| {
        let found = match &operation.outcome {
            Outcome::Found(found) => found.as_ref(),
            Outcome::Swapped { previous, .. } => previous.as_ref(),
            Outcome::Unknown => match &operation.action {
                Action::CompareAndSwap { expected, .. } => expected.as_ref(),
                _ => None,
            },
            Outcome::Done | Outcome::DefinitelyNot => None,
        };
        found == Some(value)
    })
}

fn bit(set: &[u64], index: usize) -> bool {
    set[index / 64] >> (index % 64) & 1 == 1
}

fn set(set: &mut [u64], index: usize, value: bool) {
    if value {
        set[index / 64] |= 1 << (index % 64);
    } else {
        set[index / 64] &= !(1 << (index % 64));
    }
}
