//! The driver of a call: carries out its steps.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep_until;

use super::clock::{Clock, random_seed};
use super::connections::Connections;
use super::exchange::exchange;
use super::placement::Placement;
use super::rpc::Rpc;
use crate::error::Error;
use crate::random::Random;
use crate::retry::{Call, LookupFailure, Step, Target};
use crate::routing::{Point, Route, Routes, StoreId};
use crate::whereabouts::Whereabouts;
use crate::wire;

/// How long placement has to answer before somebody else is asked: longer than its leaders take to
/// follow each other.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything calls share.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) clock: Clock,
    connections: Arc<Connections>,
    placement: Placement,
    /// Who is asked when placement does not answer.
    known: Option<Arc<dyn Whereabouts>>,
    routes: Mutex<Routes>,
    /// Draws the seeds of calls.
    seeds: Mutex<Random>,
}

impl Driver {
    /// A driver that knows nothing but where placement is, and perhaps whom to ask besides.
    pub(crate) fn new(placements: &[String], known: Option<Arc<dyn Whereabouts>>) -> Driver {
        let clock = Clock::new();
        let connections = Arc::new(Connections::new(clock));
        Driver {
            clock,
            placement: Placement::new(clock, connections.clone(), placements),
            connections,
            known,
            routes: Mutex::new(Routes::new()),
            seeds: Mutex::new(Random::new(random_seed())),
        }
    }

    /// Makes one call for one region, until the deadline. `request` is asked for every attempt, by
    /// the route it will be sent by. Returns the answer and the route that brought it.
    pub(crate) async fn call<R: Rpc>(
        &self,
        point: Point,
        deadline: Duration,
        mut request: impl FnMut(&Target) -> R + Send,
    ) -> Result<(R::Response, Arc<Route>), Error> {
        let mut call = self.new_call(R::ACCESS, point, deadline);
        loop {
            let target = self.until_sent(&mut call).await?;
            let context = wire::context(&target, self.placement.cluster_id());
            let request = request(&target);
            let answer = exchange(&self.connections, self.clock, &target, context, request).await;
            match answer {
                Ok(response) => {
                    call.on_success(&mut self.routes.lock());
                    return Ok((response, target.route));
                }
                Err(failure) => {
                    call.on_failure(&mut self.routes.lock(), &failure, self.clock.now());
                }
            }
        }
    }

    /// The route of the region that contains a point, cached or looked up.
    pub(crate) async fn locate(
        &self,
        point: Point,
        deadline: Duration,
    ) -> Result<Arc<Route>, Error> {
        let mut call = self.new_call(crate::retry::Access::Read, point, deadline);
        Ok(self.until_sent(&mut call).await?.route)
    }

    /// Where a store is, as placement says now.
    pub(crate) async fn store_address(&self, store: StoreId, timeout: Duration) -> Option<String> {
        self.placement.store_address(store, timeout).await.ok()
    }

    /// Where placement's leader is, as its members say now.
    pub(crate) async fn placement_leader(&self, deadline: Duration) -> Result<Arc<str>, Error> {
        let found = self.placement.find_leader(deadline, None).await;
        found.map_err(|failure| Error::before(failure.into()))
    }

    fn new_call(&self, access: crate::retry::Access, point: Point, deadline: Duration) -> Call {
        let now = self.clock.now();
        let seed = self.seeds.lock().next_u64();
        Call::new(access, point, now, deadline.saturating_sub(now), seed)
    }

    /// Carries out the steps of a call up to its next attempt.
    async fn until_sent(&self, call: &mut Call) -> Result<Target, Error> {
        loop {
            let step = call.next(&self.routes.lock(), self.clock.now());
            match step {
                Step::Send(target) => return Ok(target),
                Step::GiveUp(error) => return Err(error),
                Step::Wait { until } => sleep_until(self.clock.instant(until)).await,
                Step::Locate { point, timeout } => {
                    let located = self.look_up(&point, timeout).await;
                    call.on_located(&mut self.routes.lock(), located, self.clock.now());
                }
                Step::FindStore { store, timeout } => {
                    let found = self.find_store(store, timeout).await;
                    call.on_store(&mut self.routes.lock(), store, found, self.clock.now());
                }
            }
        }
    }

    async fn look_up(&self, point: &Point, timeout: Duration) -> Result<Route, LookupFailure> {
        let Some(known) = &self.known else {
            return self.placement.locate(point, timeout).await;
        };
        let timeout = timeout.min(PATIENCE);
        let located = self.placement.locate(point, timeout).await;
        located.or_else(|failure| match failure {
            LookupFailure::Unknown { .. } => Err(failure),
            _ => known.route(point).ok_or(failure),
        })
    }

    async fn find_store(&self, store: StoreId, timeout: Duration) -> Result<String, LookupFailure> {
        let Some(known) = &self.known else {
            return self.placement.store_address(store, timeout).await;
        };
        let timeout = timeout.min(PATIENCE);
        let found = self.placement.store_address(store, timeout).await;
        found.or_else(|failure| match failure {
            LookupFailure::Unknown { .. } => Err(failure),
            _ => known.address(store).ok_or(failure),
        })
    }
}
