//! What operations on one key demand of its content, and what they make of it.
//!
//! Content is a number, so that the search remembers configurations cheaply. A register's values
//! are numbered. A counter's content is its number. A list's content is its length in bytes: lists
//! only grow, so all reads of a list show beginnings of the longest one, and an append that a read
//! has seen has its place.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Action, Operation, Outcome, Value};

/// What a key holds; `None`: nothing.
pub(super) type Content = Option<i64>;

/// What placing an operation demands of the content and makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It found this.
    Read(Content),
    /// It leaves this.
    Write(Content),
    /// A compare-and-swap that answered: what it found, and what it left.
    Swap { found: Content, left: Content },
    /// One that never answered: swaps or not, as the content decides.
    MaybeSwap { expected: Content, new: Content },
    /// An append or increment: where it begins, and how far it goes.
    Move { from: From, by: i64 },
}

/// Where an append or increment can begin. Nothing counts as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// There alone.
    Exactly(i64),
    /// There or beyond.
    AtLeast(i64),
}

/// An operation that has to find its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placeable {
    pub(super) step: Step,
    pub(super) begin: u64,
    /// [`OPEN`]: it may never take effect.
    pub(super) end: u64,
}

/// The end of an operation whose fate is unknown.
const OPEN: u64 = u64::MAX;

impl Step {
    pub(super) fn is_read(self) -> bool {
        matches!(self, Step::Read(_))
    }
}

impl Placeable {
    pub(super) fn is_open(&self) -> bool {
        self.end == OPEN
    }
}

/// The content after a step; `None`: it cannot be placed here.
pub(super) fn apply(step: Step, content: Content) -> Option<Content> {
    match step {
        Step::Read(found) => (found == content).then_some(content),
        Step::Write(new) => Some(new),
        Step::Swap { found, left } => (found == content).then_some(left),
        Step::MaybeSwap { expected, new } => Some(if content == expected { new } else { content }),
        Step::Move { from, by } => {
            let at = content.unwrap_or(0);
            let fits = match from {
                From::Exactly(from) => at == from,
                From::AtLeast(from) => at >= from,
            };
            let to = at.checked_add(by);
            to.filter(|_| fits).map(Some)
        }
    }
}

/// The operations of a key that have to find their place. `None`: something was seen that nothing
/// explains.
///
/// # Errors
/// What is wrong with the history itself.
pub(super) fn prepare(operations: &[&Operation]) -> Result<Option<Vec<Placeable>>, String> {
    let has = |is: fn(&Action) -> bool| operations.iter().any(|it| is(&it.action));
    let is_list = has(|action| matches!(action, Action::Append(_)));
    let is_counter = has(|action| matches!(action, Action::Increment(_)));
    let is_register = has(|action| {
        matches!(
            action,
            Action::Put(_) | Action::Delete | Action::CompareAndSwap { .. }
        )
    });
    match (is_register, is_list, is_counter) {
        (_, false, false) => Ok(register(operations)),
        (false, true, false) => list(operations),
        (false, false, true) => Ok(counter(operations)),
        _ => Err("it is used as more than one of register, list and counter".to_owned()),
    }
}

/// What is known of every operation: a step for those that matter.
fn place(
    operations: &[&Operation],
    mut step: impl FnMut(&Operation) -> Known,
) -> Option<Vec<Placeable>> {
    let mut items = Vec::new();
    for operation in operations {
        let Operation { begin, end, .. } = **operation;
        let (step, end) = match (&operation.action, &operation.outcome) {
            (_, Outcome::DefinitelyNot) | (Action::Get, Outcome::Unknown) => continue,
            (_, outcome) => match step(operation) {
                Known::Step(step) if *outcome == Outcome::Unknown => (step, OPEN),
                Known::Step(step) => (step, end),
                Known::Irrelevant => continue,
                Known::Impossible => return None,
            },
        };
        items.push(Placeable { step, begin, end });
    }
    Some(items)
}

/// What can be said about an operation.
enum Known {
    /// It has to find its place.
    Step(Step),
    /// If there is an order with it, there is one without.
    Irrelevant,
    /// An answer that nothing explains: of another kind than the question, or against itself.
    Impossible,
}

fn register(operations: &[&Operation]) -> Option<Vec<Placeable>> {
    let seen: BTreeSet<&Value> = operations.iter().flat_map(|it| seen(it)).collect();
    let written = operations.iter().filter_map(|it| written(&it.action));
    let numbers: BTreeMap<&Value, i64> = seen.iter().copied().chain(written).zip(0..).collect();
    let number = |value: &Option<Value>| value.as_ref().map(|value| numbers[value]);
    let write = |value: &Value| Some(numbers[value]);
    place(operations, |operation| {
        Known::Step(match (&operation.action, &operation.outcome) {
            // Nobody was told of it.
            (Action::Put(new) | Action::CompareAndSwap { new, .. }, Outcome::Unknown)
                if !seen.contains(new) =>
            {
                return Known::Irrelevant;
            }
            (Action::Get, Outcome::Found(found)) => Step::Read(number(found)),
            (Action::Put(new), Outcome::Done | Outcome::Unknown) => Step::Write(write(new)),
            (Action::Delete, Outcome::Done | Outcome::Unknown) => Step::Write(None),
            (Action::CompareAndSwap { expected, new }, Outcome::Swapped { swapped, previous }) => {
                if (previous == expected) != *swapped {
                    return Known::Impossible;
                }
                let found = number(previous);
                let left = if *swapped { write(new) } else { found };
                Step::Swap { found, left }
            }
            (Action::CompareAndSwap { expected, new }, Outcome::Unknown) => Step::MaybeSwap {
                expected: number(expected),
                new: write(new),
            },
            _ => return Known::Impossible,
        })
    })
}

/// The value an operation may have written.
fn written(action: &Action) -> Option<&Value> {
    match action {
        Action::Put(new) | Action::CompareAndSwap { new, .. } => Some(new),
        Action::Get | Action::Delete | Action::Append(_) | Action::Increment(_) => None,
    }
}

/// Values that somebody was told of, or that an open compare-and-swap may build on.
fn seen(operation: &Operation) -> impl Iterator<Item = &Value> {
    let told = match &operation.outcome {
        Outcome::Found(found) => found.as_ref(),
        Outcome::Swapped { previous, .. } => previous.as_ref(),
        _ => None,
    };
    let expected = match &operation.action {
        Action::CompareAndSwap { expected, .. } => expected.as_ref(),
        _ => None,
    };
    told.into_iter().chain(expected)
}

fn counter(operations: &[&Operation]) -> Option<Vec<Placeable>> {
    place(operations, |operation| {
        Known::Step(match (&operation.action, &operation.outcome) {
            (Action::Get, Outcome::Found(None)) => Step::Read(None),
            (Action::Get, Outcome::Found(Some(text))) => match text.parse() {
                Ok(number) => Step::Read(Some(number)),
                Err(_) => return Known::Impossible,
            },
            (Action::Increment(by), Outcome::Sum(sum)) => match sum.checked_sub(*by) {
                Some(from) => Step::Move {
                    from: From::Exactly(from),
                    by: *by,
                },
                None => return Known::Impossible,
            },
            (Action::Increment(by), Outcome::Unknown) => Step::Move {
                from: From::AtLeast(i64::MIN),
                by: *by,
            },
            _ => return Known::Impossible,
        })
    })
}

/// # Errors
/// An element that cannot be told from others.
fn list(operations: &[&Operation]) -> Result<Option<Vec<Placeable>>, String> {
    let elements = elements(operations)?;
    let longest = operations.iter().filter_map(|it| match &it.outcome {
        Outcome::Found(found) => found.as_deref(),
        _ => None,
    });
    let longest = longest.max_by_key(|text| text.len()).unwrap_or("");
    // Where each element of the longest list begins.
    let mut places: BTreeMap<&str, i64> = BTreeMap::new();
    let mut at = 0;
    for element in longest.split_inclusive(';') {
        if !elements.contains(element) || places.insert(element, at).is_some() {
            // Nobody appended it, or it was once and is there twice.
            return Ok(None);
        }
        at += element.len() as i64;
    }
    let step = |operation: &Operation| {
        Known::Step(match (&operation.action, &operation.outcome) {
            (Action::Get, Outcome::Found(None)) => Step::Read(None),
            (Action::Get, Outcome::Found(Some(text))) if longest.starts_with(text) => {
                Step::Read(Some(text.len() as i64))
            }
            (Action::Append(element), outcome) => {
                let by = element.len() as i64;
                let seen = places.get(element.as_str()).copied();
                let from = match (outcome, seen) {
                    (Outcome::Unknown, None) => From::AtLeast(longest.len() as i64),
                    (Outcome::Unknown, Some(place)) => From::Exactly(place),
                    (Outcome::Appended(length), seen) => {
                        let from = (*length as i64).saturating_sub(by);
                        let fits = match seen {
                            Some(place) => place == from,
                            None => from >= longest.len() as i64,
                        };
                        if !fits {
                            return Known::Impossible;
                        }
                        From::Exactly(from)
                    }
                    _ => return Known::Impossible,
                };
                Step::Move { from, by }
            }
            _ => return Known::Impossible,
        })
    };
    Ok(place(operations, step))
}

/// What was appended, refused appends not counted.
fn elements<'a>(operations: &[&'a Operation]) -> Result<BTreeSet<&'a str>, String> {
    let mut elements = BTreeSet::new();
    for operation in operations {
        let Action::Append(element) = &operation.action else {
            continue;
        };
        if element.find(';') != Some(element.len().wrapping_sub(1)) {
            return Err(format!(
                "the element {element:?} does not end with its only `;`"
            ));
        }
        if operation.outcome != Outcome::DefinitelyNot && !elements.insert(element.as_str()) {
            return Err(format!("the element {element:?} is appended twice"));
        }
    }
    Ok(elements)
}
