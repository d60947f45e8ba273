//! A whole store in this process: real sockets, threads and files, and a placement driver of one
//! page beside it.

mod batch;
mod checks;
mod keyspaces;
mod load;
mod metrics;
mod placement;
mod ranges;
mod splits;
mod updates;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use placement::Placement;
use tinykv_node::process::Stop;
use tinykv_proto::kvrpcpb as pb;
use tinykv_proto::store::RawCountRequest;
use tinykv_proto::store::store_client::StoreClient;
use tinykv_proto::tikvpb::tikv_client::TikvClient;
use tinykv_proto::{errorpb, metapb};
use tinykv_store::config::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// A test that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// One store and its placement driver.
struct Setting {
    placement: Placement,
    tasks: JoinSet<()>,
}

/// A running store and a connection to it.
struct Running {
    stop: Stop,
    store: metapb::Store,
    regions: Vec<metapb::Region>,
    client: TikvClient<Channel>,
    own: StoreClient<Channel>,
    life: JoinSet<()>,
}

impl Setting {
    async fn new() -> Setting {
        let mut tasks = JoinSet::new();
        let placement = Placement::start(&mut tasks).await;
        Setting { placement, tasks }
    }

    /// Starts a store on a directory and waits until it leads all its regions and they are open.
    async fn start(&self, dir: &Path) -> Running {
        self.restart(dir, tinykv_keys::bootstrap_regions().len())
            .await
    }

    /// The same for a store that has this many regions.
    async fn restart(&self, dir: &Path, regions: usize) -> Running {
        self.start_with(dir, regions, &[]).await
    }

    /// The same with further settings.
    async fn start_with(&self, dir: &Path, regions: usize, more: &[&str]) -> Running {
        // The first of the two is not there; the store finds the other.
        let placement = format!("--placement=127.0.0.1:1,{}", self.placement.address());
        let data_dir = format!("--data-dir={}", dir.display());
        let settings = ["tinykv-store", "--addr=127.0.0.1:0", &placement, &data_dir];
        let settings = settings.iter().chain(more);
        let settings = Settings::try_parse_from(settings).expect("settings");
        let starts = self.placement.0.known.borrow().starts.len();
        self.placement
            .0
            .known
            .send_modify(|known| known.led.clear());
        let stop = Stop::new();
        let mut life = JoinSet::new();
        let until = stop.clone();
        life.spawn(async move {
            tinykv_store::run(settings, until)
                .await
                .expect("an orderly end");
        });
        let known = self
            .placement
            .wait(|known| known.starts.len() > starts && known.led.len() == regions)
            .await;
        let store = known.store.expect("it reported for duty");
        let channel = Channel::from_shared(format!("http://{}", store.address))
            .expect("an address")
            .connect()
            .await
            .expect("connect");
        let running = Running {
            stop,
            store,
            regions: known
                .led
                .into_values()
                .filter_map(|heartbeat| heartbeat.region)
                .collect(),
            client: TikvClient::new(channel.clone())
                .max_encoding_message_size(32 << 20)
                .max_decoding_message_size(32 << 20),
            own: StoreClient::new(channel),
            life,
        };
        running.wait_until_open().await;
        running
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Running {
    /// The context of a request for a plain key.
    fn context(&self, key: &[u8]) -> Option<pb::Context> {
        let contains = |region: &&metapb::Region| {
            tinykv_keys::Bounds::new(&region.start_key, &region.end_key).contains_raw(key)
        };
        let region = self
            .regions
            .iter()
            .find(contains)
            .expect("the space is tiled");
        Some(pb::Context {
            region_id: region.id,
            region_epoch: region.region_epoch,
            peer: region.peers.first().copied(),
            ..pb::Context::default()
        })
    }

    /// Asks until it is answered: nothing but its answers tells that a region serves.
    async fn wait_until_open(&self) {
        for region in &self.regions {
            loop {
                let mut client = self.client.clone();
                let request = pb::RawBatchDeleteRequest {
                    context: Some(pb::Context {
                        region_id: region.id,
                        region_epoch: region.region_epoch,
                        peer: region.peers.first().copied(),
                        ..pb::Context::default()
                    }),
                    keys: vec![first_key(region)],
                    ..pb::RawBatchDeleteRequest::default()
                };
                let answer = client.raw_batch_delete(request).await.expect("answered");
                match answer.into_inner().region_error {
                    None => break,
                    Some(error) => assert!(
                        error.region_not_initialized.is_some() || error.not_leader.is_some(),
                        "{error:?}"
                    ),
                }
            }
        }
    }

    async fn put(&self, key: &str, value: &str, ttl: u64) {
        let request = pb::RawPutRequest {
            context: self.context(key.as_bytes()),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ttl,
            ..pb::RawPutRequest::default()
        };
        let answer = self
            .client
            .clone()
            .raw_put(request)
            .await
            .expect("answered")
            .into_inner();
        assert_eq!(answer, pb::RawPutResponse::default(), "put {key}");
    }

    async fn get(&self, key: &str) -> Option<String> {
        let request = pb::RawGetRequest {
            context: self.context(key.as_bytes()),
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..pb::RawGetRequest::default()
        };
        let answer = self
            .client
            .clone()
            .raw_get(request)
            .await
            .expect("answered")
            .into_inner();
        assert_eq!(
            (answer.region_error, answer.error.as_str()),
            (None, ""),
            "get {key}"
        );
        (!answer.not_found).then(|| text(&answer.value))
    }

    async fn scan(&self, start: &str, end: &str, limit: u32, reverse: Reverse) -> Vec<String> {
        let request = pb::RawScanRequest {
            context: self.context(b"k"),
            start_key: Bytes::copy_from_slice(start.as_bytes()),
            end_key: Bytes::copy_from_slice(end.as_bytes()),
            limit,
            reverse: reverse == Reverse::Yes,
            ..pb::RawScanRequest::default()
        };
        let answer = self
            .client
            .clone()
            .raw_scan(request)
            .await
            .expect("answered")
            .into_inner();
        assert_eq!(answer.region_error, None);
        answer.kvs.iter().map(|pair| text(&pair.key)).collect()
    }

    /// Stops it in order.
    async fn end(mut self) {
        self.stop.request();
        while let Some(ended) = self.life.join_next().await {
            ended.expect("no panic");
        }
    }

    /// What a browser sees.
    async fn page(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(&self.store.address)
            .await
            .expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("read");
        page
    }
}

/// The lowest plain key of a region that is not empty.
fn first_key(region: &metapb::Region) -> Bytes {
    let mut key = region.start_key.to_vec();
    key.push(0);
    Bytes::from(key)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reverse {
    Yes,
    No,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test)
        .await
        .expect("the test ends in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_in_every_way_and_after_a_restart() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        assert_eq!(
            running.regions.len(),
            tinykv_keys::bootstrap_regions().len()
        );
        for key in ["k1", "k2", "k3", "z"] {
            running.put(key, &format!("value of {key}"), 0).await;
        }
        assert_eq!(running.get("k2").await.as_deref(), Some("value of k2"));
        assert_eq!(running.get("k4").await, None);
        read_ranges(&running).await;
        batches(&running).await;
        let first = running.store.id;
        running.end().await;

        let running = setting.start(dir.path()).await;
        assert_eq!(running.store.id, first);
        assert_eq!(running.get("z").await.as_deref(), Some("value of z"));
        assert_eq!(running.get("b1").await.as_deref(), Some("one"));
        remove(&running).await;
        running.end().await;
        let known = setting.placement.0.known.borrow().clone();
        assert_eq!(known.starts, [1, 2]);
        setting.end().await;
    })
    .await;
}

async fn read_ranges(running: &Running) {
    assert_eq!(
        running.scan("k", "", 10, Reverse::No).await,
        ["k1", "k2", "k3"]
    );
    assert_eq!(running.scan("k2", "k3", 10, Reverse::No).await, ["k2"]);
    assert_eq!(running.scan("", "", 2, Reverse::No).await, ["k1", "k2"]);
    // In reverse the start is the upper bound, exclusive, and the end the lower one, inclusive.
    assert_eq!(
        running.scan("k3", "k1", 10, Reverse::Yes).await,
        ["k2", "k1"]
    );
    assert_eq!(running.scan("", "", 2, Reverse::Yes).await, ["k3", "k2"]);
    let count = RawCountRequest {
        context: running.context(b"k"),
        ..RawCountRequest::default()
    };
    let counted = running
        .own
        .clone()
        .raw_count(count)
        .await
        .expect("answered");
    assert_eq!(counted.into_inner().count, 3);
}

async fn batches(running: &Running) {
    let mut client = running.client.clone();
    let pair = |key: &'static str, value: &'static str| pb::KvPair {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        ..pb::KvPair::default()
    };
    let put = pb::RawBatchPutRequest {
        context: running.context(b"b"),
        pairs: vec![pair("b1", "one"), pair("b2", "two")],
        ..pb::RawBatchPutRequest::default()
    };
    let answer = client
        .raw_batch_put(put)
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(answer, pb::RawBatchPutResponse::default());
    let keys = ["b2", "b0", "b1"].map(|key| Bytes::from_static(key.as_bytes()));
    let get = pb::RawBatchGetRequest {
        context: running.context(b"b"),
        keys: keys.to_vec(),
        ..pb::RawBatchGetRequest::default()
    };
    let answer = client
        .raw_batch_get(get)
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(answer.pairs, [pair("b2", "two"), pair("b1", "one")]);
}

async fn remove(running: &Running) {
    let mut client = running.client.clone();
    let delete = pb::RawDeleteRequest {
        context: running.context(b"b1"),
        key: Bytes::from_static(b"b1"),
        ..pb::RawDeleteRequest::default()
    };
    client.raw_delete(delete).await.expect("answered");
    assert_eq!(running.get("b1").await, None);
    let range = pb::RawDeleteRangeRequest {
        context: running.context(b"k"),
        start_key: Bytes::from_static(b"k1"),
        end_key: Bytes::from_static(b"k3"),
        ..pb::RawDeleteRangeRequest::default()
    };
    client.raw_delete_range(range).await.expect("answered");
    assert_eq!(running.scan("", "", 10, Reverse::No).await, ["b2", "k3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_happens_only_on_the_value_that_is_there() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        let swap = |previous: Option<&'static str>, value: &'static str| pb::RawCasRequest {
            context: running.context(b"k"),
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(value.as_bytes()),
            previous_not_exist: previous.is_none(),
            previous_value: Bytes::from_static(previous.unwrap_or_default().as_bytes()),
            ..pb::RawCasRequest::default()
        };
        let swapped = async |request| {
            let answer = running.client.clone().raw_compare_and_swap(request).await;
            let answer = answer.expect("answered").into_inner();
            assert_eq!((answer.region_error, answer.error.as_str()), (None, ""));
            let previous = (!answer.previous_not_exist).then(|| text(&answer.previous_value));
            (answer.succeed, previous)
        };
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(swapped(swap(None, "a")).await, (true, None));
        assert_eq!(swapped(swap(None, "b")).await, (false, some("a")));
        assert_eq!(swapped(swap(Some("x"), "b")).await, (false, some("a")));
        assert_eq!(swapped(swap(Some("a"), "b")).await, (true, some("a")));
        let delete = pb::RawCasRequest {
            delete: true,
            ..swap(Some("b"), "")
        };
        assert_eq!(swapped(delete).await, (true, some("b")));
        assert_eq!(running.get("k").await, None);
        running.end().await;
        setting.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_expire_by_placements_time() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        running.put("k1", "short", 100).await;
        running.put("k2", "for ever", 0).await;
        assert_eq!(running.get("k1").await.as_deref(), Some("short"));
        let ttl = pb::RawGetKeyTtlRequest {
            context: running.context(b"k1"),
            key: Bytes::from_static(b"k1"),
            ..pb::RawGetKeyTtlRequest::default()
        };
        let left = running
            .client
            .clone()
            .raw_get_key_ttl(ttl)
            .await
            .expect("answered");
        let left = left.into_inner().ttl;
        assert!((1..=100).contains(&left), "{left} seconds left");
        setting.placement.pass_time(200_000).await;
        assert_eq!(running.get("k1").await, None);
        assert_eq!(running.scan("", "", 10, Reverse::No).await, ["k2"]);
        running.end().await;
        setting.end().await;
    })
    .await;
}

/// After a failed sync nobody knows what is on the disk: the replicas take no part until placement,
/// which is told, has them replaced (D4, D6).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_the_marker_of_a_failed_sync_reports_its_replicas() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        running.put("k", "v", 0).await;
        let mut regions: Vec<u64> = running.regions.iter().map(|region| region.id).collect();
        regions.sort_unstable();
        running.end().await;
        let marker = dir.path().join("FSYNC-FAILED");
        std::fs::write(marker, "the disk broke").expect("write");

        let running = setting.restart(dir.path(), 0).await;
        let all = |known: &placement::Known| known.damaged.len() == regions.len();
        assert_eq!(setting.placement.wait(all).await.damaged, regions);
        let metrics = running.page("/metrics").await;
        let figure = format!("tinykv_damaged_regions {}\n", regions.len());
        assert!(metrics.contains(&figure), "{metrics}");
        running.end().await;
        setting.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_request_is_told() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        misdirected(&running).await;
        refused(&running).await;
        let health = running.page("/health").await;
        assert!(
            health.starts_with("HTTP/1.1 200") && health.contains("serving"),
            "{health}"
        );
        let metrics = running.page("/metrics").await;
        assert!(metrics.contains("tinykv_regions 6"), "{metrics}");
        assert!(running.page("/nowhere").await.starts_with("HTTP/1.1 404"));
        running.end().await;
        setting.end().await;
    })
    .await;
}

async fn misdirected(running: &Running) {
    let error = async |change: fn(&mut pb::Context), key: &'static [u8]| {
        let mut context = running.context(b"k").expect("a context");
        change(&mut context);
        let request = pb::RawGetRequest {
            context: Some(context),
            key: Bytes::from_static(key),
            ..pb::RawGetRequest::default()
        };
        let answer = running
            .client
            .clone()
            .raw_get(request)
            .await
            .expect("answered");
        answer.into_inner().region_error.expect("a region error")
    };
    let peer = |context: &mut pb::Context| context.peer.get_or_insert_default().id = 5;
    let store = |context: &mut pb::Context| context.peer.get_or_insert_default().store_id = 5;
    let epoch = |context: &mut pb::Context| {
        context.region_epoch.get_or_insert_default().version = 9;
    };
    let region = |context: &mut pb::Context| context.region_id = 5;
    assert!(error(region, b"k").await.region_not_found.is_some());
    assert!(error(peer, b"k").await.mismatch_peer_id.is_some());
    let not_match: errorpb::StoreNotMatch = error(store, b"k").await.store_not_match.expect("set");
    assert_eq!(not_match.actual_store_id, running.store.id);
    let current = error(epoch, b"k")
        .await
        .epoch_not_match
        .expect("set")
        .current_regions;
    assert_eq!(current.len(), 1);
    let outside = error(|_| (), b"z").await.key_not_in_region.expect("set");
    assert_eq!(outside.key, "z");
}

async fn refused(running: &Running) {
    let put = async |key: Vec<u8>, value: Vec<u8>, cf: &str| {
        let request = pb::RawPutRequest {
            context: running.context(b"k"),
            key: Bytes::from(key),
            value: Bytes::from(value),
            cf: cf.to_owned(),
            ..pb::RawPutRequest::default()
        };
        let answer = running
            .client
            .clone()
            .raw_put(request)
            .await
            .expect("answered")
            .into_inner();
        assert_eq!(answer.region_error, None);
        answer.error
    };
    let long_key = [b"k".to_vec(), vec![0; 64 << 10]].concat();
    assert_eq!(put(Vec::new(), Vec::new(), "").await, "the key is empty");
    assert_eq!(
        put(long_key, Vec::new(), "").await,
        "the key has 65537 bytes, 65536 are allowed"
    );
    assert_eq!(
        put(b"k".to_vec(), vec![0; (8 << 20) + 1], "").await,
        "the value has 8388609 bytes, 8388608 are allowed"
    );
    assert_eq!(
        put(b"k".to_vec(), Vec::new(), "lock").await,
        "column family `lock` does not exist; raw calls know `default` (or an empty name)"
    );
    assert_eq!(put(b"k".to_vec(), vec![7; 8 << 20], "default").await, "");
    let value = running.get("k").await.expect("stored");
    assert_eq!(value.len(), 8 << 20);
}
