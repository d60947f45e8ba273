//! Background work on the engine: flushes, compactions, and passing on what they achieved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tinykv_engine::{Engine, EngineError, Job};
use tinykv_env::Env;
use tinykv_lsm::OriginId;
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::StateMachine;

use crate::admission::Admission;
use crate::failure::Failure;
use crate::pool::Pool;
use crate::shards::Shards;
use crate::spawn::Threads;
use crate::trouble::Trouble;

/// How often a worker without work looks for some.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a worker waits after a job that failed.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How often flushed indexes and pressure are passed on.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// How often free space is looked at, in reports.
const SPACE_CHECK_REPORTS: u32 = 10;
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
            }
        })?;
        Ok(Upkeep { bell })
    }

    /// Tells the threads to end after the job they are at.
    pub(crate) fn stop(&self) {
        self.bell.ring();
    }
}

fn work(bell: &Bell, parts: &UpkeepParts, duty: Duty) {
    loop {
        let job = match duty {
            Duty::Anything => parts.engine.plan(),
            Duty::Brief => parts.engine.plan_brief(),
        };
        let patience = match job {
            None => POLL_INTERVAL,
            Some(job) => match run(bell, parts, duty, job) {
                Ok(()) => Duration::ZERO,
                Err(error) if parts.trouble.is_final(&error) => return,
                Err(error) => {
                    tracing::error!("engine upkeep failed and is tried again: {error}");
                    BACK_OFF
                }
            },
        };
        if bell.wait(patience) {
            return;
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
    flushed: BTreeMap<OriginId, u64>,
    reports: u32,
}

impl Reporter {
    fn new(parts: UpkeepParts) -> Reporter {
        Reporter {
            parts,
            flushed: BTreeMap::new(),
            reports: 0,
        }
    }

    /// Applied indexes that became durable since the last report.
    fn report(&mut self) -> BTreeMap<GroupId, LogIndex> {
        let parts = &self.parts;
        parts
            .admission
            .set_pressure(parts.engine.lsm().pressure().fraction);
        if self.reports.is_multiple_of(SPACE_CHECK_REPORTS) {
            match parts.env.available_space(&parts.data_dir) {
                Ok(space) => parts
                    .admission
                    .set_disk_is_low(space < parts.disk_reserve_bytes),
                Err(error) => tracing::warn!("cannot tell how much disk space is left: {error}"),
            }
        }
        if self.reports.is_multiple_of(PATIENT_JOBS_REPORTS) {
            parts.pool.again();
        }
        self.reports = self.reports.wrapping_add(1);
        let flushed = parts.engine.lsm().flushed();
        let moved = flushed
            .iter()
            .filter(|(origin, index)| self.flushed.get(*origin) != Some(*index))
            .map(|(origin, index)| (GroupId(origin.0), LogIndex(*index)))
            .collect();
        self.flushed = flushed;
        moved
    }
}
