//! What is read and written of one region, counted where it is served.
//!
//! Each region has counters of its own beside its entry in the directory: a request adds to them
//! with four relaxed additions and no lock, and shares nothing with requests of other regions. They
//! only rise. Whoever reports keeps what it saw last and tells the difference, so that two who look
//! do not take from each other.
//!
//! *Reads* are counted by whoever answers them, with the keys and bytes found. *Writes* are counted by
//! the leader that proposed them, once they are applied there and confirmed: a write that was refused
//! is no flow, and a write that every replica applies is counted once in the cluster, at the one
//! place from which moving the leader or splitting the region would take it away. (Counted at apply
//! by everybody, the load of a region would be seen three times, and a follower that catches up
//! would look busy.)
//!
//! While somebody watches a region, a bounded sample of what is asked for is kept, too
//! ([`reservoir`]). Nobody watches regions with little load, for which this is one load of a flag.

pub mod reservoir;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use reservoir::{Reservoir, Sample, Span};

/// What was served of a region since it came to life here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes of keys and values that answers held.
    pub bytes_read: u64,
    /// Keys that were asked for or found by scans.
    pub keys_read: u64,
    /// Bytes of commands that were confirmed.
    pub bytes_written: u64,
    /// Keys they wrote; a range that was deleted is one.
    pub keys_written: u64,
    /// Requests for a key, or for a range of keys: a batch is as many as it names.
    pub requests: u64,
}

impl Flow {
    /// What was added since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Flow) -> Flow {
        Flow {
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
            keys_read: self.keys_read.saturating_sub(earlier.keys_read),
            bytes_written: self.bytes_written.saturating_sub(earlier.bytes_written),
            keys_written: self.keys_written.saturating_sub(earlier.keys_written),
            requests: self.requests.saturating_sub(earlier.requests),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Flow) -> Flow {
        Flow {
            bytes_read: self.bytes_read + other.bytes_read,
            keys_read: self.keys_read + other.keys_read,
            bytes_written: self.bytes_written + other.bytes_written,
            keys_written: self.keys_written + other.keys_written,
            requests: self.requests + other.requests,
        }
    }

    /// All bytes that went in or out.
    pub fn bytes(&self) -> u64 {
        self.bytes_read + self.bytes_written
    }
}

/// Counts what is served of one region.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_read: AtomicU64,
    keys_read: AtomicU64,
    bytes_written: AtomicU64,
    keys_written: AtomicU64,
    requests: AtomicU64,
    /// Whether requests are to be sampled.
    is_watched: AtomicBool,
    /// Locked for a sample only if nobody else holds it: which request is left out when two come at
    /// once has nothing to do with its key.
    samples: Mutex<Option<Reservoir>>,
}

impl Traffic {
    /// Counts requests that were answered by so many keys and bytes.
    pub fn on_read(&self, requests: u64, keys: u64, bytes: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.keys_read.fetch_add(keys, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a confirmed command that wrote so many keys, each a request of its own.
    pub fn on_write(&self, keys: u64, bytes: u64) {
        self.requests.fetch_add(keys, Ordering::Relaxed);
        self.keys_written.fetch_add(keys, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn flow(&self) -> Flow {
        Flow {
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            keys_read: self.keys_read.load(Ordering::Relaxed),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            keys_written: self.keys_written.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    /// Whether it is worth telling [`Traffic::sample`] what was asked for.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Notes what was asked for. Does nothing while nobody watches.
    pub fn sample(&self, spans: impl IntoIterator<Item = Span>) {
        if let Some(mut samples) = self.samples.try_lock()
            && let Some(reservoir) = samples.as_mut()
        {
            for span in spans {
                reservoir.offer(span);
            }
        }
    }

    /// Begins to watch, with an empty reservoir.
    pub fn watch(&self, reservoir: Reservoir) {
        *self.samples.lock() = Some(reservoir);
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Ends watching; the samples, unless nobody watched.
    pub fn unwatch(&self) -> Option<Vec<Sample>> {
        self.is_watched.store(false, Ordering::Relaxed);
        self.samples.lock().take().map(Reservoir::into_samples)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn looks_do_not_take_from_each_other() {
        let traffic = Traffic::default();
        traffic.on_read(2, 10, 1_000);
        let first = traffic.flow();
        traffic.on_write(3, 70);
        let second = traffic.flow();
        let added = second.since(&first);
        assert_eq!((added.keys_read, added.bytes_read), (0, 0));
        assert_eq!((added.keys_written, added.bytes_written), (3, 70));
        assert_eq!((added.requests, added.bytes()), (3, 70));
        assert_eq!(second.since(&Flow::default()).requests, 5);
        assert_eq!(first.plus(&added), second);
        // A region that was born anew since counts from its birth.
        assert_eq!(first.since(&second), Flow::default());
    }

    #[test]
    fn samples_are_kept_only_while_somebody_watches() {
        let traffic = Traffic::default();
        let key = || [Span::key(b"k")];
        assert!(!traffic.is_watched());
        traffic.sample(key());
        assert_eq!(traffic.unwatch(), None);
        traffic.watch(Reservoir::new(4, 1));
        assert!(traffic.is_watched());
        traffic.sample(key());
        let samples = traffic.unwatch().expect("was watched");
        assert_eq!(samples.len(), 1);
        assert_eq!(samples[0].span.first, Bytes::from_static(b"k"));
        assert!(!traffic.is_watched());
        traffic.sample(key());
        assert_eq!(traffic.unwatch(), None);
    }
}
