//! Many calls on one stream to a store.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tinykv_client::{Doubt, Error, Options, RawClient, Scan};
use tokio::time::timeout;
use tonic::Code;

use super::fake::{Fake, Fault, both};
use super::{LONG, SHORT, bytes, four_regions, pairs};

/// Makes calls, one after the other, until one goes by the stream: the client opens it beside the
/// first of them.
async fn until_by_stream(fake: &Fake, client: &RawClient) {
    let by_stream = async {
        loop {
            fake.world().seen.clear();
            client.get("warm").await.expect("the cluster is well");
            if fake.world().seen.iter().any(|seen| seen.by_stream) {
                break;
            }
        }
    };
    timeout(LONG, by_stream)
        .await
        .expect("no stream was opened");
    fake.world().seen.clear();
}

/// A cluster of one region, and a client whose stream to its leader is open.
async fn streaming() -> (Fake, RawClient) {
    let fake = Fake::start().await;
    fake.world().knows_streams = true;
    let client = fake.client(LONG);
    until_by_stream(&fake, &client).await;
    (fake, client)
}

#[tokio::test]
async fn calls_at_the_same_time_travel_together() {
    let (fake, client) = streaming().await;
    let before = fake.world().messages;
    let puts = pairs(0, 200)
        .into_iter()
        .map(|(key, value)| client.put(key, value));
    try_join_all(puts).await.expect("all is well");
    {
        let world = fake.world();
        assert_eq!((world.data.len(), world.count("put")), (200, 200));
        assert!(world.seen.iter().all(|seen| seen.by_stream));
        let messages = world.messages - before;
        assert!(messages <= 20, "{messages} messages for 200 calls");
        assert_eq!(world.streams, 1);
    }
    let gets = pairs(0, 200).into_iter().map(|(key, _)| client.get(key));
    let got = try_join_all(gets).await.expect("all is well");
    let expected: Vec<_> = pairs(0, 200).into_iter().map(|it| Some(it.1)).collect();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn every_kind_of_call_works_by_stream_or_on_its_own() {
    let fake = four_regions().await;
    fake.world().knows_streams = true;
    let client = fake.client(LONG);
    until_by_stream(&fake, &client).await;
    client.batch_put(pairs(0, 40)).await.expect("all is well");
    client.delete("k00039").await.expect("all is well");
    let gone = vec![bytes("k00037"), bytes("k00038")];
    client.batch_delete(gone).await.expect("all is well");
    let keys: Vec<_> = pairs(0, 40).into_iter().map(|it| it.0).collect();
    assert_eq!(
        client.batch_get(keys).await.expect("all is well"),
        pairs(0, 37)
    );
    let scanned = client.scan(Scan::default()).collect().await;
    assert_eq!(scanned.expect("all is well"), pairs(0, 37));
    client
        .delete_range("k00030", "")
        .await
        .expect("all is well");
    let large = vec![7; 1 << 20];
    client
        .put("large", large.clone())
        .await
        .expect("all is well");
    assert_eq!(client.increment("n", 1).await.expect("all is well"), 1);
    let got = client.get("large").await.expect("all is well");
    assert_eq!(got.as_deref(), Some(&large[..]));
    let world = fake.world();
    let by_stream = |call: &str| {
        let mut seen = world.seen.iter().filter(|seen| seen.call == call);
        seen.all(|seen| seen.by_stream)
    };
    for call in ["batch_put", "delete", "batch_delete", "batch_get", "scan"] {
        assert!(by_stream(call), "{call}");
    }
    assert!(!by_stream("put"), "a large one goes on its own");
    assert!(!by_stream("increment"), "streams have no such call");
}

#[tokio::test]
async fn a_store_without_streams_is_asked_for_one_once() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    for _ in 0..50 {
        client.put("k", "1").await.expect("each on its own");
    }
    fake.until("a stream was asked for", |world| world.streams == 1)
        .await;
    client.put("k", "2").await.expect("each on its own");
    let world = fake.world();
    assert_eq!((world.streams, world.count("put")), (1, 51));
    assert!(world.seen.iter().all(|seen| !seen.by_stream));
}

#[tokio::test]
async fn k2_writes_on_a_stream_that_breaks_are_not_resent_and_reads_are() {
    let (fake, client) = streaming().await;
    fake.world().data.insert(bytes("read"), bytes("1"));
    fake.world().inject(1, vec![Fault::Hang; 3]);
    let cut = async {
        fake.until("all three arrived", |world| world.seen.len() == 3)
            .await;
        fake.stores[&1].cut();
    };
    let calls = Box::pin(async {
        tokio::join!(
            client.put("one", "1"),
            client.delete("two"),
            client.get("read")
        )
    });
    let ((put, delete, got), ()) = both(calls, cut).await;
    for error in [put.expect_err("lost"), delete.expect_err("lost")] {
        let Error::Undetermined {
            doubt: Doubt::ConnectionLost { .. },
            ..
        } = &error
        else {
            panic!("a lost connection was expected: {error}");
        };
    }
    assert_eq!(got.expect("it is asked again"), Some(bytes("1")));
    let counts = ["put", "delete"].map(|call| fake.world().count(call));
    assert_eq!(counts, [1, 1]);
    until_by_stream(&fake, &client).await;
}

#[tokio::test]
async fn k2_a_stream_that_the_store_ends_leaves_writes_in_doubt_and_is_opened_anew() {
    let (fake, client) = streaming().await;
    for code in [Code::Unimplemented, Code::Unavailable] {
        fake.world().seen.clear();
        fake.world().inject(1, [Fault::Status(code)]);
        let error = client.put("k", "1").await.expect_err("nobody knows");
        assert!(error.is_undetermined(), "{error}");
        assert_eq!(fake.world().count("put"), 1);
        until_by_stream(&fake, &client).await;
    }
}

#[tokio::test]
async fn each_call_on_a_stream_has_its_own_deadline() {
    let (fake, client) = streaming().await;
    fake.world().inject(1, [Fault::Hang]);
    let short = client.with_options(Options { deadline: SHORT });
    let others = async {
        fake.until("the first arrived", |world| world.count("put") == 1)
            .await;
        let gets = (0..100).map(|_| client.get("k"));
        join_all(gets).await
    };
    let (put, others) = both(short.put("k", "1"), others).await;
    let error = put.expect_err("it hangs");
    let Error::Undetermined {
        doubt: Doubt::Deadline { .. },
        ..
    } = &error
    else {
        panic!("silence was expected: {error}");
    };
    for got in others {
        assert_eq!(got.expect("others go on"), Some(bytes("1")));
    }
    assert_eq!(fake.world().streams, 1);
    assert_eq!(fake.world().count("put"), 1);
}

#[tokio::test]
async fn a_split_a_busy_store_and_a_moved_leader_are_the_same_on_a_stream() {
    let (fake, client) = streaming().await;
    fake.world().split("k00010");
    fake.world().region_at("k00015").leader = 2;
    fake.world().inject(1, [Fault::Busy(1)]);
    client.put("k00015", "1").await.expect("all is well");
    assert_eq!(
        fake.world().count("put"),
        4,
        "busy, epoch, not leader, then served"
    );
}

#[tokio::test]
async fn calls_that_are_given_up_leave_nothing_behind() {
    let (fake, client) = streaming().await;
    for _ in 0..20 {
        fake.world().inject(1, [Fault::Hang]);
        let put = client.put("k", "1");
        let given_up = timeout(Duration::from_millis(5), put).await;
        assert!(given_up.is_err(), "it hangs");
    }
    fake.world().faults.clear();
    client.put("k", "2").await.expect("the stream goes on");
    assert_eq!(fake.world().streams, 1);
}
