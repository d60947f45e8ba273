//! Background work of the tree, held to the log.

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
        for (origin, index) in self.job.flushes() {
            self.engine.assert_durable(origin, index, "flushes");
        }
        Ok(self.job.run()?)
    }
}
