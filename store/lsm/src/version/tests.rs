//! Edits and the MANIFEST, round trip and on garbage.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use tinykv_env::SimEnv;

use super::manifest::{Manifest, ManifestState, recover};
use super::{FileMeta, VersionEdit};
use crate::LsmError;
use crate::batch::{AppliedChange, OriginId};
use crate::range::KeyRange;

fn meta(number: u64) -> FileMeta {
    FileMeta {
        number,
        size: 100 + number,
        tag: 7,
        range: KeyRange {
            start: Bytes::from(format!("a{number}")),
            end: Bytes::from(format!("b{number}")),
            end_excluded: number.is_multiple_of(2),
        },
        smallest_sequence: 1,
        largest_sequence: number,
        sequence: number.is_multiple_of(3).then_some(number),
        entries: 5,
        deletes: 1,
        range_tombstones: 2,
        raw_bytes: 90,
    }
}

fn edit(number: u64) -> VersionEdit {
    VersionEdit {
        added: vec![(number as usize % 4, meta(number))],
        removed: if number > 3 {
            vec![number - 3]
        } else {
            Vec::new()
        },
        applied: BTreeMap::from([
            (OriginId(number % 2), AppliedChange::Advance(number)),
            (OriginId(9), AppliedChange::Forget),
        ]),
        last_sequence: number * 10,
        next_file: number + 1,
    }
}

#[test]
fn an_edit_survives_the_round_trip() {
    for number in 1..20 {
        let edit = edit(number);
        assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
    }
}

#[test]
fn edits_add_up_over_restarts() {
    let env = SimEnv::new(1).shared();
    let dir = Path::new("/m");
    env.create_dir_all(dir).expect("create_dir_all");
    assert!(recover(&env, dir).expect("empty").is_none());
    let mut manifest = Manifest::create(&env, dir, 1, ManifestState::default()).expect("create");
    for number in 1..50 {
        manifest.append(&edit(number)).expect("append");
        let recovered = recover(&env, dir).expect("recover").expect("a tree");
        assert_eq!(&recovered.state, manifest.state());
        assert_eq!(recovered.number, 1);
    }
    let state = manifest.state().clone();
    let next = Manifest::create(&env, dir, 2, state.clone()).expect("create");
    let recovered = recover(&env, dir).expect("recover").expect("a tree");
    assert_eq!((recovered.number, &recovered.state), (2, &state));
    assert_eq!(next.state(), &state);
}

/// An edit that does not follow from what is there must not be believed.
#[test]
fn a_contradictory_edit_is_refused() {
    let mut state = ManifestState::default();
    state.apply(&edit(1)).expect("first");
    assert!(state.apply(&edit(1)).is_err(), "added twice");
    let removal = VersionEdit {
        removed: vec![77],
        ..VersionEdit::default()
    };
    assert!(
        state.apply(&removal).is_err(),
        "removed without being there"
    );
}

#[test]
fn a_lost_current_is_not_taken_for_an_empty_directory() {
    let env = SimEnv::new(1).shared();
    let dir = Path::new("/m");
    env.create_dir_all(dir).expect("create_dir_all");
    let mut manifest = Manifest::create(&env, dir, 1, ManifestState::default()).expect("create");
    env.remove_file(&dir.join("CURRENT")).expect("remove");
    // Nothing was ever recorded: this is what a crash during the first start leaves.
    assert!(recover(&env, dir).expect("fresh").is_none());
    manifest.append(&edit(1)).expect("append");
    let error = recover(&env, dir).expect_err("CURRENT is gone");
    assert!(matches!(error, LsmError::Corruption { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_edit_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(edit) = VersionEdit::decode(&bytes) {
            prop_assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
        }
    }

    #[test]
    fn any_manifest_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0u64..9000) {
        let env = SimEnv::new(1).shared();
        let dir = Path::new("/m");
        env.create_dir_all(dir).expect("create_dir_all");
        let mut manifest = Manifest::create(&env, dir, 1, ManifestState::default()).expect("create");
        manifest.append(&edit(1)).expect("append");
        let file = env.open(&dir.join("MANIFEST-00000001")).expect("open");
        file.write_at(&bytes, at).expect("write");
        if let Ok(Some(recovered)) = recover(&env, dir) {
            prop_assert_eq!(&recovered.state, manifest.state());
        }
    }
}
