//! Which tables make up the tree at one moment.
//!
//! A [`Version`] is never changed; an edit makes the next one. Level 0 holds flushed and ingested
//! tables, newest first, whose ranges may overlap; in every level below the tables are sorted and
//! disjoint (L6). A table stays on disk as long as any version, and so any snapshot, names it.

mod edit;
mod file;
mod manifest;

pub(crate) use edit::VersionEdit;
pub(crate) use file::{FileContext, FileMeta, Graveyard, TableFile, table_path};
pub(crate) use manifest::CURRENT_TMP;
pub(crate) use manifest::{
    Manifest, ManifestState, Recovered, is_manifest_name, manifest_name, recover, write_fresh,
};

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::codec::Malformed;
use crate::range::KeyRange;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    levels: Vec<Vec<Arc<TableFile>>>,
}

impl Version {
    pub(crate) fn level_count(&self) -> usize {
        self.levels.len()
    }

    /// The tables of a level; none for a level that does not exist.
    pub(crate) fn level(&self, level: usize) -> &[Arc<TableFile>] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn levels(&self) -> impl Iterator<Item = (usize, &[Arc<TableFile>])> {
        self.levels.iter().map(Vec::as_slice).enumerate()
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, &Arc<TableFile>)> {
        self.levels()
            .flat_map(|(level, files)| files.iter().map(move |file| (level, file)))
    }

    pub(crate) fn level_bytes(&self, level: usize) -> u64 {
        self.level(level).iter().map(|file| file.meta().size).sum()
    }

    /// The tables of a level that overlap the range, in the level's order.
    pub(crate) fn overlapping(&self, level: usize, range: &KeyRange) -> &[Arc<TableFile>] {
        assert!(level > 0, "level 0 is not sorted by key");
        let files = self.level(level);
        let first = files.partition_point(|f| f.meta().range.ends_before(&range.start));
        let last = files.partition_point(|f| !range.ends_before(&f.meta().range.start));
        files.get(first..last).unwrap_or(&[])
    }

    /// Whether any table of the level overlaps the range.
    pub(crate) fn overlaps(&self, level: usize, range: &KeyRange) -> bool {
        if level == 0 {
            let mut files = self.level(0).iter();
            return files.any(|f| f.meta().range.overlaps(range));
        }
        !self.overlapping(level, range).is_empty()
    }

    /// The table of a sorted level that may hold the key.
    pub(crate) fn find(&self, level: usize, user: &[u8]) -> Option<&Arc<TableFile>> {
        let files = self.level(level);
        let index = files.partition_point(|f| f.meta().range.ends_before(user));
        files
            .get(index)
            .filter(|f| f.meta().range.start.as_ref() <= user)
    }

    /// The version after removing tables (by number) and adding others (by level).
    pub(crate) fn apply(
        &self,
        removed: &BTreeSet<u64>,
        added: &[(usize, Arc<TableFile>)],
    ) -> Version {
        let mut levels = self.levels.clone();
        for files in &mut levels {
            files.retain(|file| !removed.contains(&file.meta().number));
        }
        Version::from_files(levels, added).expect("edits keep levels sorted and disjoint")
    }

    /// The version of these tables and others; refuses levels whose tables overlap.
    pub(crate) fn from_files(
        mut levels: Vec<Vec<Arc<TableFile>>>,
        added: &[(usize, Arc<TableFile>)],
    ) -> Result<Version, Malformed> {
        let deepest = added.iter().map(|(level, _)| level + 1).max().unwrap_or(0);
        levels.resize(levels.len().max(deepest), Vec::new());
        for (level, files) in levels.iter_mut().enumerate() {
            let new = added.iter().filter(|(to, _)| *to == level);
            files.extend(new.map(|(_, file)| file.clone()));
            if level == 0 {
                files.sort_by_key(|f| Reverse((f.meta().largest_sequence, f.meta().number)));
                continue;
            }
            files.sort_by(|a, b| a.meta().range.start.cmp(&b.meta().range.start));
            let disjoint = |pair: &[Arc<TableFile>]| {
                let next = &pair[1].meta().range.start;
                pair[0].meta().range.ends_before(next)
            };
            if !files.windows(2).all(disjoint) {
                return Err(Malformed("tables of a sorted level overlap"));
            }
        }
        Ok(Version { levels })
    }
}

#[cfg(test)]
mod tests;
