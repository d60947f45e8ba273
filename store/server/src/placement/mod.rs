//! The store's link to the placement driver.
//!
//! [`Placement`] knows the members' addresses, finds the one that leads, and makes one call at a
//! time to it. A call that fails forgets the leader, so that the next one looks for it again;
//! nothing here repeats a call. Who must get through keeps asking with [`Placement::insist`].

mod address_book;
mod stores;

use std::future::Future;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tinykv_node::failure::Failure;
use tinykv_node::identity::Identity;
use tinykv_node::process::Stop;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::{metapb, pdpb};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

pub use stores::Stores;

/// Time a member has to accept a connection or to say who leads.
const LOOK_TIME_MAX: Duration = Duration::from_millis(700);
/// Time a call may take. A little more than placement's own election.
const CALL_TIME_MAX: Duration = Duration::from_secs(3);
/// Time between two tries of [`Placement::insist`].
const TRY_INTERVAL: Duration = Duration::from_millis(500);
/// Who leads is asked again after this long, though nothing failed: members come and go, and whoever
/// knows none of those that are there finds placement no more.
const LEADER_AGE_MAX: Duration = Duration::from_secs(5);
/// Members remembered beyond the configured ones.
const MEMBERS_MAX: usize = 32;

/// Why a call to placement did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No member that leads answers now; it may later.
    #[error("no placement driver answers at {addresses}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        addresses: String,
        /// What the last try said.
        reason: String,
    },
    /// Placement understood the call and refuses it.
    #[error("the placement driver refuses: {message}")]
    Refused {
        /// The kind of refusal (`pdpb.ErrorType`).
        kind: pdpb::ErrorType,
        /// Its sentence.
        message: String,
    },
    /// The placement driver belongs to another cluster than the data directory.
    #[error(
        "the placement driver at {address} belongs to cluster {theirs}, the data directory to \
         cluster {ours}"
    )]
    OtherCluster {
        /// Who said so.
        address: String,
        /// Its cluster.
        theirs: u64,
        /// The cluster of the data directory.
        ours: u64,
    },
}

impl CallError {
    /// The end of a process that cannot go on without the call.
    pub fn into_failure(self) -> Failure {
        match self {
            CallError::OtherCluster { .. } | CallError::Refused { .. } => Failure::storage(self),
            CallError::Unreachable { .. } => Failure::other(self),
        }
    }
}

/// The placement driver as one store sees it.
#[derive(Debug)]
pub struct Placement {
    configured: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Addresses members told of, beyond the configured ones.
    learned: Vec<String>,
    /// Who led when last looked for.
    leader: Option<Leader>,
    /// 0 until a member told, or the identity is known.
    cluster_id: u64,
    identity: Option<Identity>,
}

/// A member that said that it leads, or of which another one did.
#[derive(Debug)]
struct Leader {
    client: PdClient<Channel>,
    address: String,
    found: Instant,
}

impl Placement {
    /// A link to members at these addresses (`host:port`).
    pub fn new(addresses: Vec<String>, identity: Option<Identity>) -> Placement {
        let state = State {
            cluster_id: identity.map_or(0, |identity| identity.cluster_id),
            identity,
            ..State::default()
        };
        Placement {
            configured: addresses,
            state: Mutex::new(state),
        }
    }

    /// From now on every call carries this identity.
    pub fn identify(&self, identity: Identity) {
        self.state.lock().identity = Some(identity);
    }

    /// The cluster placement drives.
    pub async fn cluster_id(&self) -> Result<u64, CallError> {
        self.leader().await?;
        Ok(self.state.lock().cluster_id)
    }

    /// Ids that were never used before.
    pub async fn allocate(&self, count: u32) -> Result<RangeInclusive<u64>, CallError> {
        let answer = self
            .call(
                async |mut client, header| {
                    let request = pdpb::AllocIdRequest {
                        header: Some(header),
                        count,
                    };
                    client.alloc_id(request).await
                },
                |answer| &answer.header,
            )
            .await?;
        let first = answer.id.checked_sub(u64::from(count.max(1)) - 1);
        match first {
            Some(first) if first > 0 => Ok(first..=answer.id),
            _ => Err(CallError::Refused {
                kind: pdpb::ErrorType::InvalidValue,
                message: format!("{} is no end of {count} ids", answer.id),
            }),
        }
    }

    /// Whether the cluster was founded.
    pub async fn is_bootstrapped(&self) -> Result<bool, CallError> {
        let answer = self
            .call(
                async |mut client, header| {
                    let request = pdpb::IsBootstrappedRequest {
                        header: Some(header),
                    };
                    client.is_bootstrapped(request).await
                },
                |answer| &answer.header,
            )
            .await?;
        Ok(answer.bootstrapped)
    }

    /// Founds the cluster with this store and these regions.
    pub async fn bootstrap(
        &self,
        store: metapb::Store,
        regions: Vec<metapb::Region>,
    ) -> Result<(), CallError> {
        self.call(
            async |mut client, header| {
                let request = pdpb::BootstrapRequest {
                    header: Some(header),
                    store: Some(store.clone()),
                    region: regions.first().cloned(),
                    regions: regions.clone(),
                };
                client.bootstrap(request).await
            },
            |answer| &answer.header,
        )
        .await
        .map(|_| ())
    }

    /// Reports this store for duty.
    pub async fn put_store(&self, store: metapb::Store) -> Result<(), CallError> {
        self.call(
            async |mut client, header| {
                let request = pdpb::PutStoreRequest {
                    header: Some(header),
                    store: Some(store.clone()),
                };
                client.put_store(request).await
            },
            |answer| &answer.header,
        )
        .await
        .map(|_| ())
    }

    /// Tells that the store lives.
    pub async fn store_heartbeat(
        &self,
        heartbeat: pdpb::StoreHeartbeatRequest,
    ) -> Result<pdpb::StoreHeartbeatResponse, CallError> {
        self.call(
            async |mut client, header| {
                let request = pdpb::StoreHeartbeatRequest {
                    header: Some(header),
                    ..heartbeat.clone()
                };
                client.store_heartbeat(request).await
            },
            |answer| &answer.header,
        )
        .await
    }

    /// A region as placement knows it; `None` if it knows none of this id.
    pub async fn region(&self, region_id: u64) -> Result<Option<metapb::Region>, CallError> {
        let answer = self
            .call(
                async |mut client, header| {
                    let request = pdpb::GetRegionByIdRequest {
                        header: Some(header),
                        region_id,
                        need_buckets: false,
                    };
                    client.get_region_by_id(request).await
                },
                |answer: &pdpb::GetRegionResponse| &answer.header,
            )
            .await;
        found(answer)
    }

    /// The region that holds a routing key as placement knows it; `None` if it knows none.
    pub async fn region_at(&self, key: &[u8]) -> Result<Option<metapb::Region>, CallError> {
        let answer = self
            .call(
                async |mut client, header| {
                    let request = pdpb::GetRegionRequest {
                        header: Some(header),
                        region_key: key.to_vec().into(),
                        need_buckets: false,
                    };
                    client.get_region(request).await
                },
                |answer: &pdpb::GetRegionResponse| &answer.header,
            )
            .await;
        found(answer)
    }

    /// All stores of the cluster that have not left it.
    pub async fn stores(&self) -> Result<Vec<metapb::Store>, CallError> {
        let answer = self
            .call(
                async |mut client, header| {
                    let request = pdpb::GetAllStoresRequest {
                        header: Some(header),
                        exclude_tombstone_stores: true,
                    };
                    client.get_all_stores(request).await
                },
                |answer| &answer.header,
            )
            .await?;
        Ok(answer.stores)
    }

    /// Ids for the regions and peers that a split will make, in key order.
    pub async fn ask_batch_split(
        &self,
        region: metapb::Region,
        split_count: u32,
        reason: pdpb::SplitReason,
    ) -> Result<Vec<pdpb::SplitId>, CallError> {
        let answer = self
            .call(
                async |mut client, header| {
                    let request = pdpb::AskBatchSplitRequest {
                        header: Some(header),
                        region: Some(region.clone()),
                        split_count,
                        reason: reason.into(),
                    };
                    client.ask_batch_split(request).await
                },
                |answer| &answer.header,
            )
            .await?;
        Ok(answer.ids)
    }

    /// Tells of all parts of a split that was applied, in key order.
    pub async fn report_batch_split(&self, regions: Vec<metapb::Region>) -> Result<(), CallError> {
        self.call(
            async |mut client, header| {
                let request = pdpb::ReportBatchSplitRequest {
                    header: Some(header),
                    regions: regions.clone(),
                };
                client.report_batch_split(request).await
            },
            |answer| &answer.header,
        )
        .await
        .map(|_| ())
    }

    /// Opens the stream of region heartbeats; orders come back on it.
    pub async fn region_heartbeats(
        &self,
        heartbeats: impl futures::Stream<Item = pdpb::RegionHeartbeatRequest> + Send + 'static,
    ) -> Result<tonic::Streaming<pdpb::RegionHeartbeatResponse>, CallError> {
        let mut client = self.leader().await?;
        let opened = tokio::time::timeout(CALL_TIME_MAX, client.region_heartbeat(heartbeats));
        match opened.await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.failed(&Status::deadline_exceeded("no answer in time"))),
        }
    }

    /// The header of a request.
    pub fn header(&self) -> pdpb::RequestHeader {
        let state = self.state.lock();
        pdpb::RequestHeader {
            cluster_id: state.cluster_id,
            sender_id: state.identity.map_or(0, |identity| identity.member_id),
            sender_incarnation: state.identity.map_or(0, |identity| identity.incarnation),
            sender_start: state.identity.map_or(0, |identity| identity.start_number),
            ..pdpb::RequestHeader::default()
        }
    }

    /// Forgets who leads, so that the next call looks for it.
    pub fn forget_leader(&self) {
        self.state.lock().leader = None;
    }

    /// Makes a call again and again until placement answers it, one way or the other. The first
    /// failure and the recovery are logged. `None` when `stop` was requested before.
    pub async fn insist<'a, T>(
        &self,
        stop: &Stop,
        call: impl Fn() -> BoxFuture<'a, Result<T, CallError>>,
    ) -> Option<Result<T, CallError>> {
        let mut waited = false;
        loop {
            let answer = tokio::select! {
                answer = call() => answer,
                () = stop.requested() => return None,
            };
            match answer {
                Err(error @ CallError::Unreachable { .. }) => {
                    if !waited {
                        tracing::warn!("{error}; trying again until it does");
                        waited = true;
                    }
                }
                answer => {
                    if waited {
                        tracing::info!("the placement driver answers again");
                    }
                    return Some(answer);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TRY_INTERVAL) => {}
                () = stop.requested() => return None,
            }
        }
    }

    /// One call to the leader.
    async fn call<T, F>(
        &self,
        request: impl Fn(PdClient<Channel>, pdpb::RequestHeader) -> F,
        header: impl Fn(&T) -> &Option<pdpb::ResponseHeader>,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = self.leader().await?;
        let answer = tokio::time::timeout(CALL_TIME_MAX, request(client, self.header())).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(self.failed(&status)),
            Err(_) => return Err(self.failed(&Status::deadline_exceeded("no answer in time"))),
        };
        match header(&answer)
            .as_ref()
            .and_then(|header| header.error.as_ref())
        {
            None => Ok(answer),
            Some(error) => Err(CallError::Refused {
                kind: error.r#type(),
                message: error.message.clone(),
            }),
        }
    }

    fn failed(&self, status: &Status) -> CallError {
        self.forget_leader();
        let kind = match status.code() {
            Code::InvalidArgument => pdpb::ErrorType::InvalidValue,
            Code::FailedPrecondition | Code::PermissionDenied => pdpb::ErrorType::Unknown,
            code => return self.unreachable(format!("{code:?}: {}", status.message())),
        };
        CallError::Refused {
            kind,
            message: status.message().to_owned(),
        }
    }

    fn unreachable(&self, reason: String) -> CallError {
        CallError::Unreachable {
            addresses: self.configured.join(","),
            reason,
        }
    }

    /// The member that leads, asked for if it is not known.
    async fn leader(&self) -> Result<PdClient<Channel>, CallError> {
        let candidates = {
            let state = self.state.lock();
            let known = state.leader.as_ref();
            if let Some(leader) = known.filter(|it| it.found.elapsed() < LEADER_AGE_MAX) {
                return Ok(leader.client.clone());
            }
            let last = known.map(|leader| &leader.address).into_iter();
            let mut candidates: Vec<String> = Vec::new();
            for address in last.chain(&self.configured).chain(&state.learned) {
                if !candidates.contains(address) {
                    candidates.push(address.clone());
                }
            }
            candidates
        };
        let mut reason = "no member is configured".to_owned();
        for address in candidates {
            match self.ask_for_leader(&address).await? {
                Ok(leader) => {
                    let client = leader.client.clone();
                    self.state.lock().leader = Some(leader);
                    return Ok(client);
                }
                Err(why) => reason = why,
            }
        }
        Err(self.unreachable(reason))
    }

    /// Asks one member who leads and connects to that one. The inner error is why this member
    /// could not help.
    async fn ask_for_leader(&self, address: &str) -> Result<Result<Leader, String>, CallError> {
        let look = async {
            let mut client = connect(address).await?;
            let answer = client
                .get_members(pdpb::GetMembersRequest::default())
                .await
                .map_err(|status| format!("{address}: {}", status.message()))?
                .into_inner();
            Ok((client, answer))
        };
        let (client, answer) = match tokio::time::timeout(LOOK_TIME_MAX, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(reason)) => return Ok(Err(reason)),
            Err(_) => return Ok(Err(format!("{address}: no answer in time"))),
        };
        self.learn(address, &answer)?;
        let Some(leader) = answer.leader else {
            return Ok(Err(format!("{address}: no member leads now")));
        };
        let Some(url) = leader.client_urls.first() else {
            return Ok(Err(format!("{address}: the leader has no address")));
        };
        let at = bare(url);
        let leader = |client| Leader {
            client,
            address: at.to_owned(),
            found: Instant::now(),
        };
        if at == address {
            return Ok(Ok(leader(client)));
        }
        match tokio::time::timeout(LOOK_TIME_MAX, connect(at)).await {
            Ok(connected) => Ok(connected.map(leader)),
            Err(_) => Ok(Err(format!("{at}: no connection in time"))),
        }
    }

    fn learn(&self, address: &str, answer: &pdpb::GetMembersResponse) -> Result<(), CallError> {
        let theirs = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        let mut state = self.state.lock();
        if state.cluster_id == 0 {
            state.cluster_id = theirs;
        } else if theirs != 0 && theirs != state.cluster_id {
            return Err(CallError::OtherCluster {
                address: address.to_owned(),
                theirs,
                ours: state.cluster_id,
            });
        }
        let urls = answer.members.iter().flat_map(|member| &member.client_urls);
        state.learned = urls
            .take(MEMBERS_MAX)
            .map(|url| bare(url).to_owned())
            .collect();
        Ok(())
    }
}

fn bare(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

async fn connect(address: &str) -> Result<PdClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("{address}: {error}"))?
        .connect_timeout(LOOK_TIME_MAX)
        .http2_keep_alive_interval(Duration::from_secs(3))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match endpoint.connect().await {
        Ok(channel) => Ok(PdClient::new(channel)),
        Err(error) => Err(format!("{address}: {}", root_cause(&error))),
    }
}

/// tonic says "transport error" and hides the reason below.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn found(
    answer: Result<pdpb::GetRegionResponse, CallError>,
) -> Result<Option<metapb::Region>, CallError> {
    match answer {
        Ok(answer) => Ok(answer.region),
        Err(CallError::Refused {
            kind: pdpb::ErrorType::RegionNotFound,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}
