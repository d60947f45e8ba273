//! Flushes, compactions and upkeep of the log, on threads of the store or behind its callers.
//!
//! The threads only loop over the steps of the engine; they are here because an embedded store
//! has no shell to bring its own. With none, callers do the work behind their writes.

use std::sync::Arc;
use std::time::Duration;
use tinykv_sync::thread::{Builder, JoinHandle};

use tinykv_lsm::JobKind;
use tinykv_raft::{EntryId, LogIndex, Payload};
use tinykv_wal::{Batch, Record};

use super::commit::Log;
use super::{Inner, LOCAL, TERM, command};
use crate::{Engine, EngineError, Job};

/// How often an idle store looks after its log; also how long a thread that failed waits.
const UPKEEP_EVERY: Duration = Duration::from_millis(100);
/// A small write brakes for at most this long while there is still room, and each time when there
/// is none.
const BRAKE: Duration = Duration::from_millis(10);
/// What is as large as so many small writes brakes as they would together.
const BRAKE_BYTES: u64 = 64 << 10;
/// Nobody brakes for longer while there is still room.
const BRAKE_MAX: Duration = Duration::from_millis(250);
/// Bytes of log read at a time when replaying.
const REPLAY_BYTES: usize = 4 << 20;

/// Starts the background threads.
pub(super) fn start(inner: &Arc<Inner>) -> Result<Vec<JoinHandle<()>>, EngineError> {
    let mut threads = Vec::new();
    for number in 0..inner.options.background_threads {
        let inner = inner.clone();
        let thread = Builder::new().name(format!("tinykv-engine-{number}"));
        threads.push(thread.spawn(move || inner.work(number == 0))?);
    }
    Ok(threads)
}

impl Inner {
    /// A background thread. The first one also looks after the log, not more often than an idle
    /// store needs: upkeep that finds the log idle syncs it.
    fn work(&self, looks_after_log: bool) {
        let mut looked_after = self.env.now();
        while !self.committer.is_closed() {
            if looks_after_log && self.env.now().saturating_sub(looked_after) >= UPKEEP_EVERY {
                looked_after = self.env.now();
                // Noted by the committer, which tells the writers.
                let _ = self.upkeep();
            }
            if !matches!(self.run_paced(), Ok(true)) {
                self.committer.wait_for_work(UPKEEP_EVERY);
            }
        }
    }

    /// What a caller does behind its own acknowledged write.
    pub(super) fn after_write(&self, bytes: u64) {
        if self.options.background_threads > 0 {
            // A memtable fills up in this many steps; nothing is due more often.
            const STEPS: u64 = 16;
            let step = self.options.engine.lsm.memtable_bytes_max / STEPS;
            self.committer.wake_after(bytes, step);
            return;
        }
        // The write is done whatever happens here; the committer tells the next writer.
        while let Ok(true) = self.run_job() {}
    }

    /// Back-pressure: the fuller, the slower; when full, not before there is room.
    pub(super) fn admit(&self, bytes: u64) -> Result<(), EngineError> {
        let own_threads = self.options.background_threads > 0;
        loop {
            let pressure = self.engine.lsm().pressure().fraction;
            if pressure <= 0.0 {
                return Ok(());
            }
            if pressure < 1.0 {
                if own_threads {
                    self.committer.brake(brake_time(pressure, bytes))?;
                }
                return Ok(());
            }
            if self.run_job()? {
                continue;
            }
            match self.committer.stalled() {
                Some(error) => return Err(error),
                None => self.committer.brake(BRAKE)?,
            }
        }
    }

    /// Does one piece of background work here, if any is due.
    pub(super) fn run_job(&self) -> Result<bool, EngineError> {
        self.run_planned(Engine::plan, &mut |_| ())
    }

    /// As `run_job`, but compactions leave the disk to others as long as they can.
    fn run_paced(&self) -> Result<bool, EngineError> {
        self.run_planned(Engine::plan, &mut |time| self.pause(time))
    }

    /// What a thread does while its compaction pauses: flushes that become due, for writers wait
    /// for those, and perhaps there is no other thread.
    fn pause(&self, time: Duration) {
        let until = self.env.now() + time;
        loop {
            // An error is noted by the committer, which tells the writers.
            let _ = self.run_planned(Engine::plan_brief, &mut |_| ());
            let left = until.saturating_sub(self.env.now());
            if left.is_zero() || !self.committer.wait_for_work(left) {
                return;
            }
        }
    }

    fn run_planned(
        &self,
        plan: fn(&Engine) -> Option<Job>,
        pause: &mut dyn FnMut(Duration),
    ) -> Result<bool, EngineError> {
        self.revisit_when_due();
        let Some(job) = self.claim_job(plan)? else {
            return Ok(false);
        };
        let flushes = job.kind() == JobKind::Flush;
        let result = job.run_paced(pause).map(|_| ());
        self.committer.job_ended(result.clone());
        result?;
        if flushes {
            self.upkeep()?;
        }
        Ok(true)
    }

    /// Sends all tables through the compaction filter once more, now and then; the compactions that
    /// this makes due come after all others.
    fn revisit_when_due(&self) {
        let every = self.options.revisit_every;
        let now = self.env.now();
        let mut revisited = self.revisited.lock();
        if !every.is_zero() && now.saturating_sub(*revisited) >= every {
            *revisited = now;
            self.engine.lsm().revisit();
        }
    }

    /// A job that the log is durable for. It is never held while waiting for the log: whoever
    /// has the log may be waiting for the job.
    fn claim_job(&self, plan: fn(&Engine) -> Option<Job>) -> Result<Option<Job>, EngineError> {
        loop {
            self.committer.open()?;
            match plan(&self.engine) {
                Some(job) if job.needs_log_sync() => drop(job),
                other => return Ok(other),
            }
            self.sync()?;
        }
    }

    /// Cuts the log to what is flushed, and lets it recycle and reserve.
    fn upkeep(&self) -> Result<(), EngineError> {
        self.committer.lead(|log| self.look_after(log))
    }

    fn look_after(&self, log: &mut Log) -> Result<(), EngineError> {
        let flushed = self.engine.flushed(LOCAL);
        let extent = self.engine.log_reader().extent(LOCAL);
        if extent.is_some_and(|extent| extent.truncated.index < flushed) {
            let upto = EntryId {
                term: TERM,
                index: flushed,
            };
            log.wal
                .append(&Batch::from(vec![Record::Truncated { group: LOCAL, upto }]))?;
        }
        self.engine.maintain(&mut log.wal)?;
        Ok(())
    }

    /// For a leader whose log is full: flushes, so that everything can be cut.
    pub(super) fn make_room(&self, log: &mut Log) -> Result<(), EngineError> {
        log.wal.sync()?;
        self.engine.lsm().flush()?;
        self.look_after(log)
    }

    pub(super) fn sync(&self) -> Result<(), EngineError> {
        self.committer.lead(|log| {
            log.wal.sync()?;
            Ok(())
        })
    }

    pub(super) fn flush(&self) -> Result<(), EngineError> {
        self.committer.lead(|log| self.make_room(log))
    }

    /// Applies what the log holds and the tree has not flushed.
    pub(super) fn replay(&self) -> Result<(), EngineError> {
        let reader = self.engine.log_reader();
        let Some(extent) = reader.extent(LOCAL) else {
            return Ok(());
        };
        let mut next = self.engine.flushed(LOCAL).next();
        while next <= extent.last.index {
            for entry in reader.entries(LOCAL, next, extent.last.index, REPLAY_BYTES)? {
                self.replay_entry(entry.id.index, &entry.payload)?;
                next = entry.id.index.next();
            }
            while self.engine.lsm().pressure().fraction >= 1.0 && self.run_job()? {}
        }
        Ok(())
    }

    fn replay_entry(&self, index: LogIndex, payload: &Payload) -> Result<(), EngineError> {
        let batch = match payload {
            Payload::Command(bytes) => command::decode(bytes),
            Payload::Empty | Payload::Membership(_) => None,
        };
        let mut batch = batch.ok_or_else(|| EngineError::Damaged {
            path: self.engine.dir().to_owned(),
            what: format!("log entry {index} holds no batch that this version can read"),
        })?;
        batch.applied(tinykv_lsm::OriginId(LOCAL.0), index.0);
        self.engine.write(&batch)?;
        Ok(())
    }
}

/// How long a write of this size waits at a pressure below 1.
fn brake_time(pressure: f64, bytes: u64) -> Duration {
    let size = (bytes as f64 / BRAKE_BYTES as f64).max(1.0);
    BRAKE.mul_f64(pressure * size).min(BRAKE_MAX)
}

#[cfg(test)]
mod tests {
    use super::{BRAKE, BRAKE_BYTES, BRAKE_MAX, brake_time};

    #[test]
    fn brakes_take_hold_steadily_and_by_size() {
        assert!(brake_time(0.001, 100) < BRAKE / 900);
        assert_eq!(brake_time(0.5, 100), BRAKE / 2);
        assert_eq!(brake_time(0.5, BRAKE_BYTES), BRAKE / 2);
        assert_eq!(brake_time(0.5, 4 * BRAKE_BYTES), 2 * BRAKE);
        assert_eq!(brake_time(0.9, u64::MAX), BRAKE_MAX);
        let rises = |n: u32| brake_time(f64::from(n) / 100.0, 100);
        assert!((1..100).all(|n| rises(n) > rises(n - 1)));
    }
}
