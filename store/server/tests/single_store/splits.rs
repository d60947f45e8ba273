//! Splits: by order of placement and by wish of a client, and what askers see of them.

use bytes::Bytes;
use tinykv_proto::kvrpcpb as pb;
use tinykv_proto::{errorpb, metapb};

use super::{Running, Setting, in_time, text};

impl Setting {
    /// The context of a request for a plain key, as placement knows the regions now.
    pub(super) fn context(&self, key: &[u8]) -> Option<pb::Context> {
        let known = self.placement.0.known.borrow();
        let mut regions = known.led.values().filter_map(|led| led.region.as_ref());
        let region = regions.find(|region| {
            tinykv_keys::Bounds::new(&region.start_key, &region.end_key).contains_raw(key)
        })?;
        Some(pb::Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: region.peers.first().copied(),
            ..pb::Context::default()
        })
    }
}

impl Running {
    /// The raw bounds of the regions, in order.
    fn edges(&self) -> Vec<(String, String)> {
        let mut regions = self.regions.clone();
        regions.sort_by(|one, two| one.start_key.cmp(&two.start_key));
        let edge = |key: &Bytes| key.escape_ascii().to_string();
        let edges = regions
            .iter()
            .map(|region| (edge(&region.start_key), edge(&region.end_key)));
        edges.collect()
    }

    /// The region of a plain key, as placement knows it.
    fn region(&self, key: &[u8]) -> metapb::Region {
        let id = self.context(key).expect("a region").region_id;
        let mut regions = self.regions.iter();
        regions
            .find(|region| region.id == id)
            .expect("it is one of them")
            .clone()
    }

    /// Learns the regions anew, once there are so many and all are led.
    async fn learn(&mut self, setting: &Setting, count: usize) {
        let tiled = |known: &super::placement::Known| {
            let regions = known.led.values().filter_map(|led| led.region.as_ref());
            let edges: std::collections::BTreeSet<(Bytes, Bytes)> = regions
                .map(|region| (region.start_key.clone(), region.end_key.clone()))
                .collect();
            let ends: Vec<&Bytes> = edges.iter().map(|(_, end)| end).collect();
            let starts: Vec<&Bytes> = edges.iter().skip(1).map(|(start, _)| start).collect();
            known.led.len() == count && ends[..count - 1] == starts[..]
        };
        let known = setting.placement.wait(tiled).await;
        let led = known.led.into_values();
        self.regions = led.filter_map(|heartbeat| heartbeat.region).collect();
    }

    async fn split(
        &self,
        keys: &[&'static str],
        change: impl FnOnce(&mut pb::SplitRegionRequest),
    ) -> pb::SplitRegionResponse {
        let mut request = pb::SplitRegionRequest {
            context: self.context(b"k"),
            split_keys: keys
                .iter()
                .map(|key| Bytes::from_static(key.as_bytes()))
                .collect(),
            is_raw_kv: true,
            ..pb::SplitRegionRequest::default()
        };
        change(&mut request);
        let answer = self.client.clone().split_region(request).await;
        answer.expect("answered").into_inner()
    }

    /// What a request for a key with this context is told.
    async fn told(&self, context: Option<pb::Context>, key: &'static [u8]) -> errorpb::Error {
        let request = pb::RawGetRequest {
            context,
            key: Bytes::from_static(key),
            ..pb::RawGetRequest::default()
        };
        let answer = self.client.clone().raw_get(request).await;
        let answer = answer.expect("answered").into_inner();
        answer.region_error.expect("a region error")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_are_split_by_order_of_placement() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let mut running = setting.start(dir.path()).await;
        for number in 0..9 {
            let value = format!("value {number}");
            running.put(&format!("k{number}"), &value, 0).await;
        }
        let before = running.context(b"k0");
        let whole = running.region(b"k");
        // What makes no sense is not done, and does not stop what does.
        let end = whole.end_key.clone();
        assert!(!end.is_empty());
        setting.placement.order_split(&whole, &[b"zzz"]);
        setting.placement.order_split(&whole, &[b"k3", b"k6"]);
        running.learn(&setting, 8).await;
        let known = setting.placement.0.known.borrow().clone();
        assert_eq!(known.reported.len(), 1);
        assert_eq!(known.reported[0].len(), 3);
        assert_eq!(
            known.reported[0][0].id, whole.id,
            "the left part is the old region"
        );
        what_askers_see(&running, before).await;
        // Without a key: about the middle of what is there.
        let left = running.region(b"k0");
        setting.placement.order_split(&left, &[]);
        running.learn(&setting, 9).await;
        let edges = running.edges();
        assert!(
            edges
                .iter()
                .any(|(start, _)| start == "k1" || start == "k2"),
            "{edges:?}"
        );
        running.end().await;

        let mut running = setting.restart(dir.path(), 9).await;
        assert_eq!(running.edges(), edges);
        for number in 0..9 {
            let value = running.get(&format!("k{number}")).await;
            assert_eq!(value, Some(format!("value {number}")));
        }
        running.put("k5", "new", 0).await;
        running.learn(&setting, 9).await;
        running.end().await;
        setting.end().await;
    })
    .await;
}

/// Bytes that do not compress.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_has_grown_is_split_and_its_parts_again() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let regions = tinykv_keys::bootstrap_regions().len();
        let small = ["--region-split-size=1MiB", "--region-split-flow=0"];
        let running = setting.start_with(dir.path(), regions, &small).await;
        // More than stays in memory, so that part of it reaches the disk and is measured.
        for number in 0..10 {
            let value = Bytes::from(noise(number, 8 << 20));
            let mut done = false;
            while !done {
                let mut client = running.client.clone();
                let request = pb::RawPutRequest {
                    context: setting.context(format!("k{number}").as_bytes()),
                    key: Bytes::from(format!("k{number}")),
                    value: value.clone(),
                    ..pb::RawPutRequest::default()
                };
                let answer = client
                    .raw_put(request)
                    .await
                    .expect("answered")
                    .into_inner();
                assert_eq!(answer.error, "");
                // It may be split meanwhile.
                done = answer.region_error.is_none();
            }
        }
        let known = setting
            .placement
            .wait(|known| known.led.len() >= regions + 3 && known.reported.len() >= 3)
            .await;
        let sizes = known.led.values().map(|led| led.approximate_size);
        assert!(sizes.sum::<u64>() > 0, "sizes are reported");
        assert_eq!(known.splits, [1 << 20, 2_500, 0], "for placement's merges");
        running.end().await;
        setting.end().await;
    })
    .await;
}

/// `before` is the context of an asker that has not heard of the split at `k3` and `k6`.
async fn what_askers_see(running: &Running, before: Option<pb::Context>) {
    for number in 0..9 {
        let value = running.get(&format!("k{number}")).await;
        assert_eq!(value, Some(format!("value {number}")));
    }
    // Whatever it asks for, it is told of all parts of the region it knows.
    for key in [&b"k0"[..], b"k7"] {
        let error = running.told(before.clone(), key).await;
        let current = error.epoch_not_match.expect("outdated").current_regions;
        let starts: Vec<String> = current.iter().map(|part| text(&part.start_key)).collect();
        assert_eq!(starts, ["", "k3", "k6"]);
        assert_eq!(current[0].end_key, "k3");
        let versions = current
            .iter()
            .map(|part| part.region_epoch.unwrap_or_default().version);
        assert_eq!(versions.collect::<Vec<_>>(), [3, 3, 3]);
    }
    let range = pb::RawDeleteRangeRequest {
        context: before,
        start_key: Bytes::from_static(b"k2"),
        end_key: Bytes::from_static(b"k5"),
        ..pb::RawDeleteRangeRequest::default()
    };
    let answer = running.client.clone().raw_delete_range(range.clone()).await;
    let error = answer.expect("answered").into_inner().region_error;
    let current = error.and_then(|error| error.epoch_not_match);
    assert_eq!(current.expect("outdated").current_regions.len(), 3);
    // Who knows the new border and asks across it is told where it is.
    let across = pb::RawDeleteRangeRequest {
        context: running.context(b"k2"),
        ..range
    };
    let answer = running.client.clone().raw_delete_range(across).await;
    let error = answer.expect("answered").into_inner().region_error;
    let outside = error.and_then(|error| error.key_not_in_region);
    assert_eq!(outside.expect("it leaves the region").end_key, "k3");
    let scan = pb::RawScanRequest {
        context: running.context(b"k4"),
        limit: 100,
        ..pb::RawScanRequest::default()
    };
    let answer = running.client.clone().raw_scan(scan).await;
    let kvs = answer.expect("answered").into_inner().kvs;
    let keys: Vec<String> = kvs.iter().map(|pair| text(&pair.key)).collect();
    assert_eq!(
        keys,
        ["k3", "k4", "k5"],
        "a scan ends where its region does"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_split_regions_at_keys() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let mut running = setting.start(dir.path()).await;
        let parts = running.split(&["m", "k"], |_| {}).await;
        assert_eq!(parts.region_error, None);
        let starts: Vec<String> = parts
            .regions
            .iter()
            .map(|part| text(&part.start_key))
            .collect();
        assert_eq!(starts, ["", "k", "m"]);
        assert_eq!(parts.left.as_ref(), parts.regions.first());
        assert_eq!(parts.right.as_ref(), parts.regions.last());
        running.learn(&setting, 8).await;

        let sentence = async |keys: &[&'static str], change: fn(&mut pb::SplitRegionRequest)| {
            let answer = running.split(keys, change).await;
            answer.region_error.expect("refused").message
        };
        assert_eq!(
            sentence(&["l", "k"], |_| {}).await,
            "the split key `k` is a border of the region [k, m); name a key between them"
        );
        assert_eq!(
            sentence(&["m\0"], |_| {}).await,
            r"the split key `m\x00` lies outside the region [k, m); name a key inside"
        );
        assert_eq!(
            sentence(&[], |_| {}).await,
            "no split key is named; name at least one"
        );
        assert_eq!(sentence(&[""], |_| {}).await, "the key is empty");
        let outdated = running
            .split(&["l"], |request| {
                let context = request.context.get_or_insert_default();
                context.region_epoch.get_or_insert_default().version = 1;
            })
            .await;
        let error = outdated.region_error.expect("refused");
        assert!(error.epoch_not_match.is_some(), "{error:?}");
        a_key_that_is_an_encoding(&mut running, &setting).await;
        running.end().await;
        setting.end().await;
    })
    .await;
}

/// The boundary before such a raw key is none: it stays below.
async fn a_key_that_is_an_encoding(running: &mut Running, setting: &Setting) {
    let key = b"l1\0\0\0\0\0\0\xF9".to_vec();
    assert!(tinykv_keys::memcomparable::is_encoding(&key));
    let at = Bytes::from(key.clone());
    let parts = running
        .split(&[], |request| request.split_keys.push(at))
        .await;
    assert_eq!(parts.region_error, None);
    running.learn(setting, 9).await;
    let border = [key.as_slice(), &[0]].concat();
    assert_eq!(parts.regions[1].start_key, border);
    assert_eq!(running.region(&key).id, parts.regions[0].id);
    assert_eq!(running.region(&border).id, parts.regions[1].id);
}
