//! A member in this process, and a store that does what placement orders.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tinykv_node::process::Stop;
use tinykv_node::spawn::Fatal;
use tinykv_placement::config::Args;
use tinykv_placement::process::Member;
use tinykv_proto::metapb;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::pdpb::{self, RequestHeader};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Nothing here takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A running member over a directory.
pub(crate) struct Placement {
    pub(crate) address: String,
    pub(crate) cluster_id: u64,
    stop: Stop,
    tasks: JoinSet<()>,
}

impl Placement {
    pub(crate) async fn start(data: &Path) -> Placement {
        let mut placement = Placement::launch(data, &["--addr", "127.0.0.1:0"]).await;
        placement.await_leader().await;
        placement
    }

    /// Starts a member and does not wait for a leader.
    pub(crate) async fn launch(data: &Path, flags: &[&str]) -> Placement {
        let data = data.to_str().expect("a temporary path is UTF-8");
        let args = Args::parse_from(["test", "--data-dir", data].iter().chain(flags));
        let fatal = Fatal::new(|failure| panic!("{failure}"));
        let member = Member::start(&args, fatal).await.expect("a member starts");
        let address = member.address().to_string();
        let stop = Stop::new();
        let mut tasks = JoinSet::new();
        let until = stop.clone();
        tasks.spawn(async move { member.serve(until).await.expect("it ends in order") });
        Placement {
            address,
            cluster_id: 0,
            stop,
            tasks,
        }
    }

    /// Waits until the group has a leader, whoever that is; returns its URL.
    pub(crate) async fn await_leader(&mut self) -> String {
        let mut client = self.client().await;
        let members = client.get_members(pdpb::GetMembersRequest::default()).await;
        let members = members.expect("a leader within two seconds").into_inner();
        self.cluster_id = members.header.expect("a header").cluster_id;
        members.leader.expect("a leader").client_urls[0].clone()
    }

    pub(crate) async fn stop(mut self) {
        self.stop.request();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
    }

    pub(crate) async fn client(&self) -> PdClient<Channel> {
        let url = format!("http://{}", self.address);
        PdClient::connect(url).await.expect("it listens")
    }

    /// The header of a client.
    pub(crate) fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader {
            cluster_id: self.cluster_id,
            ..RequestHeader::default()
        })
    }

    pub(crate) async fn ids(&self, count: u32) -> Vec<u64> {
        let request = pdpb::AllocIdRequest {
            header: self.header(),
            count,
        };
        let reply = self
            .client()
            .await
            .alloc_id(request)
            .await
            .expect("ids")
            .into_inner();
        assert_eq!(error(reply.header), None);
        assert_eq!(reply.count, count);
        (0..u64::from(count))
            .rev()
            .map(|back| reply.id - back)
            .collect()
    }

    /// A store that has its id and has not registered.
    pub(crate) async fn store(&self) -> Store {
        let id = self.ids(1).await[0];
        Store {
            id,
            incarnation: id * 7,
            start: 1,
            cluster_id: self.cluster_id,
            client: self.client().await,
        }
    }

    /// A store that has founded the cluster, with its six regions.
    pub(crate) async fn bootstrap(&self) -> (Store, Vec<metapb::Region>) {
        let mut store = self.store().await;
        let regions = store.first_regions(&self.ids(12).await);
        let reply = store.bootstrap(regions.clone()).await.expect("bootstrap");
        assert_eq!(error(reply.header), None);
        assert_eq!(store.put().await, None);
        (store, regions)
    }

    /// A further store that has joined.
    pub(crate) async fn join(&self) -> Store {
        let mut store = self.store().await;
        assert_eq!(store.put().await, None);
        store
    }
}

/// A directory for one member.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The error of a header: its kind and its sentence.
pub(crate) fn error(header: Option<pdpb::ResponseHeader>) -> Option<(pdpb::ErrorType, String)> {
    let header = header.expect("there is always a header");
    assert_ne!(header.cluster_id, 0);
    header.error.map(|error| (error.r#type(), error.message))
}

/// A store as placement sees one.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) id: u64,
    pub(crate) incarnation: u64,
    pub(crate) start: u64,
    pub(crate) cluster_id: u64,
    pub(crate) client: PdClient<Channel>,
}

impl Store {
    pub(crate) fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader {
            cluster_id: self.cluster_id,
            sender_id: self.id,
            sender_incarnation: self.incarnation,
            sender_start: self.start,
            ..RequestHeader::default()
        })
    }

    pub(crate) fn description(&self) -> metapb::Store {
        metapb::Store {
            id: self.id,
            address: format!("127.0.0.1:{}", self.id),
            version: "0.1.0".into(),
            ..metapb::Store::default()
        }
    }

    /// Six regions between the edges; of `ids`, the even places are regions, the odd ones peers.
    pub(crate) fn first_regions(&self, ids: &[u64]) -> Vec<metapb::Region> {
        let bounds = tinykv_keys::bootstrap_regions();
        ids.chunks(2)
            .zip(bounds)
            .map(|(ids, bounds)| metapb::Region {
                id: ids[0],
                start_key: bounds.start.into(),
                end_key: bounds.end.into(),
                region_epoch: Some(metapb::RegionEpoch {
                    conf_ver: 1,
                    version: 1,
                }),
                peers: vec![metapb::Peer {
                    id: ids[1],
                    store_id: self.id,
                    ..metapb::Peer::default()
                }],
            })
            .collect()
    }

    pub(crate) async fn bootstrap(
        &mut self,
        regions: Vec<metapb::Region>,
    ) -> Result<pdpb::BootstrapResponse, tonic::Status> {
        let request = pdpb::BootstrapRequest {
            header: self.header(),
            store: Some(self.description()),
            region: regions.first().cloned(),
            regions,
        };
        self.client
            .bootstrap(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Registers; `None` when it was accepted.
    pub(crate) async fn put(&mut self) -> Option<(pdpb::ErrorType, String)> {
        let request = pdpb::PutStoreRequest {
            header: self.header(),
            store: Some(self.description()),
        };
        let reply = self
            .client
            .put_store(request)
            .await
            .expect("an answer")
            .into_inner();
        error(reply.header)
    }

    pub(crate) async fn beat(&mut self) -> pdpb::StoreHeartbeatResponse {
        self.beat_splitting(0).await
    }

    /// The heartbeat of a store that splits regions of this size.
    pub(crate) async fn beat_splitting(&mut self, size: u64) -> pdpb::StoreHeartbeatResponse {
        let request = pdpb::StoreHeartbeatRequest {
            header: self.header(),
            stats: Some(pdpb::StoreStats {
                store_id: self.id,
                capacity: 1_000,
                available: 600,
                used_size: 400,
                ..pdpb::StoreStats::default()
            }),
            region_split_size: size,
            ..pdpb::StoreHeartbeatRequest::default()
        };
        self.client
            .store_heartbeat(request)
            .await
            .expect("an answer")
            .into_inner()
    }
}

/// Waits until another process has come to something: it tells nobody, so it is asked again.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}
