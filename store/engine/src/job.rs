//! Background work of the tree, held to the log.

use std::time::Duration;

use tinykv_lsm::{JobKind, JobReport};

use crate::{Engine, EngineError};

/// A piece of background work, claimed: nobody else gets it. Dropping it unrun gives it back.
#[derive(Debug)]
pub struct Job {
    engine: Engine,
    job: tinykv_lsm::Job,
}

impl Job {
    pub(crate) fn new(engine: Engine, job: tinykv_lsm::Job) -> Job {
        Job { engine, job }
    }

    /// What it will do.
    pub fn kind(&self) -> JobKind {
        self.job.kind()
    }

    /// Whether it would flush what the log has not made durable: sync the log first. Never so in
    /// a store, where entries are applied once durable; the standalone store applies buffered
    /// writes before.
    pub fn needs_log_sync(&self) -> bool {
        let durable = |(origin, index)| self.engine.is_durable(origin, index);
        !self.job.flushes().into_iter().all(durable)
    }

    /// Does it.
    ///
    /// # Panics
    /// When it would flush what the log has not made durable (invariant 6).
    pub fn run(self) -> Result<JobReport, EngineError> {
        self.run_paced(|_| ())
    }

    /// As [`Job::run`], but a compaction says again and again how long to pause; see
    /// [`tinykv_lsm::Job::run_paced`].
    ///
    /// # Panics
    /// As [`Job::run`].
    pub fn run_paced(self, pause: impl FnMut(Duration)) -> Result<JobReport, EngineError> {
        for (origin, index) in self.job.flushes() {
            self.engine.assert_durable(origin, index, "flushes");
        }
        Ok(self.job.run_paced(pause)?)
    }
}
