//! What the model, crash and corruption tests share: generated histories, the naive model they are
//! compared with, and option sets that bring every part of the tree into play with little data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::{Env, Prng};
use tinykv_lsm::{
    Cached, Compression, FilterKind, Ingest, Job, JobKind, Lsm, LsmError, LsmOptions, OriginId,
    PrefixRule, Sequence, Snapshot, SstWriter, WriteBatch,
};

pub(crate) type Map = BTreeMap<Bytes, Bytes>;

/// Batches go through these origins in turn.
pub(crate) const ORIGINS: u64 = 3;
/// Ingests count up the applied index of this one.
pub(crate) const INGEST_ORIGIN: OriginId = OriginId(100);

/// How many times as many cases to run.
pub(crate) fn cases(ordinary: u64) -> u64 {
    let factor = std::env::var("TINYKV_CASES").ok();
    ordinary
        * factor
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(1)
            .max(1)
}

/// Small everywhere, so that a few hundred writes make several levels.
pub(crate) fn tiny() -> LsmOptions {
    LsmOptions {
        memtable_bytes_max: 4 << 10,
        block_bytes: 128,
        block_restart_interval: 3,
        index_partition_bytes: 128,
        cache_bytes_max: 64 << 10,
        level_base_bytes: 4 << 10,
        level_multiplier: 3,
        table_bytes_max: 2 << 10,
        l0_compaction_files: 2,
        l0_slowdown_files: 4,
        l0_stop_files: 8,
        manifest_bytes_max: 40 << 10,
        ..LsmOptions::default()
    }
}

/// Name and settings of every option set that must agree with the model.
pub(crate) fn option_sets() -> Vec<(&'static str, LsmOptions)> {
    vec![
        ("tiny", tiny()),
        ("defaults", LsmOptions::default()),
        (
            "tiny blocks",
            LsmOptions {
                block_bytes: 64,
                block_restart_interval: 1,
                index_partition_bytes: 64,
                ..tiny()
            },
        ),
        (
            "no filter",
            LsmOptions {
                filter: FilterKind::None,
                ..tiny()
            },
        ),
        (
            "prefix filter",
            LsmOptions {
                filter: FilterKind::Prefix(PrefixRule::new(TAIL.len() as u8, b"k")),
                ..tiny()
            },
        ),
        (
            "no compression, no cache",
            LsmOptions {
                compression: Compression::None,
                compression_last_level: Compression::None,
                cache_bytes_max: 0,
                ..tiny()
            },
        ),
        (
            "zstd everywhere",
            LsmOptions {
                compression: Compression::Zstd,
                block_bytes: 512,
                ..tiny()
            },
        ),
        (
            "lz4 everywhere",
            LsmOptions {
                compression_last_level: Compression::Lz4,
                block_bytes: 512,
                ..tiny()
            },
        ),
        (
            "many levels",
            LsmOptions {
                levels: 12,
                level_base_bytes: 1 << 10,
                level_multiplier: 2,
                table_bytes_max: 1 << 10,
                ..tiny()
            },
        ),
        (
            "two levels",
            LsmOptions {
                levels: 2,
                l0_compaction_files: 1,
                ..tiny()
            },
        ),
        (
            "long restarts, big tables",
            LsmOptions {
                block_bytes: 4 << 10,
                block_restart_interval: 64,
                table_bytes_max: 1 << 20,
                memtable_bytes_max: 16 << 10,
                ..tiny()
            },
        ),
    ]
}

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A batch; its origin and index follow from its number.
    Write(Vec<Change>),
    /// Drops the range, then takes in a table of these keys (all inside it).
    Ingest {
        drop: (Bytes, Bytes),
        entries: Map,
    },
    Rotate,
    Flush,
    /// Runs so many jobs, if so many are due.
    Jobs(u32),
    /// Claims a compaction, to be run later; everything else goes on meanwhile.
    Hold,
    /// Runs the compactions that were claimed, the last one first.
    Release,
    Settle,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Bytes, Bytes),
    Delete(Bytes),
    DeleteRange(Bytes, Bytes),
}

/// What half of the keys end in.
const TAIL: &str = "\u{0}\u{ff}tail";

/// Keys share prefixes, some are prefixes of others, one is empty.
pub(crate) fn key(random: &mut Prng, keys: u64) -> Bytes {
    let number = random.below(keys);
    if number == 0 {
        return Bytes::new();
    }
    let mut text = format!("k{:03}", number / 2);
    if number % 2 == 1 {
        text.push_str(TAIL);
    }
    text.into()
}

pub(crate) fn value(random: &mut Prng, number: usize) -> Bytes {
    let mut text = format!("value {number} ");
    let longest = if random.chance(10) { 600 } else { 40 };
    let len = random.below(longest);
    for _ in 0..len {
        text.push(char::from(b'a' + random.below(3) as u8));
    }
    text.into()
}

fn range(random: &mut Prng, keys: u64) -> Option<(Bytes, Bytes)> {
    let start = key(random, keys);
    let end = if random.chance(3) {
        key(random, keys)
    } else {
        let mut end = start.to_vec();
        end.extend_from_slice(&[0xff; 2]);
        end.into()
    };
    (start < end).then_some((start, end))
}

/// A history of `steps` steps over `keys` keys.
pub(crate) fn history(seed: u64, steps: usize, keys: u64) -> Vec<Step> {
    let random = &mut Prng::new(seed);
    let mut history = Vec::new();
    for number in 0..steps {
        history.push(match random.below(40) {
            0 => Step::Rotate,
            1 => Step::Flush,
            2..=5 => Step::Jobs(random.below(4) as u32),
            6 => Step::Settle,
            8..=10 => Step::Hold,
            11 => Step::Release,
            7 => match range(random, keys) {
                Some(drop) => ingest(random, drop, number),
                None => Step::Rotate,
            },
            _ => {
                let len = random.between(1, 6);
                Step::Write((0..len).map(|_| change(random, keys, number)).collect())
            }
        });
    }
    history
}

fn ingest(random: &mut Prng, drop: (Bytes, Bytes), number: usize) -> Step {
    let mut entries = Map::new();
    for _ in 0..random.below(8) {
        let mut key = drop.0.to_vec();
        key.push(random.below(4) as u8);
        if drop.1.as_ref() > key.as_slice() {
            entries.insert(key.into(), value(random, number));
        }
    }
    Step::Ingest { drop, entries }
}

fn change(random: &mut Prng, keys: u64, number: usize) -> Change {
    match random.below(20) {
        0 => match range(random, keys) {
            Some((start, end)) => Change::DeleteRange(start, end),
            None => Change::Delete(key(random, keys)),
        },
        1..=4 => Change::Delete(key(random, keys)),
        _ => Change::Put(key(random, keys), value(random, number)),
    }
}

/// The naive model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) map: Map,
}

impl Model {
    pub(crate) fn write(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    self.map.insert(key.clone(), value.clone());
                }
                Change::Delete(key) => {
                    self.map.remove(key);
                }
                Change::DeleteRange(start, end) => self.drop_range(start, end),
            }
        }
    }

    pub(crate) fn ingest(&mut self, (start, end): &(Bytes, Bytes), entries: &Map) {
        self.drop_range(start, end);
        self.map.extend(entries.clone());
    }

    fn drop_range(&mut self, start: &Bytes, end: &Bytes) {
        self.map.retain(|key, _| key < start || key >= end);
    }
}

/// A tree under test with what is known about it.
pub(crate) struct Driver {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) dir: PathBuf,
    pub(crate) lsm: Lsm,
    /// Batches written so far; batch `n` (from 1) is entry `n` of its origin's log.
    pub(crate) batches: u64,
    pub(crate) ingests: u64,
    /// The sequence that every batch was answered with.
    pub(crate) sequences: Vec<Sequence>,
    /// Claimed, not run yet.
    pub(crate) held: Vec<Job>,
}

pub(crate) fn origin_of(batch: u64) -> OriginId {
    OriginId(batch % ORIGINS)
}

impl Driver {
    pub(crate) fn open(
        env: &Arc<dyn Env>,
        dir: &Path,
        options: LsmOptions,
    ) -> Result<Driver, LsmError> {
        Ok(Driver {
            lsm: Lsm::open(env.clone(), dir, options)?,
            env: env.clone(),
            dir: dir.to_owned(),
            batches: 0,
            ingests: 0,
            sequences: Vec::new(),
            held: Vec::new(),
        })
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<(), LsmError> {
        match step {
            Step::Write(changes) => {
                let mut batch = WriteBatch::new();
                for change in changes {
                    match change {
                        Change::Put(key, value) => batch.put(key.clone(), value.clone()),
                        Change::Delete(key) => batch.delete(key.clone()),
                        Change::DeleteRange(start, end) => {
                            batch.delete_range(start.clone(), end.clone())
                        }
                    };
                }
                self.batches += 1;
                batch.applied(origin_of(self.batches), self.batches);
                self.sequences.push(self.lsm.write(&batch)?);
                Ok(())
            }
            Step::Ingest { drop, entries } => self.ingest(drop, entries),
            Step::Rotate => self.lsm.rotate().map(drop),
            Step::Flush => self.lsm.flush(),
            Step::Jobs(count) => {
                for _ in 0..*count {
                    if let Some(job) = self.lsm.plan() {
                        job.run()?;
                    }
                }
                Ok(())
            }
            Step::Settle => self.lsm.settle(),
            Step::Hold => self.hold(),
            Step::Release => self.release(),
        }
    }

    fn hold(&mut self) -> Result<(), LsmError> {
        match self.lsm.plan() {
            Some(job) if matches!(job.kind(), JobKind::Compaction { .. }) => self.held.push(job),
            Some(job) => return job.run().map(drop),
            None => {}
        }
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<(), LsmError> {
        while let Some(job) = self.held.pop() {
            job.run()?;
        }
        Ok(())
    }

    fn ingest(&mut self, drop: &(Bytes, Bytes), entries: &Map) -> Result<(), LsmError> {
        self.ingests += 1;
        let path = self.dir.with_extension(format!("ingest-{}", self.ingests));
        if self.env.exists(&path)? {
            self.env.remove_file(&path)?;
        }
        let mut writer = SstWriter::create(&self.env, &path, self.lsm.options())?;
        for (key, value) in entries {
            writer.add(key, value)?;
        }
        let finished = writer.finish()?;
        self.lsm.ingest(&Ingest {
            drop: vec![drop.clone()],
            files: finished.iter().map(|_| path.clone()).collect(),
            applied: Some((INGEST_ORIGIN, self.ingests)),
        })?;
        if finished.is_some() {
            self.env.remove_file(&path)?;
        }
        Ok(())
    }
}

/// L5: the directory holds the live tables, one MANIFEST, CURRENT and LOCK, and nothing else.
pub(crate) fn check_files(env: &dyn Env, dir: &Path, lsm: &Lsm, what: &str) {
    let levels = lsm.statistics().levels;
    let live: usize = levels.iter().map(|level| level.files).sum();
    let entries = env.list_dir(dir).expect("list");
    let tables = entries.iter().filter(|e| e.name.ends_with(".sst")).count();
    assert_eq!(tables, live, "{what}: tables");
    let manifests = entries.iter().filter(|e| e.name.starts_with("MANIFEST"));
    assert_eq!(manifests.count(), 1, "{what}: MANIFESTs");
    let current = entries.iter().filter(|e| e.name == "CURRENT").count();
    assert_eq!(current, 1, "{what}: CURRENT");
    let lock = entries.iter().filter(|e| e.name == "LOCK").count();
    assert_eq!(entries.len(), tables + 2 + lock, "{what}: {entries:?}");
}

/// The model after the batches up to `batches` and the ingests up to `ingests`.
pub(crate) fn replay(history: &[Step], batches: u64, ingests: u64) -> Model {
    let mut model = Model::default();
    let (mut batch, mut ingest) = (0, 0);
    for step in history {
        match step {
            Step::Write(changes) => {
                batch += 1;
                if batch <= batches {
                    model.write(changes);
                }
            }
            Step::Ingest { drop, entries } => {
                ingest += 1;
                if ingest <= ingests {
                    model.ingest(drop, entries);
                }
            }
            _ => {}
        }
    }
    model
}

/// Everything a snapshot shows, by every way there is, is what the model says.
pub(crate) fn check(snapshot: &Snapshot, map: &Map, random: &mut Prng, keys: u64, what: &str) {
    check_all(snapshot, map, what);
    check_gets(snapshot, map, random, keys, what);
    walk(snapshot, map, random, keys, what);
    versions(snapshot, map, random, keys, what);
}

/// A whole scan in both directions shows what the model says.
pub(crate) fn check_all(snapshot: &Snapshot, map: &Map, what: &str) {
    let mut iter = snapshot.iter(&[], &[]).expect("iterate");
    let mut seen = Map::new();
    while iter.next().expect("next") {
        seen.insert(Bytes::copy_from_slice(iter.key()), iter.value());
    }
    assert_eq!(&seen, map, "{what}: forward");
    let mut back = Vec::new();
    while iter.prev().expect("prev") {
        back.push((Bytes::copy_from_slice(iter.key()), iter.value()));
    }
    back.reverse();
    assert!(
        back.iter().map(|(k, v)| (k, v)).eq(map.iter()),
        "{what}: backward"
    );
}

fn check_gets(snapshot: &Snapshot, map: &Map, random: &mut Prng, keys: u64, what: &str) {
    for _ in 0..20 {
        let key = key(random, keys);
        let expected = map.get(&key);
        let cached = snapshot.get_cached(&key).expect("get_cached");
        let got = snapshot.get(&key).expect("get");
        assert_eq!(got.as_ref(), expected, "{what}: get {key:?}");
        match cached {
            Cached::NeedsRead => {}
            Cached::Found(value) => assert_eq!(Some(&value), expected, "{what}: cached {key:?}"),
            Cached::Missing => assert_eq!(None, expected, "{what}: cached {key:?}"),
        }
    }
    let asked: Vec<Bytes> = (0..15).map(|_| key(random, keys)).collect();
    let got = snapshot.multi_get(&asked).expect("multi_get");
    let expected = asked.iter().map(|key| map.get(key).cloned());
    assert!(got.into_iter().eq(expected), "{what}: multi_get {asked:?}");
}

/// Iterators over keys of one prefix and length, forward and backward.
fn versions(snapshot: &Snapshot, map: &Map, random: &mut Prng, keys: u64, what: &str) {
    for _ in 0..4 {
        let whole = key(random, keys);
        let suffix_bytes = match random.below(3) {
            0 => TAIL.len(),
            1 => 0,
            _ => random.below(whole.len() as u64 + 1) as usize,
        };
        let prefix = &whole[..whole.len().saturating_sub(suffix_bytes)];
        let len = prefix.len() + suffix_bytes;
        let inside = map
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && key.len() == len);
        let expected: Vec<(&Bytes, &Bytes)> = inside.collect();
        let mut iter = snapshot
            .iter_versions(prefix, suffix_bytes)
            .expect("iterate");
        let mut seen = Vec::new();
        while iter.next().expect("next") {
            seen.push((Bytes::copy_from_slice(iter.key()), iter.value()));
        }
        let seen_refs = || seen.iter().map(|(key, value)| (key, value));
        assert!(
            seen_refs().eq(expected.iter().copied()),
            "{what}: {prefix:?} and {suffix_bytes} more"
        );
        let mut back = Vec::new();
        while iter.prev().expect("prev") {
            back.push((Bytes::copy_from_slice(iter.key()), iter.value()));
        }
        back.reverse();
        assert_eq!(back, seen, "{what}: {prefix:?} and {suffix_bytes} more");
    }
}

/// A random walk of an iterator with bounds.
fn walk(snapshot: &Snapshot, map: &Map, random: &mut Prng, keys: u64, what: &str) {
    let (mut lower, mut upper) = (key(random, keys), key(random, keys));
    if upper < lower && !random.chance(8) {
        std::mem::swap(&mut lower, &mut upper);
    }
    if random.chance(3) {
        upper = Bytes::new();
    }
    let inside: Vec<(&Bytes, &Bytes)> = map
        .iter()
        .filter(|(key, _)| **key >= lower && (upper.is_empty() || **key < upper))
        .collect();
    let mut iter = snapshot.iter(&lower, &upper).expect("iterate");
    // The index of the key it stands on, shifted by one: 0 is before the first.
    let mut at = 0;
    for _ in 0..30 {
        let target = key(random, keys);
        let (moved, now) = match random.below(8) {
            0 => (
                iter.seek(&target).expect("seek"),
                inside.partition_point(|(key, _)| **key < target) + 1,
            ),
            1 => (
                iter.seek_back(&target).expect("seek_back"),
                inside.partition_point(|(key, _)| **key <= target),
            ),
            2 => (iter.first().expect("first"), 1),
            3 => (iter.last().expect("last"), inside.len()),
            4 | 5 => (iter.next().expect("next"), (at + 1).min(inside.len() + 1)),
            // The position of a fresh iterator is both ends: prev goes to the last.
            _ if at == 0 && !iter.valid() => continue,
            _ => (iter.prev().expect("prev"), at - 1),
        };
        at = now;
        let expected = at.checked_sub(1).and_then(|at| inside.get(at));
        assert_eq!(
            moved,
            expected.is_some(),
            "{what}: moved in {lower:?}..{upper:?}"
        );
        assert_eq!(iter.valid(), expected.is_some(), "{what}: valid");
        if let Some((key, value)) = expected {
            assert_eq!(
                iter.key(),
                key.as_ref(),
                "{what}: key in {lower:?}..{upper:?}"
            );
            assert_eq!(&iter.value(), *value, "{what}: value of {key:?}");
        }
    }
}
