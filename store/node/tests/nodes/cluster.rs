//! Several nodes in one process, over loopback sockets and real files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tinykv_engine::EngineOptions;
use tinykv_node::failure::Failure;
use tinykv_node::handle::{NodeHandle, Target};
use tinykv_node::identity::{DataDir, Role};
use tinykv_node::metrics;
use tinykv_node::node::{Hooks, Node, NodeParts};
use tinykv_node::options::NodeOptions;
use tinykv_node::pages::{self, Health};
use tinykv_node::process::Stop;
use tinykv_node::server::{self, Listener};
use tinykv_node::spawn::{Fatal, Tasks};
use tinykv_node::storage::Storage;
use tinykv_node::transport::{Destination, Resolver};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{
    AdminAction, Answer, Birth, Command, Observed, Outcome, Peer, PeerChange, Region, RegionChange,
    RegionEpoch, RegionState, ShardConfig, SplitIds, StoreId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::faulty::FaultyEnv;
use crate::map::{Map, engine_key, routing_key};

const CLUSTER: u64 = 7;
/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where each store listens now; shared by all nodes of a test.
#[derive(Clone, Default)]
struct Addresses {
    known: Arc<Mutex<BTreeMap<StoreId, SocketAddr>>>,
}

impl Resolver for Addresses {
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>> {
        let address = self.known.lock().get(&store).copied();
        let destination = address.map(|address| Destination {
            address: address.to_string(),
            incarnation: None,
            start_number: None,
        });
        futures::future::ready(destination).boxed()
    }
}

/// A node and its server.
pub(crate) struct Running {
    node: Node<Map>,
    stop: Stop,
    tasks: Tasks,
}

/// A group of nodes; what it made on disk goes with it.
pub(crate) struct Cluster {
    home: TempDir,
    addresses: Addresses,
    running: BTreeMap<u64, Running>,
    /// Disks that fail on demand.
    disks: BTreeMap<u64, Arc<FaultyEnv>>,
    engine: EngineOptions,
    /// Ticks of 50 ms without a request after which groups sleep.
    hibernate_after_ticks: Option<u32>,
    failures: Arc<Mutex<BTreeMap<u64, Failure>>>,
    news: News,
}

/// Hears whenever something happens on any node: a region changes, an entry is applied, a node
/// fails.
#[derive(Clone, Default)]
struct News(watch::Sender<()>);

impl Hooks for News {
    fn region_changed(&self, _change: &RegionChange) {
        self.0.send_replace(());
    }

    fn observed(&self, _observed: &Observed) {
        self.0.send_replace(());
    }
}

impl Cluster {
    /// Starts nodes 1 to `count`.
    pub(crate) async fn start(count: u64) -> Cluster {
        let mut engine = EngineOptions::default();
        engine.wal.segment_bytes = 1 << 20;
        engine.lsm.memtable_bytes_max = 1 << 20;
        engine.lsm.cache_bytes_max = 8 << 20;
        Cluster::start_with(count, engine).await
    }

    /// Starts nodes 1 to `count` with logs of a megabyte and a half.
    pub(crate) async fn start_with_short_logs(count: u64) -> Cluster {
        let mut engine = EngineOptions::default();
        engine.wal.segment_bytes = 256 << 10;
        engine.wal.segments_target = 2;
        engine.wal.segments_max = 6;
        engine.lsm.cache_bytes_max = 8 << 20;
        Cluster::start_with(count, engine).await
    }

    /// As [`Cluster::start`], with other settings of log and engine.
    async fn start_with(count: u64, engine: EngineOptions) -> Cluster {
        let mut cluster = Cluster::new(engine);
        for store in 1..=count {
            cluster.start_node(store).await;
        }
        cluster
    }

    /// Starts nodes 1 to `count` whose groups sleep when they were idle for half a second.
    pub(crate) async fn start_sleepy(count: u64) -> Cluster {
        let mut cluster = Cluster::new(EngineOptions::default());
        cluster.hibernate_after_ticks = Some(10);
        for store in 1..=count {
            cluster.start_node(store).await;
        }
        cluster
    }

    fn new(engine: EngineOptions) -> Cluster {
        Cluster {
            home: tempfile::tempdir().expect("temp dir"),
            addresses: Addresses::default(),
            running: BTreeMap::new(),
            disks: BTreeMap::new(),
            engine,
            hibernate_after_ticks: None,
            failures: Arc::default(),
            news: News::default(),
        }
    }

    /// Starts a node on its directory, which may be new.
    pub(crate) async fn start_node(&mut self, store: u64) {
        let path = self.home.path().join(format!("store-{store}"));
        let (failures, news) = (Arc::clone(&self.failures), self.news.clone());
        let fatal = Fatal::new(move |failure| {
            failures.lock().entry(store).or_insert(failure);
            news.0.send_replace(());
        });
        let disk = Arc::new(FaultyEnv::default());
        self.disks.insert(store, Arc::clone(&disk));
        let (dir, storage) = open(disk, &path, store, self.engine.clone());
        let runtime = tokio::runtime::Handle::current();
        let node = Node::start(NodeParts {
            dir,
            storage,
            options: NodeOptions {
                shards: 2,
                pool_threads: 2,
                upkeep_threads: 2,
                disk_reserve_bytes: 0,
                ..NodeOptions::default()
            },
            shard: ShardConfig {
                observe: true,
                hibernate_after_ticks: self.hibernate_after_ticks,
                ..ShardConfig::new(StoreId(store), 0)
            },
            factory: Arc::new(|_| Map),
            resolver: Arc::new(self.addresses.clone()),
            hooks: Arc::new(self.news.clone()),
            runtime: runtime.clone(),
            fatal: fatal.clone(),
        })
        .expect("the node starts");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(loopback).await.expect("a free port");
        let address = listener.address();
        self.addresses.known.lock().insert(StoreId(store), address);
        let health = || Health {
            healthy: true,
            message: "ok".to_owned(),
        };
        let services = Routes::new(node.peer_service().into_server());
        let mut registry = Registry::default();
        metrics::register(&mut registry, &node.handle());
        let pages = pages::router(health, Arc::new(registry));
        let stop = Stop::new();
        let stopped = stop.clone();
        let tasks = Tasks::new(runtime, fatal);
        tasks.spawn("server", async move {
            let served = server::serve(listener, services, pages, async move {
                stopped.requested().await;
            });
            served.await.expect("the server ends well");
        });
        let running = Running { node, stop, tasks };
        self.running.insert(store, running);
    }

    /// Ends a node as a crash would.
    pub(crate) async fn kill(&mut self, store: u64) {
        let running = self.running.remove(&store).expect("it runs");
        running.node.halt().await;
        running.stop.request();
        running.tasks.join(Duration::from_secs(5)).await;
    }

    /// Ends a node in good order.
    pub(crate) async fn shut_down(&mut self, store: u64) {
        let running = self.running.remove(&store).expect("it runs");
        running.node.shutdown().await;
        running.stop.request();
        running.tasks.join(Duration::from_secs(5)).await;
    }

    /// From now on every sync of the store's disk fails.
    pub(crate) fn break_disk(&self, store: u64) {
        self.disks[&store].fail_syncs();
    }

    /// Waits until a store says that it must not go on, and ends what is left of it.
    pub(crate) async fn fails(&mut self, store: u64) -> Failure {
        let failure = self
            .eventually("the failure of a store", async || {
                self.failures.lock().remove(&store)
            })
            .await;
        self.kill(store).await;
        self.failures.lock().clear();
        failure
    }

    /// Ends everything; nothing may have failed unnoticed.
    pub(crate) async fn end(mut self) {
        assert_eq!(*self.failures.lock(), BTreeMap::new());
        let stores: Vec<u64> = self.running.keys().copied().collect();
        for store in stores {
            self.kill(store).await;
        }
    }

    /// A running node.
    pub(crate) fn node(&self, store: u64) -> NodeHandle<Map> {
        self.running[&store].node.handle()
    }

    /// Brings a group to life on these stores; peer ids are ten times the store's.
    pub(crate) fn create(&self, group: u64, stores: &[u64]) {
        let region = Region {
            id: GroupId(group),
            start: Bytes::from(format!("g{group}/")),
            end: Bytes::from(format!("g{group}0")),
            epoch: RegionEpoch::FIRST,
            peers: stores.iter().map(|store| voter(*store)).collect(),
        };
        for store in stores {
            self.node(*store).create(Birth {
                peer: voter(*store),
                state: RegionState {
                    region: region.clone(),
                    open: true,
                    machine: Bytes::new(),
                    ..RegionState::default()
                },
            });
        }
    }

    /// Waits until so many groups sleep on each of the stores.
    pub(crate) async fn asleep(&self, stores: &[u64], groups: usize) {
        for store in stores {
            let mut asleep = self.node(*store).asleep();
            let sleep = asleep.wait_for(|asleep| *asleep == groups);
            let in_time = tokio::time::timeout(PATIENCE, sleep).await.is_ok();
            assert!(in_time, "store {store}: {} sleep", *asleep.borrow());
        }
    }

    /// A figure of a store as its page of metrics shows it; 0 if it is not there.
    pub(crate) async fn metric(&self, store: u64, name: &str) -> u64 {
        let address = self.addresses.known.lock()[&StoreId(store)];
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let written = stream.write_all(request.as_bytes()).await;
        written.expect("it reads");
        let mut page = String::new();
        let read = stream.read_to_string(&mut page).await;
        read.expect("it answers");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        let figure = page.lines().find_map(|line| line.strip_prefix(name));
        figure.map_or(0, |figure| figure.trim().parse().expect("a number"))
    }

    /// Has the leader of a group take a learner in, and waits until it is a member.
    pub(crate) async fn add_learner(&self, group: u64, store: u64) {
        let learner = Peer::learner(voter(store).id, StoreId(store));
        self.change(group, PeerChange::AddLearner(learner)).await;
    }

    /// Has the leader of a group change its membership.
    pub(crate) async fn change(&self, group: u64, change: PeerChange) {
        let leader = self.node(self.leader(group).await);
        let entry = leader.directory().group(GroupId(group)).expect("it leads");
        let epoch = entry.view().state.as_ref().expect("it serves").region.epoch;
        let action = AdminAction::ChangePeers {
            epoch,
            changes: vec![change],
        };
        let deadline = target(&leader, group).deadline;
        let changed = leader.admin(GroupId(group), action, deadline).await;
        assert!(
            matches!(changed, Outcome::Ok(Answer::Changed(_))),
            "{changed:?}"
        );
    }

    /// Writes 200 values of 16 KiB while a store is away, under these prefixes in turn, through
    /// logs that are shorter; returns one of the values.
    pub(crate) async fn outgrow_log(&self, founded: u64, prefixes: &[&str]) -> String {
        let large = "x".repeat(16 << 10);
        for (number, prefix) in (0..200).zip(prefixes.iter().cycle()) {
            self.put(founded, &format!("{prefix}{number:03}"), &large)
                .await;
        }
        large
    }

    /// Cuts the region that holds this key in two there; the new one gets this id.
    pub(crate) async fn split(&self, founded: u64, key: &str, child: u64) {
        let key = routing_key(founded, key);
        loop {
            let (store, group) = self.server_of(&key).await;
            let leader = self.node(store);
            let entry = leader.directory().group(GroupId(group)).expect("it leads");
            let region = entry
                .view()
                .state
                .as_ref()
                .expect("it serves")
                .region
                .clone();
            let peers = 1..=region.peers.len() as u64;
            let ids = SplitIds {
                region: GroupId(child),
                peers: peers.map(|peer| PeerId(child * 100 + peer)).collect(),
            };
            let action = AdminAction::Split {
                epoch: region.epoch,
                keys: vec![key.clone()],
                ids: vec![ids],
            };
            let deadline = target(&leader, group).deadline;
            match leader.admin(GroupId(group), action, deadline).await {
                Outcome::Ok(Answer::Split(parts)) => {
                    assert_eq!(parts[1].id, GroupId(child));
                    assert_eq!((&parts[0].end, &parts[1].start), (&key, &key));
                    return;
                }
                Outcome::DefinitelyNot(_) => {}
                other => panic!("a strange answer to a split: {other:?}"),
            }
        }
    }

    /// Asks whoever leads a region to make it a part of its neighbour, until it is frozen.
    pub(crate) async fn freeze(&self, source: u64, target: u64) {
        while !self.try_freeze(source, target).await {}
    }

    async fn try_freeze(&self, source: u64, neighbour: u64) -> bool {
        let leader = self.node(self.leader(source).await);
        let (Some(from), Some(to)) = (region(&leader, source), region(&leader, neighbour)) else {
            return false;
        };
        let action = AdminAction::Merge {
            epoch: from.region.epoch,
            target: to.region.clone(),
        };
        let deadline = target(&leader, source).deadline;
        let frozen = leader.admin(GroupId(source), action, deadline).await;
        matches!(frozen, Outcome::Ok(Answer::Changed(_)))
    }

    /// Makes a region a part of its neighbour, and waits until nothing of it is left anywhere.
    pub(crate) async fn merge(&self, source: u64, target: u64) {
        let is_over = |store: &u64| {
            let node = self.node(*store);
            let has =
                region(&node, target).is_some_and(|it| it.merges.has_absorbed(GroupId(source)));
            has && region(&node, source).is_none()
        };
        // A frozen one serves nobody until it is known what becomes of it.
        let is_over_or_serves = async || {
            if self.running.keys().all(is_over) {
                return Some(true);
            }
            for store in self.running.keys() {
                if self.serves(*store, source).await {
                    return Some(false);
                }
            }
            None
        };
        while !self.eventually("the merge", is_over_or_serves).await {
            self.try_freeze(source, target).await;
        }
    }

    /// Waits until a group has one leader that serves, and names its store.
    pub(crate) async fn leader(&self, group: u64) -> u64 {
        self.eventually("a leader that serves", async || {
            for store in self.running.keys() {
                if self.serves(*store, group).await {
                    return Some(*store);
                }
            }
            None
        })
        .await
    }

    /// Waits until somebody serves a key, and names store and group.
    pub(crate) async fn server_of(&self, key: &[u8]) -> (u64, u64) {
        self.eventually("somebody who serves the key", async || {
            for store in self.running.keys() {
                let entry = self.node(*store).directory().find(key);
                if let Some(entry) = entry
                    && self.serves(*store, entry.group().0).await
                {
                    return Some((*store, entry.group().0));
                }
            }
            None
        })
        .await
    }

    /// Whether a store leads a group and a quorum says so, too.
    async fn serves(&self, store: u64, group: u64) -> bool {
        let node = self.node(store);
        let entry = node.directory().group(GroupId(group));
        entry.is_some_and(|entry| entry.view().leads)
            && matches!(node.read(target(&node, group), None).await, Outcome::Ok(_))
    }

    /// Sets a key that a group was founded with, through whoever leads it now.
    pub(crate) async fn put(&self, founded: u64, key: &str, value: &str) {
        let key = routing_key(founded, key);
        let command = [&key[..], b"=", value.as_bytes()].concat();
        loop {
            let (store, group) = self.server_of(&key).await;
            let leader = self.node(store);
            let entry = leader.directory().group(GroupId(group)).expect("it leads");
            let epoch = entry.view().state.as_ref().expect("it serves").region.epoch;
            let command = Command::new(epoch, &command);
            match leader.propose(target(&leader, group), command).await {
                Outcome::Ok(Answer::Applied { .. }) => return,
                Outcome::Ok(other) => panic!("a strange answer: {other:?}"),
                Outcome::DefinitelyNot(_) => {}
                Outcome::Undetermined(doubt) => panic!("{key:?}: {doubt:?}"),
            }
        }
    }

    /// What a store holds under a key, applied or not elsewhere.
    pub(crate) fn value(&self, store: u64, founded: u64, key: &str) -> Option<Bytes> {
        let snapshot = self.node(store).lsm().snapshot();
        let key = engine_key(&routing_key(founded, key));
        snapshot.get(&key).expect("the engine reads")
    }

    /// Waits until a store holds a value.
    pub(crate) async fn holds(&self, store: u64, group: u64, key: &str, value: &str) {
        let what = format!("{key}={value} on store {store}");
        let holds = async || (self.value(store, group, key)? == value).then_some(());
        self.eventually(&what, holds).await;
    }

    /// Waits for a condition, not for ever. It is looked at whenever a node has news.
    pub(crate) async fn eventually<T>(
        &self,
        what: &str,
        condition: impl AsyncFn() -> Option<T>,
    ) -> T {
        let mut news = self.news.0.subscribe();
        let found = async {
            loop {
                if let Some(found) = condition().await {
                    return found;
                }
                news.changed().await.expect("the cluster is there");
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}"),
        }
    }
}

/// A region as a store shows it.
fn region(node: &NodeHandle<Map>, group: u64) -> Option<Arc<RegionState>> {
    let entry = node.directory().group(GroupId(group))?;
    entry.view().state.clone()
}

/// A request to a group, with time enough.
pub(crate) fn target(node: &NodeHandle<Map>, group: u64) -> Target {
    Target {
        group: GroupId(group),
        peer: None,
        term: None,
        deadline: node.now() + PATIENCE,
    }
}

/// The peer of a store in every group.
pub(crate) fn voter(store: u64) -> Peer {
    Peer::voter(PeerId(store * 10), StoreId(store))
}

fn open(
    disk: Arc<FaultyEnv>,
    path: &Path,
    store: u64,
    engine: EngineOptions,
) -> (DataDir, Storage) {
    let mut dir = DataDir::open(disk, path, Role::Store).expect("data directory");
    if dir.identity().is_none() {
        dir.establish(CLUSTER, store).expect("identity");
    }
    let storage = Storage::open(&dir, engine).expect("storage");
    (dir, storage)
}
