//! The client against a fake cluster over real sockets: what it does when all is well, and what
//! it tells when something is not.

mod fake;
mod members;
mod splits;
mod streams;
mod updates;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fake::{Fake, Fault, both};
use tinykv_client::routing::{Point, Route, StoreId};
use tinykv_client::walk::Direction;
use tinykv_client::{Doubt, Error, Options, RawClient, Reason, Scan, Swap, Whereabouts};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_secs(1);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn pairs(from: u32, to: u32) -> Vec<(Bytes, Bytes)> {
    (from..to)
        .map(|it| (bytes(&format!("k{it:05}")), bytes(&format!("v{it}"))))
        .collect()
}

/// A cluster of four regions: up to k00010, k00020, k01000, and the rest.
async fn four_regions() -> Fake {
    let fake = Fake::start().await;
    for key in ["k00010", "k00020", "k01000"] {
        fake.world().split(key);
    }
    fake
}

#[tokio::test]
async fn what_is_put_is_got_until_it_is_deleted() {
    let fake = four_regions().await;
    let client = RawClient::connect(&fake.placement_addresses(), Options { deadline: LONG })
        .await
        .expect("the cluster is well");
    assert_eq!(client.get("k00015").await.expect("all is well"), None);
    client.put("k00015", "").await.expect("all is well");
    assert_eq!(
        client.get("k00015").await.expect("all is well"),
        Some(Bytes::new())
    );
    client.put("k00015", "one").await.expect("all is well");
    assert_eq!(
        client.get("k00015").await.expect("all is well"),
        Some(bytes("one"))
    );
    client.delete("k00015").await.expect("all is well");
    assert_eq!(client.get("k00015").await.expect("all is well"), None);
}

#[tokio::test]
async fn a_swap_tells_what_was_there() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    let swap = client
        .compare_and_swap("k", None, "1")
        .await
        .expect("all is well");
    assert_eq!(
        swap,
        Swap {
            swapped: true,
            previous: None
        }
    );
    let swap = client
        .compare_and_swap("k", None, "2")
        .await
        .expect("all is well");
    assert_eq!(
        swap,
        Swap {
            swapped: false,
            previous: Some(bytes("1"))
        }
    );
    let swap = client
        .compare_and_swap("k", Some(bytes("1")), "2")
        .await
        .expect("all is well");
    assert_eq!(
        swap,
        Swap {
            swapped: true,
            previous: Some(bytes("1"))
        }
    );
}

#[tokio::test]
async fn batches_are_cut_by_region() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    let all = pairs(0, 30);
    client.batch_put(all.clone()).await.expect("all is well");
    assert_eq!(fake.world().count("batch_put"), 3);
    let mut keys: Vec<_> = all.iter().map(|(key, _)| key.clone()).rev().collect();
    keys.push(bytes("missing"));
    assert_eq!(
        client.batch_get(keys.clone()).await.expect("all is well"),
        all
    );
    client.batch_delete(keys).await.expect("all is well");
    assert!(fake.world().data.is_empty());
}

#[tokio::test]
async fn a_batch_that_partly_fails_says_which_part() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    client
        .batch_get(pairs(0, 30).into_iter().map(|it| it.0).collect())
        .await
        .expect("well");
    fake.world().region_at("k00000").leader = 2;
    fake.world().region_at("k00010").leader = 3;
    fake.world().inject(2, [Fault::Undetermined]);
    fake.world().inject(3, [Fault::DiskFull]);
    let error = client
        .batch_put(pairs(0, 30))
        .await
        .expect_err("two parts fail");
    let keys = |from, to| {
        pairs(from, to)
            .into_iter()
            .map(|it| it.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(error.applied, keys(20, 30));
    let [first, second] = &error.failed[..] else {
        panic!("two parts: {error}")
    };
    assert_eq!(
        (&first.keys, first.error.is_undetermined()),
        (&keys(0, 10), true)
    );
    assert_eq!(
        (&second.keys, second.error.is_undetermined()),
        (&keys(10, 20), false)
    );
    assert!(error.is_undetermined());
    let text = error.to_string();
    assert!(text.starts_with("10 keys were written, 10 were not, the fate of 10 is unknown"));
}

#[tokio::test]
async fn a_batch_is_cut_again_when_its_region_was_split() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().split("k00010");
    fake.world().split("k00020");
    client.batch_put(pairs(0, 30)).await.expect("all is well");
    assert_eq!(fake.world().data.len(), 30);
    assert_eq!(
        fake.world().count("batch_put"),
        4,
        "one refused, then one for each region"
    );
}

#[tokio::test]
async fn a_batch_that_runs_out_of_time_says_what_was_never_sent() {
    let fake = Fake::start().await;
    let client = fake.warm_client(SHORT).await;
    fake.world().split("k00010");
    fake.world().inject(1, [Fault::Hang, Fault::Hang]);
    let error = client
        .batch_put(pairs(0, 30))
        .await
        .expect_err("the first part hangs");
    let [first, second] = &error.failed[..] else {
        panic!("two parts: {error}")
    };
    assert_eq!(
        (first.keys.len(), first.error.is_undetermined()),
        (10, true)
    );
    assert_eq!(
        (second.keys.len(), second.error.is_undetermined()),
        (20, false)
    );
    assert_eq!(
        fake.world().count("batch_put"),
        2,
        "one refused for its epoch, one that hangs"
    );
}

#[tokio::test]
async fn scans_go_both_ways_over_pages_and_regions() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    let all = pairs(0, 3_000);
    fake.world().data = all.iter().cloned().collect();
    let forward = client
        .scan(Scan::default())
        .collect()
        .await
        .expect("all is well");
    assert_eq!(forward, all);
    let reverse = Scan {
        direction: Direction::Reverse,
        ..Scan::default()
    };
    let mut reversed = client.scan(reverse).collect().await.expect("all is well");
    reversed.reverse();
    assert_eq!(reversed, all);
}

#[tokio::test]
async fn scans_keep_to_bounds_and_limit_and_leave_out_values() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    fake.world().data = pairs(0, 100).into_iter().collect();
    let part = Scan {
        lower: bytes("k00005"),
        upper: bytes("k00025"),
        ..Scan::default()
    };
    let scanned = client
        .scan(part.clone())
        .collect()
        .await
        .expect("all is well");
    assert_eq!(scanned, pairs(5, 25));
    let some = Scan {
        limit: Some(12),
        keys_only: true,
        direction: Direction::Reverse,
        ..part
    };
    let mut scanned = client.scan(some).collect().await.expect("all is well");
    scanned.reverse();
    let keys: Vec<_> = pairs(13, 25)
        .into_iter()
        .map(|(key, _)| (key, Bytes::new()))
        .collect();
    assert_eq!(scanned, keys);
}

#[tokio::test]
async fn a_page_cut_by_bytes_is_gone_on_with() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    let large = Bytes::from(vec![7; 900 << 10]);
    let all: Vec<_> = pairs(5, 25)
        .into_iter()
        .map(|(key, _)| (key, large.clone()))
        .collect();
    fake.world().data = all.iter().cloned().collect();
    for direction in [Direction::Forward, Direction::Reverse] {
        let scan = Scan {
            direction,
            ..Scan::default()
        };
        let mut scanned = client.scan(scan).collect().await.expect("all is well");
        if direction == Direction::Reverse {
            scanned.reverse();
        }
        assert_eq!(scanned.len(), all.len());
        assert!(scanned == all, "{direction:?}");
    }
}

#[tokio::test]
async fn a_scan_sees_every_key_once_while_regions_are_split() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    let all = pairs(0, 3_000);
    fake.world().data = all.iter().cloned().collect();
    let mut stream = client.scan(Scan::default());
    let mut scanned = Vec::new();
    let mut splits = ["k00500", "k01500", "k02500", "k02000"].into_iter();
    while let Some(pair) = stream.next().await.expect("all is well") {
        if scanned.len() % 600 == 0
            && let Some(key) = splits.next()
        {
            fake.world().split(key);
        }
        scanned.push(pair);
    }
    assert_eq!(scanned, all);
}

#[tokio::test]
async fn ranges_are_counted_and_removed_over_regions() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    fake.world().data = pairs(0, 40).into_iter().collect();
    assert_eq!(client.count("", "").await.expect("all is well"), 40);
    assert_eq!(
        client.count("k00005", "k00025").await.expect("all is well"),
        20
    );
    assert_eq!(
        client
            .count("k00025", "k00005")
            .await
            .expect("nothing to do"),
        0
    );
    client
        .delete_range("k00005", "k00025")
        .await
        .expect("all is well");
    assert_eq!(client.count("", "").await.expect("all is well"), 20);
    client.delete_range("", "").await.expect("all is well");
    assert!(fake.world().data.is_empty());
}

#[tokio::test]
async fn a_removal_that_fails_says_how_far_it_got() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    fake.world().data = pairs(0, 40).into_iter().collect();
    fake.world().region_at("k00020").leader = 2;
    fake.world().inject(2, [Fault::Undetermined]);
    let error = client
        .delete_range("k00005", "")
        .await
        .expect_err("the third region fails");
    assert_eq!(error.removed_below, "k00020");
    assert!(error.error.is_undetermined());
}

#[tokio::test]
async fn a_moved_leader_is_followed() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().region_at("k").leader = 3;
    client.put("k", "1").await.expect("store 1 tells who leads");
    client.put("k", "2").await.expect("that is remembered");
    let asked: Vec<_> = fake.world().seen.iter().map(|seen| seen.store).collect();
    assert_eq!(asked, [1, 3, 3]);
    assert!(fake.world().seen[1].is_retry);
    assert!(!fake.world().seen[2].is_retry);
}

#[tokio::test]
async fn a_wrong_hint_costs_an_attempt_and_no_more() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world()
        .inject(1, [Fault::NotLeader(Some(2)), Fault::NotLeader(None)]);
    client.put("k", "1").await.expect("store 1 leads after all");
    let asked: Vec<_> = fake.world().seen.iter().map(|seen| seen.store).collect();
    assert_eq!(asked[..3], [1, 2, 1]);
}

#[tokio::test]
async fn an_election_is_outlasted() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().lead_from(0);
    let elect = async {
        fake.until("some peers were asked", |world| world.seen.len() >= 8)
            .await;
        fake.world().lead_from(2);
    };
    let (put, ()) = both(client.put("k", "1"), elect).await;
    put.expect("store 2 leads in the end");
}

#[tokio::test]
async fn a_busy_store_is_asked_again_later() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().inject(1, [Fault::Busy(100), Fault::Busy(50)]);
    let began = Instant::now();
    client
        .put("k", "1")
        .await
        .expect("the store is busy only for a while");
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(fake.world().count("put"), 3);
}

#[tokio::test]
async fn a_store_that_stays_busy_is_told_as_such() {
    let fake = Fake::start().await;
    let client = fake.warm_client(SHORT).await;
    fake.world().inject(1, vec![Fault::Busy(100); 100]);
    let error = client.put("k", "1").await.expect_err("busy to the end");
    let Error::DefinitelyNot {
        reason: Reason::Busy { .. },
        story,
    } = &error
    else {
        panic!("busy was expected: {error}");
    };
    assert!(story.len() >= 3, "{error}");
    assert!(error.to_string().contains("busy (injected)"), "{error}");
}

#[tokio::test]
async fn refusals_are_final_in_every_form() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    let refused = |error: Error| match error {
        Error::DefinitelyNot {
            reason: Reason::Refused { message },
            ..
        } => message,
        other => panic!("a refusal was expected: {other}"),
    };
    fake.world().inject(1, vec![Fault::Refuse("because"); 3]);
    assert_eq!(
        refused(client.put("k", "1").await.expect_err("refused")),
        "because"
    );
    assert_eq!(
        refused(
            client
                .batch_get(vec![bytes("k")])
                .await
                .expect_err("refused")
        ),
        "because"
    );
    let scanned = client.scan(Scan::default()).next().await;
    assert_eq!(refused(scanned.expect_err("refused")), "because");
    fake.world()
        .inject(1, [Fault::Status(tonic::Code::Unimplemented)]);
    assert_eq!(
        refused(client.put("k", "1").await.expect_err("refused")),
        "injected"
    );
}

#[tokio::test]
async fn k2_a_write_that_the_store_doubts_is_not_resent() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    for fault in [Fault::Undetermined, Fault::Status(tonic::Code::Unavailable)] {
        fake.world().seen.clear();
        fake.world().inject(1, [fault]);
        let error = client.put("k", "1").await.expect_err("nobody knows");
        assert!(error.is_undetermined(), "{error}");
        assert_eq!(fake.world().count("put"), 1);
    }
}

#[tokio::test]
async fn k2_a_write_whose_connection_breaks_is_not_resent() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().inject(1, [Fault::Hang]);
    let cut = async {
        fake.until("the put arrived", |world| world.count("put") == 1)
            .await;
        fake.stores[&1].cut();
    };
    let (put, ()) = both(client.put("k", "1"), cut).await;
    let error = put.expect_err("the connection broke");
    let Error::Undetermined {
        doubt: Doubt::ConnectionLost { .. },
        ..
    } = &error
    else {
        panic!("a lost connection was expected: {error}");
    };
    assert_eq!(fake.world().count("put"), 1);
    assert_eq!(
        client.get("k").await.expect("a new connection is made"),
        Some(bytes("1"))
    );
}

#[tokio::test]
async fn k3_a_read_whose_connection_breaks_is_repeated() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().data.insert(bytes("k"), bytes("1"));
    fake.world().inject(1, [Fault::Hang]);
    let cut = async {
        fake.until("the get arrived", |world| world.count("get") == 1)
            .await;
        fake.stores[&1].cut();
    };
    let (got, ()) = both(client.get("k"), cut).await;
    assert_eq!(got.expect("it is asked again"), Some(bytes("1")));
}

#[tokio::test]
async fn k2_a_write_into_silence_ends_at_its_deadline() {
    let fake = Fake::start().await;
    let client = fake.warm_client(SHORT).await;
    fake.stores[&1].silence();
    let began = Instant::now();
    let error = client.put("k", "1").await.expect_err("nobody answers");
    assert!(
        began.elapsed() < SHORT + LONG,
        "not at the deadline, but after {:?}",
        began.elapsed()
    );
    let Error::Undetermined {
        doubt: Doubt::Deadline { .. },
        ..
    } = &error
    else {
        panic!("silence was expected: {error}");
    };
}

#[tokio::test]
async fn k3_a_read_goes_round_a_silent_leader() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().data.insert(bytes("k"), bytes("1"));
    fake.stores[&1].silence();
    fake.world().lead_from(2);
    let client = client.with_options(Options { deadline: 3 * LONG });
    let began = Instant::now();
    assert_eq!(
        client.get("k").await.expect("store 2 leads"),
        Some(bytes("1"))
    );
    assert!(
        began.elapsed() < LONG,
        "it does not sit out its deadline at the silent store"
    );
}

/// Kills store 1, so that nobody leads, and waits until the client has noticed: until then a write
/// may go into the broken connection, and be in doubt.
async fn kill_store_1(fake: &mut Fake, client: &RawClient) {
    fake.stores.get_mut(&1).expect("it exists").close().await;
    fake.world().lead_from(0);
    let short = client.with_options(Options { deadline: SHORT });
    short.get("k").await.expect_err("nobody leads");
    fake.world().seen.clear();
}

#[tokio::test]
async fn a_killed_leader_is_left_without_doubt() {
    let mut fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    kill_store_1(&mut fake, &client).await;
    let elect = async {
        fake.until("the others were asked", |world| world.seen.len() >= 4)
            .await;
        fake.world().lead_from(3);
    };
    let (put, ()) = both(client.put("k", "1"), elect).await;
    put.expect("nothing was sent to the dead store, so there is no doubt");
    assert_eq!(fake.world().data.get(&bytes("k")), Some(&bytes("1")));
}

#[tokio::test]
async fn a_restarted_store_is_found_again() {
    let mut fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    kill_store_1(&mut fake, &client).await;
    let short = client.with_options(Options { deadline: SHORT });
    let error = short.put("k", "1").await.expect_err("nobody leads");
    assert!(!error.is_undetermined(), "{error}");
    fake.stores.get_mut(&1).expect("it exists").reopen();
    fake.world().lead_from(1);
    client.put("k", "1").await.expect("the store is back");
}

#[tokio::test]
async fn k5_the_deadline_travels_with_the_request() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    client.put("k", "1").await.expect("all is well");
    let said = fake.world().seen[0]
        .timeout
        .clone()
        .expect("it says how long it waits");
    let unit = said.chars().last().expect("not empty");
    let count: u64 = said[..said.len() - 1].parse().expect("a number");
    let nanos = count
        * match unit {
            'n' => 1,
            'u' => 1_000,
            'm' => 1_000_000,
            _ => 1_000_000_000,
        };
    let left = Duration::from_nanos(nanos);
    assert!(left <= LONG && left > LONG / 2, "{said}");
}

#[tokio::test]
async fn placement_is_told_what_kind_of_asker_this_is() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    let reverse = Scan {
        direction: Direction::Reverse,
        ..Scan::default()
    };
    client.scan(reverse).collect().await.expect("all is well");
    let lookups = fake.world().lookups.clone();
    assert!(lookups.len() >= 4);
    assert!(
        lookups.iter().all(|asker| asker.as_deref() == Some("raw")),
        "{lookups:?}"
    );
}

#[tokio::test]
async fn placements_leader_is_found_and_followed() {
    let fake = Fake::start().await;
    fake.world().placement_leader = Some(1);
    let client = fake.client(LONG);
    client.put("a", "1").await.expect("the second member leads");
    fake.world().placement_leader = Some(0);
    fake.world().split("m");
    fake.world().region_at("z").leader = 2;
    fake.stores[&1].cut();
    client.get("z").await.expect("the first member leads");
}

#[tokio::test]
async fn one_known_member_is_enough_and_a_dead_one_does_not_matter() {
    let mut fake = Fake::start().await;
    fake.world().placement_leader = Some(1);
    let client = RawClient::new(&fake.placement_addresses()[..1], Options { deadline: LONG });
    client
        .get("k")
        .await
        .expect("the first member tells of the second");
    fake.placements[0].close().await;
    let client = fake.client(LONG);
    client
        .get("k")
        .await
        .expect("the second member leads and answers");
}

#[tokio::test]
async fn known_routes_work_without_placement() {
    let mut fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    for placement in &mut fake.placements {
        placement.close().await;
    }
    client.put("k", "1").await.expect("the route is known");
    let error = client
        .with_options(Options { deadline: SHORT })
        .locate("k")
        .await
        .map(|location| location.peers);
    let addresses = error
        .expect("the route is known")
        .into_iter()
        .map(|it| it.1);
    assert_eq!(
        addresses.flatten().count(),
        0,
        "but not where the stores are"
    );
}

/// Knows what the fake's world knew at some time.
#[derive(Debug)]
struct Known {
    routes: Vec<Route>,
    addresses: BTreeMap<u64, String>,
}

impl Whereabouts for Known {
    fn route(&self, point: &Point) -> Option<Route> {
        let mut routes = self.routes.iter();
        routes.find(|route| route.contains(point)).cloned()
    }

    fn address(&self, store: StoreId) -> Option<String> {
        self.addresses.get(&store.0).cloned()
    }
}

#[tokio::test]
async fn who_knows_regions_by_itself_goes_on_without_placement() {
    let mut fake = four_regions().await;
    for placement in &mut fake.placements {
        placement.close().await;
    }
    let known = {
        let world = fake.world();
        let regions = world.regions.iter();
        let routes =
            regions.filter_map(|region| tinykv_client::wire::route(region.to_proto(), None));
        Arc::new(Known {
            routes: routes.collect(),
            addresses: world.addresses.clone(),
        })
    };
    let placements = fake.placement_addresses();
    let client = RawClient::beside(known, &placements, Options { deadline: LONG });
    for key in ["a", "k00010", "k00500", "z"] {
        client.put(key, "1").await.expect("its region is known");
    }
    let backwards = Scan {
        direction: Direction::Reverse,
        limit: Some(1),
        ..Scan::default()
    };
    let found = client.batch_scan(vec![backwards]).await.expect("known");
    assert_eq!(found[0][0].0, bytes("z"), "what lies below a bound, too");
    // What is there is newer than what is known, and stores tell.
    fake.world().split("k00500");
    client.put("k00600", "1").await.expect("the store told");
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let mut fake = Fake::start().await;
    for placement in &mut fake.placements {
        placement.close().await;
    }
    let options = Options { deadline: SHORT };
    let connected = RawClient::connect(&fake.placement_addresses(), options).await;
    let error = connected.expect_err("nobody listens");
    assert!(error.is_unreachable(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("placement cannot be reached: 127.0.0.1:"),
        "{error}"
    );
    let error = RawClient::connect(&[], Options { deadline: SHORT })
        .await
        .expect_err("no address");
    assert!(error.is_unreachable(), "{error}");
}

#[tokio::test]
async fn what_no_request_may_carry_is_refused_before_sending() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    let long_key = vec![0; (64 << 10) + 1];
    let long_value = vec![0; (8 << 20) + 1];
    let error = client.put("", "1").await.expect_err("no key");
    assert_eq!(error.to_string(), "the key is empty");
    let error = client.get(long_key.clone()).await.expect_err("too long");
    assert_eq!(
        error.to_string(),
        "the key has 65537 bytes, 65536 are allowed"
    );
    let error = client.put("k", long_value).await.expect_err("too long");
    assert_eq!(
        error.to_string(),
        "the value has 8388609 bytes, 8388608 are allowed"
    );
    let error = client
        .batch_put(vec![(Bytes::new(), Bytes::new())])
        .await
        .expect_err("no key");
    assert!(!error.is_undetermined() && error.applied.is_empty());
    let scan = Scan {
        lower: Bytes::from(long_key.clone()),
        ..Scan::default()
    };
    client.scan(scan).next().await.expect_err("too long");
    let error = client
        .delete_range("", long_key)
        .await
        .expect_err("too long");
    assert!(!error.error.is_undetermined());
    assert!(fake.world().seen.is_empty());
}

#[tokio::test]
async fn the_longest_key_can_be_gone_on_from() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    let longest = |it: u32| {
        let mut key = vec![b'k'; 64 << 10];
        key[..4].copy_from_slice(&it.to_be_bytes());
        (Bytes::from(key), Bytes::new())
    };
    let all: BTreeMap<_, _> = (0..100).map(longest).collect();
    fake.world().data = all.clone();
    let scanned = client
        .scan(Scan::default())
        .collect()
        .await
        .expect("all is well");
    assert!(scanned == all.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn many_calls_at_once_share_connections() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    let puts = pairs(0, 200)
        .into_iter()
        .map(|(key, value)| client.put(key, value));
    let all = futures::future::try_join_all(puts);
    timeout(LONG, all)
        .await
        .expect("in time")
        .expect("all is well");
    assert_eq!(fake.world().data.len(), 200);
}
