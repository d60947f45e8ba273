//! Load of which every call must succeed and every read must be fresh.
//!
//! Each worker owns its keys: it puts a rising version under a key and reads it back, which must
//! find that very version. A second client, with routes of its own, reads keys of all workers; it
//! must never find an older version than one acknowledged before the read began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tinykv_client::RawClient;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the load saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exact {
    /// Writes, all acknowledged.
    pub writes: u64,
    /// Reads, all fresh.
    pub reads: u64,
    /// The longest call in milliseconds.
    pub slowest_ms: u64,
}

/// The keys of the load: `k000` to `k199`, so that regions can be cut between them.
pub fn key(number: usize) -> String {
    format!("k{number:03}")
}

/// How many keys there are.
pub const KEYS: usize = 200;

/// The load at work.
pub struct ExactLoad {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    tasks: JoinSet<Result<Exact, String>>,
}

impl ExactLoad {
    /// Starts workers on one client and a reader on the other. First every key is written once, so
    /// that all routes are known.
    ///
    /// # Errors
    /// A first write fails.
    pub async fn start(
        writing: &RawClient,
        reading: &RawClient,
        workers: usize,
    ) -> Result<ExactLoad, String> {
        let floors: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
        for number in 0..KEYS {
            put(writing, number, 0).await?;
            get(reading, number).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            let own = (0..KEYS).filter(|number| number % workers == worker);
            let at_work = AtWork {
                client: writing.clone(),
                floors: Arc::clone(&floors),
                stop: Arc::clone(&stop),
                calls: Arc::clone(&calls),
                seen: Exact::default(),
            };
            tasks.spawn(at_work.work(own.collect()));
        }
        let reader = AtWork {
            client: reading.clone(),
            floors,
            stop: Arc::clone(&stop),
            calls: Arc::clone(&calls),
            seen: Exact::default(),
        };
        tasks.spawn(reader.watch());
        Ok(ExactLoad { stop, calls, tasks })
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Ends the load.
    ///
    /// # Errors
    /// The first call that failed, or was stale.
    pub async fn stop(mut self) -> Result<Exact, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Exact::default();
        while let Some(ended) = self.tasks.join_next().await {
            let seen = ended.map_err(|error| error.to_string())??;
            all.writes += seen.writes;
            all.reads += seen.reads;
            all.slowest_ms = all.slowest_ms.max(seen.slowest_ms);
        }
        Ok(all)
    }
}

/// One worker.
struct AtWork {
    client: RawClient,
    /// The last version acknowledged of each key.
    floors: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    seen: Exact,
}

impl AtWork {
    async fn work(mut self, own: Vec<usize>) -> Result<Exact, String> {
        let mut version = 0;
        while !self.stopped() {
            version += 1;
            for &number in &own {
                if self.stopped() {
                    break;
                }
                let begin = Instant::now();
                put(&self.client, number, version).await?;
                self.count(begin);
                self.seen.writes += 1;
                self.floors[number].store(version, Ordering::SeqCst);
                let begin = Instant::now();
                let found = get(&self.client, number).await?;
                self.count(begin);
                self.seen.reads += 1;
                if found != version {
                    return Err(format!(
                        "stale read: {} holds version {found}, {version} was acknowledged",
                        key(number)
                    ));
                }
            }
        }
        Ok(self.seen)
    }

    async fn watch(mut self) -> Result<Exact, String> {
        let mut number = 0;
        while !self.stopped() {
            number = (number + 37) % KEYS;
            let floor = self.floors[number].load(Ordering::SeqCst);
            let begin = Instant::now();
            let found = get(&self.client, number).await?;
            self.count(begin);
            self.seen.reads += 1;
            if found < floor {
                return Err(format!(
                    "stale read: {} holds version {found}, {floor} was acknowledged before",
                    key(number)
                ));
            }
        }
        Ok(self.seen)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&mut self, begin: Instant) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let took: Duration = begin.elapsed();
        self.seen.slowest_ms = self.seen.slowest_ms.max(took.as_millis() as u64);
    }
}

async fn put(client: &RawClient, number: usize, version: u64) -> Result<(), String> {
    let put = client.put(key(number), version.to_string()).await;
    put.map_err(|error| format!("a put of {} failed: {error}", key(number)))
}

async fn get(client: &RawClient, number: usize) -> Result<u64, String> {
    let got = client.get(key(number)).await;
    let got = got.map_err(|error| format!("a get of {} failed: {error}", key(number)))?;
    let text = got.unwrap_or_default();
    let version = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.parse().ok());
    version.ok_or_else(|| format!("{} holds {text:?}, which nobody wrote", key(number)))
}
