//! The disk must forget exactly what its mode says; every proof above stands on that.

use std::io::ErrorKind;
use std::path::Path;

use super::{CrashMode, SimEnv};
use crate::Env;

fn machine() -> SimEnv {
    let env = SimEnv::new(7);
    env.create_dir_all(Path::new("d"))
        .expect("create directory");
    env.sync_dir(Path::new("")).expect("sync root");
    env
}

fn synced_file(env: &SimEnv, contents: &[u8]) {
    let file = env.create(Path::new("d/f")).expect("create");
    file.write_at(contents, 0).expect("write");
    file.sync_data().expect("sync");
    env.sync_dir(Path::new("d")).expect("sync directory");
}

fn contents(env: &SimEnv, path: &str) -> Vec<u8> {
    let file = env.open(Path::new(path)).expect("open");
    let mut buf = vec![0; file.len().expect("len") as usize];
    file.read_exact_at(&mut buf, 0).expect("read");
    buf
}

#[test]
fn synced_data_survives_every_mode() {
    for mode in CrashMode::ALL {
        let env = machine();
        synced_file(&env, &[3; 10_000]);
        env.crash(mode);
        assert_eq!(contents(&env, "d/f"), vec![3; 10_000], "{mode:?}");
    }
}

#[test]
fn unsynced_data_goes_with_the_power() {
    let env = machine();
    synced_file(&env, b"old");
    env.open(Path::new("d/f"))
        .expect("open")
        .write_at(b"newer", 0)
        .expect("write");
    assert_eq!(contents(&env, "d/f"), b"newer");
    env.crash(CrashMode::DropUnsynced);
    assert_eq!(contents(&env, "d/f"), b"old");
}

#[test]
fn unsynced_data_survives_a_killed_process() {
    let env = machine();
    synced_file(&env, b"old");
    env.open(Path::new("d/f"))
        .expect("open")
        .write_at(b"newer", 0)
        .expect("write");
    env.crash(CrashMode::KeepAll);
    assert_eq!(contents(&env, "d/f"), b"newer");
}

#[test]
fn what_a_killed_process_left_unsynced_is_lost_with_the_power() {
    let env = machine();
    synced_file(&env, b"old");
    env.open(Path::new("d/f"))
        .expect("open")
        .write_at(b"newer", 0)
        .expect("write");
    env.create(Path::new("d/g")).expect("create");
    env.crash(CrashMode::KeepAll);
    assert!(env.exists(Path::new("d/g")).expect("exists"));
    env.crash(CrashMode::DropUnsynced);
    assert_eq!(contents(&env, "d/f"), b"old");
    assert!(!env.exists(Path::new("d/g")).expect("exists"));
}

#[test]
fn a_name_without_directory_sync_is_lost() {
    let env = machine();
    let file = env.create(Path::new("d/f")).expect("create");
    file.write_at(b"x", 0).expect("write");
    file.sync_data().expect("sync");
    env.crash(CrashMode::LoseDirectoryEntries);
    assert!(!env.exists(Path::new("d/f")).expect("exists"));
}

#[test]
fn a_rename_happens_whole_or_not_at_all() {
    for mode in CrashMode::ALL {
        for seed in 0..20 {
            let env = SimEnv::new(seed);
            env.create(Path::new("a"))
                .expect("create")
                .sync_data()
                .expect("sync");
            env.sync_dir(Path::new("")).expect("sync");
            env.rename(Path::new("a"), Path::new("b")).expect("rename");
            env.crash(mode);
            let a = env.exists(Path::new("a")).expect("exists");
            let b = env.exists(Path::new("b")).expect("exists");
            assert!(a != b, "{mode:?} seed {seed}: a {a}, b {b}");
        }
    }
}

#[test]
fn random_pages_survive_in_no_order() {
    let (mut hole_before_data, mut all_kept) = (false, false);
    for seed in 0..200 {
        let env = SimEnv::new(seed);
        let file = env.create(Path::new("f")).expect("create");
        env.sync_dir(Path::new("")).expect("sync");
        file.set_len(2 * 4096).expect("set_len");
        file.sync_data().expect("sync");
        file.write_at(&[1; 2 * 4096], 0).expect("write");
        env.crash(CrashMode::KeepRandomPages);
        let after = contents(&env, "f");
        hole_before_data |= after[0] == 0 && after[4096] == 1;
        all_kept |= after[0] == 1 && after[4096] == 1;
    }
    assert!(hole_before_data && all_kept);
}

#[test]
fn sectors_tear_and_rot_only_where_they_were_written() {
    let (mut torn, mut rotten) = (false, false);
    for seed in 0..100 {
        for mode in [CrashMode::TearSectors, CrashMode::CorruptSectors] {
            let env = SimEnv::new(seed);
            let file = env.create(Path::new("f")).expect("create");
            env.sync_dir(Path::new("")).expect("sync");
            file.write_at(&[1; 4096], 0).expect("write");
            file.sync_data().expect("sync");
            file.write_at(&[2; 1024], 1024).expect("write");
            env.crash(mode);
            let after = contents(&env, "f");
            assert!(after[..1024].iter().chain(&after[2048..]).all(|b| *b == 1));
            torn |= after[1024] != after[1024 + 512];
            rotten |= after[1024..2048].iter().any(|b| *b > 2);
        }
    }
    assert!(torn && rotten);
}

#[test]
fn a_failed_sync_loses_its_pages_for_good() {
    let env = machine();
    synced_file(&env, b"old");
    let file = env.open(Path::new("d/f")).expect("open");
    file.write_at(b"new", 0).expect("write");
    env.fail_sync_at(env.sync_count() + 1);
    file.sync_data().expect_err("injected");
    file.sync_data().expect("the kernel calls the pages clean");
    assert_eq!(contents(&env, "d/f"), b"new");
    env.crash(CrashMode::DropUnsynced);
    assert_eq!(contents(&env, "d/f"), b"old");
}

#[test]
fn the_machine_stops_at_its_crash_point() {
    let env = machine();
    let file = env.create(Path::new("d/f")).expect("create");
    env.crash_at(env.io_count() + 2);
    file.write_at(b"1", 0).expect("before the crash point");
    file.sync_data().expect_err("the crash point");
    assert!(env.is_stopped());
    env.open(Path::new("d/f"))
        .expect_err("nothing works until the restart");
    env.crash(CrashMode::KeepAll);
    file.read_at(&mut [0], 0)
        .expect_err("files of an earlier life stay unusable");
    env.open(Path::new("d/f")).expect("the next life begins");
}

#[test]
fn a_full_disk_says_so_and_reads_go_on() {
    let env = machine();
    synced_file(&env, &[1; 4096]);
    env.set_capacity(Some(2 * 4096));
    let file = env.open(Path::new("d/f")).expect("open");
    file.write_at(&[2; 4096], 4096).expect("fits");
    let full = file.write_at(&[3; 1], 2 * 4096).expect_err("does not fit");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    file.write_at(&[4; 10], 0)
        .expect("overwriting needs no space");
    assert_eq!(env.available_space(Path::new("d")).expect("space"), 0);
}

#[test]
fn a_directory_is_locked_once_per_life() {
    let env = machine();
    let lock = env.lock_dir(Path::new("d")).expect("lock");
    let held = env.lock_dir(Path::new("d")).expect_err("held");
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
    env.crash(CrashMode::KeepAll);
    let second = env.lock_dir(Path::new("d")).expect("a crash releases it");
    drop(lock);
    env.lock_dir(Path::new("d"))
        .expect_err("dropping the old life's lock frees nothing");
    drop(second);
    env.lock_dir(Path::new("d")).expect("free again");
}

#[test]
fn same_seed_same_disk() {
    let run = |seed| {
        let env = SimEnv::new(seed);
        let file = env.create(Path::new("f")).expect("create");
        env.sync_dir(Path::new("")).expect("sync");
        for i in 0..64u64 {
            file.write_at(&[i as u8; 700], i * 700).expect("write");
        }
        env.crash(CrashMode::CorruptSectors);
        (contents(&env, "f"), env.random_u64())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn shortening_and_growing_again_reads_zeros() {
    let env = machine();
    synced_file(&env, &[9; 5000]);
    let file = env.open(Path::new("d/f")).expect("open");
    file.set_len(100).expect("cut");
    file.set_len(5000).expect("grow");
    let after = contents(&env, "d/f");
    assert!(after[..100].iter().all(|b| *b == 9) && after[100..].iter().all(|b| *b == 0));
    env.crash(CrashMode::DropUnsynced);
    assert_eq!(contents(&env, "d/f"), vec![9; 5000]);
}
