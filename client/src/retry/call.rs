//! One request for one region, from its first look-up to its last attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::failure::{Failure, LookupFailure};
use super::table::{self, Decision, Forget};
use crate::error::{Doubt, Error, Reason};
use crate::random::Random;
use crate::routing::{Epoch, Peer, PeerId, Point, RegionId, Route, Routes, StoreId};
use crate::story::{Story, Tried};

/// How long one look-up may take at most. Placement holds look-ups open for just under two seconds
/// while it elects a leader; a member that is silent for longer is not going to answer.
pub const LOOKUP_TIMEOUT_MAX: Duration = Duration::from_millis(2_500);

/// How long the first attempt of a read may take; it doubles with each attempt that took longer.
/// A write is never repeated after silence, so it may take all the time there is.
pub const READ_TIMEOUT_FIRST: Duration = Duration::from_millis(700);

/// Attempts without a wait between them, at most.
const AT_ONCE_MAX: u32 = 3;

/// Whether a request changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may be repeated.
    Read,
    /// It may be repeated only after proof that it was not applied.
    Write,
}

/// What to do next for a call. Times are on the clock of the `now` that was passed.
#[derive(Clone, Debug)]
pub enum Step {
    /// Ask placement for the region, within this time; then [`Call::on_located`].
    Locate {
        /// Which region.
        point: Point,
        /// How long that may take.
        timeout: Duration,
    },
    /// Ask placement where a store is, within this time; then [`Call::on_store`].
    FindStore {
        /// Which store.
        store: StoreId,
        /// How long that may take.
        timeout: Duration,
    },
    /// Send the request; then [`Call::on_success`] or [`Call::on_failure`].
    Send(Target),
    /// Do nothing until then.
    Wait {
        /// When to ask again what to do.
        until: Duration,
    },
    /// The call has failed.
    GiveUp(Error),
}

/// Where to send a request.
#[derive(Clone, Debug)]
pub struct Target {
    /// The region as it is known; its epoch goes into the request.
    pub route: Arc<Route>,
    /// The peer to ask.
    pub peer: Peer,
    /// Where its store is.
    pub address: Arc<str>,
    /// How long the attempt may take; goes into the request, too.
    pub timeout: Duration,
    /// Whether the call was sent before.
    pub is_retry: bool,
}

/// One request for one region. Limits: it ends at its deadline, and keeps a bounded story.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whether it may be repeated after silence.
    access: Access,
    /// Which region it is for.
    point: Point,
    /// When it has to be over.
    deadline: Duration,
    /// How long it may take in all.
    limit: Duration,
    /// Waits between attempts.
    backoff: Backoff,
    /// What stands in the way of the next attempt.
    state: State,
    /// A route that did not work. Until the cache has another, placement is asked.
    spent: Option<Stamp>,
    /// Whom the last attempt took for the leader.
    believed: Option<PeerId>,
    /// Peers that could not help, to be passed over while there are others.
    passed: BTreeMap<PeerId, Passed>,
    /// The attempt that is under way.
    sent: Option<Sent>,
    /// When the look-up that is under way began.
    lookup_began: Duration,
    /// Attempts since the last wait.
    at_once: u32,
    /// Attempts in all.
    attempts: u32,
    /// Attempts that got no answer in time.
    silences: u32,
    /// What stood in the way last.
    obstacle: Option<Reason>,
    /// What happened.
    story: Story,
}

/// What stands in the way of the next attempt.
#[derive(Clone, Debug)]
enum State {
    /// Nothing.
    Ready,
    /// It is too early.
    Waiting { until: Duration },
    /// The call is over.
    Failed(Error),
}

/// Enough of a route to see whether the cache has learnt anything since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    region: RegionId,
    epoch: Epoch,
    leader: Option<PeerId>,
}

/// Why a peer is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// It answered that it is not the leader.
    NotLeader,
    /// It did not answer.
    Silent,
}

/// An attempt that is under way.
#[derive(Clone, Debug)]
struct Sent {
    at: Duration,
    timeout: Duration,
    route: Arc<Route>,
    peer: Peer,
    address: Arc<str>,
}

impl Call {
    /// A call that begins now and may take so long.
    pub fn new(access: Access, point: Point, now: Duration, limit: Duration, seed: u64) -> Call {
        Call {
            access,
            point,
            deadline: now.saturating_add(limit),
            limit,
            backoff: Backoff::new(Random::new(seed)),
            state: State::Ready,
            spent: None,
            believed: None,
            passed: BTreeMap::new(),
            sent: None,
            lookup_began: now,
            at_once: 0,
            attempts: 0,
            silences: 0,
            obstacle: None,
            story: Story::new(now, limit),
        }
    }

    /// When the call has to be over.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What to do now.
    pub fn next(&mut self, routes: &Routes, now: Duration) -> Step {
        match &self.state {
            State::Failed(error) => return Step::GiveUp(error.clone()),
            State::Waiting { until } if now < *until => return Step::Wait { until: *until },
            State::Waiting { .. } => self.state = State::Ready,
            State::Ready => {}
        }
        let left = self.deadline.saturating_sub(now);
        if left.is_zero() {
            return Step::GiveUp(self.give_up());
        }
        let lookup_timeout = left.min(LOOKUP_TIMEOUT_MAX);
        let known = routes.find(&self.point);
        let Some(route) = known.filter(|route| self.spent != Some(Stamp::of(route))) else {
            self.lookup_began = now;
            return Step::Locate {
                point: self.point.clone(),
                timeout: lookup_timeout,
            };
        };
        let peer = self.choose_peer(route);
        let Some(address) = routes.address(peer.store) else {
            self.lookup_began = now;
            return Step::FindStore {
                store: peer.store,
                timeout: lookup_timeout,
            };
        };
        self.send(route, peer, address, left, now)
    }

    /// Placement answered, or did not, where the region is.
    pub fn on_located(
        &mut self,
        routes: &mut Routes,
        located: Result<Route, LookupFailure>,
        now: Duration,
    ) {
        // If placement cannot help, the route that is cached is still the best there is.
        self.spent = None;
        let failure = match located {
            Ok(route) => {
                if let Some(leader) = route.leader
                    && routes
                        .region(route.region)
                        .is_none_or(|known| known.leader != Some(leader))
                {
                    // News: whatever this peer did before, it leads now.
                    self.passed.remove(&leader);
                }
                routes.insert(route);
                if routes.find(&self.point).is_some() {
                    return;
                }
                let message = "its answer does not contain the key".to_owned();
                LookupFailure::Unknown { message }
            }
            Err(failure) => failure,
        };
        self.lookup_failed(Tried::Locate, failure, now);
    }

    /// Placement answered, or did not, where a store is.
    pub fn on_store(
        &mut self,
        routes: &mut Routes,
        store: StoreId,
        found: Result<String, LookupFailure>,
        now: Duration,
    ) {
        match found {
            Ok(address) => routes.set_address(store, &address),
            Err(failure) => {
                // Perhaps another peer's store is known.
                if let Some(route) = routes.find(&self.point) {
                    let there = route.peers.iter().filter(|peer| peer.store == store);
                    self.passed
                        .extend(there.map(|peer| (peer.id, Passed::Silent)));
                }
                self.lookup_failed(Tried::FindStore(store), failure, now);
            }
        }
    }

    /// The attempt that was under way brought a result, so its peer leads the region.
    pub fn on_success(&mut self, routes: &mut Routes) {
        if let Some(Sent { route, peer, .. }) = self.sent.take()
            && route.leader != Some(peer.id)
        {
            routes.set_leader(route.region, Some(peer.id));
        }
    }

    /// The attempt that was under way failed.
    pub fn on_failure(&mut self, routes: &mut Routes, failure: &Failure, now: Duration) {
        let Some(sent) = self.sent.take() else {
            return;
        };
        self.silences += u32::from(matches!(failure, Failure::TimedOut { .. }));
        let asked = Tried::Ask {
            route: sent.route.clone(),
            peer: sent.peer,
            address: sent.address.clone(),
        };
        self.story.add(sent.at, now, asked, failure.to_string());
        self.obstacle = Some(reason(failure));
        match table::decide(failure, self.access) {
            Decision::SwitchLeader(leader) => self.switch_leader(routes, &sent, leader, now),
            Decision::TakeRoutes(current) => {
                self.take_routes(routes, &sent, current);
                self.again_at_once(now);
            }
            Decision::Refresh { forget } => {
                self.forget(routes, &sent, forget, failure.is_answer());
                self.again_after(Duration::ZERO, now);
            }
            Decision::RetryHere { wait } => self.again_after(wait, now),
            Decision::Fail => self.fail(reason(failure)),
            Decision::GiveUpUndetermined => {
                let story = Box::new(self.story.clone());
                let doubt = doubt(failure, sent.timeout);
                self.state = State::Failed(Error::Undetermined { doubt, story });
            }
        }
    }

    /// An attempt at a peer.
    fn send(
        &mut self,
        route: &Arc<Route>,
        peer: Peer,
        address: &Arc<str>,
        left: Duration,
        now: Duration,
    ) -> Step {
        let timeout = match self.access {
            Access::Write => left,
            Access::Read => left.min(READ_TIMEOUT_FIRST * (1 << self.silences.min(8))),
        };
        let is_retry = self.attempts > 0;
        self.attempts += 1;
        let (route, address) = (route.clone(), address.clone());
        self.sent = Some(Sent {
            at: now,
            timeout,
            route: route.clone(),
            peer,
            address: address.clone(),
        });
        Step::Send(Target {
            route,
            peer,
            address,
            timeout,
            is_retry,
        })
    }

    /// The leader, or, if it could not help or none is known, the first voter that was not yet
    /// asked. Once all were asked, they are asked again.
    fn choose_peer(&mut self, route: &Route) -> Peer {
        if let Some(leader) = route.leader
            && self.believed != Some(leader)
            && self.passed.get(&leader) == Some(&Passed::NotLeader)
        {
            // News from another call: it leads by now.
            self.passed.remove(&leader);
        }
        self.believed = route.leader;
        let leader = route.leader.and_then(|id| route.peer(id));
        let voters = || route.peers.iter().copied().filter(|peer| peer.votes);
        let is_fresh = |peer: &Peer| !self.passed.contains_key(&peer.id);
        if let Some(peer) = leader.filter(is_fresh).or_else(|| voters().find(is_fresh)) {
            return peer;
        }
        self.passed.clear();
        let peer = leader.or_else(|| voters().next());
        peer.expect("the cache takes no route without voters")
    }

    /// A peer told who leads.
    fn switch_leader(&mut self, routes: &mut Routes, sent: &Sent, leader: Peer, now: Duration) {
        self.passed.insert(sent.peer.id, Passed::NotLeader);
        routes.set_leader(sent.route.region, Some(leader.id));
        if self.passed.get(&leader.id) == Some(&Passed::Silent) {
            // The peer has not noticed yet that its leader is gone.
            self.spend(routes);
            self.again_after(Duration::ZERO, now);
        } else {
            self.passed.remove(&leader.id);
            self.again_at_once(now);
        }
    }

    /// A store told what is where the region was. It leads what it knows that of, most likely.
    fn take_routes(&mut self, routes: &mut Routes, sent: &Sent, current: Vec<Route>) {
        routes.forget_region(sent.route.region);
        for mut route in current {
            let here = route
                .peers
                .iter()
                .find(|peer| peer.votes && peer.store == sent.peer.store);
            route.leader = here.map(|peer| peer.id);
            routes.insert(route);
        }
    }

    /// What was relied on is not to be relied on any more.
    fn forget(&mut self, routes: &mut Routes, sent: &Sent, forget: Forget, answered: bool) {
        match forget {
            Forget::Route => routes.forget_region(sent.route.region),
            Forget::RouteAndAddress => {
                routes.forget_region(sent.route.region);
                routes.forget_address(sent.peer.store);
            }
            Forget::Peer | Forget::PeerAndAddress => {
                let why = if answered {
                    Passed::NotLeader
                } else {
                    Passed::Silent
                };
                self.passed.insert(sent.peer.id, why);
                if forget == Forget::PeerAndAddress {
                    routes.forget_address(sent.peer.store);
                }
                // Another call may have learnt better meanwhile; then there is nothing to ask.
                if routes
                    .region(sent.route.region)
                    .map(|known| Stamp::of(known))
                    == Some(Stamp::of(&sent.route))
                {
                    self.spend(routes);
                }
            }
        }
    }

    /// The cached route does not work: ask placement before using it again.
    fn spend(&mut self, routes: &Routes) {
        self.spent = routes.find(&self.point).map(|route| Stamp::of(route));
    }

    /// A look-up brought nothing.
    fn lookup_failed(&mut self, tried: Tried, failure: LookupFailure, now: Duration) {
        self.story
            .add(self.lookup_began, now, tried, failure.to_string());
        self.obstacle = Some(failure.into());
        self.again_after(Duration::ZERO, now);
    }

    /// Another attempt without a wait, unless there were too many.
    fn again_at_once(&mut self, now: Duration) {
        self.at_once += 1;
        if self.at_once > AT_ONCE_MAX {
            self.again_after(Duration::ZERO, now);
        }
    }

    /// Another attempt after a wait, unless that is after the deadline.
    fn again_after(&mut self, at_least: Duration, now: Duration) {
        self.at_once = 0;
        let until = now.saturating_add(self.backoff.next_wait().max(at_least));
        self.state = if until < self.deadline {
            State::Waiting { until }
        } else {
            State::Failed(self.give_up())
        };
    }

    /// The error of a call that ran out of time, or will before it can be tried again.
    fn give_up(&mut self) -> Error {
        let limit = self.limit;
        let reason = self.obstacle.clone().unwrap_or(Reason::NoTime { limit });
        self.fail(reason.clone());
        Error::DefinitelyNot {
            reason,
            story: Box::new(self.story.clone()),
        }
    }

    /// Nothing was applied, and nothing will be.
    fn fail(&mut self, reason: Reason) {
        let story = Box::new(self.story.clone());
        self.state = State::Failed(Error::DefinitelyNot { reason, story });
    }
}

impl Stamp {
    fn of(route: &Route) -> Stamp {
        Stamp {
            region: route.region,
            epoch: route.epoch,
            leader: route.leader,
        }
    }
}

/// What stood in the way, for the caller.
fn reason(failure: &Failure) -> Reason {
    match failure.clone() {
        Failure::NotLeader { .. } => Reason::NoLeader,
        Failure::EpochNotMatch { .. } | Failure::Misrouted { .. } => Reason::RegionNotFound {
            what: failure.to_string(),
        },
        Failure::Busy { reason, .. } => Reason::Busy { reason },
        Failure::DiskFull { reason } => Reason::DiskFull { reason },
        Failure::Refused { message } => Reason::Refused { message },
        Failure::Conflict(conflict) => Reason::Conflict(conflict),
        Failure::NotNow { what } | Failure::Undetermined { message: what } => {
            Reason::NotNow { what }
        }
        Failure::NotSent { cause } | Failure::Lost { cause } => Reason::StoreUnreachable { cause },
        Failure::TimedOut { .. } => Reason::StoreUnreachable {
            cause: failure.to_string(),
        },
    }
}

/// Why the fate of a write is not known.
fn doubt(failure: &Failure, timeout: Duration) -> Doubt {
    match failure.clone() {
        Failure::Lost { cause } => Doubt::ConnectionLost { cause },
        Failure::TimedOut { .. } => Doubt::Deadline { after: timeout },
        Failure::Undetermined { message } => Doubt::Told { message },
        _ => Doubt::Told {
            message: failure.to_string(),
        },
    }
}
