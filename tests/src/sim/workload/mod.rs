//! What clients want. There are two generators that share nothing but this page; the seed says
//! which one is at work.
//!
//! * [`mixed`]: every client throws dice for every operation, with weights of the seed.
//! * [`scripted`]: clients follow scripts through phases that all of them go through together.
//!
//! Keys are registers, lists and counters, and stay what they are; together they are a fixed set,
//! so that a scan has to show all of them and nothing else.

mod mixed;
mod scripted;

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_client::walk::Direction;
use tinykv_env::Prng;

use crate::checker::{Action, Operation, Outcome, Value};

use super::report::Report;

/// Something that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    One {
        key: String,
        action: Action,
    },
    /// The keys from the first on and below the second, both perhaps empty.
    Scan {
        from: String,
        upto: String,
        direction: Direction,
        limit: Option<u64>,
    },
    BatchGet(Vec<String>),
    /// Registers alone.
    BatchPut(Vec<(String, Value)>),
    /// The registers from the first key on and below the second.
    Remove {
        from: String,
        upto: String,
    },
}

impl Wanted {
    pub(super) fn get(key: &str) -> Wanted {
        Wanted::one(key, Action::Get)
    }

    pub(super) fn one(key: &str, action: Action) -> Wanted {
        Wanted::One {
            key: key.to_owned(),
            action,
        }
    }

    pub(super) fn scan_all() -> Wanted {
        Wanted::Scan {
            from: String::new(),
            upto: String::new(),
            direction: Direction::Forward,
            limit: None,
        }
    }
}

/// A generator.
pub(super) trait Workload {
    /// What a client does now.
    fn next(&mut self, client: usize, now: Duration) -> Wanted;

    /// How long it pauses before it does something else.
    fn pause(&mut self, client: usize, now: Duration) -> Duration;

    /// What it wanted has come to this.
    fn on_finished(&mut self, client: usize, operations: &[Operation], report: &mut Report);
}

/// Draws a generator.
pub(super) fn draw(keys: &Keys, clients: usize, random: &mut Prng) -> Box<dyn Workload> {
    match random.below(5) {
        0..3 => Box::new(mixed::Mixed::draw(keys.clone(), clients, random.fork())),
        _ => Box::new(scripted::Scripted::draw(
            keys.clone(),
            clients,
            random.fork(),
        )),
    }
}

/// All keys of a run.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) registers: Vec<String>,
    pub(super) lists: Vec<String>,
    pub(super) counters: Vec<String>,
}

/// Above all registers and below all lists.
const BEHIND_REGISTERS: &str = "l";

impl Keys {
    /// Between five and ten keys, or so many times as many.
    pub(super) fn draw(times: u64, random: &mut Prng) -> Keys {
        let mut some = |first: char, count: u64| -> Vec<String> {
            let count = random.between(count, count * 2) * times;
            (0..count).map(|it| format!("{first}{it:02}")).collect()
        };
        Keys {
            registers: some('k', 3),
            lists: some('l', 1),
            counters: some('m', 1),
        }
    }

    /// In order.
    pub(super) fn all(&self) -> Vec<String> {
        let Keys {
            registers,
            lists,
            counters,
        } = self;
        let mut all = [&registers[..], lists, counters].concat();
        all.sort();
        all
    }
}

/// A write to a key, of the kind that fits it; `tag` is used once in a run.
pub(super) fn write_to(key: &str, tag: String) -> Wanted {
    let action = match key.as_bytes().first() {
        Some(b'l') => Action::Append(tag + ";"),
        Some(b'm') => Action::Increment(1),
        _ => Action::Put(tag),
    };
    Wanted::one(key, action)
}

/// What a client last saw in each register: compare-and-swap builds on it.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, Option<Value>>);

impl Seen {
    fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key).cloned().flatten()
    }

    fn note(&mut self, operation: &Operation) {
        let seen = match (&operation.action, &operation.outcome) {
            (Action::Put(new), Outcome::Done)
            | (Action::CompareAndSwap { new, .. }, Outcome::Swapped { swapped: true, .. }) => {
                Some(new.clone())
            }
            (Action::Delete, Outcome::Done) => None,
            (_, Outcome::Found(found)) => found.clone(),
            (_, Outcome::Swapped { previous, .. }) => previous.clone(),
            _ => return,
        };
        self.0.insert(operation.key.clone(), seen);
    }
}

#[cfg(test)]
mod tests;
