//! Full disks, failed syncs, full logs, bad options: one typed answer each, and nothing half done
//! (D4, D8).

use std::path::Path;

use bytes::Bytes;
use tinykv_env::{CrashMode, Env};
use tinykv_raft::{Entry, EntryId, GroupId, HardState, LogIndex, Payload, Term};
use tinykv_wal::{Batch, ReadError, Record, Wal, WalError, WalOptions};

use crate::trace::{DIR, Life, small_options};

const GROUP: GroupId = GroupId(9);

fn birth(group: GroupId) -> Batch {
    Batch::from(vec![Record::Birth {
        group,
        birth: Bytes::from_static(b"birth"),
        hard_state: HardState::default(),
        truncated: EntryId::default(),
    }])
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry {
        id: EntryId {
            term: Term(1),
            index: LogIndex(index),
        },
        payload: Payload::Command(Bytes::from(vec![7; bytes])),
    }
}

fn entries(group: GroupId, first: u64, count: u64, bytes: usize) -> Batch {
    Batch::from(vec![Record::Entries {
        group,
        entries: (first..first + count).map(|i| entry(i, bytes)).collect(),
    }])
}

fn open(life: &Life) -> (Wal, tinykv_wal::Recovered) {
    Wal::open(life.env.shared(), Path::new(DIR), life.options.clone()).expect("open")
}

#[test]
fn a_failed_sync_is_final_and_marks_the_directory() {
    let mut probe = Life::new(1);
    probe.live(40);
    let syncs = probe.env.sync_count();
    let mut marked = 0;
    for n in 1..=syncs {
        let life = Life::new(1);
        life.env.fail_sync_at(life.env.sync_count() + n);
        let opened = Wal::open(life.env.shared(), Path::new(DIR), life.options.clone());
        let (mut wal, _) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let io = matches!(error, WalError::Failed(_) | WalError::Io(_));
                assert!(io, "sync {n}: {error}");
                continue;
            }
        };
        wal.append(&birth(GROUP)).expect("append");
        let mut failed = None;
        for index in 1..200 {
            let result = wal
                .append(&entries(GROUP, index, 1, 300))
                .and_then(|_| wal.sync())
                .and_then(|_| wal.maintain());
            if let Err(error) = result {
                failed = Some(error);
                break;
            }
        }
        let Some(error) = failed else { continue };
        assert!(matches!(error, WalError::Failed(_)), "sync {n}: {error}");
        assert!(wal.is_failed());
        for result in [
            wal.append(&birth(GroupId(3))).map(|_| ()),
            wal.sync().map(|_| ()),
            wal.maintain().map(|_| ()),
        ] {
            let again = result.expect_err("the writer refuses everything");
            assert!(matches!(again, WalError::Failed(_)), "{again}");
        }
        drop(wal);
        life.env.crash(CrashMode::DropUnsynced);
        let (wal, recovered) = open(&life);
        for group in recovered.groups.values() {
            assert!(group.damaged, "sync {n}: a fsync failed, so nobody votes");
            marked += 1;
        }
        drop(wal);
        life.env.crash(CrashMode::DropUnsynced);
        let (_, recovered) = open(&life);
        assert_eq!(recovered.damaged, vec![], "it is on record");
        assert!(recovered.groups.values().all(|group| group.damaged));
    }
    assert!(marked > 5, "only {marked} groups were marked");
}

/// The page of the grave never reached the disk, and the cache that says otherwise goes with the power.
#[test]
fn a_grave_read_after_a_failed_sync_stays() {
    let life = Life::new(3);
    let (mut wal, _) = open(&life);
    wal.append(&birth(GROUP)).expect("append");
    wal.append(&entries(GROUP, 1, 5, 300)).expect("append");
    wal.sync().expect("sync");
    wal.append(&Batch::from(vec![Record::Tombstone {
        group: GROUP,
        payload: Bytes::from_static(b"grave"),
    }]))
    .expect("append");
    life.env.fail_sync_at(life.env.sync_count() + 1);
    wal.sync().expect_err("it fails");
    drop(wal);
    life.env.crash(CrashMode::KeepAll);
    for _ in 0..2 {
        let (wal, recovered) = open(&life);
        assert_eq!(recovered.groups.keys().next(), None);
        assert_eq!(recovered.tombstones[&GROUP], "grave");
        drop(wal);
        life.env.crash(CrashMode::DropUnsynced);
    }
}

#[test]
fn a_full_disk_shows_before_the_write_and_passes() {
    let life = Life::new(2);
    let (mut wal, _) = open(&life);
    wal.append(&birth(GROUP)).expect("append");
    wal.maintain().expect("reserve");
    life.env.set_capacity(Some(0));
    let mut index = 1;
    let full = loop {
        match wal.append(&entries(GROUP, index, 1, 1000)) {
            Ok(_) => index += 1,
            Err(error) => break error,
        }
    };
    wal.sync().expect("what was reserved is there");
    assert!(matches!(full, WalError::DiskFull(_)), "{full}");
    assert!(index > 20, "the reserved segment was used: {index}");
    assert!(wal.maintain().expect("no error of the upkeep").low_on_space);
    let reader = wal.reader();
    let last = reader.extent(GROUP).expect("there").last.index;
    assert_eq!(last, LogIndex(index - 1), "nothing of it was written");
    reader
        .entries(GROUP, LogIndex(1), last, 10_000)
        .expect("reads go on");

    life.env.set_capacity(None);
    wal.append(&entries(GROUP, index, 1, 1000))
        .expect("space came back by itself");
    wal.sync().expect("sync");
    drop(wal);
    life.env.crash(CrashMode::DropUnsynced);
    let (_, recovered) = open(&life);
    assert_eq!(recovered.groups[&GROUP].last.index, LogIndex(index));
}

#[test]
fn a_full_log_is_freed_by_a_truncation() {
    let life = Life::new(3);
    let (mut wal, _) = open(&life);
    wal.append(&birth(GROUP)).expect("append");
    let mut index = 0;
    let full = loop {
        match wal.append(&entries(GROUP, index + 1, 1, 3000)) {
            Ok(_) => index += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(
        full.to_string(),
        "the log is full: all 10 segments are in use"
    );
    assert!(wal.status().files <= 10);
    let pinned = wal.maintain().expect("maintain").pinned;
    assert_eq!(pinned.len(), 1);
    assert_eq!(pinned[0].0, GROUP);
    wal.append(&Batch::from(vec![Record::Truncated {
        group: GROUP,
        upto: entry(index, 0).id,
    }]))
    .expect("a truncation is never refused");
    assert!(wal.maintain().expect("maintain").recycled > 5);
    wal.append(&entries(GROUP, index + 1, 1, 3000))
        .expect("there is room");
    let error = wal
        .reader()
        .entries(GROUP, LogIndex(1), LogIndex(2), 100)
        .expect_err("cut off");
    assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
}

#[test]
fn an_idle_group_does_not_hold_the_log() {
    let life = Life::new(4);
    let (mut wal, _) = open(&life);
    let idle = GroupId(1);
    wal.append(&birth(idle)).expect("append");
    wal.append(&entries(idle, 1, 3, 100)).expect("append");
    wal.append(&birth(GROUP)).expect("append");
    for index in 1..2000 {
        wal.append(&entries(GROUP, index, 1, 500)).expect("append");
        if index % 10 == 0 {
            wal.append(&Batch::from(vec![Record::Truncated {
                group: GROUP,
                upto: entry(index, 0).id,
            }]))
            .expect("append");
            wal.sync().expect("sync");
            wal.maintain().expect("maintain");
        }
    }
    let status = wal.status();
    assert!(status.files <= 6, "{status:?}");
    drop(wal);
    life.env.crash(CrashMode::DropUnsynced);
    let (wal, recovered) = open(&life);
    assert_eq!(recovered.groups[&idle].birth, Bytes::from_static(b"birth"));
    let kept = wal
        .reader()
        .entries(idle, LogIndex(1), LogIndex(3), 10_000)
        .expect("copied forward");
    assert_eq!(kept, (1..=3).map(|i| entry(i, 100)).collect::<Vec<_>>());
}

#[test]
fn a_group_that_cannot_commit_does_not_fill_the_log_for_others() {
    let life = Life::new(10);
    let (mut wal, _) = open(&life);
    let stuck = GroupId(1);
    wal.append(&birth(stuck)).expect("append");
    wal.append(&entries(stuck, 1, 4, 2500)).expect("append");
    wal.append(&birth(GROUP)).expect("append");
    for index in 1..1000 {
        wal.append(&entries(GROUP, index, 1, 500)).expect("append");
        if index % 10 == 0 {
            wal.append(&Batch::from(vec![Record::Truncated {
                group: GROUP,
                upto: entry(index, 0).id,
            }]))
            .expect("append");
            wal.maintain().expect("maintain");
        }
    }
    let kept = wal
        .reader()
        .entries(stuck, LogIndex(1), LogIndex(4), 100_000)
        .expect("copied forward");
    assert_eq!(kept, (1..=4).map(|i| entry(i, 2500)).collect::<Vec<_>>());
}

#[test]
fn a_reader_keeps_its_segment() {
    // A recycled file is written over; whoever reads from it must be done first. Here the reads
    // and the recycling alternate; that nobody reads a wrong entry is checked each time.
    let life = Life::new(5);
    let (mut wal, _) = open(&life);
    wal.append(&birth(GROUP)).expect("append");
    let reader = wal.reader();
    let mut from = 1;
    for index in 1..600u64 {
        wal.append(&entries(GROUP, index, 1, 400)).expect("append");
        if index % 20 == 0 {
            let read = reader
                .entries(GROUP, LogIndex(from), LogIndex(index), usize::MAX)
                .expect("readable");
            assert_eq!(read.len() as u64, index - from + 1);
            from = index + 1;
            wal.append(&Batch::from(vec![Record::Truncated {
                group: GROUP,
                upto: entry(index, 0).id,
            }]))
            .expect("append");
            wal.maintain().expect("maintain");
        }
    }
}

#[test]
fn large_batches_are_cut_and_larger_entries_refused() {
    let life = Life::new(6);
    let (mut wal, _) = open(&life);
    wal.append(&birth(GROUP)).expect("append");
    let before = wal.status().end;
    let error = wal
        .append(&entries(GROUP, 1, 1, 20_000))
        .expect_err("larger than a segment");
    let WalError::TooLarge { bytes, bytes_max } = error else {
        panic!("{error}");
    };
    assert!(bytes > 20_000 && bytes_max == wal.record_bytes_max());
    assert_eq!(wal.status().end, before, "nothing was written");

    let two = Batch::from(
        (0..2)
            .flat_map(|i| entries(GROUP, 1 + 3 * i, 3, 4000).records)
            .collect::<Vec<_>>(),
    );
    wal.append(&two).expect("a batch may span segments");
    let many = entries(GROUP, 7, 100, 500);
    assert!(100 * 500 > wal.record_bytes_max());
    wal.append(&many).expect("a run of entries may, too");
    wal.sync().expect("sync");
    drop(wal);
    life.env.crash(CrashMode::DropUnsynced);
    let (wal, recovered) = open(&life);
    assert_eq!(recovered.groups[&GROUP].last.index, LogIndex(106));
    let read = wal
        .reader()
        .entries(GROUP, LogIndex(2), LogIndex(6), 9000)
        .expect("readable");
    assert_eq!(read.len(), 2, "cut by bytes");
    let one = wal
        .reader()
        .entries(GROUP, LogIndex(2), LogIndex(6), 1)
        .expect("readable");
    assert_eq!(one.len(), 1, "never empty");
}

#[test]
fn options_are_refused_with_a_sentence() {
    let life = Life::new(7);
    let cases = [
        (
            WalOptions {
                segment_bytes: 5000,
                ..small_options()
            },
            "segment_bytes",
        ),
        (
            WalOptions {
                segments_target: 1,
                ..small_options()
            },
            "segments_target",
        ),
        (
            WalOptions {
                segments_max: 4,
                ..small_options()
            },
            "segments_max",
        ),
    ];
    for (options, name) in cases {
        let error = Wal::open(life.env.shared(), Path::new(DIR), options).expect_err("refused");
        assert!(matches!(error, WalError::InvalidOptions(_)));
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(!life.env.exists(Path::new(DIR)).expect("exists"));
}

#[test]
fn a_log_may_be_reopened_with_another_segment_size() {
    let mut life = Life::new(8);
    for segment_bytes in [16 << 10, 32 << 10, 16 << 10, 64 << 10] {
        life.options.segment_bytes = segment_bytes;
        assert!(life.open());
        for _ in 0..30 {
            assert!(life.append() && life.sync() && life.maintain());
        }
        life.wal = None;
        life.env.crash(CrashMode::DropUnsynced);
    }
    assert!(life.open());
}

#[test]
#[should_panic(expected = "do not follow a log")]
fn a_gap_is_a_bug_of_the_caller() {
    let life = Life::new(9);
    let (mut wal, _) = open(&life);
    wal.append(&birth(GROUP)).expect("append");
    let _ = wal.append(&entries(GROUP, 2, 1, 10));
}
