//! The memtable: a skip list of internal keys, the range tombstones, and the applied indexes of
//! everything in it.
//!
//! One writer at a time (the tree's write lock), any number of readers without a lock. A reader
//! sees what its sequence lets it see, so entries that arrive later do not disturb it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use tinykv_sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use tinykv_sync::ArcSwap;
use tinykv_sync::Mutex;

use crate::batch::{AppliedChange, Operation, OriginId, WriteBatch};
use crate::key::{self, KeySlice, Kind, OwnedKey};
use crate::table::Stretch;
use crate::tombstone::Fragments;

/// What an entry costs besides its bytes: the skip-list node and two `Bytes`.
const ENTRY_OVERHEAD_BYTES: u64 = 128;
/// Range tombstones at which a memtable counts as full, so that cutting them stays cheap.
const RANGE_TOMBSTONES_MAX: usize = 1024;
/// Of every so many bytes written one key is remembered as a sample.
const SAMPLE_BYTES: u64 = 16 << 10;
/// A memtable up to this size, and so of at most 2048 entries, is walked instead.
const WALK_BYTES_MAX: u64 = 256 << 10;

/// The newest visible version of a key in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its place in the order of writes.
    pub(crate) sequence: u64,
    /// Its value; `None` if it says that the key has none.
    pub(crate) value: Option<Bytes>,
}

/// See the module.
pub(crate) struct Memtable {
    map: SkipMap<OwnedKey, Bytes>,
    fragments: ArcSwap<Fragments>,
    /// Memory it takes, about.
    bytes: AtomicU64,
    /// The newest sequence in it; 0 while empty.
    last_sequence: AtomicU64,
    /// User keys, one for every [`SAMPLE_BYTES`] that came in.
    samples: Mutex<Vec<Bytes>>,
    /// The last move of each origin's applied index in this memtable.
    applied: Mutex<BTreeMap<OriginId, AppliedChange>>,
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable")
            .field("entries", &self.map.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl Memtable {
    pub(crate) fn new() -> Memtable {
        Memtable {
            map: SkipMap::new(),
            fragments: ArcSwap::from_pointee(Fragments::default()),
            bytes: AtomicU64::new(0),
            last_sequence: AtomicU64::new(0),
            samples: Mutex::new(Vec::new()),
            applied: Mutex::new(BTreeMap::new()),
        }
    }

    /// Adds a batch whose operations get the sequences from `first` on.
    pub(crate) fn insert(&self, batch: &WriteBatch, first: u64) {
        let before = self.bytes();
        let mut bytes = before;
        let mut fragments: Option<Fragments> = None;
        for (operation, sequence) in batch.operations().iter().zip(first..) {
            let sampled = bytes / SAMPLE_BYTES;
            bytes += ENTRY_OVERHEAD_BYTES + operation.bytes();
            if bytes / SAMPLE_BYTES > sampled
                && let Operation::Put { key, .. } | Operation::Delete { key } = operation
            {
                self.samples.lock().push(Bytes::copy_from_slice(key));
            }
            match operation {
                Operation::Put { key, value } => {
                    let internal = key::encode(key, sequence, Kind::Put);
                    self.map.insert(OwnedKey(internal.into()), value.clone());
                }
                Operation::Delete { key } => {
                    let internal = key::encode(key, sequence, Kind::Delete);
                    self.map.insert(OwnedKey(internal.into()), Bytes::new());
                }
                Operation::DeleteRange { start, end } => {
                    let old = fragments.unwrap_or_else(|| Fragments::clone(&self.fragments.load()));
                    fragments = Some(old.with(start, end, sequence));
                }
            }
            self.last_sequence.store(sequence, Ordering::Release);
        }
        if let Some(fragments) = fragments {
            self.fragments.store(Arc::new(fragments));
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        if !batch.applied_changes().is_empty() {
            self.applied
                .lock()
                .extend(batch.applied_changes().iter().copied());
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence.load(Ordering::Acquire)
    }

    /// Whether it holds neither data nor a move of an applied index.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_data() && self.applied.lock().is_empty()
    }

    /// Whether it holds keys or range tombstones.
    pub(crate) fn has_data(&self) -> bool {
        self.last_sequence() > 0
    }

    /// Whether it should be closed for its range tombstones alone.
    pub(crate) fn is_fragmented(&self) -> bool {
        self.fragments.load().len() >= RANGE_TOMBSTONES_MAX
    }

    pub(crate) fn applied(&self) -> BTreeMap<OriginId, AppliedChange> {
        self.applied.lock().clone()
    }

    pub(crate) fn mentions(&self, origin: OriginId) -> bool {
        self.applied.lock().contains_key(&origin)
    }

    pub(crate) fn fragments(&self) -> Arc<Fragments> {
        self.fragments.load_full()
    }

    /// Whether any key or range tombstone of it lies in `start..=end`.
    pub(crate) fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        let seek = key::encode_seek(start, key::SEQUENCE_MAX);
        let hit = self
            .map
            .lower_bound(Bound::Included(KeySlice::new(&seek)))
            .is_some_and(|entry| key::user(&entry.key().0) <= end);
        hit || self
            .fragments
            .load()
            .iter()
            .any(|f| f.start.as_ref() <= end && f.end.as_ref() > start)
    }

    /// Hands out stretches of its keys from `start` on (an empty `end`: to the last key).
    pub(crate) fn stretches(&self, start: &[u8], end: &[u8], mut each: impl FnMut(Stretch)) {
        if self.bytes() > WALK_BYTES_MAX {
            for key in self.samples.lock().iter() {
                each(Stretch {
                    after: key.clone(),
                    last: key.clone(),
                    bytes: SAMPLE_BYTES,
                });
            }
            return;
        }
        let seek = key::encode_seek(start, key::SEQUENCE_MAX);
        let from = Bound::Included(KeySlice::new(&seek));
        // An entry belongs to the keys from its own on, so it counts into the stretch behind it.
        let mut open: Option<(Bytes, u64)> = None;
        for entry in self.map.range::<KeySlice, _>((from, Bound::Unbounded)) {
            let internal = &entry.key().0;
            let user = internal.slice(..internal.len() - key::TRAILER_BYTES);
            let bytes = ENTRY_OVERHEAD_BYTES + (user.len() + entry.value().len()) as u64;
            if let Some((after, bytes)) = open.take() {
                each(Stretch {
                    after,
                    last: user.clone(),
                    bytes,
                });
            }
            if !end.is_empty() && end <= user.as_ref() {
                return;
            }
            open = Some((user, bytes));
        }
        if let Some((after, bytes)) = open {
            // Up to the end, whatever that is.
            let mut last = end.max(&after).to_vec();
            last.push(0);
            each(Stretch {
                after,
                last: last.into(),
                bytes,
            });
        }
    }

    /// The newest version at or before the sequence of `seek`, which is the user key's seek key.
    pub(crate) fn get(&self, user: &[u8], seek: &[u8]) -> Option<Found> {
        let entry = self.map.lower_bound(Bound::Included(KeySlice::new(seek)))?;
        let internal = &entry.key().0;
        if key::user(internal) != user {
            return None;
        }
        let (sequence, kind) = key::split_trailer(internal)?;
        let value = (kind == Kind::Put as u8).then(|| entry.value().clone());
        Some(Found { sequence, value })
    }

    /// The newest range delete at or before `sequence` that covers the key; 0 if none does.
    pub(crate) fn cover(&self, user: &[u8], sequence: u64) -> u64 {
        self.fragments.load().cover(user, sequence)
    }
}

/// Walks a memtable. Fetches entries in small batches, so that a step seldom searches the list.
#[derive(Debug)]
pub(crate) struct MemtableIter {
    memtable: Arc<Memtable>,
    /// Entries in the direction of travel.
    buffer: Vec<(OwnedKey, Bytes)>,
    /// Where it stands in the buffer; its length when nowhere.
    index: usize,
    /// Whether the buffer runs towards larger keys.
    forward: bool,
    /// How many entries the next fetch asks for; doubles up to a limit.
    batch: usize,
}

const BATCH_MIN: usize = 4;
const BATCH_MAX: usize = 128;

impl MemtableIter {
    pub(crate) fn new(memtable: Arc<Memtable>) -> MemtableIter {
        MemtableIter {
            memtable,
            buffer: Vec::new(),
            index: 0,
            forward: true,
            batch: BATCH_MIN,
        }
    }

    pub(crate) fn valid(&self) -> bool {
        self.index < self.buffer.len()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.buffer.get(self.index).map_or(&[], |(key, _)| &key.0)
    }

    pub(crate) fn value(&self) -> Bytes {
        let entry = self.buffer.get(self.index);
        entry.map_or_else(Bytes::new, |(_, value)| value.clone())
    }

    pub(crate) fn seek(&mut self, target: &[u8]) {
        self.batch = BATCH_MIN;
        self.fill_forward(Bound::Included(KeySlice::new(target)));
    }

    pub(crate) fn first(&mut self) {
        self.batch = BATCH_MIN;
        self.fill_forward(Bound::Unbounded);
    }

    pub(crate) fn last(&mut self) {
        self.batch = BATCH_MIN;
        self.fill_backward(Bound::Unbounded);
    }

    /// Goes to the last entry before `target`.
    pub(crate) fn seek_before(&mut self, target: &[u8]) {
        self.batch = BATCH_MIN;
        self.fill_backward(Bound::Excluded(KeySlice::new(target)));
    }

    pub(crate) fn next(&mut self) {
        self.step(true);
    }

    pub(crate) fn prev(&mut self) {
        self.step(false);
    }

    fn step(&mut self, forward: bool) {
        let Some((current, _)) = self.buffer.get(self.index) else {
            return;
        };
        if self.forward == forward && self.index + 1 < self.buffer.len() {
            self.index += 1;
            return;
        }
        let current = current.0.clone();
        let bound = Bound::Excluded(KeySlice::new(&current));
        if forward {
            self.fill_forward(bound);
        } else {
            self.fill_backward(bound);
        }
    }

    fn fill_forward(&mut self, from: Bound<&KeySlice>) {
        self.forward = true;
        let range = self
            .memtable
            .map
            .range::<KeySlice, _>((from, Bound::Unbounded));
        let entries = range.take(self.batch);
        self.buffer.clear();
        self.buffer
            .extend(entries.map(|e| (e.key().clone(), e.value().clone())));
        self.filled();
    }

    fn fill_backward(&mut self, to: Bound<&KeySlice>) {
        self.forward = false;
        let range = self
            .memtable
            .map
            .range::<KeySlice, _>((Bound::Unbounded, to));
        let entries = range.rev().take(self.batch);
        self.buffer.clear();
        self.buffer
            .extend(entries.map(|e| (e.key().clone(), e.value().clone())));
        self.filled();
    }

    fn filled(&mut self) {
        self.index = 0;
        self.batch = (self.batch * 2).min(BATCH_MAX);
    }
}
