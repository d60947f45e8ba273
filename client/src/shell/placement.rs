//! The link to the placement driver: which member leads, and where regions and stores are.
//!
//! A look-up is one attempt; whether there is another is for the call to decide. After a failure
//! the link forgets who leads, and the next attempt begins by asking the next member it knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tinykv_keys::KEY_BYTES_MAX;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::{ASKER_METADATA, ASKER_RAW, pdpb};
use tokio::time::timeout_at;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::clock::Clock;
use super::connections::{Connections, last_cause};
use super::convert;
use crate::retry::LookupFailure;
use crate::routing::{Point, Route, StoreId};

/// How long asking one member for the others may take.
const MEMBERS_TIMEOUT: Duration = Duration::from_millis(800);

/// Addresses of members kept at most.
const ADDRESSES_MAX: usize = 64;

/// Longer than any boundary can be: a plain key of the longest kind, or its encoding.
const BEYOND_ALL_KEYS: usize = KEY_BYTES_MAX / 8 * 9 + 4_096;

/// The link to the placement driver.
#[derive(Debug)]
pub(crate) struct Placement {
    clock: Clock,
    connections: Arc<Connections>,
    state: Mutex<Members>,
}

/// What is known about the members.
#[derive(Debug)]
struct Members {
    /// Where members are: those given, then those learnt.
    addresses: Vec<Arc<str>>,
    /// Whom to ask next when nobody is known to lead.
    next: usize,
    /// Where the leader is, if that is known.
    leader: Option<Arc<str>>,
    /// The cluster; 0 until a member told.
    cluster_id: u64,
}

impl Placement {
    /// A link over these addresses, `host:port` each, perhaps with `http://`.
    pub(crate) fn new(
        clock: Clock,
        connections: Arc<Connections>,
        addresses: &[String],
    ) -> Placement {
        let addresses = addresses.iter().map(|it| bare_address(it)).collect();
        let state = Members {
            addresses,
            next: 0,
            leader: None,
            cluster_id: 0,
        };
        Placement {
            clock,
            connections,
            state: Mutex::new(state),
        }
    }

    /// The cluster's id; 0 as long as no member was asked.
    pub(crate) fn cluster_id(&self) -> u64 {
        self.state.lock().cluster_id
    }

    /// The region that contains a point.
    pub(crate) async fn locate(
        &self,
        point: &Point,
        timeout: Duration,
    ) -> Result<Route, LookupFailure> {
        let deadline = self.clock.now() + timeout;
        let key = match point {
            Point::At(key) => key.clone(),
            Point::Below(limit) if limit.is_empty() => Bytes::from(vec![0xFF; BEYOND_ALL_KEYS]),
            Point::Below(limit) => limit.clone(),
        };
        let request = |header| pdpb::GetRegionRequest {
            header: Some(header),
            region_key: key.clone(),
            need_buckets: false,
        };
        let found = self
            .ask(deadline, |mut client, header| {
                let request = raw(request(header));
                async move { client.get_region(request).await }
            })
            .await
            .and_then(to_route)?;
        match point {
            Point::Below(limit) if !limit.is_empty() && found.start >= limit => self
                .ask(deadline, |mut client, header| {
                    let request = raw(request(header));
                    async move { client.get_prev_region(request).await }
                })
                .await
                .and_then(to_route),
            _ => Ok(found),
        }
    }

    /// Where a store is.
    pub(crate) async fn store_address(
        &self,
        store: StoreId,
        timeout: Duration,
    ) -> Result<String, LookupFailure> {
        let deadline = self.clock.now() + timeout;
        let response = self
            .ask(deadline, |mut client, header| {
                let request = pdpb::GetStoreRequest {
                    header: Some(header),
                    store_id: store.0,
                };
                async move { client.get_store(raw(request)).await }
            })
            .await?;
        refused(response.header.as_ref())?;
        match response.store {
            Some(found) if !found.address.is_empty() => {
                Ok(bare_address(&found.address).to_string())
            }
            _ => Err(unknown(format!("store {store} has no address"))),
        }
    }

    /// Sends one request to the leader.
    async fn ask<T, F>(
        &self,
        deadline: Duration,
        call: impl Fn(PdClient<Channel>, pdpb::RequestHeader) -> F,
    ) -> Result<T, LookupFailure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let address = self.leader(deadline).await?;
        let asked = self.ask_at(&address, deadline, call).await;
        if let Err(LookupFailure::Unreachable { .. }) = &asked {
            self.state.lock().lose_leader(&address);
        }
        asked
    }

    /// Where the leader is; asks a member if that is not known.
    async fn leader(&self, deadline: Duration) -> Result<Arc<str>, LookupFailure> {
        let address = {
            let mut state = self.state.lock();
            match state.leader.clone() {
                Some(leader) => return Ok(leader),
                None => state.next_address()?,
            }
        };
        let deadline = deadline.min(self.clock.now() + MEMBERS_TIMEOUT);
        let response = self
            .ask_at(&address, deadline, |mut client, header| async move {
                let request = pdpb::GetMembersRequest {
                    header: Some(header),
                };
                client.get_members(request).await
            })
            .await?;
        self.state.lock().learn(response)
    }

    /// Sends one request to a member.
    async fn ask_at<T, F>(
        &self,
        address: &Arc<str>,
        deadline: Duration,
        call: impl Fn(PdClient<Channel>, pdpb::RequestHeader) -> F,
    ) -> Result<T, LookupFailure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let began = self.clock.now();
        let until = self.clock.instant(deadline);
        let at = |cause: &str| LookupFailure::Unreachable {
            cause: format!("{address}: {cause}"),
        };
        let connection = match timeout_at(until, self.connections.get(address)).await {
            Ok(connected) => connected.map_err(|cause| at(&cause))?,
            Err(_) => return Err(at("no connection in time")),
        };
        let header = pdpb::RequestHeader {
            cluster_id: self.cluster_id(),
            caller_id: "tinykv-client".to_owned(),
            ..pdpb::RequestHeader::default()
        };
        let client = PdClient::new(connection.channel.clone());
        match timeout_at(until, call(client, header)).await {
            Ok(Ok(response)) => {
                self.connections.on_answer(&connection);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => match std::error::Error::source(&status) {
                Some(source) => {
                    self.connections.on_failure(&connection);
                    Err(at(&last_cause(source)))
                }
                None if is_about_the_member(status.code()) => Err(at(status.message())),
                None => Err(unknown(status.message().to_owned())),
            },
            Err(_) => {
                self.connections.on_silence(&connection, began);
                Err(at("no answer in time"))
            }
        }
    }
}

impl Members {
    /// Whom to ask; the next time it is the next one's turn.
    fn next_address(&mut self) -> Result<Arc<str>, LookupFailure> {
        let count = self.addresses.len();
        let Some(address) = self.addresses.get(self.next % count.max(1)) else {
            return Err(LookupFailure::Unreachable {
                cause: "no address was given".to_owned(),
            });
        };
        self.next = (self.next + 1) % count;
        Ok(address.clone())
    }

    /// The leader could not be asked, or leads no more.
    fn lose_leader(&mut self, address: &Arc<str>) {
        if self.leader.as_ref() == Some(address) {
            self.leader = None;
        }
    }

    /// A member told who the members are; returns where the leader is.
    fn learn(&mut self, response: pdpb::GetMembersResponse) -> Result<Arc<str>, LookupFailure> {
        refused(response.header.as_ref())?;
        let cluster_id = response.header.map_or(0, |header| header.cluster_id);
        if self.cluster_id != 0 && cluster_id != self.cluster_id {
            let known = self.cluster_id;
            let message = format!("a member belongs to cluster {cluster_id}, not to {known}");
            return Err(unknown(message));
        }
        self.cluster_id = cluster_id;
        for url in response
            .members
            .iter()
            .flat_map(|member| &member.client_urls)
        {
            let address = bare_address(url);
            if !self.addresses.contains(&address) && self.addresses.len() < ADDRESSES_MAX {
                self.addresses.push(address);
            }
        }
        let leader = response
            .leader
            .as_ref()
            .and_then(|leader| leader.client_urls.first());
        let leader = leader.map(|url| bare_address(url));
        self.leader = leader.clone();
        leader.ok_or_else(|| unknown("placement has no leader".to_owned()))
    }
}

/// A request that says what kind of asker this is.
fn raw<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(ASKER_METADATA, MetadataValue::from_static(ASKER_RAW));
    request
}

/// Whether another member may do better.
fn is_about_the_member(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}

/// The route in an answer.
fn to_route(response: pdpb::GetRegionResponse) -> Result<Route, LookupFailure> {
    refused(response.header.as_ref())?;
    let leader = response.leader;
    let route = response
        .region
        .and_then(|region| convert::route(region, leader.as_ref()));
    route.ok_or_else(|| unknown("it has no region for the key".to_owned()))
}

/// An error in the header of an answer.
fn refused(header: Option<&pdpb::ResponseHeader>) -> Result<(), LookupFailure> {
    match header.and_then(|header| header.error.as_ref()) {
        Some(error) => Err(unknown(error.message.clone())),
        None => Ok(()),
    }
}

fn unknown(message: String) -> LookupFailure {
    LookupFailure::Unknown { message }
}

/// An address without scheme and slash.
fn bare_address(url: &str) -> Arc<str> {
    let address = url.strip_prefix("http://").unwrap_or(url);
    Arc::from(address.trim_end_matches('/'))
}
