//! What is chosen, situation by situation.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tinykv_env::SimEnv;

use super::{Busy, Choice, debt_bytes, pick, pick_old, pick_small};
use crate::LsmOptions;
use crate::cache::BlockCache;
use crate::changes::Changes;
use crate::range::KeyRange;
use crate::version::{FileContext, FileMeta, Graveyard, TableFile, Version};

fn options() -> LsmOptions {
    LsmOptions {
        levels: 5,
        level_base_bytes: 100,
        level_multiplier: 10,
        l0_compaction_files: 2,
        memtable_bytes_max: 10,
        ..LsmOptions::default()
    }
}

fn meta(number: u64, range: &str, size: u64) -> FileMeta {
    let (start, end) = range.split_once('-').expect("a-b");
    FileMeta {
        number,
        size,
        tag: 0,
        range: KeyRange {
            start: Bytes::copy_from_slice(start.as_bytes()),
            end: Bytes::copy_from_slice(end.as_bytes()),
            end_excluded: false,
        },
        smallest_sequence: number,
        largest_sequence: number,
        sequence: None,
        entries: 10,
        deletes: 0,
        range_tombstones: 0,
        raw_bytes: size,
    }
}

/// A version of tables given by level and record.
fn version(tables: &[(usize, FileMeta)]) -> Version {
    let context = Arc::new(FileContext {
        env: SimEnv::new(1).shared(),
        dir: PathBuf::from("/none"),
        cache: Arc::new(BlockCache::new(0, 4096)),
        graveyard: Graveyard::default(),
        changes: Changes::default(),
    });
    let tables = tables.iter();
    let files: Vec<_> = tables
        .map(|(level, meta)| (*level, TableFile::new(meta.clone(), &context)))
        .collect();
    Version::from_files(vec![Vec::new(); 5], &files).expect("disjoint")
}

fn numbers(choice: &Choice) -> Vec<u64> {
    let mut numbers: Vec<u64> = choice.inputs.iter().map(|(_, f)| f.meta().number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn nothing_to_do() {
    assert!(pick(&version(&[]), &options(), &[]).is_none());
    let one = version(&[(0, meta(1, "a-m", 50)), (4, meta(2, "a-z", 1000))]);
    assert!(pick_old(&one, &options(), &[], 1).is_none());
    assert!(pick(&one, &options(), &[]).is_none());
    assert_eq!(debt_bytes(&one, &options()), 0);
}

#[test]
fn level_zero_goes_whole_to_the_last_level_of_a_small_tree() {
    let version = version(&[
        (0, meta(3, "c-f", 10)),
        (0, meta(4, "a-d", 10)),
        (4, meta(1, "a-b", 40)),
        (4, meta(2, "x-z", 40)),
    ]);
    let choice = pick(&version, &options(), &[]).expect("level 0 is due");
    assert_eq!((choice.from, choice.to), (0, 4));
    assert_eq!(numbers(&choice), [1, 3, 4]);
    assert!(!choice.is_move);
    assert_eq!(debt_bytes(&version, &options()), 20);
}

#[test]
fn the_base_rises_as_the_tree_grows() {
    let l0 = [(0, meta(8, "a-b", 10)), (0, meta(9, "a-b", 10))];
    for (bytes, base) in [(100, 4), (101, 3), (1010, 2), (10_100, 1), (1 << 40, 1)] {
        let mut tables = l0.to_vec();
        tables.push((4, meta(1, "a-z", bytes)));
        let choice = pick(&version(&tables), &options(), &[]).expect("level 0 is due");
        assert_eq!((choice.from, choice.to), (0, base), "{bytes} bytes");
    }
}

#[test]
fn levels_above_the_base_are_drained_and_not_passed() {
    let version = version(&[
        (0, meta(8, "a-b", 10)),
        (0, meta(9, "a-b", 10)),
        (2, meta(5, "a-c", 50)),
        (4, meta(1, "a-z", 100)),
    ]);
    let first = pick(&version, &options(), &[]).expect("level 2 is too large");
    assert_eq!((first.from, first.to), (2, 3));
    assert!(first.is_move);
    let busy = first.busy();
    assert!(
        pick(&version, &options(), &[&busy]).is_none(),
        "level 0 waits for it"
    );
    let elsewhere = Busy {
        levels: (3, 4),
        range: KeyRange::half_open("a".into(), "d".into()),
        files: [1].into(),
    };
    let second = pick(&version, &options(), &[&elsewhere]).expect("level 0");
    assert_eq!((second.from, second.to), (0, 2));
}

#[test]
fn the_table_that_drags_least_along_goes_first() {
    let version = version(&[
        (3, meta(1, "a-c", 200)),
        (3, meta(2, "e-g", 200)),
        (3, meta(3, "p-q", 200)),
        (4, meta(4, "a-d", 2000)),
        (4, meta(5, "f-k", 100)),
        (4, meta(6, "n-z", 900)),
    ]);
    let options = options();
    let first = pick(&version, &options, &[]).expect("level 3 is over its target");
    assert_eq!(numbers(&first), [2, 5]);
    let busy = first.busy();
    let second = pick(&version, &options, &[&busy]).expect("another at the same time");
    assert_eq!(numbers(&second), [3, 6]);
}

#[test]
fn compactions_at_once_are_disjoint() {
    let version = version(&[
        (3, meta(1, "a-c", 400)),
        (3, meta(2, "d-g", 400)),
        (4, meta(4, "a-d", 500)),
        (4, meta(5, "e-k", 500)),
    ]);
    let first = pick(&version, &options(), &[]).expect("level 3 is over its target");
    let busy = first.busy();
    // Both tables drag table 4 along.
    assert_eq!(numbers(&first), [1, 4]);
    assert!(pick(&version, &options(), &[&busy]).is_none());
}

#[test]
fn a_lone_table_is_moved_but_not_its_deletes_to_the_last_level() {
    let options = LsmOptions {
        compression_last_level: options().compression,
        ..options()
    };
    let mut table = meta(1, "a-c", 2000);
    let below = (4, meta(2, "p-q", 1000));
    let choice = pick(
        &version(&[(3, table.clone()), below.clone()]),
        &options,
        &[],
    );
    assert!(choice.expect("over the target").is_move);
    table.deletes = 1;
    let choice = pick(&version(&[(3, table), below]), &options, &[]).expect("likewise");
    assert_eq!((choice.from, choice.to), (3, 4));
    assert!(!choice.is_move);
}

/// Compressed for a level above it would stay larger than it need be.
#[test]
fn a_lone_table_is_moved_to_the_last_level_only_in_its_compression() {
    let below = (4, meta(2, "p-q", 1000));
    let mut table = meta(1, "a-c", 2000);
    let choice = pick(
        &version(&[(3, table.clone()), below.clone()]),
        &options(),
        &[],
    );
    assert!(!choice.expect("over the target").is_move);
    table.sequence = Some(7);
    let choice = pick(&version(&[(3, table), below]), &options(), &[]);
    let choice = choice.expect("likewise");
    assert!(choice.is_move, "taken in as a table of the last level");
}

#[test]
fn deletes_go_down_when_nothing_else_is_due() {
    let mut masking = meta(3, "a-k", 10);
    masking.range_tombstones = 1;
    let tables = [
        (0, masking),
        (4, meta(1, "a-c", 50)),
        (4, meta(2, "x-z", 50)),
    ];
    let choice = pick(&version(&tables), &options(), &[]).expect("a range tombstone");
    assert_eq!((choice.from, choice.to), (0, 4));
    assert_eq!(numbers(&choice), [1, 3]);
    let mut deleting = meta(3, "a-k", 10);
    deleting.deletes = 6;
    let tables = [(3, deleting), (4, meta(1, "a-c", 5000))];
    let choice = pick(&version(&tables), &options(), &[]).expect("mostly deletes");
    assert_eq!(numbers(&choice), [1, 3]);
}

#[test]
fn what_stands_above_the_last_level_is_kept_small_when_nobody_works() {
    let tables = |size| {
        version(&[
            (0, meta(9, "a-m", 30)),
            (3, meta(7, "a-c", size)),
            (3, meta(8, "d-f", 1)),
            (4, meta(1, "a-k", 400)),
            (4, meta(2, "m-z", 400)),
        ])
    };
    assert!(pick(&tables(69), &options(), &[]).is_none());
    let choice = pick(&tables(70), &options(), &[]).expect("more than an eighth");
    assert_eq!((choice.from, choice.to), (3, 4));
    let elsewhere = Busy {
        levels: (1, 2),
        range: meta(0, "x-z", 0).range,
        files: BTreeSet::new(),
    };
    assert!(pick(&tables(70), &options(), &[&elsewhere]).is_none());
}

#[test]
fn old_tables_are_revisited_down_to_the_last_level() {
    let version = version(&[
        (3, meta(7, "a-c", 10)),
        (4, meta(1, "a-k", 400)),
        (4, meta(5, "m-z", 400)),
    ]);
    let first = pick_old(&version, &options(), &[], 8).expect("table 7");
    assert_eq!((first.from, first.to, numbers(&first)), (3, 4, vec![1, 7]));
    let second = pick_old(&version, &options(), &[&first.busy()], 8).expect("table 5");
    assert_eq!(numbers(&second), [5], "level 4 is worked on from a to k");
    let last = pick_old(&version, &options(), &[], 6).expect("table 1");
    assert_eq!((last.from, last.to, numbers(&last)), (4, 4, vec![1]));
    assert!(!last.is_move);
}

/// Four tables make level 0 due, up to 10 bytes are small, and a memtable holds 160.
fn many_small() -> LsmOptions {
    LsmOptions {
        l0_compaction_files: 4,
        memtable_bytes_max: 160,
        ..options()
    }
}

#[test]
fn many_small_tables_of_level_zero_are_merged_with_each_other_first() {
    let last = (4, meta(1, "a-z", 5000));
    let of = |sizes: &[u64]| {
        let tables = sizes.iter().zip(2..);
        let tables = tables.map(|(size, number)| (0, meta(number, "b-y", *size)));
        version(&tables.chain([last.clone()]).collect::<Vec<_>>())
    };
    let choice = pick(&of(&[90, 9, 9, 9, 9]), &many_small(), &[]).expect("four small ones");
    assert_eq!((choice.from, choice.to), (0, 0));
    assert_eq!(
        numbers(&choice),
        [3, 4, 5, 6],
        "the large one is not written again"
    );
    let choice = pick(&of(&[30, 30, 9, 9, 9]), &many_small(), &[]).expect("level 0 is due");
    assert_eq!((choice.from, choice.to), (0, 2), "three are not many");
    let choice = pick(&of(&[27, 9, 9, 9]), &many_small(), &[]).expect("as much as the others");
    assert_eq!((choice.from, choice.to), (0, 0));
    let choice = pick(&of(&[160, 80, 40, 20, 10, 10]), &many_small(), &[]).expect("five");
    assert_eq!(
        numbers(&choice),
        [3, 4, 5, 6, 7],
        "all were more than a memtable"
    );
    let choice = pick(&of(&[40; 7]), &many_small(), &[]).expect("level 0 is due");
    assert_eq!((choice.from, choice.to), (0, 2), "none is small");
    let eight = of(&[40; 8]);
    let merge = pick_small(&eight, &many_small(), &[]).expect("back-pressure begins");
    assert_eq!((merge.to, numbers(&merge)), (0, vec![6, 7, 8, 9]));
    let down = pick(&eight, &many_small(), &[]).expect("the way down goes first there");
    assert_eq!((down.to, numbers(&down).len()), (2, 8));
    let down = pick(&eight, &many_small(), &[&merge.busy()]).expect("beside the merge");
    assert_eq!(numbers(&down), [2, 3, 4, 5], "what is older than that");
}

#[test]
fn small_tables_are_merged_above_those_on_their_way_down() {
    let tables: Vec<_> = (2..10).map(|number| (0, meta(number, "b-y", 9))).collect();
    let version = version(&tables);
    let down = Busy {
        levels: (0, 4),
        range: meta(0, "b-y", 0).range,
        files: [2, 3, 4, 5].into(),
    };
    let choice = pick(&version, &many_small(), &[&down]).expect("the newer ones");
    assert_eq!((choice.to, numbers(&choice)), (0, vec![6, 7, 8, 9]));
    let busy = choice.busy();
    assert!(pick(&version, &many_small(), &[&down, &busy]).is_none());
    let oldest = &down.files | &[6].into();
    let down = Busy {
        files: oldest,
        ..down
    };
    assert!(
        pick(&version, &many_small(), &[&down]).is_none(),
        "three are left"
    );
}
