//! Histories it must accept, and bad ones it must reject; a checker that accepts all is worthless.

use super::{
    Action, Operation, Outcome, Snapshot, Violation, check, check_snapshots, parse, print,
};

fn op(client: u64, begin: u64, end: u64, action: Action, outcome: Outcome) -> Operation {
    Operation {
        client,
        key: "k".to_owned(),
        action,
        outcome,
        begin,
        end,
    }
}

fn put(begin: u64, end: u64, value: &str) -> Operation {
    op(1, begin, end, Action::Put(value.to_owned()), Outcome::Done)
}

fn lost_put(begin: u64, value: &str) -> Operation {
    op(1, begin, 0, Action::Put(value.to_owned()), Outcome::Unknown)
}

fn get(begin: u64, end: u64, value: Option<&str>) -> Operation {
    op(
        2,
        begin,
        end,
        Action::Get,
        Outcome::Found(value.map(str::to_owned)),
    )
}

fn delete(begin: u64, end: u64) -> Operation {
    op(3, begin, end, Action::Delete, Outcome::Done)
}

fn cas(
    begin: u64,
    end: u64,
    expected: Option<&str>,
    new: &str,
    swapped: bool,
    previous: Option<&str>,
) -> Operation {
    let action = Action::CompareAndSwap {
        expected: expected.map(str::to_owned),
        new: new.to_owned(),
    };
    op(
        4,
        begin,
        end,
        action,
        Outcome::Swapped {
            swapped,
            previous: previous.map(str::to_owned),
        },
    )
}

fn accepts(history: &[Operation]) {
    check(history).unwrap_or_else(|violation| panic!("{violation}"));
}

fn rejects(history: &[Operation]) {
    let violation = check(history).expect_err("a bad history was accepted");
    assert!(
        matches!(violation, Violation::NotLinearizable { .. }),
        "{violation}"
    );
}

#[test]
fn sequential_operations_are_accepted() {
    accepts(&[
        get(0, 1, None),
        put(2, 3, "a"),
        get(4, 5, Some("a")),
        delete(6, 7),
        get(8, 9, None),
    ]);
}

#[test]
fn a_stale_read_is_rejected() {
    rejects(&[put(0, 1, "a"), put(2, 3, "b"), get(4, 5, Some("a"))]);
}

#[test]
fn a_lost_write_is_rejected() {
    rejects(&[put(0, 1, "a"), get(2, 3, None)]);
}

#[test]
fn a_read_from_nowhere_is_rejected() {
    rejects(&[get(0, 1, Some("a"))]);
}

#[test]
fn overlapping_operations_may_take_either_order() {
    accepts(&[put(0, 10, "a"), put(0, 10, "b"), get(11, 12, Some("a"))]);
    accepts(&[put(0, 10, "a"), put(0, 10, "b"), get(11, 12, Some("b"))]);
    accepts(&[put(0, 10, "a"), get(1, 2, None), get(3, 4, Some("a"))]);
}

#[test]
fn reads_may_not_go_back() {
    rejects(&[
        put(0, 1, "x"),
        put(2, 20, "a"),
        get(3, 4, Some("a")),
        get(5, 6, Some("x")),
    ]);
    rejects(&[
        put(0, 10, "a"),
        put(0, 10, "b"),
        get(11, 12, Some("a")),
        get(13, 14, Some("b")),
    ]);
}

#[test]
fn an_open_write_may_take_effect_late_or_never() {
    accepts(&[lost_put(0, "a"), get(1, 2, None), get(100, 101, Some("a"))]);
    accepts(&[lost_put(0, "a"), get(1, 2, None), get(100, 101, None)]);
    accepts(&[
        lost_put(0, "a"),
        put(5, 6, "b"),
        get(7, 8, Some("a")),
        get(9, 10, Some("a")),
    ]);
}

#[test]
fn an_open_write_takes_effect_at_most_once() {
    rejects(&[
        lost_put(0, "a"),
        get(1, 2, Some("a")),
        put(3, 4, "b"),
        get(5, 6, Some("a")),
    ]);
}

#[test]
fn an_open_write_has_no_effect_before_it_began() {
    rejects(&[get(0, 1, Some("a")), lost_put(2, "a")]);
}

#[test]
fn a_refused_write_must_not_be_seen() {
    let refused = op(1, 0, 1, Action::Put("a".to_owned()), Outcome::DefinitelyNot);
    accepts(&[refused.clone(), get(2, 3, None)]);
    rejects(&[refused, get(2, 3, Some("a"))]);
}

#[test]
fn a_resurrected_delete_is_rejected() {
    rejects(&[
        put(0, 1, "a"),
        delete(2, 3),
        get(4, 5, None),
        get(6, 7, Some("a")),
    ]);
}

#[test]
fn compare_and_swap_is_exact() {
    accepts(&[
        cas(0, 1, None, "a", true, None),
        cas(2, 3, None, "b", false, Some("a")),
    ]);
    accepts(&[
        cas(0, 10, None, "a", true, None),
        cas(0, 10, Some("a"), "b", true, Some("a")),
        get(11, 12, Some("b")),
    ]);
    // Both swapped from the same content: a lost update.
    rejects(&[
        cas(0, 10, None, "a", true, None),
        cas(0, 10, None, "b", true, None),
    ]);
    // It says it found what it expected and did not swap.
    rejects(&[cas(0, 1, None, "a", false, None)]);
}

#[test]
fn an_open_compare_and_swap_may_build_on_another() {
    let open = |expected: &str, new: &str| {
        let action = Action::CompareAndSwap {
            expected: Some(expected.to_owned()),
            new: new.to_owned(),
        };
        op(5, 2, 0, action, Outcome::Unknown)
    };
    accepts(&[
        put(0, 1, "a"),
        open("a", "b"),
        open("b", "c"),
        get(9, 10, Some("c")),
    ]);
    rejects(&[
        put(0, 1, "a"),
        open("x", "b"),
        open("b", "c"),
        get(9, 10, Some("c")),
    ]);
}

#[test]
fn keys_are_independent_and_each_is_checked() {
    let mut other = get(4, 5, Some("a"));
    other.key = "other".to_owned();
    rejects(&[put(0, 1, "a"), other]);
}

#[test]
fn hundreds_of_concurrent_operations_are_decided() {
    let mut history = Vec::new();
    for round in 0..200u64 {
        let base = round * 100;
        for client in 0..5 {
            history.push(put(
                base + client,
                base + 60 + client,
                &format!("{round}-{client}"),
            ));
        }
        history.push(get(
            base + 70,
            base + 80,
            Some(&format!("{round}-{}", round % 5)),
        ));
        history.push(lost_put(base + 85, &format!("{round}-lost")));
    }
    accepts(&history);
    history.push(get(30_000, 30_001, Some("3-0")));
    rejects(&history);
}

#[test]
fn the_reported_operations_end_with_the_one_that_went_wrong() {
    let history = [
        put(0, 1, "a"),
        put(2, 3, "b"),
        get(4, 5, Some("a")),
        put(6, 7, "c"),
        get(8, 9, None),
    ];
    match check(&history) {
        Err(Violation::NotLinearizable { operations, .. }) => {
            assert_eq!(operations.last(), Some(&history[2]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_history_is_json_lines() {
    let history = vec![put(0, 1, "a"), cas(2, 3, Some("a"), "b", true, Some("a"))];
    assert_eq!(parse(&print(&history)), Ok(history));
    let broken = parse("{}\n").expect_err("not an operation");
    assert!(broken.starts_with("line 1: "), "{broken}");
}

fn of(key: &str, operation: Operation) -> Operation {
    Operation {
        key: key.to_owned(),
        ..operation
    }
}

fn snapshot(begin: u64, end: u64, reads: [(&str, Option<&str>); 2]) -> Snapshot {
    let read = |(key, value): (&str, Option<&str>)| (key.to_owned(), value.map(str::to_owned));
    Snapshot {
        client: 9,
        reads: reads.map(read).to_vec(),
        begin,
        end,
    }
}

/// `x` is 1 and then 2, after that `y` is 1: whoever sees the new `y` sees the new `x`.
fn two_registers() -> Vec<Operation> {
    vec![
        of("x", put(10, 20, "x1")),
        of("x", put(30, 40, "x2")),
        of("y", put(50, 60, "y1")),
    ]
}

#[test]
fn values_that_were_there_at_one_time_are_a_snapshot() {
    let history = two_registers();
    for reads in [
        [("x", Some("x1")), ("y", None)],
        [("x", Some("x2")), ("y", None)],
        [("x", Some("x2")), ("y", Some("y1"))],
    ] {
        let snapshots = [snapshot(15, 55, reads)];
        assert_eq!(check_snapshots(&history, &snapshots), Ok(()), "{reads:?}");
    }
}

#[test]
fn a_snapshot_of_two_times_is_torn() {
    let torn = [snapshot(15, 65, [("x", Some("x1")), ("y", Some("y1"))])];
    assert!(check_snapshots(&two_registers(), &torn).is_err());
}

#[test]
fn a_snapshot_from_before_it_was_asked_for_is_refused() {
    let stale = [snapshot(45, 65, [("x", Some("x1")), ("y", None)])];
    assert!(check_snapshots(&two_registers(), &stale).is_err());
    let missing = [snapshot(70, 80, [("x", Some("x2")), ("y", None)])];
    assert!(check_snapshots(&two_registers(), &missing).is_err());
    let unheard_of = [snapshot(70, 80, [("x", Some("x9")), ("y", Some("y1"))])];
    assert!(check_snapshots(&two_registers(), &unheard_of).is_err());
}

#[test]
fn open_writes_leave_a_snapshot_its_freedom() {
    let mut history = two_registers();
    history.push(of("x", lost_put(25, "x3")));
    let late = [snapshot(70, 80, [("x", Some("x3")), ("y", Some("y1"))])];
    assert_eq!(check_snapshots(&history, &late), Ok(()));
}
