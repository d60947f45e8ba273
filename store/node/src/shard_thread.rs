//! The thread that owns a shard: take all there is, run, carry out the effects in their order.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tinykv_engine::Engine;
use tinykv_env::Env;
use tinykv_lsm::{Cached, Lsm, Snapshot};
use tinykv_raft::{GroupId, StepError};
use tinykv_replica::{
    DropReason, Effects, Event, KeyRange, LeaseCell, Lookup, ReadError, Reader, Refusal,
    RegionChange, Shard, StateMachine,
};
use tokio::sync::watch;

use crate::directory::Directory;
use crate::homes::Homes;
use crate::inbox::{Inbox, Item};
use crate::jobs::Jobs;
use crate::lease::Lease;
use crate::metrics::NodeMetrics;
use crate::node::Hooks;
use crate::shards::Shards;
use crate::transport::Transport;
use crate::trouble::Trouble;
use crate::waiters::{Waiters, refuse};
use crate::wal_queue::{WalQueue, WalWork};

/// Everything the thread works with.
pub(crate) struct ShardThread<S: StateMachine> {
    pub(crate) number: usize,
    pub(crate) homes: Arc<Homes>,
    pub(crate) shard: Shard<S>,
    pub(crate) inbox: Arc<Inbox<S>>,
    /// All shards of the process, this one included.
    pub(crate) shards: Arc<Shards<S>>,
    pub(crate) waiters: Waiters<S::Reply>,
    pub(crate) engine: Engine,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) tick: Duration,
    pub(crate) directory: Arc<Directory>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) transport: Transport,
    pub(crate) wal: Arc<WalQueue>,
    pub(crate) jobs: Jobs<S>,
    pub(crate) trouble: Trouble,
    pub(crate) metrics: NodeMetrics,
    pub(crate) asleep: Asleep,
    /// Replicas found damaged that have yet to be replaced.
    pub(crate) damaged: BTreeSet<GroupId>,
}

/// What one shard adds to the number of groups that sleep in this process.
pub(crate) struct Asleep {
    all: Arc<watch::Sender<usize>>,
    here: usize,
}

impl Asleep {
    pub(crate) fn new(all: &Arc<watch::Sender<usize>>) -> Asleep {
        let all = Arc::clone(all);
        Asleep { all, here: 0 }
    }

    fn set(&mut self, here: usize) {
        let before = std::mem::replace(&mut self.here, here);
        self.all.send_if_modified(|all| {
            *all = *all + here - before;
            here != before
        });
    }
}

/// The process must not go on; the failure is reported already.
struct Stopped;

impl<S: StateMachine> ShardThread<S> {
    /// Works until [`Event::Shutdown`] came through; then everybody who waits is answered.
    pub(crate) fn run(mut self, recovered: Effects<S::Reply>) {
        if self.carry_out(recovered).is_ok() {
            self.work();
        }
        for item in self.inbox.close() {
            if let Item::Request(_, _, reply) = item {
                refuse(reply, Refusal::ShuttingDown);
            }
        }
        self.waiters.abandon();
        for group in self.shard.groups() {
            if let Some(entry) = self.directory.group(group) {
                entry.lease().publish(None);
            }
        }
    }

    fn work(&mut self) {
        let mut ticked = self.env.now();
        let mut stopping = false;
        while !stopping {
            let due = ticked + self.tick;
            let items = self.inbox.take(due.saturating_sub(self.env.now()));
            let mut events = Vec::with_capacity(items.len() + 1);
            for item in items {
                match item {
                    Item::Event(event) => {
                        stopping |= matches!(event, Event::Shutdown);
                        events.push(event);
                    }
                    Item::Request(event, waiter, reply) => {
                        self.waiters.insert(waiter, reply);
                        events.push(event);
                    }
                    Item::Query(question) => question(&self.shard),
                }
            }
            let now = self.env.now();
            if now >= due {
                // After a pause of the process one tick stands for all that were missed, so that
                // nobody calls an election before it has read what arrived meanwhile.
                ticked = now;
                events.push(Event::Tick);
                if self.number == 0 {
                    self.transport.tick();
                }
            }
            if events.is_empty() {
                continue;
            }
            let reader = LsmReader::new(self.engine.lsm());
            let effects = self.shard.run_once(&mut events, now, &reader);
            if self.carry_out(effects).is_err() {
                return;
            }
            let taken = self.env.now().saturating_sub(now);
            self.metrics.shard_run_seconds.observe(taken.as_secs_f64());
        }
    }

    /// The order is that of the fields; each step may tell somebody what the steps before it did.
    fn carry_out(&mut self, mut effects: Effects<S::Reply>) -> Result<(), Stopped> {
        for group in std::mem::take(&mut effects.lease_voids) {
            if let Some(entry) = self.directory.group(group) {
                entry.lease().publish(None);
            }
        }
        // A child is reached where its parent is, before anything can reveal it.
        for change in &effects.region_changes {
            if let RegionChange::Region { state, .. } = change {
                self.homes.set(state.region.id, self.number);
            }
        }
        // Whoever is answered about a message that was dropped finds it counted.
        for dropped in &effects.dropped {
            self.metrics.unprocessed(reason(&dropped.reason)).inc();
            tracing::debug!(?dropped, "a message was not processed");
        }
        self.transport.send(std::mem::take(&mut effects.messages));
        if !effects.apply.is_empty()
            && let Err(error) = self.engine.write(&effects.apply)
        {
            self.trouble.stop(&error);
            return Err(Stopped);
        }
        self.tell(&mut effects);
        self.persist(&mut effects);
        if let Some(stores) = effects.neighbours.take() {
            self.transport.need(self.number, stores);
        }
        self.asleep.set(self.shard.asleep());
        let local = std::mem::take(&mut effects.local);
        self.hand_out(effects);
        for message in local {
            let home = self.shards.of(message.to);
            home.push_notice(Event::Local(message));
        }
        Ok(())
    }

    /// Everything that readers, askers and hooks learn from what was applied.
    fn tell(&mut self, effects: &mut Effects<S::Reply>) {
        for (group, peer, error) in &effects.damaged {
            tracing::error!(%group, %peer, "the replica is damaged: {error}");
            if self.damaged.insert(*group) {
                self.metrics.damaged_regions.inc();
            }
            self.hooks.damaged(*group, *peer);
        }
        for change in &effects.region_changes {
            if let RegionChange::Gone { group, .. } = change
                && self.damaged.remove(group)
            {
                self.metrics.damaged_regions.dec();
            }
            self.directory.apply(change);
            self.hooks.region_changed(change);
        }
        for (waiter, outcome) in std::mem::take(&mut effects.replies) {
            self.waiters.answer(waiter, outcome);
        }
        for lease in std::mem::take(&mut effects.leases) {
            self.publish(lease);
        }
        for observed in &effects.observed {
            self.hooks.observed(observed);
        }
    }

    /// Records and the promises that rest on them go to the log's thread together (D1).
    fn persist(&self, effects: &mut Effects<S::Reply>) {
        let batch = std::mem::take(&mut effects.wal);
        let messages = std::mem::take(&mut effects.messages_after_persist);
        match effects.persist {
            Some(token) => self.wal.push(WalWork {
                shard: self.number,
                token,
                batch,
                messages,
            }),
            None => assert!(
                batch.is_empty() && messages.is_empty(),
                "records or promises without a token"
            ),
        }
    }

    /// Work for others; what comes of it comes back through the inbox.
    fn hand_out(&self, effects: Effects<S::Reply>) {
        for fetch in effects.entry_fetches {
            self.jobs.fetch_entries(fetch);
        }
        for fetch in effects.value_fetches {
            self.jobs.fetch_values(fetch);
        }
        self.jobs.prefetch(effects.prefetches);
        for check in effects.checks {
            self.jobs.check(check);
        }
        for send in effects.snapshot_sends {
            self.jobs.send_snapshot(send);
        }
        for install in effects.snapshot_installs {
            self.jobs.install(install);
        }
        for handle in effects.snapshot_discards {
            self.jobs.discard(handle);
        }
        for destroy in effects.destroys {
            self.jobs.destroy(destroy);
        }
        if !effects.flushes.is_empty() {
            self.jobs.flush();
        }
    }

    /// Fills or extends a lease cell with the region as the directory shows it.
    fn publish(&self, lease: LeaseCell) {
        let Some(entry) = self.directory.group(lease.group) else {
            return;
        };
        let view = entry.view();
        let Some(state) = &view.state else {
            return;
        };
        assert_eq!(
            state.region.epoch, lease.epoch,
            "group {}: a lease of another epoch than the published region's",
            lease.group
        );
        let region = match entry.lease().load() {
            Some(before) if *before.region == state.region => Arc::clone(&before.region),
            _ => Arc::new(state.region.clone()),
        };
        entry.lease().publish(Some(Lease {
            term: lease.term,
            peer: view.peer,
            region,
            valid_until: lease.valid_until,
        }));
        if entry.lease().take_is_read() {
            self.inbox.push_notice(Event::ReadInLease(lease.group));
        }
    }
}

/// Why a message was not processed, as a label of the metric.
fn reason(reason: &DropReason) -> &'static str {
    match reason {
        DropReason::Misaddressed => "misaddressed",
        DropReason::UnknownGroup => "unknown_group",
        DropReason::DeadPeer => "dead_peer",
        DropReason::YoungerPeer => "younger_peer",
        DropReason::NotMember => "not_member",
        DropReason::NotKnownNew => "not_known_new",
        DropReason::Backlog => "backlog",
        DropReason::OutOfService => "out_of_service",
        DropReason::Overlap(_) => "overlap",
        DropReason::BadEntry(_) => "bad_entry",
        DropReason::SnapshotNotWanted => "snapshot_not_wanted",
        DropReason::Refused(refused) => match refused {
            StepError::WrongReceiver { .. } => "wrong_receiver",
            StepError::Malformed(_) => "malformed",
            StepError::AbsurdTerm { .. } => "absurd_term",
            StepError::NeverSent { .. } => "never_sent",
            StepError::TwoLeaders { .. } => "two_leaders",
            StepError::CommittedConflict { .. } => "committed_conflict",
        },
    }
}

/// The engine as the core sees it: one snapshot a run, taken when first needed.
pub(crate) struct LsmReader<'a> {
    lsm: &'a Lsm,
    snapshot: OnceCell<Snapshot>,
}

impl<'a> LsmReader<'a> {
    pub(crate) fn new(lsm: &'a Lsm) -> LsmReader<'a> {
        LsmReader {
            lsm,
            snapshot: OnceCell::new(),
        }
    }

    fn snapshot(&self) -> &Snapshot {
        self.snapshot.get_or_init(|| self.lsm.snapshot())
    }
}

impl Reader for LsmReader<'_> {
    fn get(&self, key: &[u8]) -> Lookup {
        match self.snapshot().get_cached(key) {
            Ok(Cached::Found(value)) => Lookup::Found(value),
            Ok(Cached::Missing) => Lookup::Missing,
            // The job that reads it from disk meets the error, too, and reports it.
            Ok(Cached::NeedsRead) | Err(_) => Lookup::NotCached,
        }
    }

    fn load(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, ReadError> {
        self.snapshot().get(key).map_err(read_error)
    }

    fn scan(&self, range: &KeyRange) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, ReadError> {
        let mut pairs = Vec::new();
        let mut iter = self
            .snapshot()
            .iter(&range.start, &range.end)
            .map_err(read_error)?;
        while iter.next().map_err(read_error)? {
            pairs.push((bytes::Bytes::copy_from_slice(iter.key()), iter.value()));
        }
        Ok(pairs)
    }
}

pub(crate) fn read_error(error: impl std::fmt::Display) -> ReadError {
    ReadError(error.to_string())
}
