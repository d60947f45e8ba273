//! A client of the simulated cluster: one operation at a time on a few registers, with the rules
//! of the real one. It finds regions by routes that it keeps until somebody tells it better. A
//! write is sent again only when it was certainly refused; a read whenever it pleases; whatever
//! has no answer at its deadline is unknown.
//!
//! A scan goes from region to region. What each region answers is one snapshot of it, and every
//! key in there is a read of its own, as far as the checker is concerned.

mod routes;
mod scan;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_env::Prng;
use tinykv_raft::GroupId;
use tinykv_replica::{Region, RegionEpoch, StoreId};

use crate::checker::{Action, Operation, Outcome, Value};

use self::routes::Routes;
use self::scan::Scan;

/// How long an operation may take in all.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a read waits for one store, and anybody for placement.
const READ_TIMEOUT: Duration = Duration::from_millis(300);
/// Pause after a refusal.
const BACK_OFF: Duration = Duration::from_millis(30);
/// Refusals after which a route is looked up anew.
const REFUSALS_MAX: u32 = 3;

/// A request on its way to a store.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    /// Numbers the attempts of a client; an answer to an earlier one is ignored.
    pub(super) attempt: u64,
    pub(super) group: GroupId,
    /// The epoch the client believes in.
    pub(super) epoch: RegionEpoch,
    pub(super) request: Request,
    /// When the caller will have given up.
    pub(super) deadline: Duration,
}

/// What is asked of a region.
#[derive(Clone, Debug)]
pub(super) enum Request {
    One {
        key: String,
        action: Action,
    },
    /// All keys from the first on, before the second, as far as the region reaches.
    Scan {
        from: String,
        upto: String,
    },
}

impl Request {
    /// Where it goes.
    pub(super) fn key(&self) -> &str {
        match self {
            Request::One { key, .. } => key,
            Request::Scan { from, .. } => from,
        }
    }

    fn is_read(&self) -> bool {
        match self {
            Request::One { action, .. } => *action == Action::Get,
            Request::Scan { .. } => true,
        }
    }
}

/// What a store says.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It is done, and this is what it gave.
    Ok(Outcome),
    /// What a region holds, and where it ends.
    Scanned {
        pairs: Vec<(String, Value)>,
        end: Bytes,
    },
    /// It certainly is not; another store may lead.
    Refused { leader: Option<StoreId> },
    /// It certainly is not: the client's view of the region is outdated.
    Outdated { regions: Vec<Region> },
    /// It certainly is not: the region is not on this store.
    NotHere,
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
    /// Find out who holds a key, after a pause; remind the client after the second duration.
    Locate {
        key: String,
        attempt: u64,
        pause: Duration,
        remind: Duration,
    },
    /// The operation is over; begin another one.
    Finished(Finished),
    /// Nothing.
    Wait,
}

/// What an operation came to.
#[derive(Debug)]
pub(super) struct Finished {
    /// For the checker: one operation, or every key that a scan read.
    pub(super) operations: Vec<Operation>,
    /// How many regions showed themselves to a scan.
    pub(super) parts: usize,
    /// Whether the client got what it asked for.
    pub(super) succeeded: bool,
    pub(super) unknown: bool,
    /// A region was split between two parts of a scan.
    pub(super) across_split: bool,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    id: usize,
    random: Prng,
    keys: Vec<String>,
    routes: Routes,
    /// What it last saw in each register: compare-and-swap builds on it.
    seen: BTreeMap<String, Option<Value>>,
    attempt: u64,
    operations: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    request: Request,
    /// For a scan: what it has so far.
    scan: Option<Scan>,
    begin: Duration,
    /// When the current attempt was sent.
    sent: Duration,
    to: Option<StoreId>,
    /// The current attempt was sent and has no answer.
    in_doubt: bool,
}

impl Client {
    pub(super) fn new(id: usize, keys: Vec<String>, random: Prng) -> Client {
        Client {
            id,
            random,
            keys,
            routes: Routes::default(),
            seen: BTreeMap::new(),
            attempt: 0,
            operations: 0,
            open: None,
        }
    }

    /// Begins an operation, whatever the dice say.
    pub(super) fn begin(&mut self, now: Duration) -> Next {
        if self.random.chance(8) {
            let last = self.keys.len() as u64;
            let from = self.random.below(last);
            let upto = self.random.between(from + 1, last);
            return self.begin_scan(now, from as usize, upto as usize);
        }
        let Some(key) = self.random.pick(&self.keys).cloned() else {
            return Next::Wait;
        };
        let action = self.draw(&key);
        self.start(now, Request::One { key, action })
    }

    /// Begins a write, for the liveness phase.
    pub(super) fn begin_put(&mut self, now: Duration, key: String) -> Next {
        let action = Action::Put(self.fresh_value());
        self.start(now, Request::One { key, action })
    }

    /// Begins a read, for the last look at every register.
    pub(super) fn begin_get(&mut self, now: Duration, key: String) -> Next {
        let action = Action::Get;
        self.start(now, Request::One { key, action })
    }

    /// Begins a scan over some of the keys, by their numbers.
    pub(super) fn begin_scan(&mut self, now: Duration, from: usize, upto: usize) -> Next {
        let from = self.keys[from].clone();
        let upto = match self.keys.get(upto) {
            Some(key) => key.clone(),
            None => scan::BEYOND_ALL.to_owned(),
        };
        self.start(now, Request::Scan { from, upto })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    /// Somebody told who holds the key that was looked up; `None`: nobody knows.
    pub(super) fn on_route(
        &mut self,
        now: Duration,
        attempt: u64,
        route: Option<(Region, Option<StoreId>)>,
    ) -> Next {
        let Some(open) = self.open.as_ref().filter(|_| attempt == self.attempt) else {
            return Next::Wait;
        };
        let key = open.request.key().as_bytes().to_vec();
        if let Some((region, leader)) = route {
            self.routes.learn(region, leader);
        }
        // What it was told may be older than what it knew already.
        let pause = match self.routes.at(&key) {
            Some(_) => Duration::ZERO,
            None => BACK_OFF,
        };
        self.again(now, pause)
    }

    pub(super) fn on_answer(&mut self, now: Duration, attempt: u64, answer: Answer) -> Next {
        if attempt != self.attempt {
            return Next::Wait;
        }
        let Some(open) = &mut self.open else {
            return Next::Wait;
        };
        open.in_doubt = false;
        let key = open.request.key().as_bytes().to_vec();
        match answer {
            Answer::Ok(outcome) => self.finish(now, Some(outcome)),
            Answer::Scanned { pairs, end } => self.on_scanned(now, pairs, &end),
            Answer::Undetermined if open.request.is_read() => self.again(now, BACK_OFF),
            Answer::Undetermined => self.finish(now, Some(Outcome::Unknown)),
            Answer::Refused { leader } => {
                if let Some(route) = self.routes.at(&key) {
                    route.refusals += 1;
                    route.leader = leader;
                    if route.refusals > REFUSALS_MAX {
                        let group = route.region.id;
                        self.routes.forget(group);
                    }
                }
                let pause = leader.map_or(BACK_OFF, |_| Duration::ZERO);
                self.again(now, pause)
            }
            Answer::Outdated { regions } => {
                if let Some(scan) = &mut open.scan {
                    scan.note_split();
                }
                if let Some(route) = self.routes.at(&key) {
                    let group = route.region.id;
                    self.routes.forget(group);
                }
                for region in regions {
                    self.routes.learn(region, open.to);
                }
                self.again(now, Duration::ZERO)
            }
            Answer::NotHere => {
                if let Some(route) = self.routes.at(&key) {
                    let group = route.region.id;
                    self.routes.forget(group);
                }
                self.again(now, BACK_OFF)
            }
        }
    }

    /// The time that the client asked to be reminded at has come.
    pub(super) fn on_reminder(&mut self, now: Duration, attempt: u64) -> Next {
        if attempt != self.attempt {
            return Next::Wait;
        }
        let Some(open) = &self.open else {
            return Next::Wait;
        };
        if open.request.is_read() || !open.in_doubt {
            let key = open.request.key().as_bytes().to_vec();
            if let Some(route) = self.routes.at(&key) {
                let group = route.region.id;
                self.routes.forget(group);
            }
            return self.again(now, Duration::ZERO);
        }
        self.finish(now, None)
    }

    fn start(&mut self, now: Duration, request: Request) -> Next {
        let scan = match &request {
            Request::Scan { .. } => Some(Scan::default()),
            Request::One { .. } => None,
        };
        self.open = Some(Open {
            request,
            scan,
            begin: now,
            sent: now,
            to: None,
            in_doubt: false,
        });
        self.again(now, Duration::ZERO)
    }

    /// Tries (again): at the leader of the region, if its route is known.
    fn again(&mut self, now: Duration, pause: Duration) -> Next {
        let Some(open) = &mut self.open else {
            return Next::Wait;
        };
        let left = (open.begin + DEADLINE).saturating_sub(now);
        if left <= pause {
            return self.finish(now, None);
        }
        self.attempt += 1;
        let attempt = self.attempt;
        let key = open.request.key();
        let Some(route) = self.routes.at(key.as_bytes()) else {
            open.in_doubt = false;
            return Next::Locate {
                key: key.to_owned(),
                attempt,
                pause,
                remind: pause + READ_TIMEOUT.min(left),
            };
        };
        let stores: Vec<StoreId> = route.region.peers.iter().map(|peer| peer.store).collect();
        let to = match route.leader {
            Some(leader) => leader,
            None => self.random.pick(&stores).copied().unwrap_or_default(),
        };
        let is_read = open.request.is_read();
        open.to = Some(to);
        open.sent = now + pause;
        open.in_doubt = true;
        Next::Send {
            to,
            call: Call {
                client: self.id,
                attempt,
                group: route.region.id,
                epoch: route.region.epoch,
                request: open.request.clone(),
                deadline: open.begin + DEADLINE,
            },
            pause,
            remind: match is_read {
                true => pause + READ_TIMEOUT.min(left),
                false => left,
            },
        }
    }

    fn on_scanned(&mut self, now: Duration, pairs: Vec<(String, Value)>, end: &Bytes) -> Next {
        let Some(open) = &mut self.open else {
            return Next::Wait;
        };
        let (Some(scan), Request::Scan { from, upto }) = (&mut open.scan, &mut open.request) else {
            return Next::Wait;
        };
        let part = scan::Part {
            client: self.id as u64,
            attempt: self.attempt,
            from: from.clone(),
            upto: scan::earlier(upto, end),
            begin: open.sent,
            end: now,
        };
        *from = part.upto.clone();
        let is_done = from >= upto;
        scan.take(&self.keys, part, pairs);
        match is_done {
            true => self.finish(now, Some(Outcome::Done)),
            false => self.again(now, Duration::ZERO),
        }
    }

    /// The operation is over; without an outcome it ran out of time.
    fn finish(&mut self, now: Duration, outcome: Option<Outcome>) -> Next {
        let Some(open) = self.open.take() else {
            return Next::Wait;
        };
        self.operations += 1;
        self.attempt += 1;
        let timed_out = match open.in_doubt && !open.request.is_read() {
            true => Outcome::Unknown,
            false => Outcome::DefinitelyNot,
        };
        let outcome = outcome.unwrap_or(timed_out);
        let succeeded = !matches!(outcome, Outcome::Unknown | Outcome::DefinitelyNot);
        let unknown = outcome == Outcome::Unknown;
        if let Some(scan) = open.scan {
            return Next::Finished(scan.finish(succeeded));
        }
        let Request::One { key, action } = open.request else {
            return Next::Wait;
        };
        if !succeeded && let Some(route) = self.routes.at(key.as_bytes()) {
            route.leader = None;
        }
        self.note(&key, &action, &outcome);
        let operation = Operation {
            client: self.id as u64,
            key,
            action,
            outcome,
            begin: open.begin.as_nanos() as u64,
            end: now.as_nanos() as u64,
            at_once: None,
        };
        Next::Finished(Finished {
            operations: vec![operation],
            parts: 0,
            succeeded,
            unknown,
            across_split: false,
        })
    }

    fn note(&mut self, key: &str, action: &Action, outcome: &Outcome) {
        let seen = match (action, outcome) {
            (Action::Put(new), Outcome::Done)
            | (Action::CompareAndSwap { new, .. }, Outcome::Swapped { swapped: true, .. }) => {
                Some(new.clone())
            }
            (Action::Delete, Outcome::Done) => None,
            (_, Outcome::Found(found)) => found.clone(),
            (_, Outcome::Swapped { previous, .. }) => previous.clone(),
            _ => return,
        };
        self.seen.insert(key.to_owned(), seen);
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
}
