//! Dice: each client draws each operation anew, with weights that the seed has drawn.

use std::time::Duration;

use tinykv_client::walk::Direction;
use tinykv_env::Prng;

use crate::checker::{Action, Operation};

use super::super::report::Report;
use super::{BEHIND_REGISTERS, Keys, Seen, Wanted, Workload};

/// Kinds of operations, and how often each is drawn at most.
const KINDS: [(Kind, u64); 10] = [
    (Kind::Get, 8),
    (Kind::Put, 6),
    (Kind::Delete, 2),
    (Kind::Swap, 4),
    (Kind::Append, 4),
    (Kind::Increment, 4),
    (Kind::Scan, 3),
    (Kind::BatchGet, 2),
    (Kind::BatchPut, 2),
    (Kind::Remove, 1),
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Get,
    Put,
    Delete,
    Swap,
    Append,
    Increment,
    Scan,
    BatchGet,
    BatchPut,
    Remove,
}

/// The generator.
pub(super) struct Mixed {
    keys: Keys,
    all: Vec<String>,
    /// Each kind as often as its weight.
    lots: Vec<Kind>,
    /// Longest pause between two operations, in milliseconds.
    pause_ms_max: u64,
    random: Prng,
    seen: Vec<Seen>,
    tags: u64,
}

impl Mixed {
    pub(super) fn draw(keys: Keys, clients: usize, random: Prng) -> Mixed {
        let mut random = random;
        let mut lots = vec![Kind::Get, Kind::Put];
        for (kind, most) in KINDS {
            let weight = random.between(0, most);
            lots.extend((0..weight).map(|_| kind));
        }
        Mixed {
            all: keys.all(),
            keys,
            lots,
            pause_ms_max: random.between(6, 18),
            random,
            seen: (0..clients).map(|_| Seen::default()).collect(),
            tags: 0,
        }
    }

    fn tag(&mut self, client: usize) -> String {
        self.tags += 1;
        format!("c{client}-{}", self.tags)
    }

    fn pick(&mut self, from: fn(&Mixed) -> &[String]) -> String {
        let some = from(self);
        let index = self.random.below(some.len() as u64) as usize;
        from(self)[index].clone()
    }

    /// Some of the registers or of all keys, in any order.
    fn some(&mut self, from: fn(&Mixed) -> &[String]) -> Vec<String> {
        let count = self.random.between(2, 4);
        (0..count).map(|_| self.pick(from)).collect()
    }

    fn scan(&mut self) -> Wanted {
        // A bound, or none.
        let one = self.pick(|this| &this.all);
        let other = self.pick(|this| &this.all);
        let (from, upto) = (one.clone().min(other.clone()), one.max(other));
        let or_none = |bound: String, random: &mut Prng| match random.chance(3) {
            true => String::new(),
            false => bound,
        };
        Wanted::Scan {
            from: or_none(from, &mut self.random),
            upto: or_none(upto, &mut self.random),
            direction: match self.random.chance(3) {
                true => Direction::Reverse,
                false => Direction::Forward,
            },
            limit: self.random.chance(4).then(|| self.random.between(1, 4)),
        }
    }
}

impl Workload for Mixed {
    fn next(&mut self, client: usize, _now: Duration) -> Wanted {
        let lot = self.random.below(self.lots.len() as u64) as usize;
        let register = self.pick(|this| &this.keys.registers);
        match self.lots[lot] {
            Kind::Get => Wanted::get(&self.pick(|this| &this.all)),
            Kind::Put => Wanted::one(&register, Action::Put(self.tag(client))),
            Kind::Delete => Wanted::one(&register, Action::Delete),
            Kind::Swap => {
                let expected = self.seen[client].get(&register);
                let new = self.tag(client);
                Wanted::one(&register, Action::CompareAndSwap { expected, new })
            }
            Kind::Append => {
                let element = self.tag(client) + ";";
                let list = self.pick(|this| &this.keys.lists);
                Wanted::one(&list, Action::Append(element))
            }
            Kind::Increment => {
                let counter = self.pick(|this| &this.keys.counters);
                Wanted::one(&counter, Action::Increment(1))
            }
            Kind::Scan => self.scan(),
            Kind::BatchGet => Wanted::BatchGet(self.some(|this| &this.all)),
            Kind::BatchPut => {
                let keys = self.some(|this| &this.keys.registers);
                let put = |key| (key, self.tag(client));
                Wanted::BatchPut(keys.into_iter().map(put).collect())
            }
            Kind::Remove => Wanted::Remove {
                from: register,
                upto: BEHIND_REGISTERS.to_owned(),
            },
        }
    }

    fn pause(&mut self, _client: usize, _now: Duration) -> Duration {
        Duration::from_millis(self.random.between(1, self.pause_ms_max))
    }

    fn on_finished(&mut self, client: usize, operations: &[Operation], _report: &mut Report) {
        for operation in operations {
            self.seen[client].note(operation);
        }
    }
}
