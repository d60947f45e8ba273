//! Runs a compaction that was chosen.

use std::sync::Arc;

use crate::LsmError;
use crate::build::{Output, build_tables};
use crate::compaction::Choice;
use crate::iter::{LevelIter, Merge, Source};
use crate::job::JobReport;
use crate::range::KeyRange;
use crate::table::{Fetch, TableSettings};
use crate::tombstone::Fragments;
use crate::tree::Inner;
use crate::version::{Version, VersionEdit};

/// Merges the inputs and installs the result. `version` is the one the choice was made from.
pub(crate) fn run(
    inner: &Arc<Inner>,
    version: &Version,
    choice: &Choice,
) -> Result<JobReport, LsmError> {
    let mut edit = VersionEdit {
        removed: choice.inputs.iter().map(|(_, f)| f.meta().number).collect(),
        ..VersionEdit::default()
    };
    if choice.is_move {
        let moved: Vec<_> = choice
            .inputs
            .iter()
            .map(|(_, f)| (choice.to, f.clone()))
            .collect();
        edit.added = moved
            .iter()
            .map(|(to, f)| (*to, f.meta().clone()))
            .collect();
        inner.commit(edit, moved, &[], None)?;
        return Ok(JobReport::default());
    }
    let tombstones = load_tombstones(choice)?;
    let mut kept = tombstones.clone();
    kept.retain(|f| {
        let range = KeyRange::half_open(f.start.clone(), f.end.clone());
        (choice.to + 1..version.level_count()).any(|level| version.overlaps(level, &range))
    });
    let mut report = JobReport::default();
    let mut sources = Vec::new();
    let mut sorted_run = Vec::new();
    for (level, file) in &choice.inputs {
        let meta = file.meta();
        if tombstones.covers_all(&meta.range.start, &meta.range.end, meta.largest_sequence) {
            // A range delete took the whole table; nobody has to read it.
            continue;
        }
        report.bytes_read += meta.size;
        if *level == choice.to {
            sorted_run.push(file.clone());
        } else {
            let run = LevelIter::new(vec![file.clone()], Fetch::ReadOnce);
            sources.push(Source::Level(run));
        }
    }
    sources.push(Source::Level(LevelIter::new(sorted_run, Fetch::ReadOnce)));
    let last_level = choice.to + 1 == version.level_count();
    let output = Output {
        level: choice.to,
        settings: TableSettings::new(&inner.options, last_level),
        bytes_max: inner.options.table_bytes_max,
        covering: &tombstones,
        kept: &kept,
        filter: inner.options.compaction_filter.as_deref(),
    };
    let below = choice.to + 1..version.level_count();
    let nothing_below = |user: &[u8]| {
        below
            .clone()
            .all(|level| version.find(level, user).is_none())
    };
    let added = build_tables(inner, &mut Merge::new(sources), &output, nothing_below)?;
    report.bytes_written = added.iter().map(|(_, file)| file.meta().size).sum();
    edit.added = added
        .iter()
        .map(|(to, f)| (*to, f.meta().clone()))
        .collect();
    inner.commit_or_remove(edit, added, &[], None)?;
    inner.counters.compacted(&report);
    Ok(report)
}

fn load_tombstones(choice: &Choice) -> Result<Fragments, LsmError> {
    let mut parts = Vec::new();
    for (_, file) in &choice.inputs {
        if file.meta().range_tombstones > 0 {
            parts.push(file.table()?.tombstones().clone());
        }
    }
    Ok(Fragments::merge(parts.iter().map(Arc::as_ref), u64::MAX))
}
