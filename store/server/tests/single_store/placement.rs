//! A placement driver of one page: hands out ids, accepts the first founder, remembers what it is
//! told, tells the time it is given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::ready;
use parking_lot::Mutex;
use tinykv_proto::pdpb::pd_server::{Pd, PdServer};
use tinykv_proto::{metapb, pdpb};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::load::Told;

const CLUSTER: u64 = 77;

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) store: Option<metapb::Store>,
    pub(crate) founding: Vec<metapb::Region>,
    /// Regions that reported a leader, by id.
    pub(crate) led: std::collections::BTreeMap<u64, pdpb::RegionHeartbeatRequest>,
    pub(crate) starts: Vec<u64>,
    /// Heartbeats of the store.
    pub(crate) heartbeats: u64,
    /// Regions whose replica is damaged, by the last of them.
    pub(crate) damaged: Vec<u64>,
    /// Parts of splits that were reported.
    pub(crate) reported: Vec<Vec<metapb::Region>>,
    /// Sums of what heartbeats of regions told about their flow.
    pub(crate) regions_told: Told,
    /// The same of the store's heartbeats.
    pub(crate) store_told: Told,
    /// The slow score of the last heartbeat of the store.
    pub(crate) slow_score: u64,
    /// From which size, requests and bytes a second on it splits regions.
    pub(crate) splits: [u64; 3],
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) known: watch::Sender<Known>,
    time_ms: AtomicU64,
    orders: broadcast::Sender<pdpb::RegionHeartbeatResponse>,
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
            orders: broadcast::Sender::new(64),
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

    /// Orders a region to be split, for the epoch it is known with.
    pub(crate) fn order_split(&self, region: &metapb::Region, keys: &[&'static [u8]]) {
        let policy = match keys {
            [] => pdpb::CheckPolicy::Approximate,
            _ => pdpb::CheckPolicy::Usekey,
        };
        let order = pdpb::RegionHeartbeatResponse {
            header: header(),
            region_id: region.id,
            region_epoch: region.region_epoch,
            split_region: Some(pdpb::SplitRegion {
                policy: policy.into(),
                keys: keys.iter().map(|key| Bytes::from_static(key)).collect(),
            }),
            ..pdpb::RegionHeartbeatResponse::default()
        };
        self.0.orders.send(order).expect("a store listens");
    }

    fn draw(&self, count: u64) -> std::ops::RangeInclusive<u64> {
        let mut last = self.0.next_id.lock();
        let first = *last + 1;
        *last += count;
        first..=*last
    }

    /// Moves placement's time on and waits until the store goes by it.
    pub(crate) async fn pass_time(&self, ms: u64) {
        self.0.time_ms.fetch_add(ms, Ordering::Relaxed);
        let before = self.0.known.borrow().heartbeats;
        // The answer to one that was under way may tell the old time, the answer to the next tells
        // the new one, and the one after that is sent when the answer was heard.
        self.wait(|known| known.heartbeats >= before + 3).await;
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
            known.regions_told.add_region(&heartbeat);
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
        Ok(Response::new(pdpb::AllocIdResponse {
            header: header(),
            id: *self.draw(u64::from(count)).end(),
            count,
        }))
    }

    async fn ask_batch_split(
        &self,
        request: Request<pdpb::AskBatchSplitRequest>,
    ) -> Result<Response<pdpb::AskBatchSplitResponse>, Status> {
        let request = request.into_inner();
        let peers = request.region.unwrap_or_default().peers.len() as u64;
        let ids = (0..request.split_count).map(|_| {
            let mut ids = self.draw(1 + peers);
            pdpb::SplitId {
                new_region_id: ids.next().expect("one at least"),
                new_peer_ids: ids.collect(),
            }
        });
        Ok(Response::new(pdpb::AskBatchSplitResponse {
            header: header(),
            ids: ids.collect(),
        }))
    }

    async fn report_batch_split(
        &self,
        request: Request<pdpb::ReportBatchSplitRequest>,
    ) -> Result<Response<pdpb::ReportBatchSplitResponse>, Status> {
        let regions = request.into_inner().regions;
        self.0
            .known
            .send_modify(|known| known.reported.push(regions));
        Ok(Response::new(pdpb::ReportBatchSplitResponse {
            header: header(),
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
        request: Request<pdpb::StoreHeartbeatRequest>,
    ) -> Result<Response<pdpb::StoreHeartbeatResponse>, Status> {
        let request = request.into_inner();
        let splits = [
            request.region_split_size,
            request.region_split_qps,
            request.region_split_flow,
        ];
        let stats = request.stats.unwrap_or_default();
        self.0.known.send_modify(|known| {
            known.heartbeats += 1;
            known.splits = splits;
            known.store_told.add_store(&stats);
            known.slow_score = stats.slow_score;
            known.damaged = stats.damaged_regions_id;
        });
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
        let orders = self.0.orders.subscribe();
        let orders = futures::stream::unfold(orders, async |mut orders| {
            orders.recv().await.ok().map(|order| (Ok(order), orders))
        });
        let heard = heartbeats.filter_map(move |heartbeat| {
            heartbeat
                .into_iter()
                .for_each(|heartbeat| placement.hear(heartbeat));
            ready(None)
        });
        let answers = futures::stream::select(heard, orders);
        Ok(Response::new(answers.boxed()))
    }
}
