//! The link to the placement driver: which member leads, and where regions and stores are.
//!
//! A look-up is one attempt; whether there is another is for the call to decide. Any member may be
//! given and any may be dead: who leads is asked of all that are known, and those learnt from their
//! answers. After a failure the link forgets who leads and asks again. An election is waited out:
//! members hold their answers until there is a leader, and the call comes back until its deadline.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tinykv_keys::KEY_BYTES_MAX;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::{ASKER_METADATA, ASKER_RAW, pdpb};
use tokio::time::{sleep, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::clock::Clock;
use super::connections::{Connections, last_cause};
use super::members::{Members, bare_address};
use crate::retry::LookupFailure;
use crate::routing::{Point, Route, StoreId};
use crate::wire;

/// How long the leader may be silent before the members are asked who leads.
const SILENCE: Duration = Duration::from_millis(300);

/// How much later than one member the next is asked who leads.
const STAGGER: Duration = Duration::from_millis(50);

/// Longer than any boundary can be: a plain key of the longest kind, or its encoding.
const BEYOND_ALL_KEYS: usize = KEY_BYTES_MAX / 8 * 9 + 4_096;

/// The link to the placement driver.
#[derive(Debug)]
pub(crate) struct Placement {
    clock: Clock,
    connections: Arc<Connections>,
    members: Mutex<Members>,
}

impl Placement {
    /// A link over these addresses, `host:port` each, perhaps with `http://`.
    pub(crate) fn new(
        clock: Clock,
        connections: Arc<Connections>,
        addresses: &[String],
    ) -> Placement {
        Placement {
            clock,
            connections,
            members: Mutex::new(Members::new(addresses)),
        }
    }

    /// The cluster's id; 0 as long as no member was asked.
    pub(crate) fn cluster_id(&self) -> u64 {
        self.members.lock().cluster_id()
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
    ///
    /// Placement may hold a look-up open for a while, so silence alone says nothing. While it
    /// lasts, the members are asked again and again who leads; the answer of another leader is not
    /// waited for behind one that is gone.
    async fn ask<T, F>(
        &self,
        deadline: Duration,
        call: impl Fn(PdClient<Channel>, pdpb::RequestHeader) -> F,
    ) -> Result<T, LookupFailure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let known = self.members.lock().leader(self.clock.now());
        let mut address = match known {
            Some(leader) => leader,
            None => self.find_leader(deadline, None).await?,
        };
        let ask_at = |address: Arc<str>| {
            let call = &call;
            async move { self.ask_at(&address, deadline, call).await }
        };
        let mut asked = pin!(ask_at(address.clone()));
        loop {
            let doubt = async {
                sleep(SILENCE).await;
                self.find_leader(deadline, Some(&address)).await
            };
            tokio::select! {
                biased;
                answer = &mut asked => {
                    if matches!(
                        answer,
                        Err(LookupFailure::Unreachable { .. } | LookupFailure::NoLeader { .. })
                    ) {
                        self.members.lock().lose_leader(&address);
                    }
                    return answer;
                }
                found = doubt => {
                    if let Ok(leader) = found
                        && leader != address
                    {
                        asked.set(ask_at(leader.clone()));
                        address = leader;
                    }
                }
            }
        }
    }

    /// Asks the members who leads: one after the other, without waiting long for any of them, so
    /// that dead ones cost little. The first answer counts; but only the silent member itself can
    /// say that it is the leader, others may not have noticed yet that it is gone.
    pub(crate) async fn find_leader(
        &self,
        deadline: Duration,
        silent: Option<&Arc<str>>,
    ) -> Result<Arc<str>, LookupFailure> {
        let members = self.members.lock().in_turn();
        let mut asked: FuturesUnordered<_> = members
            .into_iter()
            .enumerate()
            .map(|(at, address)| async move {
                sleep(STAGGER * at as u32).await;
                let answer = self.ask_at(&address, deadline, get_members).await;
                (address, answer)
            })
            .collect();
        let mut failure = LookupFailure::Unreachable {
            cause: "no address was given".to_owned(),
        };
        while let Some((address, answer)) = asked.next().await {
            let mut members = self.members.lock();
            match answer.and_then(|response| members.learn(response)) {
                Ok(leader) if Some(&leader) != silent || leader == address => {
                    members.set_leader(leader.clone());
                    return Ok(leader);
                }
                Ok(_) => {}
                // What somebody said is worth more than that somebody did not answer.
                Err(broken @ LookupFailure::Unreachable { .. }) => {
                    if matches!(failure, LookupFailure::Unreachable { .. }) {
                        failure = broken;
                    }
                }
                Err(told) => failure = told,
            }
        }
        Err(failure)
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
                None if is_about_the_member(status.code()) => Err(LookupFailure::NoLeader {
                    message: format!("{address}: {}", status.message()),
                }),
                None => Err(unknown(status.message().to_owned())),
            },
            Err(_) => {
                self.connections.on_silence(&connection, began);
                Err(at("no answer in time"))
            }
        }
    }
}

/// Asks a member for all of them.
async fn get_members(
    mut client: PdClient<Channel>,
    header: pdpb::RequestHeader,
) -> Result<Response<pdpb::GetMembersResponse>, Status> {
    let header = Some(header);
    client.get_members(pdpb::GetMembersRequest { header }).await
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
        .and_then(|region| wire::route(region, leader.as_ref()));
    route.ok_or_else(|| unknown("it has no region for the key".to_owned()))
}

/// An error in the header of an answer.
pub(super) fn refused(header: Option<&pdpb::ResponseHeader>) -> Result<(), LookupFailure> {
    match header.and_then(|header| header.error.as_ref()) {
        Some(error) => Err(unknown(error.message.clone())),
        None => Ok(()),
    }
}

pub(super) fn unknown(message: String) -> LookupFailure {
    LookupFailure::Unknown { message }
}
