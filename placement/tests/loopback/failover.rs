//! Leaders of placement killed with -9 under load: nothing repeats, no known route is lost, and
//! operators work again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use tinykv_proto::metapb;
use tinykv_proto::pdpb;
use tinykv_proto::placement::add_operator_request::Action;
use tinykv_proto::placement::placement_client::PlacementClient;
use tinykv_proto::placement::{AddOperatorRequest, SplitAtKeys};
use tokio::sync::watch;
use tokio_stream::StreamExt;

use super::cluster::{LIMIT, Store, error, eventually};
use super::heartbeats::Link;
use super::processes::{Processes, client, get_members};

/// What all askers share.
struct Load {
    addresses: Vec<String>,
    cluster_id: u64,
    stopped: AtomicBool,
    /// How many answers came.
    answers: watch::Sender<u64>,
}

impl Load {
    fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader {
            cluster_id: self.cluster_id,
            ..pdpb::RequestHeader::default()
        })
    }

    /// Where the leader is, as whoever answers says.
    async fn leader(&self) -> String {
        eventually("somebody names a leader", async || {
            for address in &self.addresses {
                if let Some(answer) = get_members(address).await {
                    let url = answer.leader?.client_urls.first()?.clone();
                    return url.strip_prefix("http://").map(str::to_owned);
                }
            }
            None
        })
        .await
    }

    /// One call that is made again, at whoever leads then, until it is answered.
    async fn call<T>(&self, what: &str, call: impl AsyncFn(String) -> Option<T>) -> T {
        let answer = eventually(what, async || call(self.leader().await).await).await;
        self.answers.send_modify(|count| *count += 1);
        answer
    }

    async fn ids(&self) -> Vec<u64> {
        let mut seen = Vec::new();
        while !self.stopped.load(Ordering::Acquire) {
            let last = self
                .call("ids", async |leader| {
                    let request = pdpb::AllocIdRequest {
                        header: self.header(),
                        count: 3,
                    };
                    let reply = client(&leader).await?.alloc_id(request).await.ok()?;
                    let reply = reply.into_inner();
                    assert_eq!(error(reply.header), None);
                    Some(reply.id)
                })
                .await;
            seen.extend([last - 2, last - 1, last]);
        }
        seen
    }

    async fn timestamps(&self) -> Vec<u64> {
        let mut seen = Vec::new();
        while !self.stopped.load(Ordering::Acquire) {
            let drawn = self
                .call("timestamps", async |leader| {
                    let request = pdpb::TsoRequest {
                        header: self.header(),
                        count: 7,
                        ..Default::default()
                    };
                    let requests = tokio_stream::iter([request]);
                    let mut client = client(&leader).await?;
                    let mut answers = client.tso(requests).await.ok()?.into_inner();
                    let answer = answers.next().await?.ok()?;
                    assert_eq!(error(answer.header), None);
                    let last = answer.timestamp?;
                    let physical = u64::try_from(last.physical).ok()?;
                    Some((physical << 18) + u64::try_from(last.logical).ok()?)
                })
                .await;
            // Seven, the largest last.
            seen.extend((0..7).rev().map(|back| drawn - back));
        }
        seen
    }

    /// A known route is never answered with an error or with nothing.
    async fn routes(&self, regions: &[metapb::Region]) {
        let mut turn = 0;
        while !self.stopped.load(Ordering::Acquire) {
            let region = &regions[turn % regions.len()];
            turn += 1;
            let found = self
                .call("a route", async |leader| {
                    let request = pdpb::GetRegionByIdRequest {
                        header: self.header(),
                        region_id: region.id,
                        ..Default::default()
                    };
                    let mut client = client(&leader).await?;
                    let reply = client.get_region_by_id(request).await.ok()?.into_inner();
                    assert_eq!(error(reply.header), None);
                    Some(reply.region)
                })
                .await;
            assert_eq!(found.map(|found| found.id), Some(region.id));
        }
    }
}

/// A store that has founded the cluster, talking to whoever leads.
async fn found(group: &Processes, leader: usize) -> (Store, Vec<metapb::Region>) {
    let mut client = client(&group.addresses[leader]).await.expect("it leads");
    let request = pdpb::AllocIdRequest {
        header: group.header(),
        count: 13,
    };
    let last = client.alloc_id(request).await.expect("ids").into_inner().id;
    let ids: Vec<u64> = (last - 12..=last).collect();
    let mut store = Store {
        id: ids[0],
        incarnation: 77,
        start: 1,
        cluster_id: group.cluster_id,
        client,
    };
    let regions = store.first_regions(&ids[1..]);
    let reply = store.bootstrap(regions.clone()).await.expect("bootstrap");
    assert_eq!(error(reply.header), None);
    assert_eq!(store.put().await, None);
    (store, regions)
}

#[tokio::test]
async fn leaders_killed_under_load_lose_and_repeat_nothing() {
    let mut group = Processes::start().await;
    let mut leader = group.leader().await;
    let (mut store, regions) = found(&group, leader).await;
    let load = Load {
        addresses: group.addresses.clone(),
        cluster_id: group.cluster_id,
        stopped: AtomicBool::new(false),
        answers: watch::Sender::new(0),
    };
    let trouble = async {
        for round in 0..3_u8 {
            let mut answers = load.answers.subscribe();
            let enough = *answers.borrow() + 20;
            let more = answers.wait_for(|count| *count > enough);
            let more = tokio::time::timeout(LIMIT, more).await;
            more.expect("the load goes on").expect("it counts");
            let next = fail_over(&mut group, leader).await;
            // The store comes back at once, as stores do, and a split can be asked for.
            store.client = client(&group.addresses[next]).await.expect("it leads");
            assert_eq!(error(store.beat().await.header), None);
            let region = &regions[usize::from(round)];
            let mut link = Link::open(&store, region, 5 + u64::from(round)).await;
            split(&group.addresses[next], region).await;
            let order = tokio::time::timeout(LIMIT, link.answer()).await;
            let order = order.expect("an order");
            assert_eq!(order.region_id, region.id);
            assert!(order.split_region.is_some());
            group.launch(leader);
            leader = group.leader().await;
        }
        load.stopped.store(true, Ordering::Release);
    };
    let ids = async { tokio::join!(load.ids(), load.ids()) };
    let timestamps = async { tokio::join!(load.timestamps(), load.timestamps()) };
    let routes = async { tokio::join!(load.routes(&regions), load.routes(&regions)) };
    let ((), ids, timestamps, _) = tokio::join!(trouble, ids, timestamps, routes);
    // Each asker waits for an answer before it asks again: what it sees only grows.
    for seen in [&timestamps.0, &timestamps.1, &ids.0, &ids.1] {
        assert!(seen.is_sorted());
    }
    for (what, seen) in [("id", ids), ("timestamp", timestamps)] {
        let seen = [seen.0, seen.1].concat();
        let distinct: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "a {what} came twice");
        assert!(seen.len() > 60, "{} {what}s are no load", seen.len());
    }
}

/// A member that led before and leads again goes on above what others handed out meanwhile, not
/// with what it had left.
#[tokio::test]
async fn ids_rise_from_leader_to_leader() {
    let mut group = Processes::start().await;
    let mut largest = 0;
    // The fourth leader of three members has led before.
    for _turn in 0..4 {
        let mut leader = 0;
        for _id in 0..3 {
            let last;
            (leader, last) = eventually("two ids", async || {
                let (leader, _) = group.try_leader().await?;
                let request = pdpb::AllocIdRequest {
                    header: group.header(),
                    count: 2,
                };
                let mut client = client(&group.addresses[leader]).await?;
                let reply = client.alloc_id(request).await.ok()?.into_inner();
                assert_eq!(error(reply.header), None);
                Some((leader, reply.id))
            })
            .await;
            assert!(last - 1 > largest, "{last} of {leader} after {largest}");
            largest = last;
        }
        group.pause(leader, true).await;
        assert_ne!(group.leader().await, leader);
        group.pause(leader, false).await;
    }
}

/// Kills the leader; returns the next one. The others answer at once or once they have elected,
/// and never name the dead one.
async fn fail_over(group: &mut Processes, leader: usize) -> usize {
    group.kill(leader);
    for member in (0..3).filter(|member| *member != leader) {
        if let Some(answer) = get_members(&group.addresses[member]).await {
            let named = answer.leader.expect("a leader").member_id;
            assert_ne!(named, leader as u64 + 1, "the dead leader was named");
        }
    }
    let next = group.leader().await;
    assert_ne!(next, leader);
    next
}

/// Asks for a split in the middle; it is admitted once the new leader has heard the region.
async fn split(leader: &str, region: &metapb::Region) {
    let url = format!("http://{leader}");
    let mut hand = PlacementClient::connect(url).await.expect("it listens");
    let reply = hand
        .add_operator(AddOperatorRequest {
            region_id: region.id,
            action: Some(Action::Split(SplitAtKeys::default())),
            ..Default::default()
        })
        .await;
    let reply = reply.expect("an answer").into_inner();
    assert_eq!(error(reply.header), None);
    assert_eq!(reply.operator.expect("it begins").state, "running");
}
