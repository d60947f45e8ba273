//! What is read and written is told to placement, and splits a region that is busy.

use bytes::Bytes;
use tinykv_proto::{kvrpcpb as pb, pdpb};

use super::{Running, Setting, in_time};

/// Sums of what heartbeats told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) keys_written: u64,
    pub(crate) bytes_written: u64,
    pub(crate) keys_read: u64,
    pub(crate) bytes_read: u64,
}

impl Told {
    pub(crate) fn add_region(&mut self, told: &pdpb::RegionHeartbeatRequest) {
        assert_eq!(told.interval.is_none(), told.interval.is_none_or(is_empty));
        self.keys_written += told.keys_written;
        self.bytes_written += told.bytes_written;
        self.keys_read += told.keys_read;
        self.bytes_read += told.bytes_read;
    }

    pub(crate) fn add_store(&mut self, told: &pdpb::StoreStats) {
        assert_eq!(told.interval.is_none(), told.interval.is_none_or(is_empty));
        self.keys_written += told.keys_written;
        self.bytes_written += told.bytes_written;
        self.keys_read += told.keys_read;
        self.bytes_read += told.bytes_read;
    }
}

fn is_empty(interval: pdpb::TimeInterval) -> bool {
    interval.start_timestamp >= interval.end_timestamp
}

impl Running {
    /// Reads these keys in one call; whether their region was still as the store knows it.
    async fn read_all(&self, setting: &Setting, keys: &[Bytes]) -> bool {
        let request = pb::RawBatchGetRequest {
            context: setting.context(&keys[0]),
            keys: keys.to_vec(),
            ..pb::RawBatchGetRequest::default()
        };
        let answer = self.client.clone().raw_batch_get(request).await;
        answer
            .expect("answered")
            .into_inner()
            .region_error
            .is_none()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_written_is_told_once() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        // Each region was asked once or more whether it is open.
        let regions = tinykv_keys::bootstrap_regions().len() as u64;
        let value = "v".repeat(1_000);
        for number in 0..100 {
            running.put(&format!("k{number}"), &value, 0).await;
        }
        for number in 0..50 {
            running.get(&format!("k{number}")).await;
        }
        assert_eq!(
            running.scan("k", "l", 10, super::Reverse::No).await.len(),
            10
        );
        let all = |told: &Told| told.keys_written >= 100 + regions && told.keys_read >= 60;
        let known = setting
            .placement
            .wait(|known| all(&known.regions_told) && all(&known.store_told))
            .await;
        for told in [known.regions_told, known.store_told] {
            assert_eq!(told.keys_written, 100 + regions, "{told:?}");
            assert_eq!(told.keys_read, 60, "{told:?}");
            assert!((60_000..70_000).contains(&told.bytes_read), "{told:?}");
            assert!((100_000..120_000).contains(&told.bytes_written), "{told:?}");
        }
        assert!((1..=100).contains(&known.slow_score), "{known:?}");
        running.end().await;
        setting.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_region_is_split_where_that_divides_its_load() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let regions = tinykv_keys::bootstrap_regions().len();
        let lively = ["--region-split-qps=50"];
        let running = setting.start_with(dir.path(), regions, &lively).await;
        // Two groups of keys that are always read together: any boundary between two keys would
        // do, and the best is in the middle.
        let keys: Vec<Bytes> = (0..20).map(|n| Bytes::from(format!("k{n:02}"))).collect();
        let mut was_split = false;
        while !was_split {
            running.read_all(&setting, &keys).await;
            was_split = !setting.placement.0.known.borrow().reported.is_empty();
        }
        let reported = setting.placement.0.known.borrow().reported[0].clone();
        assert_eq!(reported.len(), 2);
        let boundary = String::from_utf8_lossy(&reported[1].start_key).into_owned();
        assert!(("k05".."k16").contains(&boundary.as_str()), "{boundary}");
        // Counted a moment after placement has heard of it.
        let split = r#"tinykv_store_load_splits_total{outcome="Split"} 1"#;
        while !running.page("/metrics").await.contains(split) {}
        running.end().await;
        setting.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_with_a_hot_key_is_not_split() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let regions = tinykv_keys::bootstrap_regions().len();
        let lively = ["--region-split-qps=50"];
        let running = setting.start_with(dir.path(), regions, &lively).await;
        let keys = vec![Bytes::from_static(b"hot"); 20];
        let refused = r#"tinykv_store_load_splits_total{outcome="OneKey"} 1"#;
        loop {
            // The page is looked at between requests: nothing else tells of what was not done.
            for _ in 0..50 {
                assert!(running.read_all(&setting, &keys).await, "it was split");
            }
            if running.page("/metrics").await.contains(refused) {
                break;
            }
        }
        assert!(setting.placement.0.known.borrow().reported.is_empty());
        running.end().await;
        setting.end().await;
    })
    .await;
}
