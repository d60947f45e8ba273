use tinykv_env::OsEnv;
use tinykv_lsm::{Lsm, LsmOptions, WriteBatch};
use tinykv_raft::{LogIndex, PeerId, Term};
use tinykv_replica::Region;

use super::*;

fn check(id: u64, version: u64) -> Check {
    let mut region = Region::default();
    region.epoch.version = version;
    let range = |start: &'static str, end: &'static str| KeyRange {
        start: Bytes::from(start),
        end: Bytes::from(end),
    };
    Check {
        group: GroupId(7),
        peer: PeerId(1),
        entry: EntryId {
            index: LogIndex(12),
            term: Term(3),
        },
        id,
        state: Arc::new(RegionState::new(region, true, Bytes::new())),
        ranges: vec![range("b", "d"), range("m", "p")],
    }
}

fn tree(pairs: &[(&'static str, &'static str)]) -> (Lsm, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temp dir");
    let lsm = Lsm::open(OsEnv::shared(), dir.path(), LsmOptions::default()).expect("open");
    let mut batch = WriteBatch::new();
    for (key, value) in pairs {
        batch.put(Bytes::from(*key), Bytes::from(*value));
    }
    lsm.write(&batch).expect("write");
    (lsm, dir)
}

fn sum_in_turns(
    pairs: &[(&'static str, &'static str)],
    check: &Check,
    is_content: IsContent,
    bytes_max: u64,
) -> Sum {
    let (lsm, _dir) = tree(pairs);
    let mut summing = Summing::new(check, lsm.snapshot(), is_content);
    loop {
        if let Some(sum) = summing.turn_of(bytes_max).expect("readable") {
            return sum;
        }
    }
}

fn sum(pairs: &[(&'static str, &'static str)]) -> Sum {
    sum_in_turns(pairs, &check(1, 1), |_, _, _| true, u64::MAX)
}

const PAIRS: [(&str, &str); 5] = [
    ("a", "outside"),
    ("b", "one"),
    ("c", "two"),
    ("d", "outside"),
    ("n", "three"),
];

#[test]
fn what_lies_in_the_region_is_summed_up() {
    let all = sum(&PAIRS);
    assert_eq!((all.pairs, all.bytes), (3, 14));
    assert_eq!(all.entry.index, LogIndex(12));
    assert_eq!(sum(&PAIRS[1..]), all, "what lies outside is nothing");
    // Any change shows: a value, a key, a byte that moved, a pair that is missing or too many.
    for other in [
        [("b", "one"), ("c", "twO"), ("n", "three")],
        [("b", "one"), ("c", "two"), ("o", "three")],
        [("b", "one"), ("ct", "wo"), ("n", "three")],
        [("b", "one"), ("b0", "two"), ("n", "three")],
    ] {
        assert_ne!(sum(&other).crc32c, all.crc32c, "{other:?}");
    }
    assert_ne!(sum(&PAIRS[2..]), all);
    // So does the state.
    let later = sum_in_turns(&PAIRS, &check(1, 2), |_, _, _| true, u64::MAX);
    assert_ne!(later.crc32c, all.crc32c);
    assert_eq!((later.pairs, later.bytes), (all.pairs, all.bytes));
}

#[test]
fn turns_make_no_difference_and_what_is_no_content_none_either() {
    for bytes_max in [1, 4, 5, 9] {
        let in_turns = sum_in_turns(&PAIRS, &check(1, 1), |_, _, _| true, bytes_max);
        assert_eq!(in_turns, sum(&PAIRS), "{bytes_max} bytes a turn");
    }
    let is_content: IsContent = |_, _, value| value.as_ref() != b"two";
    let without = sum_in_turns(&PAIRS, &check(1, 1), is_content, 4);
    assert_eq!(without, sum(&[("b", "one"), ("n", "three")]));
}

#[tokio::test]
async fn sums_wait_on_the_board_and_old_ones_go() {
    let sums = Checksums::default();
    let one = check(1, 1);
    let found = sum(&PAIRS);
    assert!(sums.begin(&one));
    let (waited, ()) = tokio::join!(sums.wait(GroupId(7), 1), async {
        sums.end(&one, Ok(found));
    });
    assert_eq!(waited, Ok(found));
    for id in 2..2 + RUNNING_MAX as u64 {
        assert!(sums.begin(&check(id, 1)));
    }
    assert!(!sums.begin(&check(99, 1)), "too many at once");
    assert_eq!(sums.wait(GroupId(7), 99).await, Err(NotSummed::Busy));
    for id in 2..2 + RUNNING_MAX as u64 {
        sums.end(&check(id, 1), Ok(found));
    }
    for id in 100..100 + KEPT_MAX as u64 {
        assert!(sums.begin(&check(id, 1)));
        sums.end(&check(id, 1), Ok(found));
    }
    let board = sums.board.lock();
    assert_eq!((board.running, board.sums.len()), (0, KEPT_MAX));
    assert!(!board.sums.contains_key(&(GroupId(7), 1)));
}
