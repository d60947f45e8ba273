//! Raw keys of keyspaces: their regions, and what they never meet.

use bytes::Bytes;
use tinykv_proto::{kvrpcpb as pb, metapb};

use super::{Running, Setting, in_time};

/// A key of a keyspace, as clients send it.
fn key(keyspace: u8, name: &str) -> Bytes {
    Bytes::from([&[b'r', 0, 0, keyspace], name.as_bytes()].concat())
}

impl Running {
    /// The region that holds a key of a keyspace.
    fn region_of(&self, key: &[u8]) -> &metapb::Region {
        let contains = |region: &&metapb::Region| {
            tinykv_keys::Bounds::new(&region.start_key, &region.end_key).contains_encoded(key)
        };
        self.regions
            .iter()
            .find(contains)
            .expect("the space is tiled")
    }

    fn keyspace_context(&self, key: &[u8]) -> Option<pb::Context> {
        let region = self.region_of(key);
        Some(pb::Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: region.peers.first().copied(),
            api_version: pb::ApiVersion::V2.into(),
            ..pb::Context::default()
        })
    }

    async fn keyspace_put(&self, key: Bytes, value: &'static str) {
        let request = pb::RawPutRequest {
            context: self.keyspace_context(&key),
            key,
            value: Bytes::from_static(value.as_bytes()),
            ..pb::RawPutRequest::default()
        };
        let answer = self.client.clone().raw_put(request).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!(answer, pb::RawPutResponse::default());
    }

    async fn keyspace_scan(&self, start: Bytes, end: Bytes, reverse: bool) -> Vec<Bytes> {
        let request = pb::RawScanRequest {
            context: self.keyspace_context(start.clone().min(end.clone()).as_ref()),
            start_key: start,
            end_key: end,
            limit: 100,
            reverse,
            ..pb::RawScanRequest::default()
        };
        let answer = self.client.clone().raw_scan(request).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!(answer.region_error, None);
        answer.kvs.into_iter().map(|pair| pair.key).collect()
    }

    async fn keyspace_delete_range(&self, start: Bytes, end: Bytes) -> pb::RawDeleteRangeResponse {
        let request = pb::RawDeleteRangeRequest {
            context: self.keyspace_context(&start),
            start_key: start,
            end_key: end,
            ..pb::RawDeleteRangeRequest::default()
        };
        let answer = self.client.clone().raw_delete_range(request).await;
        answer.expect("answered").into_inner()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyspaces_end_where_their_regions_do() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        for name in ["", "a", "z"].map(|name| format!("k{name}")) {
            running.keyspace_put(key(0, &name), "zero").await;
            running.keyspace_put(key(1, &name), "one").await;
        }
        // The same bytes without keyspace are another key.
        running.put("r\0\0\0k", "plain", 0).await;
        each_sees_its_own(&running).await;
        edges(&running).await;
        running.end().await;
        setting.end().await;
    })
    .await;
}

async fn each_sees_its_own(running: &Running) {
    for keyspace in [0, 1] {
        let names = ["k", "ka", "kz"].map(|name| key(keyspace, name));
        let (start, end) = (key(keyspace, ""), key(keyspace + 1, ""));
        assert_eq!(
            running
                .keyspace_scan(start.clone(), end.clone(), false)
                .await,
            names
        );
        let mut down = names.to_vec();
        down.reverse();
        assert_eq!(running.keyspace_scan(end, start, true).await, down);
    }
    assert_eq!(running.get("r\0\0\0k").await.as_deref(), Some("plain"));
    assert_eq!(running.get("r\0\0\0ka").await, None);
}

async fn edges(running: &Running) {
    let zero = running.region_of(&key(0, "k"));
    let one = running.region_of(&key(1, "k"));
    assert_ne!(zero.id, one.id);
    assert_eq!(zero.end_key, one.start_key);
    // A key of the one sent to the region of the other; bounds are shown so that they decode.
    let request = pb::RawGetRequest {
        context: running.keyspace_context(&key(0, "k")),
        key: key(1, "k"),
        ..pb::RawGetRequest::default()
    };
    let answer = running.client.clone().raw_get(request).await;
    let error = answer.expect("answered").into_inner().region_error;
    let outside = error.and_then(|error| error.key_not_in_region);
    let outside = outside.expect("it lies elsewhere");
    let decoded = tinykv_keys::memcomparable::decode(&outside.end_key);
    assert_eq!(decoded, Some(key(1, "").to_vec()));
    // A range over the edge is refused as a whole; one up to the edge is fine.
    let over = running
        .keyspace_delete_range(key(0, "k"), key(1, "kz"))
        .await;
    let error = over.region_error.expect("it leaves the region");
    assert!(error.key_not_in_region.is_some(), "{error:?}");
    let upto = running.keyspace_delete_range(key(0, ""), key(1, "")).await;
    assert_eq!(upto, pb::RawDeleteRangeResponse::default());
    let all = running.keyspace_scan(key(0, ""), key(1, ""), false).await;
    assert_eq!(all, Vec::<Bytes>::new());
    let all = running.keyspace_scan(key(1, ""), key(2, ""), false).await;
    assert_eq!(all.len(), 3);
    assert_eq!(running.get("r\0\0\0k").await.as_deref(), Some("plain"));
    // A key without its prefix, and a bound without one.
    let request = pb::RawGetRequest {
        context: running.keyspace_context(&key(0, "k")),
        key: Bytes::from_static(b"k"),
        ..pb::RawGetRequest::default()
    };
    let answer = running.client.clone().raw_get(request).await;
    assert_eq!(
        answer.expect("answered").into_inner().error,
        "a key of API version 2 starts with `r` and three bytes of keyspace id"
    );
}
