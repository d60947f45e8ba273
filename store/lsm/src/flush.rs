//! Writes closed memtables to a table of level 0.

use std::collections::BTreeMap;
use std::sync::Arc;

use tinykv_mutants::{Mutant, planted};

use crate::LsmError;
use crate::batch::{AppliedChange, OriginId};
use crate::build::{Output, build_tables};
use crate::iter::{Merge, Source};
use crate::job::JobReport;
use crate::memtable::{Memtable, MemtableIter};
use crate::table::TableSettings;
use crate::tombstone::Fragments;
use crate::tree::Inner;
use crate::version::VersionEdit;

/// The moves of applied indexes in these memtables (oldest first) taken together.
pub(crate) fn applied_changes(memtables: &[Arc<Memtable>]) -> BTreeMap<OriginId, AppliedChange> {
    let mut applied = BTreeMap::new();
    for memtable in memtables {
        applied.extend(memtable.applied());
    }
    applied
}

/// Flushes the memtables, which are the oldest there are, oldest first, into one table.
pub(crate) fn run(inner: &Arc<Inner>, memtables: &[Arc<Memtable>]) -> Result<JobReport, LsmError> {
    let fragments: Vec<Arc<Fragments>> = memtables.iter().map(|m| m.fragments()).collect();
    let tombstones = Fragments::merge(fragments.iter().map(Arc::as_ref), u64::MAX);
    let sources = memtables
        .iter()
        .map(|memtable| Source::Memtable(MemtableIter::new(memtable.clone())));
    let output = Output {
        level: 0,
        settings: TableSettings::new(&inner.options, false),
        bytes_max: u64::MAX,
        covering: &tombstones,
        kept: &tombstones,
        filter: None,
        start: None,
        end: None,
    };
    let mut merge = Merge::new(sources.collect());
    let added = build_tables(inner, &mut merge, &output, |_| false, &mut |_| ())?;
    let report = JobReport {
        bytes_read: 0,
        bytes_written: added.iter().map(|(_, file)| file.meta().size).sum(),
    };
    let mut applied = applied_changes(memtables);
    if planted(Mutant::AppliedIndexAhead) {
        applied.extend(inner.state().active.applied());
    }
    let last = memtables.iter().map(|m| m.last_sequence()).max();
    let edit = VersionEdit {
        added: added
            .iter()
            .map(|(to, f)| (*to, f.meta().clone()))
            .collect(),
        applied,
        last_sequence: last.unwrap_or(0),
        ..VersionEdit::default()
    };
    inner.commit_or_remove(edit, added, memtables, None)?;
    inner.counters.flushed(&report);
    Ok(report)
}
