//! What a replica sees of the run it takes part in.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_lsm::WriteBatch;
use tinykv_raft::{EntryId, GroupId, PeerId, ReadyNumber};
use tinykv_wal::{Batch, Record};

use crate::config::ShardConfig;
use crate::effects::{DropReason, Dropped, Effects, RegionChange};
use crate::machine::Reader;
use crate::outcome::{Outcome, Refusal, WaiterId};
use crate::region::StoreId;

/// One run of the shard: the time, the view, and the effects so far.
pub(crate) struct Run<'a, R> {
    pub(crate) now: Duration,
    pub(crate) config: &'a ShardConfig,
    pub(crate) reader: &'a dyn Reader,
    pub(crate) effects: Effects<R>,
    /// Stores known to live. Belongs to the shard and is lent to the run.
    pub(crate) fresh: BTreeSet<StoreId>,
    /// Whom the run's token is for.
    pub(crate) awaiting: Vec<Awaiting>,
}

/// Somebody who waits for the durability of a run's records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaiting {
    pub(crate) group: GroupId,
    /// Guards against a later life of the group.
    pub(crate) peer: PeerId,
    pub(crate) what: Durable,
}

/// What is durable then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Durable {
    Birth,
    Ready(ReadyNumber),
    Installing(EntryId),
    Tombstone,
}

impl<'a, R> Run<'a, R> {
    pub(crate) fn new(
        now: Duration,
        config: &'a ShardConfig,
        reader: &'a dyn Reader,
    ) -> Run<'a, R> {
        Run {
            now,
            config,
            reader,
            effects: Effects::default(),
            fresh: BTreeSet::new(),
            awaiting: Vec::new(),
        }
    }

    pub(crate) fn reply(&mut self, waiter: Option<WaiterId>, outcome: Outcome<R>) {
        if let Some(waiter) = waiter {
            self.effects.replies.push((waiter, outcome));
        }
    }

    pub(crate) fn refuse(&mut self, waiter: Option<WaiterId>, refusal: Refusal) {
        self.reply(waiter, Outcome::DefinitelyNot(refusal));
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.effects.wal.push(record);
    }

    pub(crate) fn drop_message(&mut self, group: GroupId, from: PeerId, reason: DropReason) {
        self.effects.dropped.push(Dropped {
            group,
            from,
            reason,
        });
    }

    pub(crate) fn announce(&mut self, change: RegionChange) {
        self.effects.region_changes.push(change);
    }
}

impl<R> Default for Effects<R> {
    fn default() -> Effects<R> {
        Effects {
            lease_voids: Vec::new(),
            messages: Vec::new(),
            apply: WriteBatch::new(),
            region_changes: Vec::new(),
            replies: Vec::new(),
            leases: Vec::new(),
            observed: Vec::new(),
            wal: Batch::default(),
            messages_after_persist: Vec::new(),
            persist: None,
            entry_fetches: Vec::new(),
            value_fetches: Vec::new(),
            prefetches: Vec::new(),
            checks: Vec::new(),
            snapshot_sends: Vec::new(),
            snapshot_installs: Vec::new(),
            snapshot_discards: Vec::new(),
            destroys: Vec::new(),
            flushes: Vec::new(),
            damaged: Vec::new(),
            dropped: Vec::new(),
            local: Vec::new(),
            neighbours: None,
        }
    }
}

/// Busy, in the words of the answer.
pub(crate) fn busy(config: &ShardConfig, reason: crate::outcome::BusyReason) -> Refusal {
    Refusal::Busy {
        reason,
        wait: config.busy_wait,
    }
}
