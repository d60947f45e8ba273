//! Runs a compaction that was chosen, in one part or in several.
//!
//! A large compaction is cut into *parts*, disjoint ranges of keys with about as many bytes each.
//! Whoever runs it takes one part after the other; other threads may join in and take parts, too.
//! Whoever is through with the last part installs the result of all in one edit, so for readers
//! and crashes there is one compaction, whoever did how much of it.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tinykv_sync::Mutex;

use crate::LsmError;
use crate::build::{Output, build_tables};
use crate::compaction::Choice;
use crate::extent;
use crate::iter::{LevelIter, Merge, Source};
use crate::job::{JobReport, RangeClaim};
use crate::pace;
use crate::range::KeyRange;
use crate::table::{Fetch, TableSettings};
use crate::tombstone::Fragments;
use crate::tree::Inner;
use crate::version::{TableFile, Version, VersionEdit};

/// A part holds at least so many times the size of an output table.
const PART_TABLES_MIN: u64 = 2;

/// Tables and the level they are for.
type Tables = Vec<(usize, Arc<TableFile>)>;

/// A claimed compaction, shared by all who work on it.
#[derive(Debug)]
pub(crate) struct Compaction {
    pub(crate) choice: Choice,
    /// The version the choice was made from.
    version: Arc<Version>,
    /// Set by the first who runs it.
    plan: OnceLock<Plan>,
    progress: Mutex<Progress>,
}

/// How it is done.
#[derive(Debug)]
struct Plan {
    /// Range deletes in the inputs.
    tombstones: Fragments,
    /// Those of them that go on into the outputs.
    kept: Fragments,
    /// Where one part ends and the next begins, rising.
    cuts: Vec<Bytes>,
    /// Tables that a range delete took whole are not read.
    inputs: Tables,
}

#[derive(Debug)]
struct Progress {
    /// Given back with the result.
    claim: Option<RangeClaim>,
    /// The next part to take.
    next: usize,
    /// Parts being worked on.
    running: usize,
    /// What was built, by part.
    built: Vec<(usize, Tables)>,
    /// Sum of all parts.
    report: JobReport,
    /// Why no more parts are taken.
    failed: Option<LsmError>,
}

impl Plan {
    fn parts(&self) -> usize {
        self.cuts.len() + 1
    }

    /// Where a part begins and ends; `None`: nowhere.
    fn bounds(&self, part: usize) -> (Option<&Bytes>, Option<&Bytes>) {
        let start = part.checked_sub(1).and_then(|before| self.cuts.get(before));
        (start, self.cuts.get(part))
    }
}

impl Compaction {
    pub(crate) fn new(choice: Choice, version: Arc<Version>, claim: RangeClaim) -> Compaction {
        Compaction {
            choice,
            version,
            plan: OnceLock::new(),
            progress: Mutex::new(Progress {
                claim: Some(claim),
                next: 0,
                running: 0,
                built: Vec::new(),
                report: JobReport::default(),
                failed: None,
            }),
        }
    }

    /// Parts that nobody has taken; none before it has begun.
    pub(crate) fn parts_left(&self) -> usize {
        let progress = self.progress.lock();
        match self.plan.get() {
            Some(plan) if progress.failed.is_none() => plan.parts().saturating_sub(progress.next),
            _ => 0,
        }
    }

    /// Works on it until no part is left to take. The report is of what was done here.
    /// `pause` is told how long to pause, again and again, zero included; it may do so or not.
    pub(crate) fn run(
        &self,
        inner: &Arc<Inner>,
        pause: &mut dyn FnMut(Duration),
    ) -> Result<JobReport, LsmError> {
        if self.choice.is_move {
            let moved = self.choice.inputs.iter();
            let moved = moved.map(|(_, f)| (self.choice.to, f.clone())).collect();
            inner.commit(self.edit(&moved), moved, &[], None)?;
            // Given back when nothing is locked: who plans locks the jobs first, then the progress.
            let claim = self.progress.lock().claim.take();
            drop(claim);
            return Ok(JobReport::default());
        }
        let plan = match self.plan.get() {
            Some(plan) => plan,
            None => {
                let plan = self.plan(inner)?;
                let plan = self.plan.get_or_init(|| plan);
                if plan.parts() > 1 {
                    // There are parts for others now.
                    inner.context.changes.note();
                }
                plan
            }
        };
        let mut report = JobReport::default();
        let mut result = Ok(());
        while let Some(part) = self.take(plan) {
            let built = self.build(inner, plan, part, pause);
            let mut progress = self.progress.lock();
            progress.running -= 1;
            match built {
                Ok((done, tables)) => {
                    report.add(&done);
                    progress.report.add(&done);
                    progress.built.push((part, tables));
                }
                Err(error) => {
                    progress.failed.get_or_insert_with(|| error.clone());
                    result = Err(error);
                }
            }
        }
        self.finish(inner, plan)?;
        result.map(|()| report)
    }

    fn plan(&self, inner: &Arc<Inner>) -> Result<Plan, LsmError> {
        let choice = &self.choice;
        let mut parts = Vec::new();
        for (_, file) in &choice.inputs {
            if file.meta().range_tombstones > 0 {
                parts.push(file.table()?.tombstones().clone());
            }
        }
        let tombstones = Fragments::merge(parts.iter().map(Arc::as_ref), u64::MAX);
        let mut kept = tombstones.clone();
        kept.retain(|f| {
            let range = KeyRange::half_open(f.start.clone(), f.end.clone());
            let mut below = self.below();
            !self.is_last_word() || below.any(|level| self.version.overlaps(level, &range))
        });
        let is_read = |file: &TableFile| {
            let meta = file.meta();
            !tombstones.covers_all(&meta.range.start, &meta.range.end, meta.largest_sequence)
        };
        let inputs: Tables = choice.inputs.clone();
        let inputs: Tables = inputs.into_iter().filter(|(_, f)| is_read(f)).collect();
        let bytes: u64 = inputs.iter().map(|(_, file)| file.meta().size).sum();
        let options = &inner.options;
        let parts = bytes / options.table_bytes_max.saturating_mul(PART_TABLES_MIN);
        let parts = parts.min(options.compaction_parts_max as u64) as usize;
        let mut stretches = Vec::new();
        if parts > 1 {
            for (_, file) in &inputs {
                stretches.extend(file.table()?.partition_stretches());
            }
        }
        Ok(Plan {
            cuts: extent::divide(stretches, parts),
            tombstones,
            kept,
            inputs,
        })
    }

    /// The levels below the one that the result goes to.
    fn below(&self) -> Range<usize> {
        self.choice.to + 1..self.version.level_count()
    }

    /// Whether older versions can only be in the levels below: level 0 may hold some, too.
    fn is_last_word(&self) -> bool {
        self.choice.to > 0
    }

    fn take(&self, plan: &Plan) -> Option<usize> {
        let mut progress = self.progress.lock();
        if progress.failed.is_some() || progress.next == plan.parts() {
            return None;
        }
        progress.running += 1;
        progress.next += 1;
        Some(progress.next - 1)
    }

    /// Merges what the inputs hold of a part.
    fn build(
        &self,
        inner: &Arc<Inner>,
        plan: &Plan,
        part: usize,
        pause: &mut dyn FnMut(Duration),
    ) -> Result<(JobReport, Tables), LsmError> {
        let (start, end) = plan.bounds(part);
        let mut sources = Vec::new();
        let mut sorted_run = Vec::new();
        for (level, file) in &plan.inputs {
            let range = &file.meta().range;
            let outside = start.is_some_and(|start| range.ends_before(start))
                || end.is_some_and(|end| range.start >= end);
            if outside {
                continue;
            }
            if *level == self.choice.to && *level > 0 {
                sorted_run.push(file.clone());
            } else {
                let run = LevelIter::new(vec![file.clone()], Fetch::ReadOnce);
                sources.push(Source::Level(run));
            }
        }
        sources.push(Source::Level(LevelIter::new(sorted_run, Fetch::ReadOnce)));
        let output = Output {
            level: self.choice.to,
            settings: TableSettings::new(&inner.options, self.below().is_empty()),
            bytes_max: match self.choice.to {
                0 => u64::MAX,
                _ => inner.options.table_bytes_max,
            },
            covering: &plan.tombstones,
            kept: &plan.kept,
            filter: inner.options.compaction_filter.as_deref(),
            start: start.map(Bytes::as_ref),
            end: end.map(Bytes::as_ref),
        };
        let nothing_below = |user: &[u8]| {
            let mut below = self.below();
            self.is_last_word() && below.all(|level| self.version.find(level, user).is_none())
        };
        let mut wrote = |bytes| {
            let rate = pace::rate(&inner.state().version, &inner.options);
            pause(inner.pace.wrote(bytes, rate, inner.context.env.now()));
        };
        let merge = &mut Merge::new(sources);
        let tables = build_tables(inner, merge, &output, nothing_below, &mut wrote)?;
        // Parts are about equal, and nobody knows better.
        let bytes: u64 = plan.inputs.iter().map(|(_, file)| file.meta().size).sum();
        let report = JobReport {
            bytes_read: bytes / plan.parts() as u64,
            bytes_written: tables.iter().map(|(_, file)| file.meta().size).sum(),
        };
        Ok((report, tables))
    }

    /// Installs the result if all parts are done, and nobody did so; gives up what was built if
    /// one of them failed and nobody works on it any more.
    fn finish(&self, inner: &Arc<Inner>, plan: &Plan) -> Result<(), LsmError> {
        let (claim, mut built, report, failed) = {
            let mut progress = self.progress.lock();
            let over = progress.failed.is_some() || progress.next == plan.parts();
            if progress.running > 0 || !over || progress.claim.is_none() {
                return Ok(());
            }
            (
                progress.claim.take(),
                std::mem::take(&mut progress.built),
                progress.report,
                progress.failed.clone(),
            )
        };
        built.sort_by_key(|(part, _)| *part);
        let added: Tables = built.into_iter().flat_map(|(_, tables)| tables).collect();
        if let Some(error) = failed {
            let numbers: Vec<u64> = added.iter().map(|(_, f)| f.meta().number).collect();
            inner.remove_tables(&numbers, &error);
            return Ok(());
        }
        inner.commit_or_remove(self.edit(&added), added, &[], None)?;
        inner.counters.compacted(&report, plan.parts());
        drop(claim);
        Ok(())
    }

    /// Out with the inputs, in with these.
    fn edit(&self, added: &Tables) -> VersionEdit {
        let inputs = self.choice.inputs.iter();
        VersionEdit {
            removed: inputs.map(|(_, f)| f.meta().number).collect(),
            added: added
                .iter()
                .map(|(to, f)| (*to, f.meta().clone()))
                .collect(),
            ..VersionEdit::default()
        }
    }
}
