//! Histories it must accept, and bad ones it must reject; a checker that accepts all is worthless.

use std::fs::DirEntry;
use std::path::Path;

use super::{Action, Operation, Outcome, Violation, check, parse, print};

fn op(client: u64, begin: u64, end: u64, action: Action, outcome: Outcome) -> Operation {
    Operation {
        client,
        key: "k".to_owned(),
        action,
        outcome,
        begin,
        end,
        at_once: None,
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

/// Every file of a folder of histories, by its name.
fn histories(folder: &str) -> Vec<(String, Vec<Operation>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/checker/histories")
        .join(folder);
    let files = std::fs::read_dir(folder).expect("the folder is part of the repository");
    let read = |file: std::io::Result<DirEntry>| {
        let path = file.expect("it can be listed").path();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let name = path.display().to_string();
        let history = parse(&text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        (name, history)
    };
    files.map(read).collect()
}

#[test]
fn every_bad_history_is_rejected() {
    let bad = histories("bad");
    assert!(bad.len() >= 30, "only {} bad histories", bad.len());
    for (name, history) in bad {
        match check(&history) {
            Ok(_) => panic!("{name} was accepted"),
            Err(Violation::Undecided { .. }) => panic!("{name} was not decided"),
            Err(violation) => assert!(!violation.to_string().is_empty(), "{name}"),
        }
    }
}

#[test]
fn every_good_history_is_accepted() {
    let good = histories("good");
    assert!(good.len() >= 15, "only {} good histories", good.len());
    for (name, history) in good {
        check(&history).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    }
}

/// A list and a counter that five clients work on, one operation in ten without an answer.
#[test]
fn long_lists_and_counters_with_open_ends_are_decided() {
    let mut history = Vec::new();
    let (mut list, mut sum) = (String::new(), 0);
    for number in 0..600u64 {
        let (begin, end) = (number * 10, number * 10 + 45);
        let element = format!("e{number};");
        let is_open = number % 10 == 3;
        let takes_effect = !is_open || number % 20 == 3;
        if takes_effect {
            list += &element;
            sum += 1;
        }
        let told = |outcome| if is_open { Outcome::Unknown } else { outcome };
        let length = Outcome::Appended(list.len() as u64);
        let append = op(
            number % 5,
            begin,
            end,
            Action::Append(element),
            told(length),
        );
        let add = op(
            number % 5,
            begin,
            end,
            Action::Increment(1),
            told(Outcome::Sum(sum)),
        );
        history.extend([of("list", append), of("counter", add)]);
        if number % 25 == 0 {
            history.push(of("list", get(begin + 2, end, Some(&list))));
            history.push(of("counter", get(begin + 2, end, Some(&sum.to_string()))));
        }
    }
    accepts(&history);
    let late = |key, value: &str| of(key, get(90_000, 90_001, Some(value)));
    let mut short = history.clone();
    short.push(late("list", &list[..list.len() - 5]));
    rejects(&short);
    history.push(late("counter", "1000"));
    rejects(&history);
}

fn of(key: &str, operation: Operation) -> Operation {
    Operation {
        key: key.to_owned(),
        ..operation
    }
}

/// A history of two registers and a scan that showed these values.
fn scanned(
    history: Vec<Operation>,
    times: (u64, u64),
    reads: [(&str, Option<&str>); 2],
) -> Vec<Operation> {
    let read = |(key, value): (&str, Option<&str>)| Operation {
        client: 9,
        at_once: Some(1),
        ..of(key, get(times.0, times.1, value))
    };
    history.into_iter().chain(reads.map(read)).collect()
}

fn is_torn(history: &[Operation]) {
    let violation = check(history).expect_err("a torn scan was accepted");
    assert!(matches!(violation, Violation::Torn(_)), "{violation}");
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
    for reads in [
        [("x", Some("x1")), ("y", None)],
        [("x", Some("x2")), ("y", None)],
        [("x", Some("x2")), ("y", Some("y1"))],
    ] {
        accepts(&scanned(two_registers(), (15, 55), reads));
    }
}

#[test]
fn a_snapshot_of_two_times_is_torn() {
    let reads = [("x", Some("x1")), ("y", Some("y1"))];
    is_torn(&scanned(two_registers(), (15, 65), reads));
}

#[test]
fn a_snapshot_from_before_it_was_asked_for_is_refused() {
    for (times, reads) in [
        ((45, 65), [("x", Some("x1")), ("y", None)]),
        ((70, 80), [("x", Some("x2")), ("y", None)]),
        ((70, 80), [("x", Some("x9")), ("y", Some("y1"))]),
    ] {
        rejects(&scanned(two_registers(), times, reads));
    }
}

#[test]
fn open_writes_leave_a_snapshot_its_freedom() {
    let mut history = two_registers();
    history.push(of("x", lost_put(25, "x3")));
    let reads = [("x", Some("x3")), ("y", Some("y1"))];
    accepts(&scanned(history, (70, 80), reads));
}

/// Both registers are 1, and a batch makes both 2.
fn batch(is_known: bool) -> Vec<Operation> {
    let part = |key: &str, value: &str| {
        let put = match is_known {
            true => put(50, 90, value),
            false => lost_put(50, value),
        };
        Operation {
            at_once: Some(7),
            ..of(key, put)
        }
    };
    vec![
        of("x", put(10, 20, "x1")),
        of("y", put(30, 40, "y1")),
        part("x", "x2"),
        part("y", "y2"),
    ]
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    for is_known in [true, false] {
        for reads in [
            [("x", Some("x1")), ("y", Some("y1"))],
            [("x", Some("x2")), ("y", Some("y2"))],
        ] {
            accepts(&scanned(batch(is_known), (60, 70), reads));
        }
        for reads in [
            [("x", Some("x2")), ("y", Some("y1"))],
            [("x", Some("x1")), ("y", Some("y2"))],
        ] {
            is_torn(&scanned(batch(is_known), (60, 70), reads));
        }
    }
}

#[test]
fn a_key_is_of_one_kind() {
    let add = op(1, 2, 3, Action::Increment(1), Outcome::Sum(1));
    let violation = check(&[put(0, 1, "a"), add]).expect_err("a number after a text");
    assert!(
        matches!(violation, Violation::Malformed { .. }),
        "{violation}"
    );
    let append = |begin| {
        let element = Action::Append("a;".to_owned());
        op(1, begin, begin + 1, element, Outcome::Unknown)
    };
    let violation = check(&[append(0), append(2)]).expect_err("they cannot be told apart");
    assert!(
        matches!(violation, Violation::Malformed { .. }),
        "{violation}"
    );
}
