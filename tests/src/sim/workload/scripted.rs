//! Scripts: phases follow each other, all clients go through them together, and in each a client
//! plays a part of several steps that build on what the steps before have brought.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tinykv_client::walk::Direction;
use tinykv_env::Prng;

use crate::checker::{Action, Operation, Outcome, Value};

use super::super::report::Report;
use super::{Keys, Wanted, Workload, write_to};

/// Phases drawn ahead; far more than a run has time for.
const PHASES: usize = 100;

/// What an account holds before anybody has touched it.
const FIRST_BALANCE: i64 = 100;

/// Notes on the board at most; older ones go unread.
const BOARD_MAX: usize = 8;

/// What all clients do for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Amounts move between accounts, each side by a compare-and-swap.
    Transfers,
    /// What one client has written, another reads.
    ReadElsewhere,
    /// Everybody works on one key.
    HotKey(String),
    /// Keys one after the other: batches and scans that march through the key space.
    March,
    /// Nobody does anything: groups have nothing to agree on.
    Idle,
    /// Everybody at once, without a pause.
    Burst,
}

/// The generator.
pub(super) struct Scripted {
    keys: Keys,
    all: Vec<String>,
    /// What comes until when after the beginning.
    phases: Vec<(Duration, Phase)>,
    /// When the first client began.
    begin: Option<Duration>,
    actors: Vec<Actor>,
    /// Who has just written what where.
    board: VecDeque<Note>,
    /// Clients at work on the hot key.
    at_hot_key: BTreeSet<usize>,
    tags: u64,
}

/// Something for others to read.
#[derive(Debug)]
struct Note {
    key: String,
    writer: usize,
}

/// A client and its part.
struct Actor {
    random: Prng,
    part: Part,
    /// Where it is on its march.
    at: usize,
    /// It has slept through a phase, and what it does now is the first thing after.
    slept: bool,
}

/// What a client is in the middle of.
#[derive(Debug)]
enum Part {
    Nothing,
    /// A transfer: what is still to be done.
    Transfer(Transfer),
    /// It writes for others.
    Writing(String),
    /// It reads what another wrote.
    Reading,
    Hot,
    /// A batch was written from here on; next it is scanned.
    Marched(usize),
}

#[derive(Clone, Debug)]
struct Transfer {
    from: String,
    to: String,
    amount: i64,
    /// The first half is done.
    taken: bool,
    /// What the account at hand was read to hold.
    read: Option<Option<Value>>,
    tries_left: u32,
}

impl Scripted {
    pub(super) fn draw(keys: Keys, clients: usize, random: Prng) -> Scripted {
        let mut random = random;
        let all = keys.all();
        let mut until = Duration::ZERO;
        let mut phases = Vec::new();
        for _ in 0..PHASES {
            let phase = match random.below(12) {
                0..3 => Phase::Transfers,
                3..5 => Phase::ReadElsewhere,
                5..7 => Phase::HotKey(random.pick(&all).cloned().unwrap_or_default()),
                7..9 => Phase::March,
                9 => Phase::Idle,
                _ => Phase::Burst,
            };
            until += Duration::from_millis(match phase {
                Phase::Idle => random.between(200, 1_200),
                Phase::Burst => random.between(100, 400),
                _ => random.between(300, 1_200),
            });
            phases.push((until, phase));
        }
        let actor = |_| Actor {
            random: random.fork(),
            part: Part::Nothing,
            at: 0,
            slept: false,
        };
        Scripted {
            actors: (0..clients).map(actor).collect(),
            keys,
            all,
            phases,
            begin: None,
            board: VecDeque::new(),
            at_hot_key: BTreeSet::new(),
            tags: 0,
        }
    }

    /// The phase, and how long it lasts from now on.
    fn phase(&mut self, now: Duration) -> (Phase, Duration) {
        let played = now.saturating_sub(*self.begin.get_or_insert(now));
        let current = self.phases.iter().find(|(until, _)| played < *until);
        match current {
            Some((until, phase)) => (phase.clone(), *until - played),
            None => (Phase::Burst, Duration::ZERO),
        }
    }

    fn tag(&mut self, client: usize) -> String {
        self.tags += 1;
        format!("s{client}-{}", self.tags)
    }

    fn register(&mut self, client: usize) -> String {
        let random = &mut self.actors[client].random;
        random
            .pick(&self.keys.registers)
            .cloned()
            .unwrap_or_default()
    }

    /// The next step of a transfer: read an account, or change what was read.
    fn transfer(&mut self, client: usize, transfer: &Transfer) -> Wanted {
        let account = match transfer.taken {
            true => &transfer.to,
            false => &transfer.from,
        };
        let Some(held) = &transfer.read else {
            return Wanted::get(account);
        };
        let change = match transfer.taken {
            true => transfer.amount,
            false => -transfer.amount,
        };
        let new = format!("{}@{}", balance(held.as_ref()) + change, self.tag(client));
        let expected = held.clone();
        Wanted::one(account, Action::CompareAndSwap { expected, new })
    }

    fn new_transfer(&mut self, client: usize) -> Transfer {
        let from = self.register(client);
        Transfer {
            from,
            to: self.register(client),
            amount: self.actors[client].random.between(1, 30) as i64,
            taken: false,
            read: None,
            tries_left: 4,
        }
    }

    /// Something to read that another has written, or something to write for others.
    fn read_elsewhere(&mut self, client: usize) -> Wanted {
        let note = self.board.iter().position(|note| note.writer != client);
        if let Some(note) = note.and_then(|at| self.board.remove(at)) {
            self.actors[client].part = Part::Reading;
            return Wanted::get(&note.key);
        }
        let index = self.actors[client].random.below(self.all.len() as u64);
        let key = self.all[index as usize].clone();
        self.actors[client].part = Part::Writing(key.clone());
        let tag = self.tag(client);
        write_to(&key, tag)
    }

    fn hot(&mut self, client: usize, key: &str) -> Wanted {
        self.actors[client].part = Part::Hot;
        self.at_hot_key.insert(client);
        match self.actors[client].random.chance(3) {
            true => Wanted::get(key),
            false => {
                let tag = self.tag(client);
                write_to(key, tag)
            }
        }
    }

    /// A batch of neighbours, or, when one was written, a scan over what lies there.
    fn march(&mut self, client: usize) -> Wanted {
        let registers = self.keys.registers.clone();
        if let Part::Marched(at) = self.actors[client].part {
            self.actors[client].part = Part::Nothing;
            let reverse = self.actors[client].random.chance(2);
            return Wanted::Scan {
                from: registers[at].clone(),
                upto: registers.get(at + 3).cloned().unwrap_or_default(),
                direction: match reverse {
                    true => Direction::Reverse,
                    false => Direction::Forward,
                },
                limit: None,
            };
        }
        let at = self.actors[client].at % registers.len();
        self.actors[client].at = at + 1;
        self.actors[client].part = Part::Marched(at);
        let neighbours = registers.iter().skip(at).take(3);
        let pairs = neighbours.map(|key| (key.clone(), self.tag(client)));
        Wanted::BatchPut(pairs.collect())
    }

    fn burst(&mut self, client: usize) -> Wanted {
        let index = self.actors[client].random.below(self.all.len() as u64);
        let key = self.all[index as usize].clone();
        match self.actors[client].random.below(4) {
            0 => Wanted::get(&key),
            1 => Wanted::BatchGet(self.all.clone()),
            _ => {
                let tag = self.tag(client);
                write_to(&key, tag)
            }
        }
    }

    /// A step of a transfer has come to something.
    fn on_transfer(transfer: Transfer, operation: &Operation, report: &mut Report) -> Part {
        let mut transfer = transfer;
        match &operation.outcome {
            Outcome::Found(found) => transfer.read = Some(found.clone()),
            Outcome::Swapped { swapped: true, .. } if transfer.taken => {
                report.probe("transfer_done");
                return Part::Nothing;
            }
            Outcome::Swapped { swapped: true, .. } => {
                transfer.taken = true;
                transfer.read = None;
            }
            Outcome::Swapped { previous, .. } if transfer.tries_left > 0 => {
                transfer.tries_left -= 1;
                transfer.read = Some(previous.clone());
            }
            _ => return Part::Nothing,
        }
        Part::Transfer(transfer)
    }
}

impl Workload for Scripted {
    fn next(&mut self, client: usize, now: Duration) -> Wanted {
        let (phase, _) = self.phase(now);
        let part = std::mem::replace(&mut self.actors[client].part, Part::Nothing);
        match (phase, part) {
            // What was begun is brought to an end, whatever the phase.
            (_, Part::Transfer(transfer)) => {
                let wanted = self.transfer(client, &transfer);
                self.actors[client].part = Part::Transfer(transfer);
                wanted
            }
            (Phase::Transfers, _) => {
                let transfer = self.new_transfer(client);
                let wanted = self.transfer(client, &transfer);
                self.actors[client].part = Part::Transfer(transfer);
                wanted
            }
            (Phase::ReadElsewhere, _) => self.read_elsewhere(client),
            (Phase::HotKey(key), _) => self.hot(client, &key),
            (Phase::March, part) => {
                self.actors[client].part = part;
                self.march(client)
            }
            (Phase::Idle | Phase::Burst, _) => self.burst(client),
        }
    }

    fn pause(&mut self, client: usize, now: Duration) -> Duration {
        let (phase, left) = self.phase(now);
        let actor = &mut self.actors[client];
        let ms = match phase {
            Phase::Idle => {
                actor.slept = true;
                return left + Duration::from_millis(actor.random.below(10));
            }
            Phase::Burst => 0,
            Phase::HotKey(_) => actor.random.below(15),
            Phase::Transfers | Phase::ReadElsewhere | Phase::March => actor.random.between(1, 20),
        };
        Duration::from_millis(ms)
    }

    fn on_finished(&mut self, client: usize, operations: &[Operation], report: &mut Report) {
        let succeeded = operations.iter().any(Operation::succeeded);
        let actor = &mut self.actors[client];
        if std::mem::take(&mut actor.slept) && succeeded {
            report.probe("woke_after_idle");
        }
        let part = std::mem::replace(&mut actor.part, Part::Nothing);
        actor.part = match (part, operations) {
            (Part::Transfer(transfer), [operation]) => {
                Scripted::on_transfer(transfer, operation, report)
            }
            (Part::Writing(key), _) if succeeded => {
                let writer = client;
                self.board.push_back(Note { key, writer });
                if self.board.len() > BOARD_MAX {
                    self.board.pop_front();
                }
                Part::Nothing
            }
            (Part::Reading, _) if succeeded => {
                report.probe("read_elsewhere");
                Part::Nothing
            }
            (Part::Hot, _) => {
                if succeeded && self.at_hot_key.len() > 1 {
                    report.probe("hot_key_contended");
                }
                self.at_hot_key.remove(&client);
                Part::Nothing
            }
            (Part::Marched(at), _) => {
                if at + 1 == self.keys.registers.len() {
                    report.probe("marched_through");
                }
                Part::Marched(at)
            }
            (Part::Nothing, _) if succeeded && operations.len() == self.all.len() => {
                report.probe("all_keys_in_a_burst");
                Part::Nothing
            }
            _ => Part::Nothing,
        };
    }
}

/// What a value says that the account holds. Others than transfers write there, too.
fn balance(held: Option<&Value>) -> i64 {
    let amount = held.and_then(|value| value.split_once('@')?.0.parse().ok());
    amount.unwrap_or(FIRST_BALANCE)
}
