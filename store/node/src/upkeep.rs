//! Background work on the engine: flushes, compactions, and passing on what they achieved.
//!
//! Nobody here looks for work again and again: the tree says when there may be some
//! ([`tinykv_lsm::Changes`]). An idle process is to cost nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tinykv_engine::{Engine, EngineError, Job};
use tinykv_env::Env;
use tinykv_lsm::{Changes, OriginId};
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::StateMachine;

use crate::admission::Admission;
use crate::failure::Failure;
use crate::pool::Pool;
use crate::shards::Shards;
use crate::spawn::Threads;
use crate::trouble::Trouble;

/// How long a worker without work waits for a change of the tree, and then looks all the same.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a worker waits after a job that failed.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How often flushed indexes and pressure are passed on, as long as they change.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// How often free space is looked at.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often jobs of the pool that wait for space get another turn, in reports.
const PATIENT_JOBS_REPORTS: u32 = 2;

/// Told once: the process goes down.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.wake.notify_all();
    }

    /// Waits; true once the bell was rung.
    fn wait(&self, patience: Duration) -> bool {
        let mut rung = self.rung.lock();
        if !*rung {
            self.wake.wait_for(&mut rung, patience);
        }
        *rung
    }

    fn is_rung(&self) -> bool {
        *self.rung.lock()
    }
}

/// What workers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Flushes and merges of small tables only, so that none waits behind a long compaction.
    Brief,
    /// Whatever is most urgent.
    Anything,
}

/// The threads that keep the engine in shape.
pub(crate) struct Upkeep {
    bell: Arc<Bell>,
    changes: Changes,
}

/// What the threads work with.
#[derive(Clone)]
pub(crate) struct UpkeepParts {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) data_dir: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) admission: Arc<Admission>,
    pub(crate) pool: Pool,
    pub(crate) disk_reserve_bytes: u64,
    pub(crate) trouble: Trouble,
}

impl Upkeep {
    /// Starts `workers` threads for jobs (one of them for brief ones alone) and one that reports.
    pub(crate) fn start<S: StateMachine>(
        threads: &Threads,
        workers: usize,
        parts: &UpkeepParts,
        shards: &Arc<Shards<S>>,
    ) -> Result<Upkeep, Failure> {
        let bell = Arc::new(Bell::default());
        let changes = parts.engine.lsm().changes();
        for number in 0..workers.max(2) {
            let duty = match number {
                0 => Duty::Brief,
                _ => Duty::Anything,
            };
            let (bell, parts) = (Arc::clone(&bell), parts.clone());
            threads.spawn(format!("upkeep-{number}"), move || {
                work(&bell, &parts, duty)
            })?;
        }
        let (report_bell, parts) = (Arc::clone(&bell), parts.clone());
        let shards = Arc::clone(shards);
        threads.spawn("upkeep-report", move || {
            let mut reporter = Reporter::new(parts);
            while !report_bell.wait(REPORT_INTERVAL) {
                let moved = reporter.report();
                shards.flushed(&moved);
                reporter.rest();
            }
        })?;
        Ok(Upkeep { bell, changes })
    }

    /// Tells the threads to end after the job they are at.
    pub(crate) fn stop(&self) {
        self.bell.ring();
        self.changes.note();
    }
}

fn work(bell: &Bell, parts: &UpkeepParts, duty: Duty) {
    let changes = parts.engine.lsm().changes();
    loop {
        let seen = changes.count();
        if bell.is_rung() {
            return;
        }
        let job = match duty {
            Duty::Anything => parts.engine.plan(),
            Duty::Brief => parts.engine.plan_brief(),
        };
        match job.map(|job| run(bell, parts, duty, job)) {
            None => changes.wait(seen, LOOK_INTERVAL),
            Some(Ok(())) => {}
            Some(Err(error)) if parts.trouble.is_final(&error) => return,
            Some(Err(error)) => {
                tracing::error!("engine upkeep failed and is tried again: {error}");
                bell.wait(BACK_OFF);
            }
        }
    }
}

fn run(bell: &Bell, parts: &UpkeepParts, duty: Duty, job: Job) -> Result<(), EngineError> {
    let kind = job.kind();
    let begun = parts.env.now();
    let report = job.run_paced(|pause| {
        // Of brief work there is little, and somebody waits for it.
        if !pause.is_zero() && duty == Duty::Anything {
            bell.wait(pause);
        }
    })?;
    tracing::debug!(
        ?kind,
        bytes_read = report.bytes_read,
        bytes_written = report.bytes_written,
        seconds = parts.env.now().saturating_sub(begun).as_secs_f64(),
        "engine upkeep"
    );
    Ok(())
}

/// Looks at the engine and the disk, and says what changed.
struct Reporter {
    parts: UpkeepParts,
    changes: Changes,
    /// Changes before the last report.
    seen: Option<u64>,
    flushed: BTreeMap<OriginId, u64>,
    /// When free space was looked at last.
    space_checked: Option<Duration>,
    reports: u32,
    /// Whether nothing has to be reported before the tree changes.
    is_quiet: bool,
}

impl Reporter {
    fn new(parts: UpkeepParts) -> Reporter {
        Reporter {
            changes: parts.engine.lsm().changes(),
            parts,
            seen: None,
            flushed: BTreeMap::new(),
            space_checked: None,
            reports: 0,
            is_quiet: false,
        }
    }

    /// Applied indexes that became durable since the last report.
    fn report(&mut self) -> BTreeMap<GroupId, LogIndex> {
        let before = self.seen.replace(self.changes.count());
        let parts = &self.parts;
        let pressure = parts.engine.lsm().pressure().fraction;
        parts.admission.set_pressure(pressure);
        self.check_space();
        let parts = &self.parts;
        if self.reports.is_multiple_of(PATIENT_JOBS_REPORTS) {
            parts.pool.again();
        }
        self.reports = self.reports.wrapping_add(1);
        // What fills the active memtable makes no pressure as long as no other waits for its flush.
        self.is_quiet = pressure <= 0.0
            && parts.engine.lsm().statistics().immutable_memtables == 0
            && !parts.pool.has_patient_jobs();
        if self.seen == before {
            return BTreeMap::new();
        }
        let flushed = parts.engine.lsm().flushed();
        let moved = flushed
            .iter()
            .filter(|(origin, index)| self.flushed.get(*origin) != Some(*index))
            .map(|(origin, index)| (GroupId(origin.0), LogIndex(*index)))
            .collect();
        self.flushed = flushed;
        moved
    }

    fn check_space(&mut self) {
        let (parts, now) = (&self.parts, self.parts.env.now());
        let is_due = |checked| now >= checked + SPACE_CHECK_INTERVAL;
        if !self.space_checked.is_none_or(is_due) {
            return;
        }
        self.space_checked = Some(now);
        match parts.env.available_space(&parts.data_dir) {
            Ok(space) => parts
                .admission
                .set_disk_is_low(space < parts.disk_reserve_bytes),
            Err(error) => tracing::warn!("cannot tell how much disk space is left: {error}"),
        }
    }

    /// Waits until there may be something to report.
    fn rest(&self) {
        if let Some(seen) = self.seen.filter(|_| self.is_quiet) {
            let patience = SPACE_CHECK_INTERVAL - REPORT_INTERVAL;
            self.changes.wait(seen, patience);
        }
    }
}
