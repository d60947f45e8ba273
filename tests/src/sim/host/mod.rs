//! A simulated machine with one process of production code on it: `Shard` and `Engine` (log and
//! tree) under any state machine. A store is one, a member of the placement group another.
//!
//! This file is its life and death; the modules below are what the threads of a real process do,
//! one event at a time, in the order the driver demands.

mod clock;
mod disk;
mod log;
mod news;
mod reader;
mod recovery;
mod snapshot;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_engine::{Engine, EngineError, EngineOptions, ErrorKind};
use tinykv_env::{CrashMode, Prng, SimEnv};
use tinykv_lsm::LsmOptions;
use tinykv_node::transport::{Destination, Roster};
use tinykv_raft::{GroupId, LogIndex, Term};
use tinykv_replica::{
    Destroy, Event, Factory, LeaseCell, Neighbours, Outcome, PeerMessage, PersistToken,
    RegionEpoch, RegionState, Shard, ShardConfig, SnapshotInstall, StateMachine, StoreId, WaiterId,
};
use tinykv_wal::{Batch, Wal, WalOptions};

use super::happening::Context;
use super::letter::destination;
use super::setup::Setup;

pub(super) use clock::Clock;

/// From an event in the inbox to the run that takes it.
const RUN_DELAY: Duration = Duration::from_micros(20);
/// How long a read from disk takes.
const FETCH_DELAY: Duration = Duration::from_micros(200);
/// How often the background threads of a process look for work.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(20);

/// One process and its machine.
pub(super) struct Host<S: StateMachine> {
    /// Its address, and the store id its peers live under.
    pub(super) id: StoreId,
    pub(super) env: SimEnv,
    /// Counts starts: what was scheduled for an earlier life is ignored.
    pub(super) life: u64,
    pub(super) running: Option<Running<S>>,
    /// Until when it does nothing.
    pub(super) paused_until: Duration,
    /// How long a sync of the log takes.
    pub(super) sync_time: Duration,
    /// One notice in so many that the log is durable comes late; 0: none.
    late_notice_one_in: u64,
    /// What the disk will hold when the armed crash point is reached.
    pub(super) crash_mode: CrashMode,
    pub(super) clock: Clock,
    options: EngineOptions,
    pub(super) config: ShardConfig,
    /// A leader that enters or leaves a joint configuration may fail right then (M11).
    fails_in_joint: bool,
    /// A process that starts, buries a peer or installs a snapshot may fail right then.
    fails_in_jobs: bool,
    /// The number of the sync that is to fail.
    failing_sync: Option<u64>,
    /// What was acknowledged here may be lost: the next start has to find out by itself.
    pub(super) hurt: Option<Hurt>,
    /// The version a region reached here in any life, whatever the disk kept of it.
    versions: BTreeMap<GroupId, u64>,
    /// Where another process is, and who it has to be; nobody is spoken to whom it does not find.
    pub(super) resolve: Box<dyn Fn(StoreId) -> Option<Destination>>,
    /// Those it does not find, and who said in this life of the process where they are.
    pub(super) introduced: BTreeMap<StoreId, Destination>,
}

/// What is gone when the process is.
pub(super) struct Running<S: StateMachine> {
    pub(super) engine: Engine,
    wal: Wal,
    pub(super) shard: Shard<S>,
    inbox: Vec<Event>,
    /// A run is scheduled.
    run_scheduled: bool,
    next_waiter: u64,
    /// Work for the log that waits for the sync under way.
    wal_queue: Vec<WalWork>,
    /// What the sync under way covers.
    wal_syncing: Option<Vec<WalWork>>,
    /// The log is to be maintained as soon as its thread has synced.
    is_upkeep_due: bool,
    /// When the last notice that the log is durable reaches the shard.
    noticed_at: Duration,
    /// Regions in service here.
    pub(super) regions: BTreeMap<GroupId, Arc<RegionState>>,
    pub(super) leases: BTreeMap<GroupId, LeaseCell>,
    /// Groups that served reads in their lease since it was renewed.
    pub(super) read_in_lease: BTreeSet<GroupId>,
    /// Groups led from here, and in which term.
    pub(super) leads: BTreeMap<GroupId, Term>,
    /// Answers that nobody has taken yet.
    pub(super) outcomes: Vec<(WaiterId, Outcome<S::Reply>)>,
    /// Groups of which there is news: a new range, other peers, another leader.
    pub(super) news: Vec<GroupId>,
    next_snapshot: u64,
    /// Somebody waits for what is in memory to be flushed.
    flush_wanted: bool,
    /// The log waits for space.
    log_is_stuck: bool,
    /// Who spoke to this process, and by which start.
    roster: Roster,
    /// Which other stores live, for groups that sleep.
    neighbours: Neighbours,
}

/// How a disk broke its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurt {
    /// A sync failed: the process left a mark and ended (D4).
    FailedSync,
    /// A bit of the log turned over below the watermark (D6).
    DamagedLog,
    /// It crashed while it dealt with a sync that had failed: it may have left the mark.
    CrashedAtFailedSync,
}

/// One run's records and the promises that rest on them.
#[derive(Debug)]
struct WalWork {
    batch: Batch,
    messages: Vec<PeerMessage>,
    token: PersistToken,
}

/// What a replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) applied: LogIndex,
    pub(super) epoch: RegionEpoch,
    pub(super) pairs: Vec<(Bytes, Bytes)>,
}

/// Why a machine stopped working.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It reached its crash point.
    Crashed,
    /// A sync failed: the process ends and does not try again (D4).
    SyncFailed,
    /// There is no space on its disk, so it cannot start.
    NoSpace,
    /// It should never have happened.
    Violation(String),
}

/// What there is to do for a process.
#[derive(Debug)]
pub(super) enum Work {
    /// The shard takes what is in its inbox.
    Run,
    Tick,
    /// The background threads look for work.
    Upkeep,
    /// The sync of the log came back.
    Synced,
    /// The log tries again to write what found no space.
    RetryLog,
    /// Something happened, late.
    Post(Box<Event>),
    /// The pool does something to ranges: first everything in memory is flushed.
    Job(Job),
    /// Everything in memory was flushed for it; others may have written since.
    JobFlushed(Job),
    /// A store looks which reports to placement are due.
    Report,
    /// The desk of a placement member looks after itself.
    Desk,
}

/// Work of the pool that changes whole ranges.
#[derive(Debug)]
pub(super) enum Job {
    Install(Box<SnapshotInstall>),
    /// Drops the data of a dead peer.
    Destroy(Box<Destroy>),
}

impl<S: StateMachine> Host<S> {
    pub(super) fn new(id: StoreId, random: &mut Prng) -> Host<S> {
        let clock = Clock::draw(random);
        let mut config = ShardConfig::new(id, 0);
        config.log_bytes_max = random.between(2, 64) << 10;
        config.log_bytes_silent_max = config.log_bytes_max / 2;
        config.memory_bytes_max = 4 << 10;
        config.observe = true;
        Host {
            id,
            env: SimEnv::new(random.next_u64()),
            life: 0,
            running: None,
            paused_until: Duration::ZERO,
            sync_time: Duration::from_micros(random.between(100, 3_000)),
            late_notice_one_in: match random.chance(2) {
                true => random.between(2, 20),
                false => 0,
            },
            crash_mode: CrashMode::DropUnsynced,
            fails_in_joint: random.chance(2),
            fails_in_jobs: random.chance(2),
            failing_sync: None,
            hurt: None,
            clock,
            options: options(random),
            config,
            versions: BTreeMap::new(),
            resolve: Box::new(|store| Some(destination(store))),
            introduced: BTreeMap::new(),
        }
    }

    /// Where another process is, if this one knows.
    pub(super) fn destination(&self, store: StoreId) -> Option<Destination> {
        (self.resolve)(store).or_else(|| self.introduced.get(&store).cloned())
    }

    /// Takes from the machine what the setup does not allow.
    pub(super) fn limited(mut self, setup: &Setup) -> Host<S> {
        if !setup.allows("drift") {
            self.clock.steady();
        }
        self.fails_in_joint &= setup.allows("joint");
        self.fails_in_jobs &= setup.allows("crash_in_job");
        if !setup.allows("late_notice") {
            self.late_notice_one_in = 0;
        }
        self
    }

    /// Its own monotonic clock.
    pub(super) fn local(&self, context: &Context) -> Duration {
        self.clock.local(context.now())
    }

    /// Starts the process on what the disk holds.
    pub(super) fn start(
        &mut self,
        context: &mut Context,
        factory: Factory<S>,
    ) -> Result<(), Trouble> {
        self.life += 1;
        self.config.seed = self
            .config
            .seed
            .wrapping_mul(31)
            .wrapping_add(self.id.0 + self.life);
        context.invariants.on_restart(self.id);
        context.invariants.on_clock(self.id, self.clock);
        context.lives.insert(self.id, self.life);
        if self.life > 1 && self.fails_in_jobs && context.random.chance(4) {
            // Recovery is repeated, perhaps on what its first attempt has left.
            context.report.fault("crash_in_start");
            self.crash_at_io(context.random.between(1, 40), self.crash_mode);
        }
        let now = self.local(context);
        let recovered = self.recover(context, now, factory);
        let effects = recovered.map_err(|error| match self.engine_trouble(&error) {
            Some(trouble) => trouble,
            None => Trouble::NoSpace,
        })?;
        let first = Duration::from_millis(context.random.below(50));
        context.after(first, self.id, self.life, Work::Tick);
        context.after(first, self.id, self.life, Work::Upkeep);
        self.carry_out(context, effects)?;
        // What is damaged is on record from now on.
        self.hurt = None;
        Ok(())
    }

    /// The process is gone, and of the disk stays what the mode says.
    pub(super) fn crash(&mut self, mode: CrashMode) {
        if self.sync_has_failed() && self.hurt.is_none() {
            self.hurt = Some(Hurt::CrashedAtFailedSync);
        }
        self.running = None;
        self.life += 1;
        self.paused_until = Duration::ZERO;
        self.failing_sync = None;
        self.env.crash(mode);
    }

    /// Arms a crash in the middle of an I/O.
    pub(super) fn crash_at_io(&mut self, ios: u64, mode: CrashMode) {
        self.crash_mode = mode;
        self.env.crash_at(self.env.io_count() + ios);
    }

    /// No crash is armed any more.
    pub(super) fn mend(&mut self) {
        self.env.crash_at(u64::MAX);
        self.fails_in_joint = false;
        self.fails_in_jobs = false;
    }

    /// An error of the storage layers is a crash if the machine reached its crash point, and the
    /// end of the process if a sync failed.
    pub(super) fn trouble(&self, error: &dyn std::fmt::Display) -> Trouble {
        match (self.env.is_stopped(), self.sync_has_failed()) {
            (true, _) => Trouble::Crashed,
            (false, true) => Trouble::SyncFailed,
            (false, false) => Trouble::Violation(format!("store {}: {error}", self.id)),
        }
    }

    /// The same of an error of the engine; `None` if the same may be tried again later.
    pub(super) fn engine_trouble(&self, error: &EngineError) -> Option<Trouble> {
        let is_over = self.env.is_stopped() || self.sync_has_failed();
        (is_over || error.kind() != ErrorKind::Retry).then(|| self.trouble(error))
    }

    /// A name for somebody who waits.
    pub(super) fn waiter(&mut self) -> Option<WaiterId> {
        let running = self.running.as_mut()?;
        running.next_waiter += 1;
        Some(WaiterId(running.next_waiter))
    }

    /// A region in service here.
    pub(super) fn region(&self, group: GroupId) -> Option<&Arc<RegionState>> {
        self.running.as_ref()?.regions.get(&group)
    }
}

/// Small sizes, so that everything that happens in a large store happens here within seconds.
fn options(random: &mut Prng) -> EngineOptions {
    EngineOptions {
        wal: WalOptions {
            segment_bytes: 16 << 10 << random.below(3),
            segments_target: random.between(3, 6) as u32,
            // More than the target and what is reserved (9), so that it never fills for good; so few
            // that writes have to wait for room now and then.
            segments_max: 12,
            segments_spare: 1,
        },
        lsm: LsmOptions {
            memtable_bytes_max: random.between(2, 64) << 10,
            block_bytes: 256 << random.below(4),
            cache_bytes_max: random.between(1, 64) << 10,
            level_base_bytes: 16 << 10,
            table_bytes_max: 8 << 10,
            ..LsmOptions::default()
        },
    }
}
