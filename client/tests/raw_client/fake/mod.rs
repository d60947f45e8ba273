//! A cluster in one process: placement members and stores that speak the wire over real sockets,
//! keep their data in one map, and fail on demand.
//!
//! Stores tell the truth about leaders, epochs and bounds; what a test wants beyond that it
//! injects as a [`Fault`] for the next requests of a store. Between client and server stands a
//! [`Wire`] that can be cut, silenced or closed, so broken connections are really broken.

mod own;
mod pd;
mod stream;
mod tikv;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tinykv_client::{Options, RawClient};
use tinykv_proto::metapb;
use tinykv_proto::pdpb::pd_server::PdServer;
use tinykv_proto::store::store_server::StoreServer;
use tinykv_proto::tikvpb::tikv_server::TikvServer;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

pub(crate) use wire::Wire;

/// What a store does with the next request instead of serving it.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Says that it does not lead, and who does (a store), if anybody.
    NotLeader(Option<u64>),
    /// Says that it is busy, and for how many milliseconds.
    Busy(u64),
    /// Says that its disk is full.
    DiskFull,
    /// Serves the request and says that it does not know.
    Undetermined,
    /// Serves the request and never answers.
    Hang,
    /// Refuses the request with this text.
    Refuse(&'static str),
    /// Fails with a gRPC status.
    Status(tonic::Code),
}

/// A request that came to a store.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The store.
    pub(crate) store: u64,
    /// The call's name.
    pub(crate) call: &'static str,
    /// What it said in `grpc-timeout`.
    pub(crate) timeout: Option<String>,
    /// Whether it said that it was sent before.
    pub(crate) is_retry: bool,
    /// Whether it came on a stream of many.
    pub(crate) by_stream: bool,
}

/// A region of the fake.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) id: u64,
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    pub(crate) version: u64,
    /// The store that leads; 0: nobody.
    pub(crate) leader: u64,
    /// The store that placement believes to lead; 0: nobody.
    pub(crate) told_leader: u64,
}

/// What all servers share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) data: BTreeMap<Bytes, Bytes>,
    /// How long keys live, in milliseconds. Time stands still here.
    pub(crate) ttls: BTreeMap<Bytes, u64>,
    pub(crate) regions: Vec<Region>,
    pub(crate) addresses: BTreeMap<u64, String>,
    pub(crate) faults: BTreeMap<u64, VecDeque<Fault>>,
    pub(crate) seen: Vec<Seen>,
    /// Whether stores know streams of many calls; how many were asked for, and how many messages
    /// came on them.
    pub(crate) knows_streams: bool,
    pub(crate) streams: usize,
    pub(crate) messages: usize,
    /// Addresses of placement members, and which of them leads (an index).
    pub(crate) placements: Vec<String>,
    pub(crate) placement_leader: Option<usize>,
    /// Members that name another leader (an index) than there is.
    pub(crate) wrong_hints: BTreeMap<usize, usize>,
    /// How often members were asked who leads.
    pub(crate) members_asked: usize,
    /// Look-ups of regions so far, and what they said about the asker.
    pub(crate) lookups: Vec<Option<String>>,
    /// Told whenever a request or a stream has come, to a store or to placement.
    pub(crate) came: Arc<Notify>,
}

pub(crate) const CLUSTER: u64 = 4_711;

impl Region {
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && (self.end.is_empty() || *key < *self.end)
    }

    pub(crate) fn to_proto(&self) -> metapb::Region {
        metapb::Region {
            id: self.id,
            start_key: self.start.clone(),
            end_key: self.end.clone(),
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: 1,
                version: self.version,
            }),
            peers: (1..=3).map(|store| self.peer(store)).collect(),
        }
    }

    /// The peer on a store.
    pub(crate) fn peer(&self, store: u64) -> metapb::Peer {
        metapb::Peer {
            id: self.id * 10 + store,
            store_id: store,
            ..Default::default()
        }
    }
}

impl World {
    /// Splits the region that contains a key, before the key; both parts have the same leader.
    pub(crate) fn split(&mut self, key: &'static str) {
        let key = Bytes::from(key);
        let id = self
            .regions
            .iter()
            .map(|region| region.id)
            .max()
            .unwrap_or(0)
            + 1;
        let parent = self.regions.iter_mut().find(|region| region.contains(&key));
        let parent = parent.expect("regions cover everything");
        parent.version += 1;
        let child = Region {
            id,
            start: key.clone(),
            ..parent.clone()
        };
        parent.end = key;
        self.regions.push(child);
        self.regions.sort_by(|one, two| one.start.cmp(&two.start));
    }

    /// Gives the region that contains a key another id, so that it has to be looked up again.
    pub(crate) fn replace_region(&mut self, key: &'static str) {
        let region = self.region_at(key);
        region.id += 100;
        region.version += 1;
    }

    /// Moves the leader of every region, and tells placement.
    pub(crate) fn lead_from(&mut self, store: u64) {
        for region in &mut self.regions {
            region.leader = store;
            region.told_leader = store;
        }
    }

    pub(crate) fn region_at(&mut self, key: &'static str) -> &mut Region {
        let found = self
            .regions
            .iter_mut()
            .find(|region| region.contains(key.as_bytes()));
        found.expect("regions cover everything")
    }

    pub(crate) fn inject(&mut self, store: u64, faults: impl IntoIterator<Item = Fault>) {
        self.faults.entry(store).or_default().extend(faults);
    }

    /// Sets how long a key lives, in milliseconds; 0: for ever.
    pub(crate) fn expire(&mut self, key: &Bytes, ttl_ms: u64) {
        self.ttls.remove(key);
        if ttl_ms > 0 {
            self.ttls.insert(key.clone(), ttl_ms);
        }
    }

    /// How many calls of this name came to any store.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.seen.iter().filter(|seen| seen.call == call).count()
    }
}

/// The cluster: three placement members and three stores.
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    pub(crate) stores: BTreeMap<u64, Wire>,
    pub(crate) placements: Vec<Wire>,
    /// Keeps the servers alive; they end with it.
    _servers: JoinSet<()>,
}

impl Fake {
    /// Starts the cluster, with one region that is led from store 1.
    pub(crate) async fn start() -> Fake {
        let world = Arc::new(Mutex::new(World::default()));
        let mut servers = JoinSet::new();
        let mut stores = BTreeMap::new();
        for id in 1..=3 {
            let node = tikv::Node {
                id,
                world: world.clone(),
            };
            let listener = listen().await;
            let wire = Wire::open(&listener).await;
            let router = Server::builder()
                .add_service(TikvServer::new(node.clone()).max_decoding_message_size(64 << 20))
                .add_service(StoreServer::new(node));
            servers.spawn(async move {
                let served = router
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await;
                served.expect("the fake store serves");
            });
            world
                .lock()
                .expect("no panic")
                .addresses
                .insert(id, wire.address());
            stores.insert(id, wire);
        }
        let mut placements = Vec::new();
        for index in 0..3 {
            let member = pd::Member {
                index,
                world: world.clone(),
            };
            let listener = listen().await;
            let wire = Wire::open(&listener).await;
            let router = Server::builder().add_service(PdServer::new(member));
            servers.spawn(async move {
                let served = router
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await;
                served.expect("the fake placement serves");
            });
            world
                .lock()
                .expect("no panic")
                .placements
                .push(wire.address());
            placements.push(wire);
        }
        {
            let mut world = world.lock().expect("no panic");
            world.placement_leader = Some(0);
            world.regions.push(Region {
                id: 1,
                start: Bytes::new(),
                end: Bytes::new(),
                version: 1,
                leader: 1,
                told_leader: 1,
            });
        }
        Fake {
            world,
            stores,
            placements,
            _servers: servers,
        }
    }

    /// What the servers share.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    pub(crate) fn placement_addresses(&self) -> Vec<String> {
        self.placements.iter().map(Wire::address).collect()
    }

    /// A client that has looked up nothing yet, with this deadline.
    pub(crate) fn client(&self, deadline: Duration) -> RawClient {
        RawClient::new(&self.placement_addresses(), Options { deadline })
    }

    /// A client that knows the way to the first key and is connected there.
    pub(crate) async fn warm_client(&self, deadline: Duration) -> RawClient {
        let client = self.client(Duration::from_secs(5));
        client.get("warm").await.expect("the cluster is well");
        self.world().seen.clear();
        client.with_options(Options { deadline })
    }

    /// Waits until what comes to the servers makes the world so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&World) -> bool) {
        let came = self.world().came.clone();
        let until = async {
            loop {
                // Whatever comes from here on is told, also while the world is looked at.
                let more = came.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if is_so(&self.world()) {
                    return;
                }
                more.await;
            }
        };
        let limit = Duration::from_secs(30);
        let is_so = timeout(limit, until).await;
        is_so.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// Runs two things at once.
pub(crate) async fn both<A, B>(
    one: impl Future<Output = A>,
    two: impl Future<Output = B>,
) -> (A, B) {
    tokio::join!(one, two)
}
