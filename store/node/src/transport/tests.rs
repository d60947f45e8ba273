//! Two ends over a loopback socket.

mod bad_input;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use tempfile::TempDir;
use tinykv_env::OsEnv;
use tinykv_lsm::{Changes, LsmOptions};
use tinykv_raft::{GroupId, LogIndex, PeerId};
use tinykv_replica::{Peer, PeerBody, RegionEpoch};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::service::Routes;

use super::*;
use crate::identity::Role;
use crate::pool::Pool;
use crate::process::Stop;
use crate::server::{self, Listener};
use crate::spawn::{Fatal, Threads};
use snapshot::{SnapshotFiles, SnapshotReceiver};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one end was told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    groups: Vec<u64>,
    unreachable: BTreeSet<StoreId>,
    dead: BTreeSet<StoreId>,
    fresh: Vec<StoreId>,
    lost: Vec<StoreId>,
}

#[derive(Default)]
struct Heard {
    told: watch::Sender<Told>,
}

impl Heard {
    /// What was told up to now.
    fn now(&self) -> Told {
        self.told.borrow().clone()
    }

    /// Waits until enough was told.
    async fn until(&self, what: &str, enough: impl FnMut(&Told) -> bool) {
        let mut told = self.told.subscribe();
        let outcome = tokio::time::timeout(PATIENCE, told.wait_for(enough)).await;
        assert!(outcome.is_ok(), "waited in vain: {what}; {:?}", self.now());
    }
}

impl Sink for Heard {
    fn deliver(&self, messages: Vec<PeerMessage>) {
        let groups = messages.iter().map(|message| message.group.0);
        self.told.send_modify(|told| told.groups.extend(groups));
    }

    fn unreachable(&self, store: StoreId) {
        self.told.send_modify(|told| {
            told.unreachable.insert(store);
        });
    }

    fn dead(&self, store: StoreId) {
        self.told.send_modify(|told| {
            told.dead.insert(store);
        });
    }

    fn fresh(&self, store: StoreId) {
        self.told.send_modify(|told| told.fresh.push(store));
    }

    fn lost(&self, store: StoreId) {
        self.told.send_modify(|told| told.lost.push(store));
    }
}

#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<BTreeMap<StoreId, SocketAddr>>>);

impl Resolver for Addresses {
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>> {
        let address = self.0.lock().get(&store).copied();
        let destination = address.map(|address| Destination {
            address: format!("http://{address}"),
            incarnation: None,
            start_number: None,
        });
        futures::future::ready(destination).boxed()
    }
}

struct End {
    transport: Transport,
    heard: Arc<Heard>,
    tasks: Tasks,
    stop: Stop,
    pool: Pool,
    threads: Threads,
    _dir: TempDir,
}

impl End {
    async fn start(store: u64, cluster_id: u64, start_number: u64, at: &Addresses) -> End {
        let identity = Identity {
            role: Role::Store,
            cluster_id,
            member_id: store,
            incarnation: store,
            start_number,
        };
        let fatal = Fatal::new(|failure| panic!("{failure}"));
        let tasks = Tasks::new(Handle::current(), fatal.clone());
        let heard = Arc::new(Heard::default());
        let sink = Arc::<Heard>::clone(&heard);
        let transport = Transport::new(
            identity,
            Arc::new(at.clone()),
            sink,
            tasks.clone(),
            NodeMetrics::default(),
            OsEnv::shared(),
        );
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("snapshots");
        let files = SnapshotFiles::open(
            OsEnv::shared(),
            path,
            LsmOptions::default(),
            &BTreeSet::new(),
        )
        .expect("a folder");
        let threads = Threads::new(fatal);
        let pool = Pool::start(&threads, 1, Changes::default()).expect("a thread");
        let receiver =
            SnapshotReceiver::new(StoreId(store), files, pool.clone(), |_| Vec::new(), |_| {});
        let service = PeerService::new(&transport, receiver);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(loopback).await.expect("a free port");
        at.0.lock().insert(StoreId(store), listener.address());
        let stop = Stop::new();
        let stopped = stop.clone();
        tasks.spawn("server", async move {
            let services = Routes::new(service.into_server());
            let until = async move { stopped.requested().await };
            let served = server::serve(listener, services, Router::new(), until).await;
            served.expect("the server ends well");
        });
        End {
            transport,
            heard,
            tasks,
            stop,
            pool,
            threads,
            _dir: dir,
        }
    }

    async fn end(self) {
        self.transport.stop();
        self.stop.request();
        self.tasks.join(Duration::from_secs(5)).await;
        self.pool.close();
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.join());
        joined.await.expect("joined");
    }
}

fn message(from: u64, to: u64, group: u64) -> PeerMessage {
    PeerMessage {
        group: GroupId(group),
        from: Peer::voter(PeerId(from), StoreId(from)),
        to: Peer::voter(PeerId(to), StoreId(to)),
        epoch: RegionEpoch::FIRST,
        keep_after: LogIndex(0),
        range: None,
        body: PeerBody::Probe,
    }
}

#[tokio::test]
async fn messages_arrive_in_order_and_a_dead_process_is_noticed_at_once() {
    let addresses = Addresses::default();
    let one = End::start(1, 7, 1, &addresses).await;
    let two = End::start(2, 7, 1, &addresses).await;
    let numbers: Vec<u64> = (0..500).collect();
    for group in &numbers {
        one.transport.send(vec![message(1, 2, *group)]);
    }
    let all = |told: &Told| told.groups.len() == 500;
    two.heard.until("all messages", all).await;
    assert_eq!(two.heard.now().groups, numbers);
    assert!(one.heard.now().unreachable.is_empty());
    two.end().await;
    let noticed =
        |told: &Told| told.dead.contains(&StoreId(2)) && told.unreachable.contains(&StoreId(2));
    one.heard
        .until("the death is noticed without a message", noticed)
        .await;

    // Whoever knows that nobody listens keeps what comes later for the next attempt.
    let again = End::start(2, 7, 2, &addresses).await;
    one.transport.send(vec![message(1, 2, 1000)]);
    let back = |told: &Told| told.groups.contains(&1000);
    again.heard.until("the connection comes back", back).await;
    one.end().await;
    again.end().await;
}

#[tokio::test]
async fn a_restart_is_noticed_by_those_it_speaks_to() {
    let addresses = Addresses::default();
    let one = End::start(1, 7, 1, &addresses).await;
    for start_number in [1, 2] {
        assert!(one.heard.now().dead.is_empty());
        let two = End::start(2, 7, start_number, &addresses).await;
        two.transport.send(vec![message(2, 1, start_number)]);
        let arrived = |told: &Told| told.groups.contains(&start_number);
        one.heard.until("the message", arrived).await;
        two.end().await;
    }
    assert!(one.heard.now().dead.contains(&StoreId(2)));
    one.end().await;
}

#[tokio::test]
async fn strangers_and_impostors_are_not_heard() {
    let addresses = Addresses::default();
    let one = End::start(1, 7, 1, &addresses).await;
    let stranger = End::start(2, 8, 1, &addresses).await;
    stranger.transport.send(vec![message(2, 1, 5)]);
    let refused = |told: &Told| told.unreachable.contains(&StoreId(1));
    stranger.heard.until("the refusal", refused).await;
    assert!(one.heard.now().groups.is_empty());
    stranger.end().await;
    let friend = End::start(3, 7, 1, &addresses).await;
    friend
        .transport
        .send(vec![message(2, 1, 6), message(3, 1, 7)]);
    let spoke = |told: &Told| !told.groups.is_empty();
    one.heard.until("its own message", spoke).await;
    assert_eq!(one.heard.now().groups, [7], "it spoke for another store");
    friend.end().await;
    one.end().await;
}

#[tokio::test]
async fn a_queue_that_nobody_empties_drops_what_is_too_much() {
    let queue = queue::PeerQueue::new(StoreId(2));
    let size = message_size(&message(1, 2, 0));
    let fits = (64 << 20) / size;
    for group in 0..fits + 10 {
        queue.push(message(1, 2, group as u64));
    }
    assert_eq!(queue.dropped(), 10);
    assert_eq!(
        queue.take().await.messages.len(),
        (1usize << 20).div_ceil(size)
    );
    queue.push(message(1, 2, 0));
    assert_eq!(queue.dropped(), 10);
}

/// Two stores exchange heartbeats as long as one of them wants to know, and a start of either is
/// lost before the next is fresh.
#[tokio::test]
async fn neighbours_are_fresh_until_they_end_and_again_when_they_are_back() {
    let addresses = Addresses::default();
    let one = End::start(1, 7, 1, &addresses).await;
    let two = End::start(2, 7, 1, &addresses).await;
    one.transport.need(0, vec![StoreId(2)]);
    let fresh = |told: &Told| told.fresh == [StoreId(2)] && told.lost.is_empty();
    one.heard.until("the neighbour is fresh", fresh).await;
    let received = |end: &End| end.transport.shared.metrics.heartbeats("received").get();
    assert!(received(&one) > 0 && received(&two) > 0);
    assert!(two.heard.now().fresh.is_empty(), "it did not ask");

    two.end().await;
    let ticks = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            one.transport.tick();
        }
    };
    let events = async {
        let lost = |told: &Told| told.lost == [StoreId(2)];
        one.heard.until("the neighbour is lost", lost).await;
        let two = End::start(2, 7, 2, &addresses).await;
        let again = |told: &Told| told.fresh == [StoreId(2), StoreId(2)];
        one.heard.until("the neighbour is back", again).await;
        assert_eq!(one.heard.now().lost, [StoreId(2)]);
        two
    };
    let two = tokio::select! {
        two = events => two,
        () = ticks => unreachable!("ticks do not end"),
    };
    one.transport.need(0, Vec::new());
    assert_eq!(one.heard.now().lost, [StoreId(2), StoreId(2)], "unwatched");
    one.end().await;
    two.end().await;
}
