//! The thread of the log and those of the tree.

use std::time::Duration;

use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{Event, PersistToken, StateMachine};

use super::super::happening::Context;
use super::{Host, Trouble, Work};

impl<S: StateMachine> Host<S> {
    /// The log's thread writes what waits and begins to sync it.
    pub(super) fn start_sync(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if running.wal_syncing.is_some() || running.wal_queue.is_empty() {
            return Ok(());
        }
        let works = std::mem::take(&mut running.wal_queue);
        let batches: Vec<_> = works.iter().filter(|work| !work.batch.is_empty()).collect();
        let mut result = Ok(());
        for work in batches {
            if result.is_ok() {
                result = running.wal.append(&work.batch).map(|_| ());
            }
        }
        running.wal_syncing = Some(works);
        result.map_err(|error| self.trouble(&error))?;
        context.after(self.sync_time, self.id, self.life, Work::Synced);
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
        // The log belongs to its thread: not while that syncs.
        if running.wal_syncing.is_none() {
            let upkeep = running.engine.maintain(&mut running.wal);
            let upkeep = upkeep.map_err(|error| self.trouble(&error))?;
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
