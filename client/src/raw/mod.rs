//! The client for raw keys: plain keys and values without transactions or keyspaces.

mod atomic;
mod batch;
mod expiry;
mod range;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_keys::{check_key, check_value};
use tinykv_proto::kvrpcpb;

use crate::error::{Error, Reason};
use crate::range::Visit;
use crate::retry::Target;
use crate::routing::{Peer, Point, Route};
use crate::shell::{Driver, Rpc};
use crate::whereabouts::Whereabouts;

pub use atomic::{Condition, PutOptions, Swap};
pub use expiry::{Expired, Expiry};
pub use scan::ScanStream;

/// What can be set for a client. The defaults are good for most.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a call may take with all its look-ups, attempts and waits. Calls over many regions
    /// (scans, counts, range removals) may take so long for each region.
    pub deadline: Duration,
}

impl Default for Options {
    /// Ten seconds: several elections.
    fn default() -> Options {
        Options {
            deadline: Duration::from_secs(10),
        }
    }
}

/// A client for raw keys. Cloning is cheap; clones share connections and routes.
///
/// Dropping the future of a write gives it up without learning its fate, which is then
/// undetermined.
#[derive(Clone, Debug)]
pub struct RawClient {
    driver: Arc<Driver>,
    options: Options,
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its region.
    pub route: Arc<Route>,
    /// The region's replicas, each with the address of its store as far as placement knows it.
    pub peers: Vec<(Peer, Option<String>)>,
}

impl RawClient {
    /// A client of the cluster whose placement driver has these members, `host:port` each; some of
    /// them are enough. Fails if none answers before the deadline.
    pub async fn connect(placements: &[String], options: Options) -> Result<RawClient, Error> {
        let client = RawClient::new(placements, options);
        client
            .driver
            .locate(Point::At(Bytes::new()), client.deadline())
            .await?;
        Ok(client)
    }

    /// The same, without asking anybody yet: the first call does.
    pub fn new(placements: &[String], options: Options) -> RawClient {
        RawClient {
            driver: Arc::new(Driver::new(placements, None)),
            options,
        }
    }

    /// The same as [`RawClient::new`], for a process that knows regions by itself.
    pub fn beside(
        known: Arc<dyn Whereabouts>,
        placements: &[String],
        options: Options,
    ) -> RawClient {
        RawClient {
            driver: Arc::new(Driver::new(placements, Some(known))),
            options,
        }
    }

    /// The same client with other options, sharing everything.
    pub fn with_options(&self, options: Options) -> RawClient {
        RawClient {
            driver: self.driver.clone(),
            options,
        }
    }

    /// The value of a key, if it has one.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        let key = key.into();
        check_key(&key)?;
        let request = |_: &_| kvrpcpb::RawGetRequest {
            key: key.clone(),
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok((!response.not_found).then_some(response.value))
    }

    /// Stores a value.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), Error> {
        let (key, value) = (key.into(), value.into());
        check_key(&key)?;
        check_value(&value)?;
        let request = |_: &_| kvrpcpb::RawPutRequest {
            key: key.clone(),
            value: value.clone(),
            ..Default::default()
        };
        self.call(&key, request).await?;
        Ok(())
    }

    /// Removes a key; a missing one is fine.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<(), Error> {
        let key = key.into();
        check_key(&key)?;
        let request = |_: &_| kvrpcpb::RawDeleteRequest {
            key: key.clone(),
            ..Default::default()
        };
        self.call(&key, request).await?;
        Ok(())
    }

    /// Where a key lives: as it is cached, or else as placement says.
    pub async fn locate(&self, key: impl Into<Bytes>) -> Result<Location, Error> {
        let deadline = self.deadline();
        let route = self.driver.locate(Point::At(key.into()), deadline).await?;
        let mut peers = Vec::with_capacity(route.peers.len());
        for peer in &route.peers {
            let left = deadline.saturating_sub(self.driver.clock.now());
            peers.push((*peer, self.driver.store_address(peer.store, left).await));
        }
        Ok(Location { route, peers })
    }

    /// Where the leader of the placement driver is, `host:port`, as its members say now. Each of
    /// them is asked once; an election is waited out as long as they hold their answers.
    pub async fn placement_leader(&self) -> Result<String, Error> {
        let leader = self.driver.placement_leader(self.deadline()).await?;
        Ok(leader.to_string())
    }

    /// One call for the region of a key.
    async fn call<R: Rpc>(
        &self,
        key: &Bytes,
        request: impl FnMut(&Target) -> R + Send,
    ) -> Result<(R::Response, Arc<Route>), Error> {
        self.driver
            .call(Point::At(key.clone()), self.deadline(), request)
            .await
    }

    /// Makes the next call of a visit.
    async fn go_on<V>(&self, visit: &mut V) -> Result<(), Error>
    where
        V: Visit<Request: Rpc> + Send + Sync,
    {
        let Some(point) = visit.point() else {
            return Ok(());
        };
        let request = |target: &Target| visit.request(&target.route);
        let (response, route) = self.driver.call(point, self.deadline(), request).await?;
        visit.on_answer(&route, response);
        Ok(())
    }

    /// Makes all calls of a visit.
    async fn finish<V>(&self, visit: &mut V) -> Result<(), Error>
    where
        V: Visit<Request: Rpc> + Send + Sync,
    {
        while visit.point().is_some() {
            self.go_on(visit).await?;
        }
        Ok(())
    }

    /// When a call that begins now has to be over.
    fn deadline(&self) -> Duration {
        self.driver.clock.now() + self.options.deadline
    }
}

/// Refuses a bound that is longer than a key can be; an empty one is no bound.
fn check_bound(bound: &[u8]) -> Result<(), Error> {
    match check_key(bound) {
        Err(tinykv_keys::LimitError::EmptyKey) | Ok(()) => Ok(()),
        Err(error) => Err(Error::before(Reason::Invalid(error))),
    }
}
