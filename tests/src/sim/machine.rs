//! A simulated store: the production `Shard`, `Engine` (log and tree) and state machine on a
//! simulated machine. This file is its life and death; [`super::shell`] is its work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tinykv_engine::{Engine, EngineError, EngineOptions, Recovery};
use tinykv_env::{CrashMode, Prng, SimEnv};
use tinykv_lsm::{Ingest, LsmOptions, OriginId};
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{
    Effects, Event, InstallRecord, LeaseCell, PeerMessage, PersistToken, RecoveredReplica,
    RecoveredTombstone, RegionState, Shard, ShardConfig, SnapshotHandle, StateMachine, StoreId,
    WaiterId,
};
use tinykv_store::command::Reply;
use tinykv_store::machine::RawMachine;
use tinykv_wal::{Batch, Record, Wal, WalOptions};

use super::client::Call;
use super::reader::LsmReader;

/// Log entries handed to a replica when it starts.
const TAIL_BYTES_MAX: usize = 256 << 10;

/// One store of the cluster.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) store: StoreId,
    pub(super) env: SimEnv,
    /// Counts starts: what was scheduled for an earlier life is ignored.
    pub(super) life: u64,
    pub(super) running: Option<Running>,
    /// Until when it does nothing.
    pub(super) paused_until: Duration,
    /// How long a sync of the log takes.
    pub(super) sync_time: Duration,
    /// What the disk will hold when the armed crash point is reached.
    pub(super) crash_mode: CrashMode,
    clock: Clock,
    options: EngineOptions,
    pub(super) config: ShardConfig,
}

/// What is gone when the process is.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) wal: Wal,
    pub(super) shard: Shard<RawMachine>,
    pub(super) inbox: Vec<Event>,
    /// A run is scheduled.
    pub(super) run_scheduled: bool,
    pub(super) waiters: BTreeMap<WaiterId, Call>,
    pub(super) next_waiter: u64,
    /// Work for the log that waits for the sync under way.
    pub(super) wal_queue: Vec<WalWork>,
    /// What the sync under way covers.
    pub(super) wal_syncing: Option<Vec<WalWork>>,
    pub(super) regions: BTreeMap<GroupId, RegionState>,
    pub(super) leases: BTreeMap<GroupId, LeaseCell>,
    pub(super) leads: BTreeMap<GroupId, tinykv_raft::Term>,
    pub(super) next_snapshot: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("leads", &self.leads)
            .finish_non_exhaustive()
    }
}

/// One run's records and the promises that rest on them.
#[derive(Debug)]
pub(super) struct WalWork {
    pub(super) batch: Batch,
    pub(super) messages: Vec<PeerMessage>,
    pub(super) token: PersistToken,
}

/// A clock that runs a little fast or slow, from an origin of its own.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Parts in a thousand: 1000 is true time.
    rate: u32,
    origin: Duration,
}

/// Why a machine stopped working.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It reached its crash point.
    Crashed,
    /// It should never have happened.
    Violation(String),
}

impl Machine {
    pub(super) fn new(store: StoreId, random: &mut Prng) -> Machine {
        let clock = Clock {
            rate: random.between(820, 1_180) as u32,
            origin: Duration::from_millis(random.below(100_000)),
        };
        let mut config = ShardConfig::new(store, 0);
        config.log_bytes_max = random.between(2, 64) << 10;
        config.log_bytes_silent_max = config.log_bytes_max / 2;
        config.memory_bytes_max = 4 << 10;
        config.observe = true;
        Machine {
            store,
            env: SimEnv::new(random.next_u64()),
            life: 0,
            running: None,
            paused_until: Duration::ZERO,
            sync_time: Duration::from_micros(random.between(100, 3_000)),
            crash_mode: CrashMode::DropUnsynced,
            clock,
            options: options(random),
            config,
        }
    }

    /// The machine's own monotonic clock at an instant of true time.
    pub(super) fn local(&self, now: Duration) -> Duration {
        self.clock.origin + now * self.clock.rate / 1000
    }

    /// How long a stretch of the machine's own time takes in true time.
    pub(super) fn true_time(&self, local: Duration) -> Duration {
        local * 1000 / self.clock.rate
    }

    /// The true time at which the machine's own clock will show `local`.
    pub(super) fn true_instant(&self, local: Duration) -> Duration {
        self.true_time(local.saturating_sub(self.clock.origin))
    }

    /// Starts the process on what the disk holds. The effects of recovery are still to be
    /// carried out.
    pub(super) fn start(&mut self, now: Duration) -> Result<Effects<Reply>, Trouble> {
        self.life += 1;
        self.config.seed = self
            .config
            .seed
            .wrapping_mul(31)
            .wrapping_add(self.store.0 + self.life);
        let result = self.recover(now);
        result.map_err(|error| self.trouble(&error))
    }

    fn recover(&mut self, now: Duration) -> Result<Effects<Reply>, EngineError> {
        let dir = Path::new("data");
        let (engine, recovery) = Engine::open(self.env.shared(), dir, self.options.clone())?;
        let Recovery {
            mut writer,
            groups,
            tombstones,
            damaged,
            ..
        } = recovery;
        assert!(
            damaged.is_empty(),
            "D5: a crash looks like damage: {damaged:?}"
        );
        let log = engine.log_reader();
        let (mut replicas, mut installed) = (Vec::new(), Batch::default());
        for (group, found) in groups {
            let mut recovered = RecoveredReplica {
                group,
                tail: Vec::new(),
                applied: found.applied,
                log: found.log,
            };
            if let Some((snapshot, payload)) = recovered.log.installing.take() {
                let record = InstallRecord::decode(&payload).expect("written by the shard");
                let ingest = self.ingest(group, snapshot.index, &record)?;
                engine.install(group, snapshot, &ingest)?;
                recovered.applied = engine.applied(group);
                recovered.log.installed = Some((snapshot, payload.clone()));
                installed.push(Record::Installed {
                    group,
                    snapshot,
                    payload,
                });
            }
            let (first, last) = (
                recovered.log.truncated.index.next(),
                recovered.log.last.index,
            );
            if first <= last {
                recovered.tail = log
                    .entries(group, first, last, TAIL_BYTES_MAX)
                    .map_err(|e| EngineError::InvalidOptions(e.to_string()))?;
                if recovered
                    .tail
                    .last()
                    .is_some_and(|entry| entry.id != recovered.log.last)
                {
                    recovered.tail.clear();
                }
            }
            replicas.push(recovered);
        }
        let tombstones = tombstones
            .into_iter()
            .map(|(group, payload)| RecoveredTombstone { group, payload })
            .collect();
        if !installed.is_empty() {
            writer.append(&installed)?;
            writer.sync()?;
        }
        let lsm = engine.lsm().clone();
        let (shard, effects) = Shard::recover(
            self.config.clone(),
            Box::new(|_| RawMachine),
            replicas,
            tombstones,
            &LsmReader::new(&lsm),
            self.local(now),
        )
        .unwrap_or_else(|error| panic!("store {} does not recover: {error}", self.store));
        self.running = Some(Running {
            engine,
            wal: writer,
            shard,
            inbox: Vec::new(),
            run_scheduled: false,
            waiters: BTreeMap::new(),
            next_waiter: self.life << 32,
            wal_queue: Vec::new(),
            wal_syncing: None,
            regions: BTreeMap::new(),
            leases: BTreeMap::new(),
            leads: BTreeMap::new(),
            next_snapshot: self.life << 32,
        });
        Ok(effects)
    }

    /// The process is gone, and of the disk stays what the mode says.
    pub(super) fn crash(&mut self, mode: CrashMode) {
        self.running = None;
        self.life += 1;
        self.paused_until = Duration::ZERO;
        self.env.crash(mode);
    }

    /// An error of the storage layers is a crash if the machine reached its crash point.
    pub(super) fn trouble(&self, error: &dyn std::fmt::Display) -> Trouble {
        match self.env.is_stopped() {
            true => Trouble::Crashed,
            false => Trouble::Violation(format!("store {}: {error}", self.store)),
        }
    }

    /// What installing a received snapshot changes in the tree.
    pub(super) fn ingest(
        &self,
        group: GroupId,
        index: LogIndex,
        record: &InstallRecord,
    ) -> Result<Ingest, EngineError> {
        let mut drop = RawMachine::ranges(&record.after.region);
        if let Some(before) = &record.before {
            drop.extend(RawMachine::ranges(before));
        }
        self.ingest_of(group, index, &record.after, &drop, record.handle)
    }

    pub(super) fn ingest_of(
        &self,
        group: GroupId,
        index: LogIndex,
        state: &RegionState,
        drop: &[tinykv_replica::KeyRange],
        handle: SnapshotHandle,
    ) -> Result<Ingest, EngineError> {
        let env = self.env.shared();
        let meta = snapshot_path(handle, "meta");
        if env.exists(&meta)? {
            env.remove_file(&meta)?;
        }
        let mut writer = tinykv_lsm::SstWriter::create(&env, &meta, &self.options.lsm)?;
        writer.add(&RawMachine::state_key(group), &state.encode())?;
        writer.finish()?;
        env.sync_dir(Path::new(SNAPSHOTS))?;
        let mut files = vec![meta];
        let data = snapshot_path(handle, "data");
        if env.exists(&data)? {
            files.push(data);
        }
        let pair = |range: &tinykv_replica::KeyRange| (range.start.clone(), range.end.clone());
        Ok(Ingest {
            drop: drop.iter().map(pair).collect(),
            files,
            applied: Some((OriginId(group.0), index.0)),
        })
    }

    /// Keeps the data of a received snapshot in files, durably.
    pub(super) fn keep_snapshot(
        &self,
        handle: SnapshotHandle,
        pairs: &[(bytes::Bytes, bytes::Bytes)],
    ) -> Result<(), EngineError> {
        let env = self.env.shared();
        let dir = Path::new(SNAPSHOTS);
        env.create_dir_all(dir)?;
        env.sync_dir(Path::new(""))?;
        let path = snapshot_path(handle, "data");
        let mut writer = tinykv_lsm::SstWriter::create(&env, &path, &self.options.lsm)?;
        for (key, value) in pairs {
            writer.add(key, value)?;
        }
        if writer.finish()?.is_none() && env.exists(&path)? {
            env.remove_file(&path)?;
        }
        env.sync_dir(dir)?;
        Ok(())
    }
}

const SNAPSHOTS: &str = "snapshots";

fn snapshot_path(handle: SnapshotHandle, what: &str) -> PathBuf {
    Path::new(SNAPSHOTS).join(format!("{:016x}.{what}", handle.0))
}

/// Small sizes, so that everything that happens in a large store happens here within seconds.
fn options(random: &mut Prng) -> EngineOptions {
    EngineOptions {
        wal: WalOptions {
            segment_bytes: 16 << 10 << random.below(3),
            segments_target: random.between(3, 6) as u32,
            segments_max: 40,
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
