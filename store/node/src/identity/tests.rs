//! Directories that are new, ours, somebody else's, or broken.

use std::fs;

use tinykv_env::OsEnv;

use super::*;

fn open(path: &Path, role: Role) -> Result<DataDir, String> {
    DataDir::open(OsEnv::shared(), path, role).map_err(|failure| {
        assert_eq!(failure.exit_code(), 3, "{failure}");
        failure.to_string()
    })
}

fn established(path: &Path) -> Identity {
    let mut dir = open(path, Role::Store).expect("a new directory");
    dir.establish(7, 11).expect("establish")
}

#[test]
fn each_start_raises_the_start_number_and_nothing_else() {
    let temp = tempfile::tempdir().expect("temp dir");
    let path = temp.path().join("deep/data");
    let first = established(&path);
    assert_eq!(
        (first.cluster_id, first.member_id, first.start_number),
        (7, 11, 1)
    );
    for start_number in 2..5 {
        let dir = open(&path, Role::Store).expect("our own directory");
        assert_eq!(
            dir.identity(),
            Some(Identity {
                start_number,
                ..first
            })
        );
    }
}

#[test]
fn a_wiped_directory_gets_another_incarnation() {
    let temp = tempfile::tempdir().expect("temp dir");
    let first = established(&temp.path().join("a"));
    let second = established(&temp.path().join("b"));
    assert_ne!(first.incarnation, second.incarnation);
}

#[test]
fn a_crash_before_the_rename_leaves_a_directory_that_can_be_set_up() {
    let temp = tempfile::tempdir().expect("temp dir");
    fs::write(temp.path().join("IDENTITY.new"), "half").expect("write");
    assert_eq!(established(temp.path()).start_number, 1);
}

#[test]
fn foreign_used_newer_and_damaged_directories_are_refused() {
    let temp = tempfile::tempdir().expect("temp dir");
    let foreign = temp.path().join("foreign");
    fs::create_dir(&foreign).expect("mkdir");
    fs::write(foreign.join("thesis.tex"), "").expect("write");
    let refusal = open(&foreign, Role::Store).expect_err("foreign");
    assert!(
        refusal.ends_with("it holds `thesis.tex` but no identity"),
        "{refusal}"
    );

    let path = temp.path().join("ours");
    established(&path);
    let held = open(&path, Role::Store).expect("ours");
    let refusal = open(&path, Role::Store).expect_err("in use");
    assert!(
        refusal.ends_with("is in use by another process"),
        "{refusal}"
    );
    drop(held);
    let refusal = open(&path, Role::Placement).expect_err("another role");
    assert!(
        refusal.ends_with("belongs to a store, not to a placement member"),
        "{refusal}"
    );

    let body = "{\"format\": 2, \"identity\": \"unheard of\"}";
    let newer = format!("{body}\n{}\n", checksum_line(body));
    fs::write(path.join(IDENTITY), newer).expect("write");
    let refusal = open(&path, Role::Store).expect_err("newer");
    assert!(
        refusal.contains("was written by a newer version (format 2"),
        "{refusal}"
    );

    for broken in [&b""[..], b"\n\n", b"\xff\xfe", b"{}\ncrc32c 00000000\n"] {
        fs::write(path.join(IDENTITY), broken).expect("write");
        let refusal = open(&path, Role::Store).expect_err("damaged");
        assert!(
            refusal.ends_with("is damaged: its checksum is wrong"),
            "{refusal}"
        );
    }
}

#[test]
fn the_marker_of_a_failed_sync_is_seen_at_the_next_start() {
    let temp = tempfile::tempdir().expect("temp dir");
    established(temp.path());
    leave_marker(&OsEnv, temp.path(), "wal/0001: Input/output error").expect("marker");
    let dir = open(temp.path(), Role::Store).expect("ours");
    assert_eq!(
        dir.failed_sync_marker(),
        Some("wal/0001: Input/output error")
    );
}
