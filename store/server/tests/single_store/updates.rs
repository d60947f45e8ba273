//! `tinykv.store.Store`: updates that are decided when they are applied.

use bytes::Bytes;
use tinykv_proto::kvrpcpb as kv;
use tinykv_proto::store as pb;

use super::{Running, Setting, in_time};

const K: Bytes = Bytes::from_static(b"k");

impl Running {
    async fn increment(&self, key: Bytes, delta: i64, cf: &str) -> pb::RawIncrementResponse {
        let request = pb::RawIncrementRequest {
            context: self.context(b"k"),
            key,
            delta,
            cf: cf.to_owned(),
        };
        let answer = self.own.clone().raw_increment(request).await;
        answer.expect("answered").into_inner()
    }

    async fn append(&self, key: Bytes, value: &[u8]) -> pb::RawAppendResponse {
        let request = pb::RawAppendRequest {
            context: self.context(b"k"),
            key,
            value: Bytes::copy_from_slice(value),
            cf: String::new(),
        };
        let answer = self.own.clone().raw_append(request).await;
        answer.expect("answered").into_inner()
    }

    async fn put_if(&self, change: impl FnOnce(&mut pb::RawPutIfRequest)) -> pb::RawPutIfResponse {
        let mut request = pb::RawPutIfRequest {
            context: self.context(b"k"),
            key: K,
            ..pb::RawPutIfRequest::default()
        };
        change(&mut request);
        let answer = self.own.clone().raw_put_if(request).await;
        answer.expect("answered").into_inner()
    }

    async fn remove(&self, keys: Vec<Bytes>) -> pb::RawRemoveResponse {
        let request = pb::RawRemoveRequest {
            context: self.context(b"k"),
            keys,
            cf: String::new(),
        };
        let answer = self.own.clone().raw_remove(request).await;
        answer.expect("answered").into_inner()
    }

    async fn expire(&self, key: Bytes, ttl_ms: u64) -> pb::RawExpireResponse {
        let request = pb::RawExpireRequest {
            context: self.context(b"k"),
            key,
            cf: String::new(),
            ttl_ms,
        };
        let answer = self.own.clone().raw_expire(request).await;
        answer.expect("answered").into_inner()
    }

    async fn expiry(&self, key: Bytes) -> pb::RawGetExpiryResponse {
        let request = pb::RawGetExpiryRequest {
            context: self.context(b"k"),
            key,
            cf: String::new(),
        };
        let answer = self.own.clone().raw_get_expiry(request).await;
        answer.expect("answered").into_inner()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_decided_by_what_is_stored() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        count_and_append(&running).await;
        conditions(&running).await;
        expiry(&running, &setting).await;
        what_is_refused(&running).await;
        running.end().await;
        setting.end().await;
    })
    .await;
}

async fn count_and_append(running: &Running) {
    assert_eq!(running.increment(K, 41, "default").await.value, 41);
    assert_eq!(running.increment(K, 1, "").await.value, 42);
    // What an increment stores is a text like any other.
    assert_eq!(running.get("k").await.as_deref(), Some("42"));
    assert_eq!(running.append(K, b"!").await.length, 3);
    let refused = running.increment(K, 1, "").await;
    assert_eq!(refused.conflict(), pb::Conflict::NotAnInteger);
    assert_eq!(
        refused.error,
        "the value is no decimal number of 64 bits with a sign"
    );
    running.put("k", "9223372036854775807", 0).await;
    let refused = running.increment(K, 1, "").await;
    assert_eq!(refused.conflict(), pb::Conflict::Overflow);
    running.put("k", &"v".repeat((8 << 20) - 1), 0).await;
    assert_eq!(running.append(K, b"x").await.length, 8 << 20);
    let refused = running.append(K, b"x").await;
    assert_eq!(refused.conflict(), pb::Conflict::TooLong);
    let removed = running
        .remove(vec![K, Bytes::from_static(b"nothing"), K])
        .await;
    assert_eq!(removed.removed, 1);
    assert_eq!(running.remove(Vec::new()).await.removed, 0);
    assert_eq!(running.get("k").await, None);
}

async fn conditions(running: &Running) {
    let put = async |condition: pb::Condition, value: &'static str| {
        let answer = running
            .put_if(|request| {
                request.value = Bytes::from_static(value.as_bytes());
                request.set_condition(condition);
            })
            .await;
        assert_eq!((&answer.region_error, answer.error.as_str()), (&None, ""));
        answer.succeed
    };
    assert!(!put(pb::Condition::IfPresent, "a").await);
    assert!(put(pb::Condition::IfAbsent, "b").await);
    assert!(!put(pb::Condition::IfAbsent, "c").await);
    assert!(put(pb::Condition::IfPresent, "d").await);
    assert_eq!(running.get("k").await.as_deref(), Some("d"));
    assert!(put(pb::Condition::Always, "e").await);
    assert_eq!(running.get("k").await.as_deref(), Some("e"));
}

async fn expiry(running: &Running, setting: &Setting) {
    assert_eq!(
        running.expiry(K).await,
        pb::RawGetExpiryResponse::default(),
        "it lives for ever"
    );
    let changed = running.expire(K, 60_000).await;
    assert!(!changed.had_expiry && !changed.not_found);
    let left = running.expiry(K).await.ttl_ms.expect("it expires");
    assert!((1..=60_000).contains(&left), "{left} ms left");
    running.put_if(|request| request.keep_expiry = true).await;
    let left = running.expiry(K).await.ttl_ms.expect("it still expires");
    assert!((1..=60_000).contains(&left), "{left} ms left");
    assert!(running.expire(K, 0).await.had_expiry);
    assert_eq!(running.expiry(K).await.ttl_ms, None);
    running.put_if(|request| request.ttl_ms = 60_000).await;
    setting.placement.pass_time(120_000).await;
    assert!(running.expiry(K).await.not_found);
    assert!(running.expire(K, 5).await.not_found);
    assert_eq!(running.remove(vec![K]).await.removed, 0);
    assert_eq!(running.increment(K, 3, "").await.value, 3);
    assert_eq!(running.expiry(K).await.ttl_ms, None);
}

async fn what_is_refused(running: &Running) {
    let empty = "the key is empty";
    let long = Bytes::from(vec![b'k'; (64 << 10) + 1]);
    let too_long = "the key has 65537 bytes, 65536 are allowed";
    assert_eq!(running.increment(Bytes::new(), 1, "").await.error, empty);
    assert_eq!(running.append(long.clone(), b"").await.error, too_long);
    assert_eq!(running.expire(long.clone(), 0).await.error, too_long);
    assert_eq!(running.expiry(long.clone()).await.error, too_long);
    assert_eq!(running.remove(vec![K, long]).await.error, too_long);
    assert_eq!(
        running.increment(K, 1, "write").await.error,
        "column family `write` does not exist; raw calls know `default` (or an empty name)"
    );
    assert_eq!(
        running.remove(vec![K; 1025]).await.error,
        "the request names 1025 keys, 1024 are allowed; send it in parts"
    );
    assert_eq!(
        running.expire(K, u64::MAX).await.error,
        "a time to live of 18446744073709551615 milliseconds is too long; 4611686018427387904 are \
         allowed"
    );
    let kept = |request: &mut pb::RawPutIfRequest| {
        request.keep_expiry = true;
        request.ttl_ms = 7;
    };
    assert_eq!(
        running.put_if(kept).await.error,
        "a time to live of 7 milliseconds makes no sense when the expiry is to be kept"
    );
    assert_eq!(
        running.put_if(|request| request.condition = 9).await.error,
        "condition 9 of the put is unknown; 0 always, 1 if absent, 2 if present"
    );
    let version = |request: &mut pb::RawPutIfRequest| {
        request.context.get_or_insert_default().api_version = 7;
    };
    assert_eq!(
        running.put_if(version).await.error,
        "API version 7 is not supported; raw calls know V1 and V2"
    );
    let outside = running
        .put_if(|request| request.key = Bytes::from_static(b"z"))
        .await;
    let error = outside.region_error.expect("it lies elsewhere");
    assert!(error.key_not_in_region.is_some(), "{error:?}");
    let nobody = running
        .put_if(|request| request.context = Some(kv::Context::default()))
        .await;
    let error = nobody.region_error.expect("nobody was asked");
    assert!(error.store_not_match.is_some(), "{error:?}");
}
