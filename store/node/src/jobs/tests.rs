//! Jobs on a disk without space.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tinykv_engine::EngineOptions;
use tinykv_env::SimEnv;
use tinykv_lsm::{Changes, SstWriter, WriteBatch};
use tinykv_raft::{EntryId, HardState, LogIndex, PeerId, Term};
use tinykv_replica::{BirthRecord, InstallRecord, Peer, Region, RegionEpoch, RegionState, StoreId};
use tinykv_wal::{Batch, Record, Wal};
use tokio::runtime::Handle;

use super::*;
use crate::identity::{DataDir, Role};
use crate::inbox::Item;
use crate::inert::Inert;
use crate::metrics::NodeMetrics;
use crate::spawn::{Fatal, Tasks, Threads};
use crate::storage::Storage;
use crate::transport::{Destination, Resolver, Sink, Transport};

const GROUP: GroupId = GroupId(5);
const PEER: PeerId = PeerId(11);
const SNAPSHOT: EntryId = EntryId {
    term: Term(3),
    index: LogIndex(40),
};
const HANDLE: SnapshotHandle = SnapshotHandle(0xabc);

/// A process without others.
struct Alone;

impl Resolver for Alone {
    fn resolve(&self, _store: StoreId) -> futures::future::BoxFuture<'_, Option<Destination>> {
        Box::pin(futures::future::ready(None))
    }
}

impl Sink for Alone {
    fn deliver(&self, _messages: Vec<tinykv_replica::PeerMessage>) {}
    fn unreachable(&self, _store: StoreId) {}
    fn dead(&self, _store: StoreId) {}
    fn fresh(&self, _store: StoreId) {}
    fn lost(&self, _store: StoreId) {}
}

/// A shard's jobs on a simulated disk, done by one thread.
struct Bench {
    env: SimEnv,
    jobs: Jobs<Inert>,
    threads: Threads,
    _dir: DataDir,
    _wal: Wal,
}

impl Bench {
    /// A learner waits for a snapshot that is on disk, and the engine holds something unflushed.
    fn new() -> Bench {
        let env = SimEnv::new(1);
        let mut dir = DataDir::open(env.shared(), Path::new("store"), Role::Store).expect("new");
        dir.establish(7, 1).expect("identity");
        let Storage {
            engine, mut wal, ..
        } = Storage::open(&dir, options()).expect("storage");
        begin_installation(&dir, &mut wal);
        let mut batch = WriteBatch::new();
        batch.put("another", "unflushed");
        engine.lsm().write(&batch).expect("written");

        let fatal = Fatal::new(|failure| panic!("{failure}"));
        let threads = Threads::new(fatal.clone());
        let pool = Pool::start(&threads, 1, Changes::default()).expect("a thread");
        let transport = Transport::new(
            dir.identity().expect("established"),
            Arc::new(Alone),
            Arc::new(Alone),
            Tasks::new(Handle::current(), fatal.clone()),
            NodeMetrics::default(),
            env.shared(),
        );
        let keep = [HANDLE].into();
        let files = SnapshotFiles::open(env.shared(), dir.snapshot_dir(), options().lsm, &keep);
        let jobs = Jobs {
            pool: pool.clone(),
            engine,
            files: files.expect("a folder"),
            snapshots: SnapshotSender::new(&transport, pool, 1 << 20),
            inbox: Arc::new(Inbox::new()),
            directory: Arc::default(),
            checksums: Arc::default(),
            trouble: Trouble::new(env.shared(), dir.path().to_owned(), fatal),
        };
        Bench {
            env,
            jobs,
            threads,
            _dir: dir,
            _wal: wal,
        }
    }

    /// From now on so many bytes more fit on the disk.
    fn leave_space(&self, bytes: u64) {
        self.env.set_capacity(Some(u64::MAX));
        let free = self.env.shared().available_space(Path::new("store"));
        let used = u64::MAX - free.expect("the disk answers");
        self.env.set_capacity(Some(used + bytes));
    }

    /// Waits until the thread has done what it was given, and says what the shard hears of it.
    async fn heard(&self) -> Vec<Event> {
        // The only thread comes to this after all else.
        self.jobs.pool.run(|| ()).await.expect("the pool runs");
        let events = self.jobs.inbox.take(Duration::ZERO).into_iter();
        events
            .map(|item| match item {
                Item::Event(event) => event,
                _ => panic!("something that is no event"),
            })
            .collect()
    }

    fn value(&self, key: &[u8]) -> Option<Bytes> {
        self.jobs.engine.lsm().snapshot().get(key).expect("read")
    }

    async fn end(self) {
        self.jobs.pool.close();
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.join());
        joined.await.expect("joined");
    }
}

fn options() -> EngineOptions {
    let mut options = EngineOptions::default();
    options.wal.segment_bytes = 1 << 20;
    options.lsm.cache_bytes_max = 1 << 20;
    options
}

fn state() -> RegionState {
    RegionState {
        region: Region {
            id: GROUP,
            start: Bytes::new(),
            end: Bytes::new(),
            epoch: RegionEpoch::FIRST,
            peers: vec![Peer::voter(PeerId(20), StoreId(2)), learner()],
        },
        open: true,
        machine: Bytes::new(),
        ..RegionState::default()
    }
}

fn learner() -> Peer {
    Peer::learner(PEER, StoreId(1))
}

fn snapshot_dir(dir: &DataDir) -> PathBuf {
    dir.snapshot_dir().join(format!("{:016x}", HANDLE.0))
}

fn begin_installation(dir: &DataDir, wal: &mut Wal) {
    let folder = snapshot_dir(dir);
    dir.env().create_dir_all(&folder).expect("folder");
    let table = folder.join("000000.sst");
    let mut table = SstWriter::create(dir.env(), &table, &options().lsm).expect("table");
    table.add(b"r1", b"one").expect("add");
    table.finish().expect("finish");
    let birth = BirthRecord {
        peer: learner(),
        state: None,
        epoch: RegionEpoch::FIRST,
        start: Bytes::new(),
        parent: None,
        may_have_lived: false,
    };
    let record = InstallRecord {
        handle: HANDLE,
        before: None,
        after: state(),
        absorbed: Vec::new(),
    };
    let batch = Batch::from(vec![
        Record::Birth {
            group: GROUP,
            birth: birth.encode(),
            hard_state: HardState::default(),
            truncated: EntryId::default(),
        },
        Record::Installing {
            group: GROUP,
            snapshot: SNAPSHOT,
            payload: record.encode(),
        },
    ]);
    wal.append(&batch).expect("append");
    wal.sync().expect("sync");
}

fn installation() -> SnapshotInstall {
    SnapshotInstall {
        group: GROUP,
        peer: learner(),
        snapshot: SNAPSHOT,
        state: state().into(),
        drop: Inert::ranges(&state().region),
        handle: HANDLE,
    }
}

/// What came of an installation, of which the shard heard once or not yet.
fn outcome(heard: &[Event]) -> Option<Result<(), InstallError>> {
    match heard {
        [] => None,
        [
            Event::SnapshotInstalled {
                group: GROUP,
                peer: PEER,
                snapshot: SNAPSHOT,
                result,
            },
        ] => Some(result.clone()),
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_waits_for_space_wherever_it_ran_out() {
    let mut waits = 0;
    for space in (0..).step_by(100) {
        let bench = Bench::new();
        bench.leave_space(space);
        bench.jobs.install(installation());
        let at_once = outcome(&bench.heard().await);
        if at_once.is_none() {
            waits += 1;
            bench.jobs.pool.again();
            assert_eq!(outcome(&bench.heard().await), None, "still no space");
            bench.env.set_capacity(None);
            bench.jobs.pool.again();
            assert_eq!(outcome(&bench.heard().await), Some(Ok(())), "{space}");
        }
        assert_eq!(bench.value(b"r1").as_deref(), Some(&b"one"[..]));
        assert_eq!(bench.value(b"another").as_deref(), Some(&b"unflushed"[..]));
        assert_eq!(bench.jobs.engine.applied(GROUP), SNAPSHOT.index);
        bench.jobs.pool.again();
        assert_eq!(outcome(&bench.heard().await), None, "it is over");
        bench.end().await;
        if let Some(at_once) = at_once {
            assert_eq!(at_once, Ok(()));
            break;
        }
    }
    assert!(waits > 5, "space ran out at {waits} points only");
}

#[tokio::test]
async fn data_of_a_removed_replica_waits_for_space_to_be_dropped() {
    let bench = Bench::new();
    bench.jobs.install(installation());
    assert_eq!(outcome(&bench.heard().await), Some(Ok(())));
    bench.leave_space(0);
    bench.jobs.destroy(Destroy {
        group: GROUP,
        peer: PEER,
        region: None,
        drop: Inert::ranges(&state().region),
    });
    assert!(bench.heard().await.is_empty(), "there is no space");
    bench.env.set_capacity(None);
    bench.jobs.pool.again();
    let heard = bench.heard().await;
    assert!(
        matches!(
            heard[..],
            [Event::Destroyed {
                group: GROUP,
                peer: PEER
            }]
        ),
        "{heard:?}"
    );
    assert_eq!(bench.value(b"r1"), None);
    bench.end().await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_given_up_in_the_end() {
    let bench = Bench::new();
    bench.jobs.files.discard(HANDLE).expect("removed");
    bench.jobs.install(installation());
    for _ in 1..TURNS_MAX {
        assert_eq!(outcome(&bench.heard().await), None);
        bench.jobs.pool.again();
    }
    let outcome = outcome(&bench.heard().await);
    assert!(
        matches!(outcome, Some(Err(InstallError::Damaged(_)))),
        "{outcome:?}"
    );
    bench.end().await;
}
