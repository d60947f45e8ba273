//! The operating system behind the traits: the promises that `SimEnv` makes, too.

use std::io::ErrorKind;
use std::time::Duration;

use tinykv_env::{Env, OsEnv};

#[test]
fn files_can_be_written_read_renamed_and_linked() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (env, root) = (OsEnv, dir.path());
    env.create_dir_all(&root.join("a/b"))
        .expect("create directories");
    let file = env.create(&root.join("a/f")).expect("create");
    file.write_at(b"hello", 3).expect("write");
    file.sync_data().expect("sync");
    let mut buf = [0xff; 10];
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), 8);
    assert_eq!(&buf[..8], b"\0\0\0hello");
    assert_eq!(file.len().expect("len"), 8);
    let taken = env.create(&root.join("a/f")).expect_err("taken");
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert!(taken.to_string().contains("a/f"), "{taken}");
    env.hard_link(&root.join("a/f"), &root.join("a/g"))
        .expect("link");
    env.rename(&root.join("a/g"), &root.join("a/h"))
        .expect("rename");
    env.sync_dir(&root.join("a")).expect("sync directory");
    let names: Vec<_> = env
        .list_dir(&root.join("a"))
        .expect("list")
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(names, ["b", "f", "h"]);
    let short = file.read_exact_at(&mut buf, 0).expect_err("too short");
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_directory_is_locked_until_the_lock_is_dropped() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let lock = OsEnv.lock_dir(dir.path()).expect("lock");
    let held = OsEnv.lock_dir(dir.path()).expect_err("held");
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
    drop(lock);
    OsEnv.lock_dir(dir.path()).expect("free again");
}

#[test]
fn clocks_random_numbers_and_space_are_real() {
    let before = OsEnv.now();
    assert!(OsEnv.now() >= before);
    assert!(OsEnv.wall_clock() > Duration::from_secs(1_600_000_000));
    assert_ne!(OsEnv.random_u64(), OsEnv.random_u64());
    let dir = tempfile::tempdir().expect("temporary directory");
    assert!(OsEnv.available_space(dir.path()).expect("space") > 0);
}
