//! What a split costs, and that nothing is missed or doubled while regions are split.

use std::time::Duration;

use tinykv_client::walk::Direction;
use tinykv_client::{RawClient, Scan};

use super::fake::{Fake, both};
use super::{LONG, bytes, pairs};

/// A client that knows one region, which is split twice since.
async fn split_behind_its_back() -> (Fake, RawClient) {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().lookups.clear();
    fake.world().split("k00010");
    fake.world().split("k00020");
    (fake, client)
}

#[tokio::test]
async fn a_split_costs_one_round_trip_and_no_look_up() {
    let (fake, client) = split_behind_its_back().await;
    client.put("k00015", "1").await.expect("all is well");
    assert_eq!(fake.world().count("put"), 2, "refused once, then served");
    for key in ["k00005", "k00025", "k00015"] {
        client.put(key, "1").await.expect("all is well");
    }
    assert_eq!(fake.world().count("put"), 5, "all parts are known by now");
    assert_eq!(fake.world().lookups, [], "placement was not asked");
}

#[tokio::test]
async fn a_part_that_another_store_leads_costs_one_more() {
    let (fake, client) = split_behind_its_back().await;
    fake.world().region_at("k00015").leader = 2;
    client.put("k00015", "1").await.expect("all is well");
    assert_eq!(
        fake.world().count("put"),
        3,
        "epoch, not leader, then served"
    );
    assert_eq!(fake.world().lookups, [], "placement was not asked");
}

#[tokio::test]
async fn batches_are_cut_anew_without_a_look_up() {
    let (fake, client) = split_behind_its_back().await;
    client.batch_put(pairs(0, 30)).await.expect("all is well");
    let keys: Vec<_> = pairs(0, 30).into_iter().map(|it| it.0).collect();
    fake.world().split("k00005");
    let got = client.batch_get(keys.clone()).await.expect("all is well");
    assert_eq!(got, pairs(0, 30));
    fake.world().split("k00025");
    assert_eq!(client.remove(keys).await.expect("all is well"), 30);
    assert_eq!(fake.world().lookups, [], "placement was not asked");
}

#[tokio::test]
async fn what_knows_less_than_the_client_is_waited_for() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    let before = fake.world().regions.clone();
    fake.world().split("k00010");
    client.put("k00015", "1").await.expect("all is well");
    // A new leader that has not applied the split yet, and placement that was not told.
    let after = std::mem::replace(&mut fake.world().regions, before);
    let catch_up = async {
        fake.until("placement is asked, too", |world| world.lookups.len() >= 3)
            .await;
        fake.world().regions = after;
    };
    let (got, ()) = both(client.get("k00015"), catch_up).await;
    assert_eq!(got.expect("it catches up"), Some(bytes("1")));
}

#[tokio::test]
async fn c4_scans_and_batches_see_every_key_once_while_regions_are_split_and_led_elsewhere() {
    let fake = Fake::start().await;
    let client = fake.client(3 * LONG);
    let all = pairs(0, 4_000);
    fake.world().data = all.iter().cloned().collect();
    let splits = async {
        for (at, key) in (100..4_000).step_by(150).enumerate() {
            let key: &'static str = format!("k{key:05}").leak();
            let asked = fake.world().seen.len();
            fake.until("more is asked", |world| world.seen.len() > asked)
                .await;
            let mut world = fake.world();
            world.split(key);
            world.region_at(key).leader = (at % 3) as u64 + 1;
        }
    };
    let read = async {
        for round in 0..100 {
            let direction = [Direction::Forward, Direction::Reverse][round % 2];
            let scan = Scan {
                direction,
                ..Scan::default()
            };
            let mut scanned = client.scan(scan).collect().await.expect("all is well");
            if direction == Direction::Reverse {
                scanned.reverse();
            }
            assert!(scanned == all, "{direction:?}, round {round}");
            let keys = all.iter().map(|it| it.0.clone()).collect();
            let got = client.batch_get(keys).await.expect("all is well");
            assert!(got == all, "batch, round {round}");
            let count = client.count("k00000", "k00500").await;
            assert_eq!(count.expect("all is well"), 500);
            if fake.world().regions.len() > 26 {
                return;
            }
        }
    };
    let all_done = both(read, splits);
    tokio::time::timeout(Duration::from_secs(60), all_done)
        .await
        .expect("reads go on, so splits do");
}
