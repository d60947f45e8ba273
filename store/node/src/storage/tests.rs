//! Starts after a crash in the middle of things.

use std::path::Path;

use bytes::Bytes;
use tinykv_env::OsEnv;
use tinykv_lsm::SstWriter;
use tinykv_raft::{EntryId, HardState, PeerId, Term};
use tinykv_replica::{
    BirthRecord, Peer, Region, RegionEpoch, RegionState, Shard, ShardConfig, SnapshotHandle,
    StoreId,
};

use super::*;
use crate::identity::Role;
use crate::inert::Inert;
use crate::shard_thread::LsmReader;

const GROUP: GroupId = GroupId(5);
const SNAPSHOT: EntryId = EntryId {
    term: Term(3),
    index: LogIndex(40),
};
const HANDLE: SnapshotHandle = SnapshotHandle(0xabc);

fn options() -> EngineOptions {
    let mut options = EngineOptions::default();
    options.wal.segment_bytes = 1 << 20;
    options.lsm.cache_bytes_max = 1 << 20;
    options
}

fn open(path: &Path) -> (DataDir, Storage) {
    let mut dir = DataDir::open(OsEnv::shared(), path, Role::Store).expect("directory");
    if dir.identity().is_none() {
        dir.establish(7, 1).expect("identity");
    }
    let storage = Storage::open(&dir, options()).expect("storage");
    (dir, storage)
}

fn state(peers: Vec<Peer>) -> RegionState {
    RegionState {
        region: Region {
            id: GROUP,
            start: Bytes::new(),
            end: Bytes::new(),
            epoch: RegionEpoch::FIRST,
            peers,
        },
        open: true,
        machine: Bytes::new(),
        ..RegionState::default()
    }
}

/// A learner that a message called into life, its snapshot on disk and the installation begun.
fn begin_installation(path: &Path) {
    let (dir, mut storage) = open(path);
    let learner = Peer::learner(PeerId(11), StoreId(1));
    let birth = BirthRecord {
        peer: learner,
        state: None,
        epoch: RegionEpoch::FIRST,
        start: Bytes::new(),
        parent: None,
        may_have_lived: false,
    };
    let record = InstallRecord {
        handle: HANDLE,
        before: None,
        after: state(vec![Peer::voter(PeerId(20), StoreId(2)), learner]),
        absorbed: Vec::new(),
    };
    let folder = dir.snapshot_dir().join(format!("{:016x}", HANDLE.0));
    dir.env().create_dir_all(&folder).expect("folder");
    let table = folder.join("000000.sst");
    let mut table = SstWriter::create(dir.env(), &table, &options().lsm).expect("table");
    table.add(b"r1", b"one").expect("add");
    table.finish().expect("finish");
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
    storage.wal.append(&batch).expect("append");
    storage.wal.sync().expect("sync");
}

/// Starts a shard of what is there and says whether its one replica is sound and initialised.
fn start(path: &Path) {
    let (dir, mut storage) = open(path);
    let found = storage.recover::<Inert>(&dir).expect("recovery");
    let group = &found.groups[0];
    assert_eq!(group.applied, SNAPSHOT.index);
    assert_eq!(group.log.installing, None);
    let installed = group.log.installed.as_ref().map(|(snapshot, _)| *snapshot);
    assert_eq!(installed, Some(SNAPSHOT));
    let value = storage.lsm().snapshot().get(b"r1").expect("read");
    assert_eq!(value.as_deref(), Some(&b"one"[..]));
    let left = dir.env().list_dir(&dir.snapshot_dir()).expect("list");
    assert!(left.is_empty(), "{left:?}");
    let (shard, _) = Shard::recover(
        ShardConfig::new(StoreId(1), 1),
        Box::new(|_| Inert),
        found.groups,
        found.tombstones,
        &LsmReader::new(storage.lsm()),
        dir.env().now(),
    )
    .expect("the shard starts");
    let status = shard.status(GROUP).expect("it lives here");
    assert!(!status.damaged);
    assert_eq!(status.applied, SNAPSHOT);
    assert_eq!(status.state.map(|state| state.region.peers.len()), Some(2));
}

#[test]
fn an_installation_cut_off_by_a_crash_is_finished_once() {
    let temp = tempfile::tempdir().expect("temp dir");
    begin_installation(temp.path());
    start(temp.path());
    start(temp.path());
}

#[test]
fn snapshots_that_nobody_installs_are_removed_at_the_start() {
    let temp = tempfile::tempdir().expect("temp dir");
    let (dir, mut storage) = open(temp.path());
    let folder = dir.snapshot_dir().join("0000000000000001");
    dir.env().create_dir_all(&folder).expect("folder");
    dir.env().create(&folder.join("000000.sst")).expect("file");
    let found = storage.recover::<Inert>(&dir).expect("recovery");
    assert!(found.groups.is_empty());
    let left = dir.env().list_dir(&dir.snapshot_dir()).expect("list");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_snapshot_that_is_no_good_costs_one_replica() {
    let temp = tempfile::tempdir().expect("temp dir");
    begin_installation(temp.path());
    let (dir, storage) = open(temp.path());
    let table = dir
        .snapshot_dir()
        .join(format!("{:016x}/000000.sst", HANDLE.0));
    let file = dir.env().open(&table).expect("the table");
    file.write_at(&[0xff; 64], 0).expect("overwritten");
    drop((dir, storage));
    for _ in 0..2 {
        let (dir, mut storage) = open(temp.path());
        let found = storage.recover::<Inert>(&dir).expect("the others start");
        assert!(found.groups[0].log.damaged);
        assert!(found.groups[0].log.installing.is_some());
    }
}
