//! The thread of the log and those of the tree.

use std::collections::VecDeque;
use std::time::Duration;

use tinykv_engine::EngineError;
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{Event, PersistToken, StateMachine};
use tinykv_wal::{Batch, Record, WalError};

use super::super::happening::Context;
use super::{Host, Running, Trouble, Work};

impl<S: StateMachine> Host<S> {
    /// The log's thread writes what waits and begins to sync it. What finds no room waits in its
    /// place until upkeep has made some.
    pub(super) fn start_sync(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if running.wal_syncing.is_some() || running.wal_queue.is_empty() {
            return Ok(());
        }
        let mut waiting = VecDeque::from(std::mem::take(&mut running.wal_queue));
        let mut written = Vec::new();
        let mut result = Ok(());
        while let Some(work) = waiting.pop_front() {
            let appended = match work.batch.is_empty() {
                true => Ok(()),
                false => running.wal.append(&work.batch).map(|_| ()),
            };
            if appended.as_ref().is_err_and(is_out_of_room) {
                waiting.push_front(work);
                break;
            }
            written.push(work);
            if appended.is_err() {
                result = appended;
                break;
            }
        }
        running.wal_queue = waiting.into();
        if result.is_ok() && !running.wal_queue.is_empty() {
            context.report.probe("log_waited_for_room");
            result = running.write_cuts();
        }
        result.map_err(|error| self.trouble(&error))?;
        if let Some(running) = self.running.as_mut().filter(|_| !written.is_empty()) {
            running.wal_syncing = Some(written);
            context.after(self.sync_time, self.id, self.life, Work::Synced);
        }
        Ok(())
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
            work.messages
                .into_iter()
                .for_each(|message| context.send_message(message));
            newest = Some(work.token);
        }
        if let Some(token) = newest {
            self.notice(context, token);
        }
        if self
            .running
            .as_mut()
            .is_some_and(|it| std::mem::take(&mut it.is_upkeep_due))
        {
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

    /// The log's thread recycles what is not needed any more.
    fn maintain(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let upkeep = match running.engine.maintain(&mut running.wal) {
            Err(EngineError::Wal(error)) if is_out_of_room(&error) => return Ok(()),
            upkeep => upkeep.map_err(|error| self.trouble(&error))?,
        };
        if upkeep.recycled > 0 {
            context.report.probe("log_segment_recycled");
        }
        if !upkeep.truncated.is_empty() {
            context.report.probe("log_cut_by_the_engine");
            self.post(
                context,
                Event::LogCut(upkeep.truncated.into_iter().collect()),
            );
        }
        Ok(())
    }

    /// Background threads: the log is maintained, the tree flushes and compacts.
    pub(super) fn upkeep(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        // The log belongs to its thread: not while that syncs, but then right afterwards.
        running.is_upkeep_due = running.wal_syncing.is_some();
        if !running.is_upkeep_due {
            self.maintain(context)?;
            self.start_sync(context)?;
        }
        self.engine(|running| match std::mem::take(&mut running.flush_wanted) {
            true => Ok(running.engine.lsm().flush()?),
            false => Ok(()),
        })?;
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
            job.run().map_err(|error| self.trouble(&error))?;
        }
        let Some(running) = &self.running else {
            return Ok(());
        };
        let flushed = running.engine.lsm().flushed();
        let flushed = flushed
            .into_iter()
            .map(|(origin, index)| (GroupId(origin.0), LogIndex(index)))
            .collect();
        self.post(context, Event::Flushed(flushed));
        Ok(())
    }
}

impl<S: StateMachine> Running<S> {
    /// Cuts behind what waits for room are written ahead of their turn: they name what is applied
    /// and flushed, and make room.
    fn write_cuts(&mut self) -> Result<(), WalError> {
        let mut cuts = Batch::default();
        for work in self.wal_queue.iter_mut().skip(1) {
            for record in std::mem::take(&mut work.batch.records) {
                match record {
                    Record::Truncated { .. } => cuts.push(record),
                    other => work.batch.push(other),
                }
            }
        }
        if cuts.is_empty() {
            return Ok(());
        }
        match self.wal.append(&cuts) {
            Err(error) if is_out_of_room(&error) => {
                if let Some(first) = self.wal_queue.first_mut() {
                    cuts.extend(std::mem::take(&mut first.batch));
                    first.batch = cuts;
                }
                Ok(())
            }
            written => written.map(|_| ()),
        }
    }
}

/// Whether an append was refused as a store's log thread waits it out.
fn is_out_of_room(error: &WalError) -> bool {
    matches!(error, WalError::Full { .. } | WalError::DiskFull(_))
}
