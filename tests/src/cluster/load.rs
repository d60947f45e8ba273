//! Load whose every acknowledged write is remembered.
//!
//! Each writer owns its keys and writes rising versions to them, one write at a time. What a key
//! holds afterwards must lie between the last version acknowledged and the last one attempted
//! whose fate is open: anything older is a lost write, anything else a wrong value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tinykv_client::{Error, Options, RawClient};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What writers were told.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<Bytes, Versions>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that were certainly not applied.
    pub refused: u64,
    /// Writes whose fate was unknown.
    pub undetermined: u64,
}

/// What may stand in a key.
#[derive(Clone, Debug, Default)]
struct Versions {
    acknowledged: u64,
    /// Versions since then whose fate is open.
    open: Vec<u64>,
}

impl Ledger {
    fn record(&mut self, key: &Bytes, version: u64, outcome: &Result<(), Error>) {
        let versions = self.keys.entry(key.clone()).or_default();
        match outcome {
            Ok(()) => {
                versions.acknowledged = version;
                versions.open.clear();
                self.acknowledged += 1;
            }
            Err(Error::Undetermined { .. }) => {
                versions.open.push(version);
                self.undetermined += 1;
            }
            Err(Error::DefinitelyNot { .. }) => self.refused += 1,
        }
    }

    fn merge(&mut self, other: Ledger) {
        self.keys.extend(other.keys);
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.undetermined += other.undetermined;
    }

    /// Reads every key back.
    ///
    /// # Errors
    /// The first key that holds what it must not, or cannot be read.
    pub async fn verify(&self, client: &RawClient) -> Result<usize, String> {
        let keys: Vec<Bytes> = self.keys.keys().cloned().collect();
        for chunk in keys.chunks(500) {
            let found = client
                .batch_get(chunk.to_vec())
                .await
                .map_err(|e| e.to_string())?;
            let found: BTreeMap<Bytes, Bytes> = found.into_iter().collect();
            for key in chunk {
                self.check(key, found.get(key))?;
            }
        }
        Ok(keys.len())
    }

    fn check(&self, key: &Bytes, found: Option<&Bytes>) -> Result<(), String> {
        let versions = &self.keys[key];
        let version = match found {
            None => 0,
            Some(value) => version_of(key, value)
                .ok_or_else(|| format!("{key:?} holds a value nobody wrote: {value:?}"))?,
        };
        if version == versions.acknowledged || versions.open.contains(&version) {
            return Ok(());
        }
        Err(format!(
            "{key:?} holds version {version}, but {} was acknowledged and {:?} are open",
            versions.acknowledged, versions.open
        ))
    }
}

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: watch::Sender<u64>,
    writers: JoinSet<Ledger>,
}

impl Load {
    /// Starts writers on a client; each writes `keys` keys in turn until told to stop, or until
    /// each key has been written once if `once` is set.
    pub fn start(client: &RawClient, writers: usize, keys: u64, once: bool, life: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = watch::Sender::new(0);
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let writer = Writer {
                client: client.clone(),
                stop: Arc::clone(&stop),
                acknowledged: acknowledged.clone(),
                name: format!("life{life}-writer{writer}"),
                keys,
            };
            set.spawn(writer.write(once));
        }
        Load {
            stop,
            acknowledged,
            writers: set,
        }
    }

    /// The writes that were acknowledged so far, to be waited for.
    pub fn acknowledged(&self) -> watch::Receiver<u64> {
        self.acknowledged.subscribe()
    }

    /// Waits until so many writes were acknowledged.
    ///
    /// # Errors
    /// They were not, within the limit.
    pub async fn reaches(&self, writes: u64, limit: Duration) -> Result<(), String> {
        let mut acknowledged = self.acknowledged();
        let reached = acknowledged.wait_for(|count| *count >= writes);
        match tokio::time::timeout(limit, reached).await {
            Ok(reached) => reached.map(|_| ()).map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "{writes} writes were not acknowledged in {limit:?}"
            )),
        }
    }

    /// Waits for the writers' own end.
    pub async fn finish(mut self) -> Ledger {
        let mut ledger = Ledger::default();
        while let Some(written) = self.writers.join_next().await {
            ledger.merge(written.expect("a writer does not panic"));
        }
        ledger
    }

    /// Tells the writers to stop and waits for the calls they are in.
    pub async fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }
}

/// One writer and the keys it owns.
struct Writer {
    client: RawClient,
    stop: Arc<AtomicBool>,
    acknowledged: watch::Sender<u64>,
    name: String,
    keys: u64,
}

impl Writer {
    async fn write(self, once: bool) -> Ledger {
        let mut ledger = Ledger::default();
        let mut version = 0;
        while !self.stop.load(Ordering::Relaxed) {
            version += 1;
            for number in 0..self.keys {
                let key = Bytes::from(format!("{}-{number:08}", self.name));
                // A record that was certainly not written is written again; one whose fate is
                // open is not.
                while !self.stop.load(Ordering::Relaxed) {
                    let outcome = self.client.put(key.clone(), value(&key, version)).await;
                    ledger.record(&key, version, &outcome);
                    match outcome {
                        Ok(()) => {
                            self.acknowledged.send_modify(|count| *count += 1);
                            break;
                        }
                        Err(Error::Undetermined { .. }) => break,
                        Err(Error::DefinitelyNot { .. }) => {}
                    }
                }
            }
            if once {
                break;
            }
        }
        ledger
    }
}

/// A value that names its key and version, so that no other is mistaken for it.
fn value(key: &Bytes, version: u64) -> Bytes {
    let mut value = format!("{version}:").into_bytes();
    value.extend_from_slice(key);
    value.extend_from_slice(&[b'.'; 60]);
    Bytes::from(value)
}

fn version_of(key: &Bytes, found: &Bytes) -> Option<u64> {
    let end = found.iter().position(|byte| *byte == b':')?;
    let version = std::str::from_utf8(&found[..end]).ok()?.parse().ok()?;
    (value(key, version) == *found).then_some(version)
}

/// A client with a deadline that outlasts a fail-over.
///
/// # Errors
/// No placement member could be reached.
pub async fn client(placements: &[String], deadline: Duration) -> Result<RawClient, String> {
    let options = Options { deadline };
    RawClient::connect(placements, options)
        .await
        .map_err(|error| error.to_string())
}
