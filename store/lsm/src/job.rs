//! Background work as values: planned here, run by whatever thread likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tinykv_sync::atomic::Ordering;

use crate::LsmError;
use crate::batch::{AppliedChange, OriginId};
use crate::compaction::{self, Busy, Choice, Compaction};
use crate::flush;
use crate::memtable::Memtable;
use crate::tree::Inner;
use crate::version::Version;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Writes closed memtables to a table.
    Flush,
    /// Merges tables of one level into another.
    Compaction {
        /// The level the work begins at.
        from: usize,
        /// The level its tables go to.
        to: usize,
    },
    /// Removes files that no version names any more.
    Purge,
}

/// What a job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Bytes read from tables.
    pub bytes_read: u64,
    /// Bytes written to tables.
    pub bytes_written: u64,
}

impl JobReport {
    pub(crate) fn add(&mut self, other: &JobReport) {
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
    }
}

/// A piece of background work, claimed: nobody else gets it. Dropping it unrun gives it back.
#[derive(Debug)]
pub struct Job {
    inner: Arc<Inner>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Flush {
        /// Oldest first.
        memtables: Vec<Arc<Memtable>>,
        _claim: FlushClaim,
    },
    Compaction {
        compaction: Arc<Compaction>,
        /// For who joins in on a compaction that somebody else has begun.
        _seat: Option<Seat>,
    },
    Purge,
}

/// What is being worked on.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// Whether a flush is claimed; there is one at a time, for they happen in order.
    pub(crate) flushing: bool,
    /// Compactions and ingests, by claim.
    pub(crate) busy: BTreeMap<u64, Busy>,
    /// Compactions that others may join, and some that are over.
    shared: Vec<Weak<Compaction>>,
    /// Threads that joined one, or are about to.
    seats: usize,
    next_claim: u64,
}

impl Jobs {
    pub(crate) fn busy_list(&self) -> Vec<&Busy> {
        self.busy.values().collect()
    }

    /// Compactions and parts of compactions under way.
    pub(crate) fn compactions(&self) -> usize {
        self.busy.len() + self.seats
    }

    pub(crate) fn claim(&mut self, inner: &Arc<Inner>, busy: Busy) -> RangeClaim {
        self.next_claim += 1;
        self.busy.insert(self.next_claim, busy);
        RangeClaim {
            inner: inner.clone(),
            claim: self.next_claim,
        }
    }
}

/// The right to flush; given back when dropped.
#[derive(Debug)]
struct FlushClaim {
    inner: Arc<Inner>,
}

impl Drop for FlushClaim {
    fn drop(&mut self) {
        self.inner.jobs.lock().flushing = false;
        self.inner.changed.notify_all();
        self.inner.context.changes.note();
    }
}

/// The right to change a range of some levels; given back when dropped.
#[derive(Debug)]
pub(crate) struct RangeClaim {
    inner: Arc<Inner>,
    claim: u64,
}

impl Drop for RangeClaim {
    fn drop(&mut self) {
        self.inner.jobs.lock().busy.remove(&self.claim);
        self.inner.changed.notify_all();
        self.inner.context.changes.note();
    }
}

/// The right to work on a compaction besides the one who claimed it; given back when dropped.
#[derive(Debug)]
struct Seat {
    inner: Arc<Inner>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.inner.jobs.lock().seats -= 1;
        self.inner.context.changes.note();
    }
}

/// The flush of everything closed, unless somebody flushes.
pub(crate) fn plan_flush(inner: &Arc<Inner>) -> Option<Job> {
    let mut jobs = inner.jobs.lock();
    let state = inner.state();
    if jobs.flushing || state.immutables.is_empty() {
        return None;
    }
    jobs.flushing = true;
    drop(jobs);
    let memtables = state.immutables.iter().rev().cloned().collect();
    let claim = FlushClaim {
        inner: inner.clone(),
    };
    let work = Work::Flush {
        memtables,
        _claim: claim,
    };
    Some(Job {
        inner: inner.clone(),
        work,
    })
}

/// A part of a compaction that runs or the most urgent other one, unless enough of them run.
pub(crate) fn plan_compaction(inner: &Arc<Inner>) -> Option<Job> {
    let mut jobs = inner.jobs.lock();
    if jobs.compactions() >= inner.options.compactions_max {
        return None;
    }
    // Let go of after the lock: whoever is the last to let go of one gives its claim back.
    let shared: Vec<Arc<Compaction>> = jobs.shared.iter().filter_map(Weak::upgrade).collect();
    let (compaction, seat) = match join(inner, &mut jobs, &shared) {
        Some((compaction, seat)) => (Some(compaction), Some(seat)),
        None => (begin(inner, &mut jobs, pick_any), None),
    };
    drop(jobs);
    drop(shared);
    let compaction = compaction?;
    let work = Work::Compaction {
        compaction,
        _seat: seat,
    };
    Some(Job {
        inner: inner.clone(),
        work,
    })
}

/// Part in a compaction that has more parts left than threads on their way to it.
fn join(
    inner: &Arc<Inner>,
    jobs: &mut Jobs,
    shared: &[Arc<Compaction>],
) -> Option<(Arc<Compaction>, Seat)> {
    let mut shared = shared.iter();
    let compaction = shared.find(|shared| shared.parts_left() > jobs.seats)?;
    jobs.seats += 1;
    let seat = Seat {
        inner: inner.clone(),
    };
    Some((compaction.clone(), seat))
}

/// A merge of small tables, however many compactions run.
pub(crate) fn plan_small_merge(inner: &Arc<Inner>) -> Option<Job> {
    let mut jobs = inner.jobs.lock();
    let compaction = begin(inner, &mut jobs, |inner, version, busy| {
        compaction::pick_small(version, &inner.options, busy)
    })?;
    drop(jobs);
    let work = Work::Compaction {
        compaction,
        _seat: None,
    };
    Some(Job {
        inner: inner.clone(),
        work,
    })
}

/// What is due, or else what is to go through the compaction filter again.
fn pick_any(inner: &Inner, version: &Version, busy: &[&Busy]) -> Option<Choice> {
    compaction::pick(version, &inner.options, busy).or_else(|| {
        let before = inner.revisit_before.load(Ordering::Relaxed);
        compaction::pick_old(version, &inner.options, busy, before)
    })
}

/// Claims what is picked.
fn begin(
    inner: &Arc<Inner>,
    jobs: &mut Jobs,
    pick: impl Fn(&Inner, &Version, &[&Busy]) -> Option<Choice>,
) -> Option<Arc<Compaction>> {
    let version = inner.state().version.clone();
    let choice = pick(inner, &version, &jobs.busy_list())?;
    let claim = jobs.claim(inner, choice.busy());
    let compaction = Arc::new(Compaction::new(choice, version, claim));
    jobs.shared.retain(|shared| shared.strong_count() > 0);
    jobs.shared.push(Arc::downgrade(&compaction));
    Some(compaction)
}

/// The removal of files nobody names.
pub(crate) fn plan_purge(inner: &Arc<Inner>) -> Option<Job> {
    (!inner.context.graveyard.is_empty()).then(|| Job {
        inner: inner.clone(),
        work: Work::Purge,
    })
}

impl Job {
    /// What it will do.
    pub fn kind(&self) -> JobKind {
        match &self.work {
            Work::Flush { .. } => JobKind::Flush,
            Work::Compaction { compaction, .. } => JobKind::Compaction {
                from: compaction.choice.from,
                to: compaction.choice.to,
            },
            Work::Purge => JobKind::Purge,
        }
    }

    /// The applied indexes a flush will make durable; empty for other jobs. The caller's log must
    /// be durable up to them before the job runs.
    pub fn flushes(&self) -> BTreeMap<OriginId, u64> {
        let Work::Flush { memtables, .. } = &self.work else {
            return BTreeMap::new();
        };
        let changes = flush::applied_changes(memtables).into_iter();
        let advances = changes.filter_map(|(origin, change)| match change {
            AppliedChange::Advance(index) => Some((origin, index)),
            AppliedChange::Forget => None,
        });
        advances.collect()
    }

    /// As [`Job::run`], but a compaction says again and again how long to pause, so that it writes
    /// no faster than it has to (`compaction_bytes_per_second_min` of the options). Pauses are a
    /// second at most, and zero where there is no limit; nothing is locked meanwhile, so whoever has
    /// one thread for everything runs the flush that has become due.
    ///
    /// # Errors
    /// As [`Job::run`].
    pub fn run_paced(self, mut pause: impl FnMut(Duration)) -> Result<JobReport, LsmError> {
        self.run_with(&mut pause)
    }

    /// Does it, then removes files that no version names any more.
    ///
    /// # Errors
    /// After one that is not final nothing has changed and the work is due again.
    pub fn run(self) -> Result<JobReport, LsmError> {
        self.run_with(&mut |_| ())
    }

    fn run_with(self, pause: &mut dyn FnMut(Duration)) -> Result<JobReport, LsmError> {
        let inner = self.inner;
        inner.check()?;
        let done = match self.work {
            Work::Flush { memtables, _claim } => flush::run(&inner, &memtables),
            Work::Compaction { compaction, _seat } => {
                let done = compaction.run(&inner, pause);
                // Unless others work on it the inputs are held by nobody now, so the purge below
                // finds them.
                drop(compaction);
                done
            }
            Work::Purge => return inner.purge().map(|()| JobReport::default()),
        };
        let report = inner.note(done)?;
        // What could not be removed stays due; a purge job will say why.
        let _ = inner.purge();
        Ok(report)
    }
}
