//! The tree at one moment.
//!
//! A snapshot is the set of memtables and tables of its moment (a [`SuperVersion`]) and a
//! sequence. Nothing in a super version changes but its active memtable, into which newer entries
//! arrive; the sequence hides those. Because a snapshot holds its files itself, nobody else has to
//! know that it exists.

use std::sync::Arc;

use bytes::Bytes;

use crate::LsmError;
use crate::iter::{Iter, LevelIter, Merge, Source};
use crate::key::{self, Sequence};
use crate::memtable::{Memtable, MemtableIter};
use crate::range::KeyRange;
use crate::table::{Fetch, Lookup};
use crate::tombstone::Fragments;
use crate::version::{TableFile, Version};

/// Everything that is read from.
#[derive(Debug)]
pub(crate) struct SuperVersion {
    /// Takes the writes.
    pub(crate) active: Arc<Memtable>,
    /// Closed memtables, newest first.
    pub(crate) immutables: Vec<Arc<Memtable>>,
    pub(crate) version: Arc<Version>,
    /// Whoever reads this sees everything up to here, whatever it knows of visible sequences:
    /// tables taken in from outside are part of the version before their sequence is announced.
    pub(crate) floor: u64,
}

impl SuperVersion {
    /// All memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.immutables)
    }
}

/// The tree at one moment. Keeps the memtables and tables of that moment alive, so it should not
/// be kept for hours.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: Arc<SuperVersion>,
    sequence: u64,
}

/// What can be said about a key without I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// It has this value.
    Found(Bytes),
    /// It has none.
    Missing,
    /// A block that is not in memory has to be read to know.
    NeedsRead,
}

impl Snapshot {
    /// `visible` is read after `state`, so that everything of the state up to it is in place.
    pub(crate) fn new(state: Arc<SuperVersion>, visible: u64) -> Snapshot {
        Snapshot {
            sequence: visible.max(state.floor),
            state,
        }
    }

    /// The place in the order of writes up to which this sees everything.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.sequence)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// I/O and damage; both name the file.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LsmError> {
        match self.lookup(key, Fetch::Read)? {
            Cached::Found(value) => Ok(Some(value)),
            Cached::Missing => Ok(None),
            Cached::NeedsRead => unreachable!("a lookup that may read does"),
        }
    }

    /// The value of a key as far as memory knows it. Does no I/O.
    ///
    /// # Errors
    /// Damage found in a block that is in memory.
    pub fn get_cached(&self, key: &[u8]) -> Result<Cached, LsmError> {
        self.lookup(key, Fetch::CacheOnly)
    }

    /// The values of several keys, in the order asked.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, LsmError> {
        // In key order the lookups meet in the same blocks.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[a].as_ref().cmp(keys[b].as_ref()));
        let mut values = vec![None; keys.len()];
        for index in order {
            values[index] = self.get(keys[index].as_ref())?;
        }
        Ok(values)
    }

    /// An iterator over the keys that are `prefix` and exactly `suffix_bytes` more: all versions of
    /// one thing. With [`FilterKind::Prefix`](crate::FilterKind::Prefix) and a rule that cuts off
    /// as much, it reads only tables that may hold any.
    ///
    /// # Errors
    /// As [`Snapshot::iter`].
    pub fn iter_versions(&self, prefix: &[u8], suffix_bytes: usize) -> Result<Iter, LsmError> {
        let mut upper = prefix.to_vec();
        upper.resize(prefix.len() + suffix_bytes, 0xff);
        upper.push(0);
        let iter = self.iter_where(prefix, &upper, |file| {
            let table = file.table()?;
            Ok(table.may_contain_versions(prefix, suffix_bytes))
        })?;
        Ok(iter.of_length(prefix.len() + suffix_bytes))
    }

    /// An iterator over `lower..upper` (an empty `upper`: to the last key), standing before the
    /// first key.
    ///
    /// # Errors
    /// Tables with range tombstones are read here.
    pub fn iter(&self, lower: &[u8], upper: &[u8]) -> Result<Iter, LsmError> {
        self.iter_where(lower, upper, |_| Ok(true))
    }

    /// Likewise, without the keys of tables that are not `wanted`.
    fn iter_where(
        &self,
        lower: &[u8],
        upper: &[u8],
        wanted: impl Fn(&TableFile) -> Result<bool, LsmError>,
    ) -> Result<Iter, LsmError> {
        let mut sources = Vec::new();
        let mut tombstones: Vec<Arc<Fragments>> = Vec::new();
        for memtable in self.state.memtables() {
            sources.push(Source::Memtable(MemtableIter::new(memtable.clone())));
            tombstones.push(memtable.fragments());
        }
        for (level, files) in self.state.version.levels() {
            let mut inside: Vec<Arc<TableFile>> = Vec::new();
            for file in files {
                if !in_bounds(&file.meta().range, lower, upper) {
                    continue;
                }
                // What a table deletes counts, whether its keys are wanted or not.
                if file.meta().range_tombstones > 0 {
                    tombstones.push(file.table()?.tombstones().clone());
                }
                if wanted(file)? {
                    inside.push(file.clone());
                }
            }
            if level == 0 {
                let runs = inside.into_iter();
                sources.extend(
                    runs.map(|file| Source::Level(LevelIter::new(vec![file], Fetch::Read))),
                );
            } else if !inside.is_empty() {
                sources.push(Source::Level(LevelIter::new(inside, Fetch::Read)));
            }
        }
        let upper_bound = (!upper.is_empty()).then_some(upper);
        let parts: Vec<Fragments> = tombstones
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.clip(Some(lower), upper_bound))
            .collect();
        let merged = Fragments::merge(&parts, self.sequence);
        Ok(Iter::new(
            self.clone(),
            Merge::new(sources),
            merged,
            lower,
            upper,
        ))
    }

    fn lookup(&self, user: &[u8], fetch: Fetch) -> Result<Cached, LsmError> {
        let seek = key::encode_seek(user, self.sequence);
        // The newest range delete that covers the key, among the sources looked at so far.
        let mut cover = 0;
        for memtable in self.state.memtables() {
            cover = cover.max(memtable.cover(user, self.sequence));
            if let Some(found) = memtable.get(user, &seek) {
                return Ok(decide(found.sequence, found.value, cover));
            }
            if cover > 0 {
                // All there is further on is older.
                return Ok(Cached::Missing);
            }
        }
        let version = &self.state.version;
        for file in version.level(0) {
            if file.meta().range.contains(user)
                && let Some(answer) = look_into(file, user, &seek, &mut cover, fetch)?
            {
                return Ok(answer);
            }
        }
        for level in 1..version.level_count() {
            if let Some(file) = version.find(level, user)
                && let Some(answer) = look_into(file, user, &seek, &mut cover, fetch)?
            {
                return Ok(answer);
            }
        }
        Ok(Cached::Missing)
    }
}

/// What a table decides about a key; `None`: look further.
fn look_into(
    file: &TableFile,
    user: &[u8],
    seek: &[u8],
    cover: &mut u64,
    fetch: Fetch,
) -> Result<Option<Cached>, LsmError> {
    if *cover > file.meta().largest_sequence {
        return Ok(None);
    }
    if fetch == Fetch::CacheOnly && file.opened().is_none() {
        return Ok(Some(Cached::NeedsRead));
    }
    let table = file.table()?;
    if file.meta().range_tombstones > 0 {
        *cover = (*cover).max(table.tombstones().cover(user, key::sequence(seek)));
    }
    Ok(match table.get(user, seek, fetch)? {
        Lookup::Found(found) => Some(decide(found.sequence, found.value, *cover)),
        Lookup::Missing => None,
        Lookup::NeedsRead => Some(Cached::NeedsRead),
    })
}

fn decide(sequence: u64, value: Option<Bytes>, cover: u64) -> Cached {
    match value {
        Some(value) if cover < sequence => Cached::Found(value),
        _ => Cached::Missing,
    }
}

fn in_bounds(range: &KeyRange, lower: &[u8], upper: &[u8]) -> bool {
    !range.ends_before(lower) && (upper.is_empty() || range.start.as_ref() < upper)
}
