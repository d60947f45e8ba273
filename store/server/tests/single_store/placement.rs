//! A placement driver of one page: hands out ids, accepts the first founder, remembers what it is
//! told, tells the time it is given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use futures::future::ready;
use parking_lot::Mutex;
use tinykv_proto::pdpb::pd_server::{Pd, PdServer};
use tinykv_proto::{metapb, pdpb};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

const CLUSTER: u64 = 77;

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) store: Option<metapb::Store>,
    pub(crate) founding: Vec<metapb::Region>,
    /// Regions that reported a leader, by id.
    pub(crate) led: std::collections::BTreeMap<u64, pdpb::RegionHeartbeatRequest>,
    pub(crate) starts: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) known: watch::Sender<Known>,
    pub(crate) time_ms: AtomicU64,
    next_id: Mutex<u64>,
    address: SocketAddr,
}

#[derive(Clone, Debug)]
pub(crate) struct Placement(pub(crate) Arc<Shared>);

impl Placement {
    /// Listens on a free port; `tasks` ends it.
    pub(crate) async fn start(tasks: &mut tokio::task::JoinSet<()>) -> Placement {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let placement = Placement(Arc::new(Shared {
            known: watch::Sender::default(),
            time_ms: AtomicU64::new(1_000_000),
            next_id: Mutex::new(1000),
            address: listener.local_addr().expect("address"),
        }));
        let service = PdServer::new(placement.clone());
        tasks.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("serve");
        });
        placement
    }

    pub(crate) fn address(&self) -> String {
        self.0.address.to_string()
    }

    /// Waits until what is known is so.
    pub(crate) async fn wait(&self, is_so: impl FnMut(&Known) -> bool) -> Known {
        let mut known = self.0.known.subscribe();
        known
            .wait_for(is_so)
            .await
            .expect("placement lives")
            .clone()
    }
}

impl Placement {
    fn hear(&self, heartbeat: pdpb::RegionHeartbeatRequest) {
        let region = heartbeat.region.as_ref().map_or(0, |region| region.id);
        self.0.known.send_modify(|known| {
            known.led.insert(region, heartbeat);
        });
    }
}

fn header() -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader {
        cluster_id: CLUSTER,
        error: None,
    })
}

#[tonic::async_trait]
impl Pd for Placement {
    async fn get_members(
        &self,
        _request: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let member = pdpb::Member {
            member_id: 1,
            client_urls: vec![format!("http://{}", self.0.address)],
            ..pdpb::Member::default()
        };
        Ok(Response::new(pdpb::GetMembersResponse {
            header: header(),
            members: vec![member.clone()],
            leader: Some(member),
            etcd_leader: None,
        }))
    }

    async fn alloc_id(
        &self,
        request: Request<pdpb::AllocIdRequest>,
    ) -> Result<Response<pdpb::AllocIdResponse>, Status> {
        let count = request.into_inner().count.max(1);
        let mut next = self.0.next_id.lock();
        *next += u64::from(count);
        Ok(Response::new(pdpb::AllocIdResponse {
            header: header(),
            id: *next,
            count,
        }))
    }

    async fn is_bootstrapped(
        &self,
        _request: Request<pdpb::IsBootstrappedRequest>,
    ) -> Result<Response<pdpb::IsBootstrappedResponse>, Status> {
        Ok(Response::new(pdpb::IsBootstrappedResponse {
            header: header(),
            bootstrapped: !self.0.known.borrow().founding.is_empty(),
        }))
    }

    async fn bootstrap(
        &self,
        request: Request<pdpb::BootstrapRequest>,
    ) -> Result<Response<pdpb::BootstrapResponse>, Status> {
        let regions = request.into_inner().regions;
        self.0.known.send_modify(|known| known.founding = regions);
        Ok(Response::new(pdpb::BootstrapResponse { header: header() }))
    }

    async fn put_store(
        &self,
        request: Request<pdpb::PutStoreRequest>,
    ) -> Result<Response<pdpb::PutStoreResponse>, Status> {
        let request = request.into_inner();
        let start = request.header.map_or(0, |header| header.sender_start);
        self.0.known.send_modify(|known| {
            known.store = request.store;
            known.starts.push(start);
        });
        Ok(Response::new(pdpb::PutStoreResponse { header: header() }))
    }

    async fn get_all_stores(
        &self,
        _request: Request<pdpb::GetAllStoresRequest>,
    ) -> Result<Response<pdpb::GetAllStoresResponse>, Status> {
        Ok(Response::new(pdpb::GetAllStoresResponse {
            header: header(),
            stores: self.0.known.borrow().store.iter().cloned().collect(),
        }))
    }

    async fn store_heartbeat(
        &self,
        _request: Request<pdpb::StoreHeartbeatRequest>,
    ) -> Result<Response<pdpb::StoreHeartbeatResponse>, Status> {
        Ok(Response::new(pdpb::StoreHeartbeatResponse {
            header: header(),
            wanted_replicas: 1,
            interval_ms: 100,
            time_ms: self.0.time_ms.load(Ordering::Relaxed),
            ..pdpb::StoreHeartbeatResponse::default()
        }))
    }

    async fn region_heartbeat(
        &self,
        request: Request<Streaming<pdpb::RegionHeartbeatRequest>>,
    ) -> Result<Response<BoxStream<pdpb::RegionHeartbeatResponse>>, Status> {
        let mut heartbeats = request.into_inner();
        // As strict as a server may be: it answers only after the first heartbeat.
        if let Some(first) = heartbeats.message().await? {
            self.hear(first);
        }
        let placement = self.clone();
        let orders = heartbeats.filter_map(move |heartbeat| {
            heartbeat
                .into_iter()
                .for_each(|heartbeat| placement.hear(heartbeat));
            ready(None)
        });
        Ok(Response::new(orders.boxed()))
    }
}
