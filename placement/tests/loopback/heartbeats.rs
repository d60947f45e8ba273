//! Region heartbeats: from six regions on one store to three replicas and even leaders, by orders
//! alone; stale heartbeats; lost streams.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_proto::eraftpb::ConfChangeType;
use tinykv_proto::metapb::{self, PeerRole};
use tinykv_proto::pdpb;
use tinykv_proto::placement::OverviewRequest;
use tinykv_proto::placement::placement_client::PlacementClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::cluster::{LIMIT, Placement, Store, directory, error};

/// A store's heartbeat stream.
pub(crate) struct Link {
    store: Store,
    heartbeats: mpsc::Sender<pdpb::RegionHeartbeatRequest>,
    orders: Streaming<pdpb::RegionHeartbeatResponse>,
}

impl Link {
    /// Opens the stream with a first heartbeat.
    pub(crate) async fn open(store: &Store, region: &metapb::Region, term: u64) -> Link {
        let (heartbeats, receiver) = mpsc::channel(64);
        let mut client = store.client.clone();
        let first = heartbeat(store, region, term, &[]);
        heartbeats.send(first).await.expect("room for one");
        let orders = client.region_heartbeat(ReceiverStream::new(receiver)).await;
        Link {
            store: store.clone(),
            heartbeats,
            orders: orders.expect("a stream").into_inner(),
        }
    }

    pub(crate) async fn report(&self, region: &metapb::Region, term: u64, pending: &[u64]) {
        let heartbeat = heartbeat(&self.store, region, term, pending);
        self.heartbeats
            .send(heartbeat)
            .await
            .expect("the stream is open");
    }

    /// Waits until all that was reported is heard: placement takes heartbeats in order, and says
    /// no to one of a term that nobody leads in.
    pub(crate) async fn heard(&mut self, region: &metapb::Region) {
        self.report(region, 0, &[]).await;
        let (_, sentence) = error(self.answer().await.header).expect("nobody leads in term 0");
        assert!(sentence.contains("term 0"), "{sentence}");
    }

    /// Ends the stream; placement has noticed when this returns.
    async fn end(self) {
        let Link {
            heartbeats,
            mut orders,
            ..
        } = self;
        drop(heartbeats);
        let rest = async { while orders.message().await.expect("no error").is_some() {} };
        tokio::time::timeout(LIMIT, rest).await.expect("in time");
    }

    pub(crate) async fn answer(&mut self) -> pdpb::RegionHeartbeatResponse {
        let waited = tokio::time::timeout(LIMIT, self.orders.message()).await;
        waited
            .expect("in time")
            .expect("no error")
            .expect("the stream is open")
    }
}

fn heartbeat(
    store: &Store,
    region: &metapb::Region,
    term: u64,
    pending: &[u64],
) -> pdpb::RegionHeartbeatRequest {
    let peer = |id: u64| region.peers.iter().find(|peer| peer.id == id).copied();
    pdpb::RegionHeartbeatRequest {
        header: store.header(),
        region: Some(region.clone()),
        leader: region
            .peers
            .iter()
            .find(|peer| peer.store_id == store.id)
            .copied(),
        pending_peers: pending.iter().filter_map(|id| peer(*id)).collect(),
        approximate_size: 1_000,
        approximate_keys: 10,
        term,
        ..pdpb::RegionHeartbeatRequest::default()
    }
}

pub(crate) async fn region(placement: &Placement, id: u64) -> pdpb::GetRegionResponse {
    let request = pdpb::GetRegionByIdRequest {
        header: placement.header(),
        region_id: id,
        ..Default::default()
    };
    let reply = placement.client().await.get_region_by_id(request).await;
    reply.expect("an answer").into_inner()
}

/// The region after a further voter came to `store`.
fn with_voter(region: &metapb::Region, id: u64, store: &Store) -> metapb::Region {
    let mut grown = region.clone();
    grown.peers.push(metapb::Peer {
        id,
        store_id: store.id,
        ..Default::default()
    });
    grown.region_epoch = Some(metapb::RegionEpoch {
        conf_ver: 3,
        version: 1,
    });
    grown
}

/// How often stores beat.
const STORE_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Three stores that carry out every order at once, and report as leaders do.
struct Obedient {
    links: BTreeMap<u64, Link>,
    regions: BTreeMap<u64, metapb::Region>,
    terms: BTreeMap<u64, u64>,
    stores: Vec<Store>,
}

impl Obedient {
    async fn carry_out(&mut self, order: pdpb::RegionHeartbeatResponse) {
        assert_eq!(error(order.header), None);
        let region = self
            .regions
            .get_mut(&order.region_id)
            .expect("a known region");
        if order.region_epoch != region.region_epoch {
            return;
        }
        let mut leader = order.target_peer.expect("who carries it out").store_id;
        let mut pending = Vec::new();
        let term = self
            .terms
            .get_mut(&order.region_id)
            .expect("a known region");
        if let Some(transfer) = order.transfer_leader {
            leader = transfer.peer.expect("to whom").store_id;
            *term += 1;
        }
        if let Some(change) = order.change_peer {
            let mut peer = change.peer.expect("which peer");
            match change.change_type() {
                ConfChangeType::AddLearnerNode => {
                    peer.role = PeerRole::Learner.into();
                    pending.push(peer.id);
                    region.peers.push(peer);
                }
                ConfChangeType::AddNode => {
                    let known = region.peers.iter_mut().find(|known| known.id == peer.id);
                    known.expect("a learner is promoted").role = PeerRole::Voter.into();
                }
                ConfChangeType::RemoveNode => region.peers.retain(|known| known.id != peer.id),
            }
            if let Some(epoch) = &mut region.region_epoch {
                epoch.conf_ver += 1;
            }
        }
        let (region, term) = (region.clone(), *term);
        self.report(leader, &region, term, &pending).await;
        if !pending.is_empty() {
            // And now it is caught up.
            self.report(leader, &region, term, &[]).await;
        }
    }

    async fn report(&mut self, leader: u64, region: &metapb::Region, term: u64, pending: &[u64]) {
        if let Some(link) = self.links.get(&leader) {
            link.report(region, term, pending).await;
        } else {
            let store = self.stores.iter().find(|store| store.id == leader);
            let link = Link::open(store.expect("one of three"), region, term).await;
            self.links.insert(leader, link);
        }
    }

    /// Carries out the next order of any store. Meanwhile the stores beat.
    async fn step(&mut self) {
        let orders = self
            .links
            .values_mut()
            .map(|link| Box::pin(link.orders.message()));
        let next = futures::future::select_all(orders);
        let stores = &mut self.stores;
        let beats = async {
            let mut interval = tokio::time::interval(STORE_HEARTBEAT_INTERVAL);
            loop {
                interval.tick().await;
                for store in stores.iter_mut() {
                    assert_eq!(error(store.beat().await.header), None);
                }
            }
        };
        let order = tokio::select! {
            (order, _, _) = next => order,
            () = beats => unreachable!("it never ends"),
        };
        let order = order.expect("no error").expect("open");
        self.carry_out(order).await;
    }
}

#[tokio::test]
async fn six_regions_come_to_three_replicas_and_even_leaders() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (first, regions) = placement.bootstrap().await;
    let stores = vec![
        first.clone(),
        placement.join().await,
        placement.join().await,
    ];
    let mut cluster = Obedient {
        links: BTreeMap::new(),
        terms: regions.iter().map(|region| (region.id, 5)).collect(),
        regions: regions
            .iter()
            .map(|region| (region.id, region.clone()))
            .collect(),
        stores,
    };
    for region in &regions {
        cluster.report(first.id, region, 5, &[]).await;
    }
    let url = format!("http://{}", placement.address);
    let mut operators = PlacementClient::connect(url).await.expect("it listens");
    let complete_and_even = async {
        loop {
            cluster.step().await;
            let request = OverviewRequest {
                with_regions: true,
                ..Default::default()
            };
            let overview = operators.overview(request).await;
            let overview = overview.expect("an answer").into_inner();
            let even = overview.stores.iter().all(|store| store.leaders == 2);
            if overview.regions_complete == 6 && even {
                break overview;
            }
        }
    };
    let overview = tokio::time::timeout(LIMIT, complete_and_even).await;
    let overview = overview.expect("complete and even");
    assert_eq!(overview.regions_total, 6);
    assert_eq!(overview.regions.len(), 6);
    assert!(
        overview
            .regions
            .iter()
            .all(|region| region.complete && region.leader.is_some())
    );
    let settings = overview.settings.expect("settings");
    assert_eq!((settings.replica_count, settings.replicas_wanted), (3, 3));
    for store in &overview.stores {
        assert_eq!((store.state.as_str(), store.regions), ("up", 6));
        assert_eq!((store.capacity_bytes, store.used_bytes), (1_000, 400));
    }
    assert_eq!(overview.leader_member_id, overview.members[0].member_id);
    let beat = cluster.stores[0].beat().await;
    assert_eq!((beat.wanted_replicas, beat.interval_ms), (3, 1_000));
    assert!(beat.time_ms > 1_600_000_000_000, "{}", beat.time_ms);
    let operator = pdpb::GetOperatorRequest {
        header: placement.header(),
        region_id: regions[0].id,
    };
    let operator = placement.client().await.get_operator(operator).await;
    let operator = operator.expect("an answer").into_inner();
    assert_eq!(operator.status(), pdpb::OperatorStatus::Success);
    placement.stop().await;
}

#[tokio::test]
async fn stale_heartbeats_are_refused_and_change_nothing() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (store, regions) = placement.bootstrap().await;
    let second = placement.join().await;
    let known = with_voter(&regions[0], placement.ids(1).await[0], &second);
    let mut link = Link::open(&store, &known, 7).await;
    link.heard(&known).await;
    let found = region(&placement, known.id).await;
    assert_eq!(found.region.map(|region| region.peers.len()), Some(2));

    link.report(&regions[0], 8, &[]).await;
    let older_epoch = link.answer().await;
    assert_eq!(older_epoch.region_id, known.id);
    let (_, sentence) = error(older_epoch.header).expect("refused");
    assert!(sentence.contains("outdated"), "{sentence}");

    link.report(&known, 6, &[]).await;
    let (_, sentence) = error(link.answer().await.header).expect("refused");
    assert!(sentence.contains("term 7"), "{sentence}");

    let mut twin = Link::open(&second, &known, 7).await;
    let (_, sentence) = error(twin.answer().await.header).expect("two leaders in one term");
    assert!(sentence.contains("term 7"), "{sentence}");

    let found = region(&placement, known.id).await;
    assert_eq!(found.leader.map(|leader| leader.store_id), Some(store.id));
    assert_eq!(
        found.region.and_then(|region| region.region_epoch),
        known.region_epoch
    );

    let mut impostor = store.clone();
    impostor.incarnation += 1;
    let mut link = Link::open(&impostor, &known, 9).await;
    let (_, sentence) = error(link.answer().await.header).expect("another directory");
    assert!(
        sentence.contains("registered with incarnation"),
        "{sentence}"
    );
    placement.stop().await;
}

/// Whoever looks while nobody leads is answered as soon as somebody does.
#[tokio::test]
async fn a_look_up_waits_for_the_new_leader() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (store, regions) = placement.bootstrap().await;
    let mut second = placement.join().await;
    second.beat().await;
    let known = with_voter(&regions[0], placement.ids(1).await[0], &second);
    let mut link = Link::open(&store, &known, 7).await;
    link.heard(&known).await;
    let found = region(&placement, known.id).await;
    assert_eq!(found.leader.map(|leader| leader.store_id), Some(store.id));
    // The store ends, and its stream with it: nobody is known to lead.
    link.end().await;
    let look = region(&placement, known.id);
    let elect = async {
        tokio::task::yield_now().await;
        Link::open(&second, &known, 8).await
    };
    let (found, _link) = tokio::join!(look, elect);
    assert_eq!(found.leader.map(|leader| leader.store_id), Some(second.id));
    placement.stop().await;
}
