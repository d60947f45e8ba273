//! Chooses the next compaction. Pure: a version, the options and what is being worked on go in,
//! a choice comes out.
//!
//! # Levels
//!
//! The last level holds nearly all data and has no limit. Going up from it every level may hold
//! `level_multiplier` times less, until that would be less than `level_base_bytes`: that level is
//! the *base*, into which level 0 is merged, and the levels between stay empty. So the tree has as
//! few levels as its size asks for, and nine tenths of it are in the last one.
//!
//! # Order of choice
//!
//! Level 0 by its number of tables, the others by how far they are over their target, the worst
//! first. But small tables of level 0 (a flush is forced by whoever needs one, such as a snapshot that
//! is taken in) are merged with each other before anything else: going down they would drag along far
//! more than they hold, and while that goes on back-pressure would come of nothing but their number.
//! In a level the table that drags the least of the next level along. When nothing is over
//! its target, tables with range tombstones or mostly deletes go down, so that what was deleted
//! frees its space; and when nobody works, the levels above the last are emptied until they hold
//! little beside it, for they may be newer versions of what is in it. Last of all, tables go through
//! the compaction filter again, if somebody asked for that.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::LsmOptions;
use crate::range::KeyRange;
use crate::version::{TableFile, Version};

/// The levels above the last may hold one part in so many of what it holds, before they are emptied
/// into it when nobody works.
const LAST_LEVEL_PARTS: u64 = 8;

/// A table of level 0 is small up to one part in so many of a memtable.
const SMALL_PARTS: u64 = 16;

/// What somebody works on; nothing that touches it may be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Busy {
    /// First and last level touched.
    pub(crate) levels: (usize, usize),
    /// Keys touched in these levels.
    pub(crate) range: KeyRange,
    /// Tables that will be gone.
    pub(crate) files: BTreeSet<u64>,
}

impl Busy {
    fn meets(&self, levels: (usize, usize), range: &KeyRange) -> bool {
        // What is merged within level 0 stays above everything that goes down from there.
        let is_level_zero = self.levels == (0, 0);
        let meets = self.levels.0 <= levels.1 && levels.0 <= self.levels.1;
        meets && !is_level_zero && self.range.overlaps(range)
    }
}

/// A compaction to run.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The upper level.
    pub(crate) from: usize,
    /// The level the result goes to; that of the inputs, too, where they are level 0's newest or the
    /// last level's.
    pub(crate) to: usize,
    /// Tables to merge, with their level.
    pub(crate) inputs: Vec<(usize, Arc<TableFile>)>,
    /// All keys of the inputs.
    pub(crate) range: KeyRange,
    /// Whether the one input can be renamed into the next level instead of being rewritten.
    pub(crate) is_move: bool,
}

impl Choice {
    pub(crate) fn busy(&self) -> Busy {
        Busy {
            levels: (self.from, self.to),
            range: self.range.clone(),
            files: self.inputs.iter().map(|(_, f)| f.meta().number).collect(),
        }
    }
}

/// How large each level may be.
struct Targets {
    /// Where level 0 is merged into.
    base: usize,
    bytes: Vec<u64>,
}

fn targets(version: &Version, options: &LsmOptions) -> Targets {
    let last = version.level_count() - 1;
    let largest = (1..=last).map(|level| version.level_bytes(level)).max();
    let mut size = largest.unwrap_or(0);
    let mut base = last;
    while base > 1 && size > options.level_base_bytes {
        size /= options.level_multiplier;
        base -= 1;
    }
    let mut bytes = vec![0; last + 1];
    let mut target = size.max(1);
    for bytes in bytes.iter_mut().skip(base) {
        *bytes = target;
        target = target.saturating_mul(options.level_multiplier);
    }
    bytes[last] = u64::MAX;
    // Levels above the base that still hold data (the tree has shrunk) are drained first, and
    // nothing may be merged past them.
    let occupied = (1..=last).find(|&level| !version.level(level).is_empty());
    Targets {
        base: occupied.map_or(base, |level| level.min(base)),
        bytes,
    }
}

/// Bytes that have to be merged before every level is within its target.
pub(crate) fn debt_bytes(version: &Version, options: &LsmOptions) -> u64 {
    let targets = targets(version, options);
    let level_zero = version.level(0);
    let waiting = if level_zero.len() >= options.l0_compaction_files {
        version.level_bytes(0)
    } else {
        0
    };
    let over = (1..version.level_count()).map(|level| {
        version
            .level_bytes(level)
            .saturating_sub(targets.bytes[level])
    });
    waiting + over.sum::<u64>()
}

/// The most urgent compaction that touches nothing busy.
pub(crate) fn pick(version: &Version, options: &LsmOptions, busy: &[&Busy]) -> Option<Choice> {
    let small = || pick_small(version, options, busy);
    // Where back-pressure begins, the way down goes first: small merges alone would never end.
    let is_urgent = version.level(0).len() >= options.l0_slowdown_files;
    if let Some(choice) = (!is_urgent).then(small).flatten() {
        return Some(choice);
    }
    let targets = targets(version, options);
    let last = version.level_count() - 1;
    let mut due: Vec<(f64, usize)> = Vec::new();
    let tables = version.level(0).len();
    if tables >= options.l0_compaction_files {
        due.push((tables as f64 / options.l0_compaction_files as f64, 0));
    }
    for level in 1..last {
        let bytes: u64 = free(version.level(level), busy)
            .map(|f| f.meta().size)
            .sum();
        let target = targets.bytes[level].max(1);
        if bytes > target {
            due.push((bytes as f64 / target as f64, level));
        }
    }
    due.sort_by(|a, b| {
        b.0.partial_cmp(&a.0)
            .unwrap_or(Ordering::Equal)
            .then(a.1.cmp(&b.1))
    });
    due.into_iter()
        .find_map(|(_, level)| pick_in_level(version, options, &targets, busy, level, |_| true))
        .or_else(small)
        .or_else(|| {
            (0..last)
                .find_map(|level| pick_in_level(version, options, &targets, busy, level, is_stale))
        })
        .or_else(|| pick_for_space(version, options, &targets, busy))
}

/// The newest tables of level 0 become one of that level, if they are many and small. Each is small
/// or no larger than the newer ones together, so that little is not merged into much again and again
/// (which counts no more where back-pressure begins), and together they are no more than a memtable.
/// Tables older than these may be on their way down meanwhile: these stay above them.
pub(crate) fn pick_small(
    version: &Version,
    options: &LsmOptions,
    busy: &[&Busy],
) -> Option<Choice> {
    let is_urgent = version.level(0).len() >= options.l0_slowdown_files;
    let small = options.memtable_bytes_max / SMALL_PARTS;
    let mut bytes = 0;
    let fits = |file: &&Arc<TableFile>| {
        let size = file.meta().size;
        let is_little = size <= small.max(bytes);
        bytes += size;
        let number = file.meta().number;
        let taken = busy.iter().any(|b| b.files.contains(&number));
        (is_little || is_urgent) && bytes <= options.memtable_bytes_max && !taken
    };
    let files: Vec<_> = version.level(0).iter().take_while(fits).collect();
    if files.len() < options.l0_compaction_files.max(2) {
        return None;
    }
    Some(Choice {
        from: 0,
        to: 0,
        range: KeyRange::hull_of(files.iter().map(|file| &file.meta().range))?,
        inputs: files.into_iter().map(|file| (0, file.clone())).collect(),
        is_move: false,
    })
}

/// The lowest level above the last that holds anything goes down, if they all hold too much.
fn pick_for_space(
    version: &Version,
    options: &LsmOptions,
    targets: &Targets,
    busy: &[&Busy],
) -> Option<Choice> {
    let last = version.level_count() - 1;
    let above: u64 = (0..last).map(|level| version.level_bytes(level)).sum();
    let held = version.level_bytes(last);
    // What fits into a memtable is not worth the work.
    let enough = options.memtable_bytes_max.max(held / LAST_LEVEL_PARTS);
    if held == 0 || above <= enough || !busy.is_empty() {
        return None;
    }
    (0..last)
        .rev()
        .find_map(|level| pick_in_level(version, options, targets, busy, level, |_| true))
}

/// A table older than the file of this number, to be compacted for the filter's sake alone: it goes
/// down, or is written anew where it is in the last level.
pub(crate) fn pick_old(
    version: &Version,
    options: &LsmOptions,
    busy: &[&Busy],
    before: u64,
) -> Option<Choice> {
    let is_old = |file: &TableFile| file.meta().number < before;
    let targets = targets(version, options);
    let last = version.level_count() - 1;
    let above =
        (0..last).find_map(|level| pick_in_level(version, options, &targets, busy, level, is_old));
    above.or_else(|| {
        let files = free(version.level(last), busy).filter(|file| is_old(file));
        let mut free = files.filter(|file| {
            let range = &file.meta().range;
            !busy.iter().any(|b| b.meets((last, last), range))
        });
        free.next().map(|file| Choice {
            from: last,
            to: last,
            inputs: vec![(last, file.clone())],
            range: file.meta().range.clone(),
            is_move: false,
        })
    })
}

/// Whether going down frees what the table deletes.
fn is_stale(file: &TableFile) -> bool {
    let meta = file.meta();
    meta.range_tombstones > 0 || meta.deletes * 2 > meta.entries
}

fn free<'a>(
    files: &'a [Arc<TableFile>],
    busy: &'a [&Busy],
) -> impl Iterator<Item = &'a Arc<TableFile>> {
    files
        .iter()
        .filter(|file| !busy.iter().any(|b| b.files.contains(&file.meta().number)))
}

/// A compaction out of a level that begins with a table for which `wanted` holds.
fn pick_in_level(
    version: &Version,
    options: &LsmOptions,
    targets: &Targets,
    busy: &[&Busy],
    level: usize,
    wanted: impl Fn(&TableFile) -> bool,
) -> Option<Choice> {
    let files = version.level(level);
    if level == 0 {
        // All of it, or all that is older than what somebody works on, for an older table must not
        // stay above a newer one.
        let taken = |file: &Arc<TableFile>| free(std::slice::from_ref(file), busy).next().is_none();
        let newest = files.iter().rposition(taken).map_or(0, |last| last + 1);
        let oldest = files.get(newest..).unwrap_or_default();
        if !oldest.iter().any(|file| wanted(file)) {
            return None;
        }
        return choice(version, options, busy, (0, targets.base), oldest.to_vec());
    }
    let mut candidates: Vec<(u64, u64, &Arc<TableFile>)> = free(files, busy)
        .filter(|file| wanted(file))
        .map(|file| {
            let dragged = version.overlapping(level + 1, &file.meta().range);
            let dragged: u64 = dragged.iter().map(|f| f.meta().size).sum();
            let percent = dragged.saturating_mul(100) / file.meta().size.max(1);
            (percent, file.meta().number, file)
        })
        .collect();
    candidates.sort_by_key(|&(percent, number, _)| (percent, number));
    candidates.into_iter().find_map(|(_, _, file)| {
        choice(
            version,
            options,
            busy,
            (level, level + 1),
            vec![file.clone()],
        )
    })
}

/// Whether a table may become one of the last level as it is: one with deletes would keep them
/// for ever, and one compressed for the levels above its size.
fn may_be_last(file: &TableFile, options: &LsmOptions) -> bool {
    let meta = file.meta();
    meta.deletes == 0
        && meta.range_tombstones == 0
        && (options.compression == options.compression_last_level || meta.sequence.is_some())
}

/// The compaction of these tables, unless somebody works where it would.
fn choice(
    version: &Version,
    options: &LsmOptions,
    busy: &[&Busy],
    (from, to): (usize, usize),
    files: Vec<Arc<TableFile>>,
) -> Option<Choice> {
    let upper = KeyRange::hull_of(files.iter().map(|file| &file.meta().range))?;
    let dragged = version.overlapping(to, &upper);
    let range = KeyRange::hull_of(
        std::iter::once(&upper).chain(dragged.iter().map(|file| &file.meta().range)),
    )?;
    let is_move = match files.as_slice() {
        [file] if dragged.is_empty() => {
            to + 1 < version.level_count() || may_be_last(file, options)
        }
        _ => false,
    };
    let inputs: Vec<(usize, Arc<TableFile>)> = files
        .into_iter()
        .map(|file| (from, file))
        .chain(dragged.iter().map(|file| (to, file.clone())))
        .collect();
    let taken = inputs.iter().any(|(_, file)| {
        let number = file.meta().number;
        busy.iter().any(|b| b.files.contains(&number))
    });
    if taken || busy.iter().any(|b| b.meets((from, to), &range)) {
        return None;
    }
    Some(Choice {
        from,
        to,
        inputs,
        range,
        is_move,
    })
}
