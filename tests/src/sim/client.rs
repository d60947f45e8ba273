//! A client of the simulated cluster: one operation at a time on a few registers, with the rules
//! of the real one. A write is sent again only when it was certainly refused; a read whenever it
//! pleases; whatever has no answer at its deadline is unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_env::Prng;
use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use crate::checker::{Action, Operation, Outcome, Value};

/// How long an operation may take in all.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a read waits for one store.
const READ_TIMEOUT: Duration = Duration::from_millis(300);
/// Pause after a refusal.
const BACK_OFF: Duration = Duration::from_millis(30);

/// A request on its way to a store.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    /// Numbers the attempts of a client; an answer to an earlier one is ignored.
    pub(super) attempt: u64,
    pub(super) group: GroupId,
    pub(super) key: String,
    pub(super) action: Action,
    /// When the caller will have given up.
    pub(super) deadline: Duration,
}

/// What a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done, and this is what it gave.
    Ok(Outcome),
    /// It certainly is not; another store may lead.
    Refused { leader: Option<StoreId> },
    /// Nobody knows.
    Undetermined,
}

/// What a client does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send the call to a store after a pause, and remind the client after the second duration.
    Send {
        to: StoreId,
        call: Call,
        pause: Duration,
        remind: Duration,
    },
    /// The operation is over; begin another one.
    Finished(Operation),
    /// Nothing.
    Wait,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    id: usize,
    random: Prng,
    stores: Vec<StoreId>,
    /// Whom it believes to lead.
    leaders: BTreeMap<GroupId, StoreId>,
    /// What it last saw in each register: compare-and-swap builds on it.
    seen: BTreeMap<String, Option<Value>>,
    attempt: u64,
    operations: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    group: GroupId,
    key: String,
    action: Action,
    begin: Duration,
    to: StoreId,
    /// The current attempt was sent and has no answer.
    in_doubt: bool,
}

impl Client {
    pub(super) fn new(id: usize, stores: Vec<StoreId>, random: Prng) -> Client {
        Client {
            id,
            random,
            stores,
            leaders: BTreeMap::new(),
            seen: BTreeMap::new(),
            attempt: 0,
            operations: 0,
            open: None,
        }
    }

    /// Begins an operation on one of the keys.
    pub(super) fn begin(&mut self, now: Duration, keys: &[(GroupId, String)]) -> Next {
        let Some((group, key)) = self.random.pick(keys).cloned() else {
            return Next::Wait;
        };
        let action = self.draw(&key);
        self.start(now, group, key, action)
    }

    /// Begins a write, whatever the dice say: for the liveness phase.
    pub(super) fn begin_put(&mut self, now: Duration, group: GroupId, key: String) -> Next {
        let value = self.fresh_value();
        self.start(now, group, key, Action::Put(value))
    }

    /// Begins a read, whatever the dice say: for the last look at every register.
    pub(super) fn begin_get(&mut self, now: Duration, group: GroupId, key: String) -> Next {
        self.start(now, group, key, Action::Get)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    pub(super) fn on_answer(&mut self, now: Duration, attempt: u64, answer: Answer) -> Next {
        if attempt != self.attempt {
            return Next::Wait;
        }
        let Some(open) = &mut self.open else {
            return Next::Wait;
        };
        match answer {
            Answer::Ok(outcome) => self.finish(now, outcome),
            Answer::Undetermined if open.action == Action::Get => self.again(now, None, BACK_OFF),
            Answer::Undetermined => self.finish(now, Outcome::Unknown),
            Answer::Refused { leader } => {
                open.in_doubt = false;
                if now >= open.begin + DEADLINE {
                    return self.finish(now, Outcome::DefinitelyNot);
                }
                let pause = if leader.is_some() {
                    Duration::ZERO
                } else {
                    BACK_OFF
                };
                self.again(now, leader, pause)
            }
        }
    }

    /// The time that [`Next::Send`] asked to be reminded at has come.
    pub(super) fn on_reminder(&mut self, now: Duration, attempt: u64) -> Next {
        if attempt != self.attempt {
            return Next::Wait;
        }
        let Some(open) = &self.open else {
            return Next::Wait;
        };
        if now < open.begin + DEADLINE && open.action == Action::Get {
            return self.again(now, None, Duration::ZERO);
        }
        let outcome = match open.in_doubt && open.action != Action::Get {
            true => Outcome::Unknown,
            false => Outcome::DefinitelyNot,
        };
        self.finish(now, outcome)
    }

    fn start(&mut self, now: Duration, group: GroupId, key: String, action: Action) -> Next {
        let to = self.guess(group);
        self.open = Some(Open {
            group,
            key,
            action,
            begin: now,
            to,
            in_doubt: true,
        });
        self.send(now, Duration::ZERO)
    }

    /// Tries again, at the leader if one was named, else anywhere else.
    fn again(&mut self, now: Duration, leader: Option<StoreId>, pause: Duration) -> Next {
        let Some(open) = &mut self.open else {
            return Next::Wait;
        };
        let others: Vec<StoreId> = self
            .stores
            .iter()
            .copied()
            .filter(|store| *store != open.to)
            .collect();
        let to = leader
            .or_else(|| self.random.pick(&others).copied())
            .unwrap_or(open.to);
        open.to = to;
        open.in_doubt = true;
        self.leaders.insert(open.group, to);
        self.send(now, pause)
    }

    fn send(&mut self, now: Duration, pause: Duration) -> Next {
        let Some(open) = &self.open else {
            return Next::Wait;
        };
        self.attempt += 1;
        let left = (open.begin + DEADLINE).saturating_sub(now);
        let remind = match open.action {
            Action::Get => READ_TIMEOUT.min(left),
            _ => left,
        };
        Next::Send {
            to: open.to,
            call: Call {
                client: self.id,
                attempt: self.attempt,
                group: open.group,
                key: open.key.clone(),
                action: open.action.clone(),
                deadline: open.begin + DEADLINE,
            },
            pause,
            remind: remind + pause,
        }
    }

    fn finish(&mut self, now: Duration, outcome: Outcome) -> Next {
        let Some(open) = self.open.take() else {
            return Next::Wait;
        };
        self.operations += 1;
        let is_ok = !matches!(outcome, Outcome::Unknown | Outcome::DefinitelyNot);
        if is_ok {
            self.leaders.insert(open.group, open.to);
        } else {
            self.leaders.remove(&open.group);
        }
        match (&open.action, &outcome) {
            (Action::Put(new), Outcome::Done)
            | (Action::CompareAndSwap { new, .. }, Outcome::Swapped { swapped: true, .. }) => {
                self.seen.insert(open.key.clone(), Some(new.clone()));
            }
            (Action::Delete, Outcome::Done) => {
                self.seen.insert(open.key.clone(), None);
            }
            (
                _,
                Outcome::Found(found)
                | Outcome::Swapped {
                    previous: found, ..
                },
            ) => {
                self.seen.insert(open.key.clone(), found.clone());
            }
            _ => {}
        }
        Next::Finished(Operation {
            client: self.id as u64,
            key: open.key,
            action: open.action,
            outcome,
            begin: open.begin.as_nanos() as u64,
            end: now.as_nanos() as u64,
        })
    }

    fn draw(&mut self, key: &str) -> Action {
        match self.random.below(10) {
            0..4 => Action::Get,
            4..7 => Action::Put(self.fresh_value()),
            7 => Action::Delete,
            _ => Action::CompareAndSwap {
                expected: self.seen.get(key).cloned().flatten(),
                new: self.fresh_value(),
            },
        }
    }

    /// Each value is written once in a run, so that a read names its write.
    fn fresh_value(&mut self) -> Value {
        format!("c{}-{}", self.id, self.operations)
    }

    fn guess(&mut self, group: GroupId) -> StoreId {
        match self.leaders.get(&group) {
            Some(leader) => *leader,
            None => self.random.pick(&self.stores).copied().unwrap_or_default(),
        }
    }
}
