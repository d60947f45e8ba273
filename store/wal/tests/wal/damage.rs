//! Damage of files at rest: told from a torn tail by the watermarks, and never forgotten (D5, D6).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tinykv_env::{CrashMode, Env, Prng, SimEnv};
use tinykv_raft::{Entry, EntryId, GroupId, HardState, LogIndex, Payload, Term};
use tinykv_wal::{Batch, ReadError, Record, Recovered, Wal, WalError};

use crate::model::Model;
use crate::trace::{DIR, Life};

/// A log of three groups with entries that nobody truncates, synced after each batch.
fn three_groups(seed: u64) -> Life {
    let mut life = Life::new(seed);
    life.options.segment_bytes = 32 << 10;
    assert!(life.open());
    for id in 1..=3 {
        let record = Record::Birth {
            group: GroupId(id),
            birth: Bytes::from_static(b"born"),
            hard_state: HardState::default(),
            truncated: EntryId::default(),
        };
        assert!(life.append_batch(&Batch::from(vec![record])) && life.sync());
    }
    for index in 1..=4 {
        for id in 1..=3 {
            assert!(life.append_batch(&entry(id, index)) && life.sync());
        }
    }
    life
}

fn entry(group: u64, index: u64) -> Batch {
    let entry = Entry {
        id: EntryId {
            term: Term(1),
            index: LogIndex(index),
        },
        payload: Payload::Command(Bytes::from(vec![index as u8; 300])),
    };
    Batch::from(vec![Record::Entries {
        group: GroupId(group),
        entries: vec![entry],
    }])
}

/// A life whose log is synced, covered by a watermark, and closed.
fn settled(seed: u64) -> Life {
    let mut life = three_groups(seed);
    // The second call finds the log idle and leaves a watermark.
    assert!(life.maintain() && life.maintain());
    life.wal = None;
    life
}

fn open(env: &SimEnv, life: &Life) -> Result<(Wal, Recovered), WalError> {
    env.crash(CrashMode::KeepAll);
    Wal::open(env.shared(), Path::new(DIR), life.options.clone())
}

fn segment_files(env: &SimEnv) -> Vec<PathBuf> {
    let entries = env.list_dir(Path::new(DIR)).expect("list");
    entries
        .iter()
        .filter(|entry| entry.name.ends_with(".wal"))
        .map(|entry| Path::new(DIR).join(&entry.name))
        .collect()
}

/// Offsets of frames in a file, by their magic.
fn frames(env: &SimEnv, path: &Path) -> Vec<u64> {
    let bytes = read(env, path);
    (0..bytes.len())
        .step_by(64)
        .filter(|at| bytes[at + 4..at + 8] == *b"TKWL")
        .map(|at| at as u64)
        .collect()
}

fn assert_all_damaged(recovered: &Recovered) {
    assert!(!recovered.groups.is_empty());
    for (id, group) in &recovered.groups {
        assert!(group.damaged, "group {id} would vote");
    }
}

#[test]
fn any_flipped_byte_is_damage_or_harmless() {
    let (mut damaged, mut harmless) = (0, 0);
    for seed in 0..8 {
        let life = settled(seed);
        let mut random = Prng::new(seed);
        for _ in 0..60 {
            let env = life.env.duplicate();
            env.crash(CrashMode::KeepAll);
            let files = segment_files(&env);
            let path = random.pick(&files).expect("some files");
            let at = frames(&env, path);
            let frame = random.pick(&at).copied().unwrap_or(0);
            env.flip(path, frame + random.below(450), 1 << random.below(8))
                .expect("flip");
            match open(&env, &life) {
                Ok((wal, recovered)) if recovered.damaged.is_empty() => {
                    // It hit nothing that counts: padding, dead frames, or the idle watermark,
                    // behind which nothing was ever acknowledged.
                    let found = Model::of(&recovered, &wal.reader());
                    assert_eq!(Some(&found), life.history.last(), "seed {seed}");
                    harmless += 1;
                }
                Ok((_, recovered)) => {
                    assert_all_damaged(&recovered);
                    damaged += 1;
                }
                Err(WalError::Unusable { .. }) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(damaged > 100 && harmless > 50, "{damaged} and {harmless}");
}

#[test]
fn damage_is_remembered_until_the_group_is_gone() {
    let mut life = settled(1);
    life.env.crash(CrashMode::KeepAll);
    let (wal, _) = open(&life.env, &life).expect("open");
    assert!(!wal.was_damaged(), "a crash is no damage");
    drop(wal);
    let first = &segment_files(&life.env)[0];
    let frame = frames(&life.env, first)[1];
    life.env.flip(first, frame + 20, 1).expect("flip");

    let (wal, recovered) = open(&life.env, &life).expect("open");
    assert!(wal.was_damaged());
    assert_eq!(recovered.damaged.len(), 1, "{:?}", recovered.damaged);
    assert_eq!(recovered.damaged[0].path, *first);
    // It begins where the frame before ends.
    assert!(recovered.damaged[0].offset <= frame && recovered.damaged[0].offset > 0);
    assert_all_damaged(&recovered);
    drop(wal);

    // The next start finds it on record, and a group born since is well.
    let (mut wal, recovered) = open(&life.env, &life).expect("open");
    assert_eq!(recovered.damaged, vec![]);
    assert_all_damaged(&recovered);
    let born = Record::Birth {
        group: GroupId(77),
        birth: Bytes::from_static(b"new"),
        hard_state: HardState::default(),
        truncated: EntryId::default(),
    };
    wal.append(&Batch::from(vec![born])).expect("append");
    wal.sync().expect("sync");
    drop(wal);
    let (mut wal, recovered) = open(&life.env, &life).expect("open");
    for (id, group) in &recovered.groups {
        assert_eq!(group.damaged, id.0 != 77, "group {id}");
    }

    // Burying the damaged groups is the end of it, once their segments are recycled.
    for id in recovered.groups.keys().filter(|id| id.0 != 77) {
        let record = Record::Tombstone {
            group: *id,
            payload: Bytes::new(),
        };
        wal.append(&Batch::from(vec![record])).expect("append");
    }
    for _ in 0..4 {
        wal.maintain().expect("maintain");
    }
    drop(wal);
    life.wal = None;
    let (wal, recovered) = open(&life.env, &life).expect("open");
    assert_eq!(recovered.damaged, vec![]);
    assert!(
        wal.was_damaged(),
        "groups may be missing that nobody knows of"
    );
    assert_eq!(recovered.groups.len(), 1);
    assert!(!recovered.groups[&GroupId(77)].damaged);
}

#[test]
fn a_bad_frame_above_every_watermark_is_torn() {
    let mut life = three_groups(2);
    let durable = life.history.last().expect("never empty").clone();
    // Two frames in one sync: the watermark of neither covers the other.
    assert!(life.append_batch(&entry(1, 5)) && life.append_batch(&entry(2, 5)));
    life.wal = None;
    life.env.crash(CrashMode::KeepAll);
    let files = segment_files(&life.env);
    let written = |path: &&PathBuf| !frames(&life.env, path).is_empty();
    let newest = files.iter().rfind(written).expect("some frames");
    let at = frames(&life.env, newest);
    life.env
        .flip(newest, at[at.len() - 2] + 30, 4)
        .expect("flip");

    let (wal, recovered) = open(&life.env, &life).expect("open");
    assert_eq!(recovered.damaged, vec![]);
    assert_eq!(
        recovered.torn_frames, 1,
        "the last frame is whole, and void"
    );
    assert_eq!(Model::of(&recovered, &wal.reader()), durable);
}

#[test]
fn a_lost_file_is_damage() {
    let life = settled(3);
    life.env.crash(CrashMode::KeepAll);
    assert!(segment_files(&life.env).len() >= 3);
    let mut missed = 0;
    for path in segment_files(&life.env) {
        let env = life.env.duplicate();
        env.crash(CrashMode::KeepAll);
        env.remove_file(&path).expect("remove");
        env.sync_dir(Path::new(DIR)).expect("sync");
        let (wal, recovered) = open(&env, &life).expect("open");
        if recovered.damaged.is_empty() {
            // A spare file, or one that holds no more than the idle watermark.
            let found = Model::of(&recovered, &wal.reader());
            assert_eq!(Some(&found), life.history.last(), "{path:?}");
        } else {
            assert_all_damaged(&recovered);
            missed += 1;
        }
    }
    assert_eq!(missed, 2, "two files hold everything that was acknowledged");
}

#[test]
fn zeroed_and_cut_files_are_damage() {
    for (name, cut) in [("zeroed", false), ("cut", true)] {
        let life = settled(4);
        life.env.crash(CrashMode::KeepAll);
        let path = &segment_files(&life.env)[0];
        let at = frames(&life.env, path);
        let file = life.env.open(path).expect("open");
        if cut {
            file.set_len(at[at.len() / 2]).expect("cut");
        } else {
            let middle = at[at.len() / 2];
            file.write_at(&[0; 512], middle).expect("zero");
        }
        file.sync_data().expect("sync");
        let (_, recovered) = open(&life.env, &life).expect("open");
        assert!(!recovered.damaged.is_empty(), "{name}");
        assert_all_damaged(&recovered);
    }
}

fn read(env: &SimEnv, path: &Path) -> Vec<u8> {
    let file = env.open(path).expect("open");
    let mut bytes = vec![0; file.len().expect("len") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

/// A frame says which segment it belongs to and where it stands, so files may change names but
/// frames may not change places.
#[test]
fn what_changes_places_is_damage_or_harmless() {
    let life = settled(5);
    life.env.crash(CrashMode::KeepAll);
    let paths = segment_files(&life.env);
    for pair in paths.windows(2) {
        let env = life.env.duplicate();
        env.crash(CrashMode::KeepAll);
        let (a, b) = (read(&env, &pair[0]), read(&env, &pair[1]));
        for (path, bytes) in [(&pair[0], b), (&pair[1], a)] {
            let file = env.open(path).expect("open");
            file.set_len(bytes.len() as u64).expect("set_len");
            file.write_at(&bytes, 0).expect("write");
        }
        let (wal, recovered) = open(&env, &life).expect("open");
        assert!(recovered.damaged.is_empty(), "{:?}", recovered.damaged);
        let found = Model::of(&recovered, &wal.reader());
        assert_eq!(Some(&found), life.history.last(), "{pair:?}");
    }
    let mut swaps = 0;
    for path in &paths {
        let all = frames(&life.env, path);
        for pair in all.windows(2) {
            let env = life.env.duplicate();
            env.crash(CrashMode::KeepAll);
            let mut bytes = read(&env, path);
            let (first, second) = (pair[0] as usize, pair[1] as usize);
            let len = (second - first).min(bytes.len() - second);
            let (head, tail) = bytes.split_at_mut(second);
            head[first..first + len].swap_with_slice(&mut tail[..len]);
            let file = env.open(path).expect("open");
            file.write_at(&bytes, 0).expect("write");
            let (wal, recovered) = open(&env, &life).expect("open");
            if recovered.damaged.is_empty() {
                // One of them held no more than the idle watermark.
                let found = Model::of(&recovered, &wal.reader());
                assert_eq!(Some(&found), life.history.last(), "{path:?} {pair:?}");
                continue;
            }
            let place = &recovered.damaged[0];
            assert!(place.path.starts_with(DIR), "{place:?}");
            assert_all_damaged(&recovered);
            swaps += 1;
        }
    }
    assert!(swaps >= 3, "only {swaps} swaps were damage");
}

#[test]
fn a_log_without_identity_is_not_taken_for_a_new_one() {
    let life = settled(5);
    life.env.crash(CrashMode::KeepAll);
    let identity = Path::new(DIR).join("FORMAT");
    let env = life.env.duplicate();
    env.crash(CrashMode::KeepAll);
    env.remove_file(&identity).expect("remove");
    env.sync_dir(Path::new(DIR)).expect("sync");
    let error = open(&env, &life).expect_err("half a log");
    assert!(matches!(error, WalError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("identity is missing"), "{error}");
    assert!(!segment_files(&env).is_empty(), "nothing was removed");

    life.env.flip(&identity, 15, 1).expect("flip");
    let error = open(&life.env, &life).expect_err("unreadable identity");
    assert!(error.to_string().contains("FORMAT"), "{error}");
}

#[test]
fn an_entry_that_rots_while_running_is_never_served() {
    let mut life = three_groups(6);
    let wal = life.wal.take().expect("open");
    let reader = wal.reader();
    let first = &segment_files(&life.env)[0];
    let length = 32 << 10;
    let mut refused = 0;
    for at in (0..length).step_by(7) {
        life.env.flip(first, at, 0x10).expect("flip");
        for (id, group) in &life.history.last().expect("never empty").groups {
            let (from, upto) = (group.truncated.index.next(), group.last().index);
            match reader.entries(*id, from, upto, usize::MAX) {
                Ok(entries) => {
                    for entry in entries {
                        assert_eq!(Some(&entry), group.entries.get(&entry.id.index));
                    }
                }
                Err(ReadError::Corrupt { path, .. }) => {
                    assert_eq!(path, *first);
                    refused += 1;
                }
                Err(_) => assert!(group.entries.is_empty()),
            }
        }
        life.env.flip(first, at, 0x10).expect("flip back");
    }
    assert!(refused > 100, "only {refused} reads met damage");
}
