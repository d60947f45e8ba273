//! Calls over several ranges, times to live of batches and swaps, checksums.

use bytes::Bytes;
use tinykv_proto::kvrpcpb as pb;

use super::{Running, Setting, in_time, text};

fn range(start: &'static str, end: &'static str) -> pb::KeyRange {
    pb::KeyRange {
        start_key: Bytes::from_static(start.as_bytes()),
        end_key: Bytes::from_static(end.as_bytes()),
    }
}

impl Running {
    async fn batch_scan(
        &self,
        change: impl FnOnce(&mut pb::RawBatchScanRequest),
    ) -> pb::RawBatchScanResponse {
        let mut request = pb::RawBatchScanRequest {
            context: self.context(b"k"),
            each_limit: 100,
            ..pb::RawBatchScanRequest::default()
        };
        change(&mut request);
        let answer = self.client.clone().raw_batch_scan(request).await;
        answer.expect("answered").into_inner()
    }

    async fn scanned(
        &self,
        ranges: Vec<pb::KeyRange>,
        each_limit: u32,
        reverse: bool,
    ) -> Vec<String> {
        let answer = self
            .batch_scan(|request| {
                request.ranges = ranges;
                request.each_limit = each_limit;
                request.reverse = reverse;
            })
            .await;
        assert_eq!(answer.region_error, None);
        answer.kvs.iter().map(|pair| text(&pair.key)).collect()
    }

    async fn checksum(&self, ranges: Vec<pb::KeyRange>, algorithm: i32) -> pb::RawChecksumResponse {
        let request = pb::RawChecksumRequest {
            context: self.context(b"k"),
            algorithm,
            ranges,
        };
        let answer = self.client.clone().raw_checksum(request).await;
        answer.expect("answered").into_inner()
    }

    async fn ttl(&self, key: &'static str) -> pb::RawGetKeyTtlResponse {
        let request = pb::RawGetKeyTtlRequest {
            context: self.context(b"k"),
            key: Bytes::from_static(key.as_bytes()),
            ..pb::RawGetKeyTtlRequest::default()
        };
        let answer = self.client.clone().raw_get_key_ttl(request).await;
        answer.expect("answered").into_inner()
    }

    async fn batch_put(&self, keys: &[&'static str], ttl: u64, ttls: &[u64]) -> String {
        let pair = |key: &&'static str| pb::KvPair {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(b"v"),
            ..pb::KvPair::default()
        };
        let request = pb::RawBatchPutRequest {
            context: self.context(b"k"),
            pairs: keys.iter().map(pair).collect(),
            ttl,
            ttls: ttls.to_vec(),
            ..pb::RawBatchPutRequest::default()
        };
        let answer = self.client.clone().raw_batch_put(request).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!(answer.region_error, None);
        answer.error
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_are_one_call() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        for key in ["k1", "k2", "k3", "k4"] {
            running.put(key, "v", 0).await;
        }
        scans(&running).await;
        checksums(&running).await;
        running.end().await;
        setting.end().await;
    })
    .await;
}

async fn scans(running: &Running) {
    let two = || vec![range("k2", "k4"), range("k", "k3")];
    assert_eq!(
        running.scanned(two(), 9, false).await,
        ["k2", "k3", "k1", "k2"]
    );
    assert_eq!(running.scanned(two(), 1, false).await, ["k2", "k1"]);
    // In reverse the start is the upper bound.
    let down = vec![range("k4", "k2"), range("k3", "k")];
    assert_eq!(
        running.scanned(down, 9, true).await,
        ["k3", "k2", "k2", "k1"]
    );
    assert_eq!(
        running.scanned(vec![range("", "")], 9, false).await.len(),
        4
    );
    assert_eq!(
        running
            .scanned(vec![range("k4", "k2")], 9, false)
            .await
            .len(),
        0
    );
    assert_eq!(running.scanned(Vec::new(), 9, false).await.len(), 0);
    assert_eq!(running.scanned(two(), 0, false).await.len(), 0);
    let keys = running
        .batch_scan(|request| {
            request.ranges = vec![range("k1", "k2")];
            request.key_only = true;
        })
        .await;
    assert_eq!(keys.kvs.len(), 1);
    assert!(keys.kvs.iter().all(|pair| pair.value.is_empty()));
    let refused = running
        .batch_scan(|request| request.ranges = vec![range("k", "l"); 4097])
        .await;
    let told = refused.kvs.first().and_then(|pair| pair.error.clone());
    assert_eq!(
        told.expect("refused").abort,
        "the request names 4097 ranges, 4096 are allowed; send it in parts"
    );
}

async fn checksums(running: &Running) {
    let whole = running.checksum(vec![range("k", "l")], 0).await;
    assert_eq!((whole.total_kvs, whole.total_bytes), (4, 12));
    let mut parts = [range("", "k3"), range("k3", "")].map(|range| vec![range]);
    let [low, high] = parts.each_mut().map(std::mem::take);
    let (low, high) = (
        running.checksum(low, 0).await,
        running.checksum(high, 0).await,
    );
    assert_eq!(low.checksum ^ high.checksum, whole.checksum);
    assert_ne!(low.checksum, high.checksum);
    let both = running
        .checksum(vec![range("", "k3"), range("k3", "")], 0)
        .await;
    assert_eq!(both, whole);
    assert_eq!(
        running.checksum(Vec::new(), 7).await.error,
        "checksum algorithm 7 is unknown; 0 is CRC-64 of each pair, combined by xor"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_to_live_of_batches_and_swaps() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        assert_eq!(running.batch_put(&["k1", "k2"], 0, &[100, 0]).await, "");
        assert_eq!(running.batch_put(&["k3", "k4"], 100, &[]).await, "");
        assert_eq!(running.batch_put(&["k5", "k6"], 7, &[0]).await, "");
        for (key, expires) in [("k1", true), ("k2", false), ("k3", true), ("k5", false)] {
            let left = running.ttl(key).await.ttl;
            let expected = if expires { 1..=100 } else { 0..=0 };
            assert!(expected.contains(&left), "{key}: {left} seconds left");
        }
        assert!(running.ttl("k9").await.not_found);
        assert_eq!(
            running.batch_put(&["k1", "k2"], 0, &[1, 2, 3]).await,
            "3 times to live for 2 pairs; give none, one, or one for each pair"
        );
        assert_eq!(
            running.batch_put(&["k1"], u64::MAX, &[]).await,
            "a time to live of 18446744073709551615 seconds is too long"
        );
        swap_with_ttl(&running, &setting).await;
        running.end().await;
        setting.end().await;
    })
    .await;
}

async fn swap_with_ttl(running: &Running, setting: &Setting) {
    let swap = |previous: Option<&'static str>, ttl| pb::RawCasRequest {
        context: running.context(b"k"),
        key: Bytes::from_static(b"k-swapped"),
        value: Bytes::from_static(b"v"),
        previous_not_exist: previous.is_none(),
        previous_value: Bytes::from_static(previous.unwrap_or_default().as_bytes()),
        ttl,
        ..pb::RawCasRequest::default()
    };
    let swapped = async |request| {
        let answer = running.client.clone().raw_compare_and_swap(request).await;
        answer.expect("answered").into_inner()
    };
    assert!(swapped(swap(None, 100)).await.succeed);
    let left = running.ttl("k-swapped").await.ttl;
    assert!((1..=100).contains(&left), "{left} seconds left");
    setting.placement.pass_time(200_000).await;
    assert!(running.ttl("k-swapped").await.not_found);
    // What has expired is no previous value.
    let answer = swapped(swap(Some("v"), 0)).await;
    assert!(!answer.succeed && answer.previous_not_exist);
    assert!(swapped(swap(None, 0)).await.succeed);
    assert_eq!(running.ttl("k-swapped").await.ttl, 0);
    let refused = swapped(swap(None, u64::MAX / 1000)).await;
    assert_eq!(
        refused.error,
        "a time to live of 18446744073709551 seconds is too long"
    );
}
