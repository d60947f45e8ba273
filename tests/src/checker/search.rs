//! The search for an order of the operations on one key.

use std::collections::HashSet;

use super::model::{Content, Placeable, apply};

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    Impossible,
    Undecided { visited: usize },
}

/// Is there an order in which all that ended took effect, and of the open ones some?
pub(super) fn search(items: Vec<Placeable>, budget: usize) -> Verdict {
    let mut items = items;
    items.sort_by_key(|item| (item.begin, item.end));
    let twins = twins(&items);
    Search {
        items,
        twins,
        visited: HashSet::new(),
        budget,
    }
    .run()
}

struct Search {
    /// By beginning.
    items: Vec<Placeable>,
    /// For each open operation the one before it that does the same, if there is one.
    twins: Vec<Option<usize>>,
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
                None => loop {
                    let Some(choice) = choices.pop() else {
                        return Verdict::Impossible;
                    };
                    set(&mut placed, choice.item, false);
                    content = choice.content;
                    next = choice.item + 1;
                    first_free = first_free.min(choice.item);
                    // A read that fits here fits here in every order: nothing else need be tried.
                    if !self.items[choice.item].step.is_read() {
                        break;
                    }
                },
            }
        }
    }

    fn only_open_left(&self, placed: &[u64], first_free: usize) -> bool {
        (first_free..self.items.len()).all(|item| bit(placed, item) || self.items[item].is_open())
    }

    /// The next operation from `from` on that may come first among those not placed: it began
    /// before any of them ended, and the content allows it. Of open ones that do the same, the one
    /// that began first stands for all.
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
            // Items are sorted by their beginning: whatever comes now began after this end.
            if begin > earliest_end {
                return None;
            }
            if bit(placed, item) {
                continue;
            }
            earliest_end = earliest_end.min(end);
            if item >= from
                && self.twins[item].is_none_or(|twin| bit(placed, twin))
                && let Some(left) = apply(step, content)
            {
                return Some((item, left));
            }
        }
        None
    }
}

fn twins(items: &[Placeable]) -> Vec<Option<usize>> {
    let twin = |(index, item): (usize, &Placeable)| {
        let is_same = |other: &Placeable| other.is_open() && other.step == item.step;
        match item.is_open() {
            true => items[..index].iter().rposition(is_same),
            false => None,
        }
    };
    items.iter().enumerate().map(twin).collect()
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
