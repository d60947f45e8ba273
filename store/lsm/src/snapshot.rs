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
use crate::table::{Fetch, Getter, Lookup};
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

    /// The tables alone.
    pub(crate) fn without_memtables(&self) -> SuperVersion {
        SuperVersion {
            active: Arc::new(Memtable::new()),
            immutables: Vec::new(),
            version: Arc::clone(&self.version),
            floor: self.floor,
        }
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

    /// The values of several keys, in the order asked. Keys that stand in one block are found in it
    /// together.
    ///
    /// # Errors
    /// As [`Snapshot::get`]; one key that cannot be read spoils all.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, LsmError> {
        // In key order those that meet in a block follow each other.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[a].as_ref().cmp(keys[b].as_ref()));
        let mut asked: Vec<Asked<'_>> = order
            .iter()
            .map(|&index| Asked::new(keys[index].as_ref(), self.sequence))
            .collect();
        for asked in &mut asked {
            asked.answer = self.look_into_memtables(asked);
        }
        self.look_into_tables(&mut asked, Fetch::Read)?;
        let mut values = vec![None; keys.len()];
        for (index, asked) in order.into_iter().zip(asked) {
            values[index] = match asked.answer {
                Some(Cached::Found(value)) => Some(value),
                _ => None,
            };
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
        let mut asked = Asked::new(user, self.sequence);
        asked.answer = self.look_into_memtables(&mut asked);
        if asked.answer.is_none() {
            self.look_into_tables(std::slice::from_mut(&mut asked), fetch)?;
        }
        Ok(asked.answer.unwrap_or(Cached::Missing))
    }

    /// What the memtables, newest first, decide about a key; `None`: look further.
    fn look_into_memtables(&self, asked: &mut Asked<'_>) -> Option<Cached> {
        for memtable in self.state.memtables() {
            asked.cover = asked.cover.max(memtable.cover(asked.user, self.sequence));
            if let Some(found) = memtable.get(asked.user, &asked.seek) {
                return Some(decide(found.sequence, found.value, asked.cover));
            }
            if asked.cover > 0 {
                // All there is further on is older.
                return Some(Cached::Missing);
            }
        }
        None
    }

    /// Asks the tables, newest first, about keys in their order.
    fn look_into_tables(&self, asked: &mut [Asked<'_>], fetch: Fetch) -> Result<(), LsmError> {
        let version = &self.state.version;
        for file in version.level(0) {
            let mut getter = None;
            for asked in asked.iter_mut().filter(|asked| asked.answer.is_none()) {
                if file.meta().range.contains(asked.user) {
                    asked.look_into(file, &mut getter, fetch)?;
                }
            }
        }
        for level in 1..version.level_count() {
            let mut last: Option<&Arc<TableFile>> = None;
            let mut getter = None;
            for asked in asked.iter_mut().filter(|asked| asked.answer.is_none()) {
                let Some(file) = version.find(level, asked.user) else {
                    continue;
                };
                if last.is_none_or(|last| !Arc::ptr_eq(last, file)) {
                    last = Some(file);
                    getter = None;
                }
                asked.look_into(file, &mut getter, fetch)?;
            }
        }
        Ok(())
    }
}

/// A key and what is known about it so far.
struct Asked<'a> {
    user: &'a [u8],
    /// The internal key to seek.
    seek: Vec<u8>,
    /// The newest range delete that covers the key, among the sources looked at.
    cover: u64,
    answer: Option<Cached>,
}

impl<'a> Asked<'a> {
    fn new(user: &'a [u8], sequence: u64) -> Asked<'a> {
        Asked {
            user,
            seek: key::encode_seek(user, sequence),
            cover: 0,
            answer: None,
        }
    }

    /// Takes what a table decides; `getter` is of the table, if any key was looked up there.
    fn look_into(
        &mut self,
        file: &TableFile,
        getter: &mut Option<Getter>,
        fetch: Fetch,
    ) -> Result<(), LsmError> {
        if self.cover > file.meta().largest_sequence {
            return Ok(());
        }
        if fetch == Fetch::CacheOnly && file.opened().is_none() {
            self.answer = Some(Cached::NeedsRead);
            return Ok(());
        }
        let getter = match getter {
            Some(getter) => getter,
            None => getter.insert(Getter::new(file.table()?, fetch)),
        };
        if file.meta().range_tombstones > 0 {
            let tombstones = getter.table().tombstones();
            let cover = tombstones.cover(self.user, key::sequence(&self.seek));
            self.cover = self.cover.max(cover);
        }
        self.answer = match getter.get(self.user, &self.seek)? {
            Lookup::Found(found) => Some(decide(found.sequence, found.value, self.cover)),
            Lookup::Missing => None,
            Lookup::NeedsRead => Some(Cached::NeedsRead),
        };
        Ok(())
    }
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
