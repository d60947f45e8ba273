//! Updates that are decided when they are applied, and keys that expire.

use std::time::Duration;

use bytes::Bytes;
use tinykv_client::{
    BatchError, Checksum, Condition, Conflict, Error, Expired, Expiry, PutOptions, Reason, Scan,
};

use super::fake::{Fake, Fault};
use super::{LONG, bytes, four_regions, pairs};

fn if_present() -> PutOptions {
    PutOptions {
        condition: Condition::IfPresent,
        ..PutOptions::default()
    }
}

#[tokio::test]
async fn numbers_are_added_to_and_texts_appended_to() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    assert_eq!(client.increment("n", 5).await.expect("all is well"), 5);
    assert_eq!(client.increment("n", -7).await.expect("all is well"), -2);
    assert_eq!(
        client.get("n").await.expect("all is well"),
        Some(bytes("-2"))
    );
    assert_eq!(client.append("t", "one").await.expect("all is well"), 3);
    assert_eq!(client.append("t", "two").await.expect("all is well"), 6);
    assert_eq!(
        client.get("t").await.expect("all is well"),
        Some(bytes("onetwo"))
    );
}

#[tokio::test]
async fn what_is_stored_can_forbid_an_update_and_nothing_changes() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    client.put("t", "text").await.expect("all is well");
    client
        .put("n", i64::MAX.to_string())
        .await
        .expect("all is well");
    let most = Bytes::from(vec![0; 8 << 20]);
    client.put("long", most.clone()).await.expect("all is well");
    let error = client.increment("t", 1).await.expect_err("a text");
    assert_eq!(error.conflict(), Some(Conflict::NotAnInteger));
    assert!(!error.is_undetermined());
    let error = client.increment("n", 1).await.expect_err("too large");
    assert_eq!(error.conflict(), Some(Conflict::Overflow));
    let error = client.append("long", "x").await.expect_err("too long");
    assert_eq!(error.conflict(), Some(Conflict::TooLong));
    assert!(
        matches!(
            error,
            Error::DefinitelyNot {
                reason: Reason::Conflict(_),
                ..
            }
        ),
        "{error}"
    );
    for (call, count) in [("increment", 2), ("append", 1)] {
        assert_eq!(fake.world().count(call), count, "nothing is asked twice");
    }
    assert_eq!(fake.world().data.get("t".as_bytes()), Some(&bytes("text")));
    assert_eq!(fake.world().data.get("long".as_bytes()), Some(&most));
}

#[tokio::test]
async fn puts_keep_to_their_condition() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    let put_if = |value: &'static str, options| client.put_if("k", value, options);
    assert!(!put_if("0", if_present()).await.expect("all is well"));
    assert!(client.put_if_absent("k", "1").await.expect("all is well"));
    assert!(!client.put_if_absent("k", "2").await.expect("all is well"));
    assert!(put_if("3", if_present()).await.expect("all is well"));
    assert!(
        put_if("4", PutOptions::default())
            .await
            .expect("all is well")
    );
    assert_eq!(
        client.get("k").await.expect("all is well"),
        Some(bytes("4"))
    );
}

#[tokio::test]
async fn expiry_is_set_kept_asked_for_and_removed() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    let ms = Duration::from_millis;
    let expiry = || async { client.expiry("k").await.expect("all is well") };
    assert_eq!(expiry().await, Expiry::NotFound);
    let expired = client.expire("k", Some(ms(5))).await;
    assert_eq!(expired.expect("all is well"), Expired::NotFound);
    client
        .put_with_ttl("k", "1", ms(2_000))
        .await
        .expect("whole seconds are TiKV's own call");
    assert_eq!(fake.world().count("put"), 1);
    assert_eq!(expiry().await, Expiry::In(ms(2_000)));
    client
        .put_with_ttl("k", "2", ms(1_500))
        .await
        .expect("milliseconds are ours");
    assert_eq!(fake.world().count("put_if"), 1);
    assert_eq!(expiry().await, Expiry::In(ms(1_500)));
    let keep = PutOptions {
        keep_expiry: true,
        ..if_present()
    };
    assert!(client.put_if("k", "3", keep).await.expect("all is well"));
    assert_eq!(expiry().await, Expiry::In(ms(1_500)));
    let changed = |had_expiry| Expired::Changed { had_expiry };
    let persisted = client.expire("k", None).await;
    assert_eq!(persisted.expect("all is well"), changed(true));
    assert_eq!(expiry().await, Expiry::Never);
    let expired = client.expire("k", Some(Duration::from_micros(1_001))).await;
    assert_eq!(expired.expect("all is well"), changed(false));
    assert_eq!(expiry().await, Expiry::In(ms(2)), "rounded up");
    let pairs = vec![(bytes("a"), bytes("1")), (bytes("b"), bytes("2"))];
    client
        .batch_put_with_ttl(pairs, ms(1_001))
        .await
        .expect("all is well");
    assert_eq!(fake.world().ttls.get("b".as_bytes()), Some(&2_000));
}

#[tokio::test]
async fn times_to_live_that_make_no_sense_are_refused_before_sending() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    let refused = |error: Error| match error {
        Error::DefinitelyNot {
            reason: Reason::BadRequest { what },
            ..
        } => what,
        other => panic!("a bad request was expected: {other}"),
    };
    let zero = Duration::ZERO;
    let at_least = "a time to live is at least 1 ms";
    let error = client.put_with_ttl("k", "1", zero).await;
    assert_eq!(refused(error.expect_err("zero")), at_least);
    let error = client.expire("k", Some(zero)).await;
    assert_eq!(refused(error.expect_err("zero")), at_least);
    let error = client.expire("k", Some(Duration::MAX)).await;
    assert_eq!(
        refused(error.expect_err("for ever is None")),
        "a time to live is at most 2^62 ms"
    );
    let both = PutOptions {
        ttl: Some(LONG),
        keep_expiry: true,
        ..PutOptions::default()
    };
    let error = client.put_if("k", "1", both).await.expect_err("both");
    assert!(refused(error).ends_with("not both"));
    let error = client.batch_put_with_ttl(pairs(0, 2), zero).await;
    assert_eq!(error.expect_err("zero").failed.len(), 1);
    assert!(fake.world().seen.is_empty());
}

#[tokio::test]
async fn removed_keys_are_counted_over_regions() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    fake.world().data = pairs(5, 25).into_iter().collect();
    let mut keys: Vec<_> = pairs(0, 30).into_iter().map(|it| it.0).collect();
    keys.extend(keys.clone());
    assert_eq!(client.remove(keys.clone()).await.expect("all is well"), 20);
    assert_eq!(fake.world().count("remove"), 3);
    assert_eq!(client.remove(keys).await.expect("all is well"), 0);
}

#[tokio::test]
async fn k2_no_update_is_sent_again_once_its_fate_is_unknown() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    let doubt = |error: &Error, call: &str| {
        assert!(error.is_undetermined(), "{call}: {error}");
        assert_eq!(fake.world().count(call), 1, "{call}");
    };
    fake.world().inject(1, vec![Fault::Undetermined; 5]);
    let error = client.increment("n", 1).await.expect_err("doubted");
    doubt(&error, "increment");
    let error = client.append("t", "x").await.expect_err("doubted");
    doubt(&error, "append");
    let error = client.put_if_absent("k", "1").await.expect_err("doubted");
    doubt(&error, "put_if");
    let error = client.expire("k", None).await.expect_err("doubted");
    doubt(&error, "expire");
    let BatchError { applied, failed } = client
        .remove(vec![bytes("n"), bytes("t")])
        .await
        .expect_err("doubted");
    assert!(applied.is_empty());
    doubt(&failed[0].error, "remove");
    // Each was served once.
    let client = fake.client(LONG);
    assert_eq!(client.get("n").await.expect("all is well"), None);
    assert_eq!(
        client.get("k").await.expect("all is well"),
        Some(bytes("1"))
    );
}

#[tokio::test]
async fn updates_follow_the_leader_as_they_were_provably_not_applied() {
    let fake = Fake::start().await;
    let client = fake.warm_client(LONG).await;
    fake.world().lead_from(3);
    fake.world().inject(3, [Fault::Busy(1)]);
    assert_eq!(client.increment("n", 1).await.expect("store 3 leads"), 1);
    assert_eq!(
        fake.world().count("increment"),
        3,
        "not leader, busy, and then served once"
    );
}

#[tokio::test]
async fn a_checksum_is_the_same_however_regions_are_cut() {
    let fake = Fake::start().await;
    let client = fake.client(LONG);
    let all = pairs(0, 40);
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    fake.world().data = all.into_iter().collect();
    let whole = client.checksum("", "").await.expect("all is well");
    assert_eq!((whole.keys, whole.bytes), (40, bytes as u64));
    assert_ne!(whole.crc64_xor, 0);
    fake.world().split("k00010");
    fake.world().split("k00020");
    assert_eq!(client.checksum("", "").await.expect("all is well"), whole);
    let nothing = client.checksum("x", "a").await.expect("nothing to do");
    assert_eq!(nothing, Checksum::default());
}

#[tokio::test]
async fn several_ranges_are_scanned_at_once() {
    let fake = four_regions().await;
    let client = fake.client(LONG);
    fake.world().data = pairs(0, 40).into_iter().collect();
    let part = |lower: &str, upper: &str| Scan {
        lower: bytes(lower),
        upper: bytes(upper),
        ..Scan::default()
    };
    let limited = Scan {
        limit: Some(3),
        ..part("k00019", "")
    };
    let scanned = client
        .batch_scan(vec![part("k00005", "k00025"), part("x", ""), limited])
        .await
        .expect("all is well");
    assert_eq!(scanned, [pairs(5, 25), vec![], pairs(19, 22)]);
}
