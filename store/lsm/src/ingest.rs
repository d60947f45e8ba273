//! Takes finished tables in and drops ranges, in one version edit.
//!
//! Tables get one sequence for all their entries, and dropped ranges the one before it. Tables that
//! lie inside a dropped range leave with the edit; where others reach into it, a table of range
//! tombstones hides what they hold. Everything is keyed by sequence, so a table may be placed as
//! deep as nothing older lies in its range, even below those tombstones.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::LsmError;
use crate::batch::{AppliedChange, OriginId};
use crate::compaction::Busy;
use crate::job::RangeClaim;
use crate::range::KeyRange;
use crate::table::{Table, TableSettings, TableSource, TableWriter};
use crate::tombstone::Fragments;
use crate::tree::Inner;
use crate::version::{FileMeta, TableFile, Version, VersionEdit, table_path};

/// Ranges to drop and tables to take in, as one step.
#[derive(Clone, Debug, Default)]
pub struct Ingest {
    /// Ranges `start..end` of which nothing older stays; ends are never empty.
    pub drop: Vec<(Bytes, Bytes)>,
    /// Tables made by [`SstWriter`](crate::SstWriter), disjoint, on the same file system. They get
    /// a second name in the tree; the caller removes the first one when it likes.
    pub files: Vec<PathBuf>,
    /// The applied index that holds with the step.
    pub applied: Option<(OriginId, u64)>,
}

/// Where things go.
struct Placement {
    /// Tables that leave.
    removed: BTreeSet<u64>,
    /// Dropped ranges into which tables that stay reach.
    masked: Vec<KeyRange>,
    /// The level of each table taken in.
    levels: Vec<usize>,
    _claims: Vec<RangeClaim>,
}

/// See the module. The caller writes nothing into the ranges while this runs.
pub(crate) fn run(inner: &Arc<Inner>, ingest: &Ingest) -> Result<(), LsmError> {
    inner.check()?;
    let drops = drop_ranges(ingest)?;
    let tables = open_tables(inner, ingest)?;
    let ranges: Vec<KeyRange> = drops
        .iter()
        .cloned()
        .chain(tables.iter().map(|table| range_of(table)))
        .collect();
    let origin = ingest.applied.map(|(origin, _)| origin);
    flush_overlapping(inner, &ranges, origin)?;
    let placement = place(inner, &drops, &tables);
    let sequences = inner.reserve_for_ingest(ingest.applied)?;
    let mut created = Vec::new();
    let built = build(inner, &tables, &placement, sequences, &mut created);
    let added = match built {
        Ok(added) => added,
        Err(error) => {
            inner.remove_tables(&created, &error);
            return Err(error);
        }
    };
    let edit = VersionEdit {
        added: added
            .iter()
            .map(|(to, f)| (*to, f.meta().clone()))
            .collect(),
        removed: placement.removed.iter().copied().collect(),
        applied: ingest
            .applied
            .iter()
            .map(|(origin, index)| (*origin, AppliedChange::Advance(*index)))
            .collect(),
        last_sequence: sequences.1,
        ..VersionEdit::default()
    };
    inner.commit_or_remove(edit, added, &[], Some(sequences.1))?;
    if let Some((origin, index)) = ingest.applied {
        inner.set_applied(origin, index);
    }
    Ok(())
}

fn drop_ranges(ingest: &Ingest) -> Result<Vec<KeyRange>, LsmError> {
    let ranges = ingest.drop.iter().map(|(start, end)| {
        if start >= end {
            return Err(LsmError::invalid("a range to drop ends before it begins"));
        }
        Ok(KeyRange::half_open(start.clone(), end.clone()))
    });
    ranges.collect()
}

/// Opens, verifies and sorts the tables.
fn open_tables(inner: &Arc<Inner>, ingest: &Ingest) -> Result<Vec<Arc<Table>>, LsmError> {
    let mut tables = Vec::new();
    for path in &ingest.files {
        let source = TableSource {
            path: path.clone(),
            number: inner.new_file_number(),
            tag: None,
            size: None,
            sequence: None,
        };
        let table = Table::open(&inner.context.env, source, &inner.context.cache)?;
        let table = Arc::new(table);
        if !table.properties().external || table.properties().entries == 0 {
            let reason = format!("{}: not a table made for ingest", path.display());
            return Err(LsmError::invalid(reason));
        }
        table.verify()?;
        tables.push(table);
    }
    tables.sort_by(|a, b| a.properties().smallest.cmp(&b.properties().smallest));
    for pair in tables.windows(2) {
        if range_of(&pair[0]).overlaps(&range_of(&pair[1])) {
            let reason = format!(
                "{} and {} overlap",
                pair[0].path().display(),
                pair[1].path().display()
            );
            return Err(LsmError::invalid(reason));
        }
    }
    Ok(tables)
}

fn range_of(table: &Table) -> KeyRange {
    FileMeta::from_parts(0, 0, 0, table.properties()).range
}

/// Flushes every memtable that holds something of the ranges or of the origin, and all before it.
fn flush_overlapping(
    inner: &Arc<Inner>,
    ranges: &[KeyRange],
    origin: Option<OriginId>,
) -> Result<(), LsmError> {
    let state = inner.state();
    let overlapped = state.memtables().any(|memtable| {
        origin.is_some_and(|origin| memtable.mentions(origin))
            || ranges.iter().any(|r| memtable.overlaps(&r.start, &r.end))
    });
    drop(state);
    if overlapped { inner.flush() } else { Ok(()) }
}

/// Decides where everything goes and keeps compactions away from there.
fn place(inner: &Arc<Inner>, drops: &[KeyRange], tables: &[Arc<Table>]) -> Placement {
    let mut jobs = inner.jobs.lock();
    let version = inner.state().version.clone();
    let busy = jobs.busy_list();
    let removed: BTreeSet<u64> = version
        .files()
        .map(|(_, file)| file.meta())
        .filter(|meta| drops.iter().any(|drop| drop.covers(&meta.range)))
        .map(|meta| meta.number)
        .filter(|number| !busy.iter().any(|b| b.files.contains(number)))
        .collect();
    let stays = |file: &TableFile| !removed.contains(&file.meta().number);
    let masked = drops
        .iter()
        .filter(|drop| {
            let mut files = version.files();
            files.any(|(_, file)| stays(file) && file.meta().range.overlaps(drop))
        })
        .cloned()
        .collect();
    let levels = tables
        .iter()
        .map(|table| {
            let range = range_of(table);
            if busy.iter().any(|b| b.range.overlaps(&range)) {
                return 0;
            }
            deepest_free(&version, &range, &stays)
        })
        .collect();
    let deepest = version.level_count() - 1;
    let mut claims = Vec::new();
    for range in drops
        .iter()
        .cloned()
        .chain(tables.iter().map(|t| range_of(t)))
    {
        let busy = Busy {
            levels: (0, deepest),
            range,
            files: removed.clone(),
        };
        claims.push(jobs.claim(inner, busy));
    }
    Placement {
        removed,
        masked,
        levels,
        _claims: claims,
    }
}

/// The deepest level such that neither it nor any above holds a table in the range.
fn deepest_free(version: &Version, range: &KeyRange, stays: &impl Fn(&TableFile) -> bool) -> usize {
    let occupied = |level: usize| {
        let mut files = version.level(level).iter();
        files.any(|file| stays(file) && file.meta().range.overlaps(range))
    };
    let first = (0..version.level_count()).find(|&level| occupied(level));
    first.unwrap_or(version.level_count()).saturating_sub(1)
}

/// Links the tables into the tree and writes the range tombstones.
fn build(
    inner: &Arc<Inner>,
    tables: &[Arc<Table>],
    placement: &Placement,
    (drop_sequence, sequence): (u64, u64),
    created: &mut Vec<u64>,
) -> Result<Vec<(usize, Arc<TableFile>)>, LsmError> {
    let context = &inner.context;
    let mut added = Vec::new();
    if !placement.masked.is_empty() {
        let tombstones = placement
            .masked
            .iter()
            .fold(Fragments::default(), |all, range| {
                all.with(&range.start, &range.end, drop_sequence)
            });
        let number = inner.new_file_number();
        let path = table_path(&context.dir, number);
        let settings = TableSettings::new(&inner.options, false);
        let writer = TableWriter::create(&context.env, &path, settings, false)?;
        created.push(number);
        let meta = FileMeta::new(number, &writer.finish(&tombstones)?);
        added.push((0, TableFile::new(meta, context)));
    }
    for (table, &level) in tables.iter().zip(&placement.levels) {
        let number = inner.new_file_number();
        let path = table_path(&context.dir, number);
        context.env.hard_link(table.path(), &path)?;
        created.push(number);
        let mut meta = FileMeta::from_parts(number, table.size(), table.tag(), table.properties());
        meta.sequence = Some(sequence);
        meta.smallest_sequence = sequence;
        meta.largest_sequence = sequence;
        added.push((level, TableFile::new(meta, context)));
    }
    if !added.is_empty() {
        inner.sync_dir()?;
    }
    Ok(added)
}
