//! A client of the simulated cluster: the cores of the production client (`tinykv-client`), with
//! messages of the simulated network in the place of sockets.
//!
//! What to do next, whom to ask, how long to wait and what an answer proves is all decided there:
//! by [`Call`], [`Routes`], the visits of ranges, the parts of batches, and
//! [`tinykv_client::wire::verdict`]. Here are only the link to the network and, in `task`, what the
//! checker is told.
//!
//! What the contract of the client promises is watched from outside of it: no call outlives its
//! deadline (K5), no read is of unknown fate (K3), nothing is sent again after doubt (K2), and by
//! `fates` the stores say whether a write was proposed again that may have been applied. That what
//! is definitely not applied is never seen (K1) the checker finds out.

mod fates;
mod message;
mod task;

use std::time::Duration;

use bytes::Bytes;
use tinykv_client::Error;
use tinykv_client::retry::{Access, Call, Failure, LookupFailure, Step, Target};
use tinykv_client::routing::{Point, Routes};
use tinykv_client::wire;
use tinykv_env::Prng;
use tinykv_proto::pdpb;
use tinykv_replica::StoreId;

use crate::checker::{Operation, Outcome};

use self::task::{GoesOn, Span, Task};
use super::workload::Wanted;

pub(super) use self::fates::Fates;
pub(super) use self::message::{Asked, Mark, Method, Packet, Told};

/// How long a call may take in all.
const DEADLINE: Duration = Duration::from_secs(2);

/// A key above every key that the lookups of a run know, and below the next one.
const JUST_ABOVE: &str = "\u{7f}\u{7f}";

/// What a client does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send a request to a store; remind the client after a time.
    Send {
        to: StoreId,
        packet: Packet,
        remind: Duration,
    },
    /// Find out who holds a key; remind the client after a time.
    Locate {
        key: String,
        attempt: u64,
        remind: Duration,
    },
    /// Remind the client after a time.
    Wait { attempt: u64, remind: Duration },
    /// What was wanted is over.
    Finished(Finished),
    /// Nothing.
    Nothing,
}

/// What something wanted came to.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// For the checker: everything that was read or written.
    pub(super) operations: Vec<Operation>,
    /// It was a scan.
    pub(super) is_scan: bool,
    /// Whether the client got what it asked for.
    pub(super) succeeded: bool,
    pub(super) unknown: bool,
    /// A region had changed when it was asked.
    pub(super) across_split: bool,
}

/// One client.
pub(super) struct Client {
    id: usize,
    random: Prng,
    keys: Vec<String>,
    routes: Routes,
    attempt: u64,
    calls: u64,
    open: Option<Open>,
}

/// Something wanted that is under way.
struct Open {
    task: Task,
    call: Call,
    /// When the call began.
    begin: Duration,
    stage: Stage,
    /// An attempt ended without proof that it was not applied.
    in_doubt: bool,
    finished: Finished,
}

/// What a call waits for.
#[derive(Debug)]
enum Stage {
    /// Its next attempt.
    Waiting,
    /// Placement.
    Locating,
    /// A store.
    Sent { target: Target, method: Method },
}

impl Client {
    pub(super) fn new(id: usize, keys: Vec<String>, random: Prng) -> Client {
        Client {
            id,
            random,
            keys,
            routes: Routes::new(),
            attempt: 0,
            calls: 0,
            open: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    /// Begins something.
    pub(super) fn begin(&mut self, now: Duration, wanted: Wanted) -> Next {
        let finished = Finished {
            succeeded: true,
            ..Finished::default()
        };
        self.next_call(now, Task::new(wanted), finished)
    }

    /// Somebody told who holds the key that was looked up, or that nobody knows.
    pub(super) fn on_route(
        &mut self,
        now: Duration,
        attempt: u64,
        response: pdpb::GetRegionResponse,
    ) -> Next {
        let Some(open) = self.open.as_mut().filter(|_| attempt == self.attempt) else {
            return Next::Nothing;
        };
        let Stage::Locating = open.stage else {
            return Next::Nothing;
        };
        let region = response.region;
        let route = region.and_then(|region| wire::route(region, response.leader.as_ref()));
        let located = route.ok_or(LookupFailure::NoLeader {
            message: "ask somebody else".to_owned(),
        });
        open.call.on_located(&mut self.routes, located, now);
        self.go_on(now)
    }

    /// A store has answered.
    pub(super) fn on_answer(&mut self, now: Duration, attempt: u64, answer: &Bytes) -> Next {
        self.on_ended(now, attempt, |_, method| method.verdict(answer))
    }

    /// The connection to the store broke; whether before or after the request was sent.
    pub(super) fn on_broken(&mut self, now: Duration, attempt: u64, sent: bool) -> Next {
        let cause = "it broke".to_owned();
        self.on_ended(now, attempt, |_, _| {
            Err(match sent {
                true => Failure::Lost { cause },
                false => Failure::NotSent { cause },
            })
        })
    }

    /// The attempt that waits for this store, if there is one.
    pub(super) fn waits_for(&self, store: StoreId) -> Option<u64> {
        match &self.open.as_ref()?.stage {
            Stage::Sent { target, .. } if target.peer.store.0 == store.0 => Some(self.attempt),
            _ => None,
        }
    }

    /// The time that the client asked to be reminded at has come.
    pub(super) fn on_reminder(&mut self, now: Duration, attempt: u64) -> Next {
        let Some(open) = self.open.as_mut().filter(|_| attempt == self.attempt) else {
            return Next::Nothing;
        };
        match &open.stage {
            Stage::Waiting => self.go_on(now),
            Stage::Locating => {
                let cause = "no answer in time".to_owned();
                let failure = LookupFailure::Unreachable { cause };
                open.call.on_located(&mut self.routes, Err(failure), now);
                self.go_on(now)
            }
            Stage::Sent { .. } => self.on_ended(now, attempt, |target, _| {
                Err(Failure::TimedOut {
                    after: target.timeout,
                })
            }),
        }
    }

    /// The attempt under way has ended.
    fn on_ended(
        &mut self,
        now: Duration,
        attempt: u64,
        verdict: impl FnOnce(&Target, Method) -> Result<Told, Failure>,
    ) -> Next {
        let Some(open) = self.open.as_mut().filter(|_| attempt == self.attempt) else {
            return Next::Nothing;
        };
        let stage = std::mem::replace(&mut open.stage, Stage::Waiting);
        let Stage::Sent { target, method } = stage else {
            open.stage = stage;
            return Next::Nothing;
        };
        match verdict(&target, method) {
            Err(failure) => {
                open.finished.across_split |= matches!(failure, Failure::EpochNotMatch { .. });
                open.in_doubt |= is_doubt(&failure);
                open.call.on_failure(&mut self.routes, &failure, now);
                self.go_on(now)
            }
            Ok(told) => {
                open.call.on_success(&mut self.routes);
                self.on_told(now, &target, told)
            }
        }
    }

    /// A call has succeeded.
    fn on_told(&mut self, now: Duration, target: &Target, told: Told) -> Next {
        let Some((mut task, mut finished, span)) = self.close(now) else {
            return Next::Nothing;
        };
        let is_one = matches!(task, Task::One { .. });
        let operations = task.on_told(told, &target.route, span, &self.keys);
        finished.operations.extend(operations);
        match is_one {
            true => Next::Finished(finished),
            false => self.next_call(now, task, finished),
        }
    }

    /// A call is over: what it was for, what it came to so far, and how long it took.
    fn close(&mut self, now: Duration) -> Option<(Task, Finished, Span)> {
        let span = self.span(now);
        let open = self.open.take()?;
        Some((open.task, open.finished, span))
    }

    /// A call has failed.
    fn on_error(&mut self, now: Duration, error: &Error) -> Next {
        let Some((mut task, mut finished, span)) = self.close(now) else {
            return Next::Nothing;
        };
        let outcome = match error.is_undetermined() {
            true => Outcome::Unknown,
            false => Outcome::DefinitelyNot,
        };
        assert!(
            task.access() == Access::Write || outcome == Outcome::DefinitelyNot,
            "K3: a read is of unknown fate: {error}"
        );
        finished.succeeded = false;
        finished.unknown |= outcome == Outcome::Unknown;
        let (operations, goes_on) = task.on_failed(&outcome, span, &self.keys);
        finished.operations.extend(operations);
        match goes_on {
            GoesOn::Yes => self.next_call(now, task, finished),
            GoesOn::No => Next::Finished(Finished {
                is_scan: task.is_scan(),
                ..finished
            }),
        }
    }

    /// The next call of what is wanted, if there is one.
    fn next_call(&mut self, now: Duration, task: Task, finished: Finished) -> Next {
        let Some(point) = task.point() else {
            let is_scan = task.is_scan();
            return Next::Finished(Finished {
                is_scan,
                ..finished
            });
        };
        self.calls += 1;
        let seed = self.random.next_u64();
        self.open = Some(Open {
            call: Call::new(task.access(), point, now, DEADLINE, seed),
            task,
            begin: now,
            stage: Stage::Waiting,
            in_doubt: false,
            finished,
        });
        self.go_on(now)
    }

    /// Does what the call says.
    fn go_on(&mut self, now: Duration) -> Next {
        self.attempt += 1;
        let attempt = self.attempt;
        let mark = Mark {
            client: self.id,
            call: self.calls,
            attempt,
        };
        loop {
            let Some(open) = &mut self.open else {
                return Next::Nothing;
            };
            let deadline = open.call.deadline();
            assert!(now <= deadline, "K5: a call goes on after its deadline");
            match open.call.next(&self.routes, now) {
                Step::GiveUp(error) => return self.on_error(now, &error),
                Step::Wait { until } => {
                    open.stage = Stage::Waiting;
                    let remind = until.saturating_sub(now);
                    return Next::Wait { attempt, remind };
                }
                Step::Locate { point, timeout } => {
                    open.stage = Stage::Locating;
                    return Next::Locate {
                        key: key_of(&point),
                        attempt,
                        remind: timeout,
                    };
                }
                Step::FindStore { store, .. } => {
                    // Stores do not change their addresses here; placement not answering is what
                    // look-ups of regions meet already.
                    let address = Ok(format!("store-{store}"));
                    open.call.on_store(&mut self.routes, store, address, now);
                }
                Step::Send(target) => {
                    assert!(
                        now + target.timeout <= deadline,
                        "K5: an attempt may outlast its call"
                    );
                    assert!(
                        !open.in_doubt || open.task.access() == Access::Read,
                        "K2: a write of unknown fate is sent again: {:?}",
                        open.task
                    );
                    let asked = open.task.asked(&target.route);
                    let method = asked.method();
                    let packet = asked.packet(mark, wire::context(&target, 0));
                    let next = Next::Send {
                        to: StoreId(target.peer.store.0),
                        packet,
                        remind: target.timeout,
                    };
                    open.stage = Stage::Sent { target, method };
                    return next;
                }
            }
        }
    }

    fn span(&self, now: Duration) -> Span {
        Span {
            client: self.id,
            call: self.calls,
            begin: self.open.as_ref().map_or(now, |open| open.begin),
            end: now,
        }
    }
}

/// Whether a write that ended so may have been applied: what the contract says (K1, K2), written
/// down a second time.
fn is_doubt(failure: &Failure) -> bool {
    match failure {
        Failure::NotLeader { .. }
        | Failure::EpochNotMatch { .. }
        | Failure::Misrouted { .. }
        | Failure::Busy { .. }
        | Failure::DiskFull { .. }
        | Failure::Refused { .. }
        | Failure::Conflict(_)
        | Failure::NotSent { .. } => false,
        Failure::NotNow { .. }
        | Failure::Undetermined { .. }
        | Failure::Lost { .. }
        | Failure::TimedOut { .. } => true,
    }
}

/// A key in the region that a point means. Bounds are keys, or keys with something short behind
/// them, so between a bound and the keys just below it there is no other.
fn key_of(point: &Point) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match point {
        Point::At(key) => text(key),
        Point::Below(limit) => {
            let limit = text(limit);
            let last = limit.chars().last();
            let Some(before) = last.and_then(|last| char::from_u32(u32::from(last) - 1)) else {
                return JUST_ABOVE.to_owned();
            };
            let mut key = limit;
            key.pop();
            key.push(before);
            key + JUST_ABOVE
        }
    }
}
