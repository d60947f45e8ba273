//! The thread of the log and those of the tree.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{Event, PersistToken, StateMachine};
use tinykv_wal::{Batch, Record, WalError};

use super::super::happening::Context;
use super::{Host, Trouble, Work};

/// How long the log waits before it looks for space again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

impl<S: StateMachine> Host<S> {
    /// The log's thread writes what waits and begins to sync it.
    pub(super) fn start_sync(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if running.wal_syncing.is_some() || running.wal_queue.is_empty() {
            return Ok(());
        }
        let mut works = std::mem::take(&mut running.wal_queue);
        let mut written = 0;
        let mut result = Ok(());
        for work in &works {
            if !work.batch.is_empty() {
                context.invariants.on_written(self.id, &work.batch);
                result = running.wal.append(&work.batch).map(|_| ());
            }
            if result.is_err() {
                break;
            }
            written += 1;
        }
        running.wal_queue = works.split_off(written);
        let was_stuck = std::mem::replace(&mut running.log_is_stuck, result.is_err());
        if written > 0 {
            running.wal_syncing = Some(works);
            context.after(self.sync_time, self.id, self.life, Work::Synced);
        }
        match result {
            Ok(()) if was_stuck => {
                context.report.probe("log_went_on_after_waiting_for_space");
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(error @ (WalError::Full { .. } | WalError::DiskFull(_))) => {
                context.report.probe(match error {
                    WalError::Full { .. } => "log_waited_for_room",
                    _ => "log_waited_for_space",
                });
                if !was_stuck {
                    context.detail(format_args!("process {} waits: {error}", self.id));
                }
                context.after(RETRY_INTERVAL, self.id, self.life, Work::RetryLog);
                Ok(())
            }
            Err(error) => Err(self.trouble(&error)),
        }
    }

    /// The log tries again to write what found no space. What frees space may stand behind what
    /// waits for it: cuts of logs are written ahead of their turn, which is allowed, since they name
    /// entries that are applied and flushed.
    pub(super) fn retry_log(&mut self, context: &mut Context) -> Result<(), Trouble> {
        self.maintain(context)?;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if running.wal_syncing.is_some() || !running.log_is_stuck {
            return Ok(());
        }
        let mut cuts = Batch::default();
        for work in &mut running.wal_queue {
            let records = std::mem::take(&mut work.batch.records);
            for record in records {
                match record {
                    cut @ Record::Truncated { .. } => cuts.push(cut),
                    other => work.batch.push(other),
                }
            }
        }
        if !cuts.is_empty() {
            match running.wal.append(&cuts) {
                Ok(_) => {}
                Err(WalError::Full { .. } | WalError::DiskFull(_)) => {
                    if let Some(first) = running.wal_queue.first_mut() {
                        cuts.extend(std::mem::take(&mut first.batch));
                        first.batch = cuts;
                    }
                }
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        self.start_sync(context)
    }

    /// The sync came back: promises leave, the shard hears of it, the next sync begins.
    pub(super) fn on_synced(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let result = running.wal.sync();
        let works = running.wal_syncing.take().unwrap_or_default();
        result.map_err(|error| self.trouble(&error))?;
        let mut newest = None;
        for work in works {
            self.note_durable(context, &work.batch)?;
            for message in &work.messages {
                self.send(context, message)?;
            }
            newest = Some(work.token);
        }
        if let Some(token) = newest {
            self.notice(context, token);
        }
        if self.running.as_ref().is_some_and(|it| it.is_upkeep_due) {
            self.maintain(context)?;
        }
        self.start_sync(context)
    }

    /// The promises have left; the shard hears of it when its thread gets a turn, and answers to
    /// them may be there first. Notices come in order.
    fn notice(&mut self, context: &mut Context, token: PersistToken) {
        let is_late = context.random.chance(self.late_notice_one_in);
        let now = context.now();
        let Some(running) = &mut self.running else {
            return;
        };
        if is_late {
            context.report.probe("late_notice");
            let late = Duration::from_micros(context.random.between(500, 50_000));
            running.noticed_at = running.noticed_at.max(now + late);
        }
        if running.noticed_at <= now {
            self.post(context, Event::Persisted(token));
        } else {
            let wait = running.noticed_at - now;
            let notice = Work::Post(Box::new(Event::Persisted(token)));
            context.after(wait, self.id, self.life, notice);
        }
    }

    /// Background threads: the log is maintained, the tree flushes and compacts.
    pub(super) fn upkeep(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let flush_wanted = std::mem::take(&mut running.flush_wanted);
        self.maintain(context)?;
        if flush_wanted
            && !self.engine(|running| Ok(running.engine.lsm().flush()?))?
            && let Some(running) = &mut self.running
        {
            running.flush_wanted = true;
        }
        for _ in 0..4 {
            let Some(running) = &mut self.running else {
                return Ok(());
            };
            let Some(job) = running.engine.plan() else {
                break;
            };
            context.report.probe(match job.kind() {
                tinykv_lsm::JobKind::Flush => "flush",
                _ => "compaction",
            });
            match job.run() {
                Ok(_) => {}
                // Tried again at the next upkeep.
                Err(error) => match self.engine_trouble(&error) {
                    Some(trouble) => return Err(trouble),
                    None => {
                        context.report.probe("upkeep_without_space");
                        break;
                    }
                },
            }
        }
        let Some(running) = &self.running else {
            return Ok(());
        };
        let flushed = running.engine.lsm().flushed();
        let flushed: BTreeMap<GroupId, LogIndex> = flushed
            .into_iter()
            .map(|(origin, index)| (GroupId(origin.0), LogIndex(index)))
            .collect();
        for (group, index) in &flushed {
            context.invariants.on_flushed(self.id, *group, *index);
        }
        self.post(context, Event::Flushed(flushed));
        Ok(())
    }

    /// The log is recycled; one that is too long has the engine flush.
    fn maintain(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        // The log belongs to its thread: not while that syncs, but then right afterwards.
        running.is_upkeep_due = running.wal_syncing.is_some();
        if running.is_upkeep_due {
            return Ok(());
        }
        let upkeep = match running.engine.maintain(&mut running.wal) {
            Ok(upkeep) => upkeep,
            Err(error) => return self.engine_trouble(&error).map_or(Ok(()), Err),
        };
        if upkeep.recycled > 0 {
            context.report.probe("log_segment_recycled");
        }
        if !upkeep.truncated.is_empty() {
            context.report.probe("log_cut_by_the_engine");
            let cut = upkeep.truncated.into_iter().collect();
            self.post(context, Event::LogCut(cut));
        }
        Ok(())
    }

    /// What the log has just made durable, for the invariants.
    fn note_durable(&self, context: &mut Context, batch: &Batch) -> Result<(), Trouble> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let log = running.engine.log_reader();
        let last = |group| log.extent(group).map(|extent| extent.last);
        let noted = context.invariants.on_durable(self.id, batch, last);
        noted.map_err(Trouble::Violation)
    }
}
