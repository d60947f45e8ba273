//! A node: the threads of one process, from recovery to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tinykv_env::Env;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{
    Event, Observed, RegionChange, Shard, ShardConfig, StateMachine, StoreId, Territory,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::checksum::Checksums;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::handle::{Inner, NodeHandle};
use crate::identity::{DataDir, Identity};
use crate::jobs::Jobs;
use crate::metrics::NodeMetrics;
use crate::options::NodeOptions;
use crate::pool::Pool;
use crate::shard_thread::{Asleep, LsmReader, ShardThread};
use crate::shards::Shards;
use crate::spawn::{Fatal, Tasks, Threads};
use crate::storage::{Found, Storage};
use crate::transport::snapshot::{SnapshotFiles, SnapshotReceiver, SnapshotSender};
use crate::transport::{PeerService, Resolver, Transport};
use crate::trouble::Trouble;
use crate::upkeep::{Upkeep, UpkeepParts};
use crate::waiters::Waiters;
use crate::wal_queue::WalQueue;
use crate::wal_thread::WalThread;

/// How long tasks of the transport may take to end.
const TASKS_TIME_MAX: Duration = Duration::from_secs(2);

/// What a process wants to be told, on the shard's thread: it must not wait for anything.
pub trait Hooks: Send + Sync + 'static {
    /// A region began, changed, changed its leader, or ended here. The directory shows it already.
    fn region_changed(&self, _change: &RegionChange) {}

    /// What an applied entry did, if the shards are told to observe.
    fn observed(&self, _observed: &Observed) {}

    /// A replica was found damaged and takes no further part.
    fn damaged(&self, _group: GroupId, _peer: PeerId) {}
}

/// A process that wants to be told nothing.
impl Hooks for () {}

/// What a node is made of.
pub struct NodeParts<S: StateMachine> {
    /// The data directory, with an identity.
    pub dir: DataDir,
    /// Log and engine in it.
    pub storage: Storage,
    /// Settings of the shell.
    pub options: NodeOptions,
    /// Settings of the groups; store and seed are set by the node.
    pub shard: ShardConfig,
    /// Makes the state machine of a group.
    pub factory: Arc<dyn Fn(GroupId) -> S + Send + Sync>,
    /// Knows where other stores are.
    pub resolver: Arc<dyn Resolver>,
    /// Is told what happens.
    pub hooks: Arc<dyn Hooks>,
    /// Where the transport's tasks run.
    pub runtime: Handle,
    /// What happens when the process must not go on.
    pub fatal: Fatal,
}

/// A running node. It is stopped by [`Node::shutdown`] or [`Node::halt`]; dropped without, its
/// threads go on.
pub struct Node<S: StateMachine> {
    handle: NodeHandle<S>,
    service: PeerService,
    options: NodeOptions,
    transport: Transport,
    wal: Arc<WalQueue>,
    pool: Pool,
    upkeep: Upkeep,
    tasks: Tasks,
    shard_threads: Threads,
    wal_threads: Threads,
    other_threads: Threads,
    /// Holds the lock until the last thread has ended.
    _dir: DataDir,
}

/// What threads share.
struct Common<S: StateMachine> {
    env: Arc<dyn Env>,
    identity: Identity,
    admission: Arc<Admission>,
    directory: Arc<Directory>,
    checksums: Arc<Checksums>,
    shards: Arc<Shards<S>>,
    transport: Transport,
    wal: Arc<WalQueue>,
    pool: Pool,
    trouble: Trouble,
    metrics: NodeMetrics,
    asleep: Arc<watch::Sender<usize>>,
}

impl<S: StateMachine> Node<S> {
    /// Recovers every group that lives here and starts all threads. When it returns, the regions
    /// are in the directory and requests are taken.
    ///
    /// # Errors
    /// [`Failure::Storage`] when what is on disk makes no sense, [`Failure::Other`] when a thread
    /// cannot be started.
    ///
    /// # Panics
    /// When the data directory has no identity yet.
    pub fn start(mut parts: NodeParts<S>) -> Result<Node<S>, Failure> {
        parts.options.validate()?;
        let other_threads = Threads::new(parts.fatal.clone());
        let common = Common::new(&parts, &other_threads)?;
        let found = parts.storage.recover::<S>(&parts.dir)?;
        let files = found.files.clone();
        let snapshots = SnapshotSender::new(
            &common.transport,
            common.pool.clone(),
            parts.options.snapshot_bytes_per_second,
        );
        let shard_threads = Threads::new(parts.fatal.clone());
        common.start_shards(&parts, found, &snapshots, &shard_threads)?;
        let upkeep = Upkeep::start(
            &other_threads,
            parts.options.upkeep_threads,
            &UpkeepParts {
                env: Arc::clone(&common.env),
                data_dir: parts.dir.path().to_owned(),
                engine: parts.storage.engine.clone(),
                admission: Arc::clone(&common.admission),
                pool: common.pool.clone(),
                disk_reserve_bytes: parts.options.disk_reserve_bytes,
                trouble: common.trouble.clone(),
            },
            &common.shards,
        )?;
        let tasks = common.transport.tasks();
        let handle = common.handle(&parts.storage);
        let receiver = common.snapshot_receiver(&files);
        let wal_threads = Threads::new(parts.fatal.clone());
        common.start_log(parts.storage, files, &wal_threads)?;
        Ok(Node {
            service: PeerService::new(&common.transport, receiver),
            handle,
            options: parts.options,
            transport: common.transport,
            wal: common.wal,
            pool: common.pool,
            upkeep,
            tasks,
            shard_threads,
            wal_threads,
            other_threads,
            _dir: parts.dir,
        })
    }

    /// What services use.
    pub fn handle(&self) -> NodeHandle<S> {
        self.handle.clone()
    }

    /// The service through which other processes reach this one.
    pub fn peer_service(&self) -> PeerService {
        self.service.clone()
    }

    /// Hands leaders to others, answers everybody who waits, and ends all threads. The server
    /// must still run while leaders are handed over; tell it to stop afterwards.
    pub async fn shutdown(self) {
        self.evict_leaders().await;
        self.halt().await;
    }

    /// Ends as a crash would, but for the threads and those who wait for an answer: leaders stay,
    /// nothing is flushed.
    pub async fn halt(self) {
        let shards = &self.handle.inner.shards;
        shards.broadcast(|| Event::Shutdown);
        let runtime = self.tasks.runtime().clone();
        let (shard_threads, wal_threads, wal) = (self.shard_threads, self.wal_threads, self.wal);
        let joined = runtime.spawn_blocking(move || {
            shard_threads.join();
            wal.close();
            wal_threads.join();
        });
        report(joined.await);
        self.transport.stop();
        self.tasks.join(TASKS_TIME_MAX).await;
        self.upkeep.stop();
        self.pool.close();
        let other_threads = self.other_threads;
        report(runtime.spawn_blocking(move || other_threads.join()).await);
        self.handle.inner.lsm.close();
    }

    async fn evict_leaders(&self) {
        let inner = &self.handle.inner;
        let time_max = self.options.evict_time_max;
        let deadline = inner.env.now() + time_max;
        let mut changes = inner.directory.changes();
        inner.shards.broadcast(|| Event::EvictLeaders { deadline });
        let gone = async {
            while self.leads_groups_of_several() {
                changes.changed().await.expect("the directory is there");
            }
        };
        if tokio::time::timeout(time_max, gone).await.is_err() {
            tracing::info!("stopping with leaders that nobody took over in time");
        }
    }

    /// A group without another voter keeps its leader.
    fn leads_groups_of_several(&self) -> bool {
        self.handle.directory().all().iter().any(|entry| {
            let view = entry.view();
            let voters = view.state.as_ref().map_or(0, |state| {
                let configuration = state.region.configuration();
                configuration.voters.len()
            });
            view.leads && voters > 1
        })
    }
}

impl<S: StateMachine> Common<S> {
    fn new(parts: &NodeParts<S>, threads: &Threads) -> Result<Common<S>, Failure> {
        let identity = parts
            .dir
            .identity()
            .expect("a node runs in an established directory");
        let env = Arc::clone(parts.dir.env());
        let admission = Arc::new(Admission::new(parts.options.log_queue_bytes_max));
        let shards = Arc::new(Shards::new(parts.options.shards, Arc::clone(&admission)));
        let metrics = NodeMetrics::default();
        let transport = Transport::new(
            identity,
            Arc::clone(&parts.resolver),
            Arc::<Shards<S>>::clone(&shards),
            Tasks::new(parts.runtime.clone(), parts.fatal.clone()),
            metrics.clone(),
            Arc::clone(&env),
        );
        Ok(Common {
            trouble: Trouble::new(
                Arc::clone(&env),
                parts.dir.path().to_owned(),
                parts.fatal.clone(),
            ),
            env,
            identity,
            wal: Arc::new(WalQueue::new(Arc::clone(&admission))),
            admission,
            directory: Arc::default(),
            checksums: Arc::default(),
            shards,
            transport,
            pool: Pool::start(
                threads,
                parts.options.pool_threads,
                parts.storage.lsm().changes(),
            )?,
            metrics,
            asleep: Arc::default(),
        })
    }

    fn start_shards(
        &self,
        parts: &NodeParts<S>,
        found: Found,
        snapshots: &SnapshotSender,
        threads: &Threads,
    ) -> Result<(), Failure> {
        let homes = self.shards.homes();
        homes.settle(&found);
        let mut parts_found: BTreeMap<usize, (Vec<_>, Vec<_>)> = BTreeMap::new();
        for group in found.groups {
            let part = parts_found.entry(homes.of(group.group)).or_default();
            part.0.push(group);
        }
        for tombstone in found.tombstones {
            let part = parts_found.entry(homes.of(tombstone.group)).or_default();
            part.1.push(tombstone);
        }
        let engine = &parts.storage.engine;
        let territory = Arc::<Territory>::default();
        let mut recovered = Vec::new();
        for number in 0..self.shards.all().len() {
            let factory = Arc::clone(&parts.factory);
            let config = ShardConfig {
                store: StoreId(self.identity.member_id),
                seed: self.env.random_u64(),
                log_was_damaged: parts.storage.was_damaged(),
                ..parts.shard.clone()
            };
            let (shard, effects) = Shard::recover_in(
                Arc::clone(&territory),
                config,
                Box::new(move |group| factory(group)),
                parts_found.remove(&number).unwrap_or_default(),
                &LsmReader::new(engine.lsm()),
                self.env.now(),
            )
            .map_err(Failure::storage)?;
            // Before the first request is taken, whoever looks finds what lives here.
            for change in &effects.region_changes {
                self.directory.apply(change);
            }
            recovered.push((shard, effects));
        }
        // Nobody may claim keys before all that are held are known.
        for (number, (shard, recovered)) in recovered.into_iter().enumerate() {
            let inbox = &self.shards.all()[number];
            let tick = parts.shard.tick;
            let thread = ShardThread {
                number,
                homes: Arc::clone(homes),
                shard,
                inbox: Arc::clone(inbox),
                shards: Arc::clone(&self.shards),
                waiters: Waiters::new(),
                engine: engine.clone(),
                env: Arc::clone(&self.env),
                tick,
                directory: Arc::clone(&self.directory),
                hooks: Arc::clone(&parts.hooks),
                transport: self.transport.clone(),
                wal: Arc::clone(&self.wal),
                jobs: Jobs {
                    pool: self.pool.clone(),
                    engine: engine.clone(),
                    files: found.files.clone(),
                    snapshots: snapshots.clone(),
                    inbox: Arc::clone(inbox),
                    directory: Arc::clone(&self.directory),
                    checksums: Arc::clone(&self.checksums),
                    trouble: self.trouble.clone(),
                },
                trouble: self.trouble.clone(),
                metrics: self.metrics.clone(),
                asleep: Asleep::new(&self.asleep),
                damaged: BTreeSet::new(),
            };
            threads.spawn(format!("shard-{number}"), move || thread.run(recovered))?;
        }
        Ok(())
    }

    fn snapshot_receiver(&self, files: &SnapshotFiles) -> SnapshotReceiver {
        let shards = Arc::clone(&self.shards);
        SnapshotReceiver::new(
            StoreId(self.identity.member_id),
            files.clone(),
            self.pool.clone(),
            S::ranges,
            move |snapshot| {
                let inbox = shards.of(snapshot.message.group);
                inbox.push_notice(Event::SnapshotReceived(Box::new(snapshot)));
            },
        )
    }

    fn start_log(
        &self,
        storage: Storage,
        files: SnapshotFiles,
        threads: &Threads,
    ) -> Result<(), Failure> {
        let shards = Arc::clone(&self.shards);
        let thread = WalThread {
            engine: storage.engine,
            wal: storage.wal,
            queue: Arc::clone(&self.wal),
            admission: Arc::clone(&self.admission),
            transport: self.transport.clone(),
            env: Arc::clone(&self.env),
            files,
            pool: self.pool.clone(),
            trouble: self.trouble.clone(),
            metrics: self.metrics.clone(),
            notify: Box::new(move |notice| shards.hear(notice)),
        };
        threads.spawn("log", move || thread.run())
    }

    fn handle(&self, storage: &Storage) -> NodeHandle<S> {
        NodeHandle {
            inner: Arc::new(Inner {
                identity: self.identity,
                env: Arc::clone(&self.env),
                lsm: storage.lsm().clone(),
                pool: self.pool.clone(),
                checksums: Arc::clone(&self.checksums),
                directory: Arc::clone(&self.directory),
                admission: Arc::clone(&self.admission),
                shards: Arc::clone(&self.shards),
                transport: self.transport.clone(),
                record_bytes_max: storage.wal.record_bytes_max(),
                last_waiter: AtomicU64::new(0),
                metrics: self.metrics.clone(),
                asleep: Arc::clone(&self.asleep),
            }),
        }
    }
}

/// A thread that panicked has reported itself; the join itself cannot fail otherwise.
fn report(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined {
        tracing::error!("waiting for the threads failed: {error}");
    }
}
