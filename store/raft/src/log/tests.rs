//! The log against a naive one, and the corners of its runs.

use super::*;
use crate::types::{Configuration, Payload};
use std::time::Duration;

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        id: EntryId {
            term: Term(term),
            index: LogIndex(index),
        },
        payload: Payload::Empty,
    }
}

fn log(terms: &[u64]) -> Log {
    let mut log = Log::new(&Initial::new(Configuration::default(), Duration::ZERO));
    for (term, index) in terms.iter().zip(1..) {
        log.push(entry(index, *term));
    }
    log
}

#[test]
fn every_term_is_answerable() {
    let log = log(&[1, 1, 3, 3, 3, 7]);
    let terms = (0..8).map(|index| log.term(LogIndex(index)).map(|term| term.0));
    let expected = [
        Some(0),
        Some(1),
        Some(1),
        Some(3),
        Some(3),
        Some(3),
        Some(7),
        None,
    ];
    assert_eq!(terms.collect::<Vec<_>>(), expected);
}

#[test]
fn last_of_term_finds_where_logs_may_agree() {
    let log = log(&[1, 1, 3, 3, 3, 7]);
    for index in 0..8 {
        for term in 0..9 {
            let naive = (0..=index.min(6))
                .rev()
                .map(|index| log.id(LogIndex(index)))
                .find(|id| id.term.0 <= term)
                .expect("0@0 at the least");
            assert_eq!(
                log.last_of_term(LogIndex(index), Term(term)),
                naive,
                "{index} {term}"
            );
        }
    }
}

#[test]
fn last_of_term_stops_where_the_log_was_cut() {
    let mut log = log(&[1, 1, 3, 3, 3, 7]);
    log.raise_commit(LogIndex(4));
    log.set_handed(LogIndex(4));
    log.set_applied(LogIndex(4));
    log.compact(LogIndex(4));
    assert_eq!(log.last_of_term(LogIndex(6), Term(3)), entry(5, 3).id);
    assert_eq!(log.last_of_term(LogIndex(4), Term(3)), entry(4, 3).id);
    assert_eq!(
        log.last_of_term(LogIndex(6), Term(2)),
        EntryId {
            term: Term(2),
            index: LogIndex(3)
        }
    );
    assert_eq!(
        log.last_of_term(LogIndex(2), Term(9)),
        EntryId {
            term: Term(9),
            index: LogIndex(2)
        }
    );
}

#[test]
fn cutting_keeps_the_runs_in_step() {
    for cut in 0..=6 {
        let mut log = log(&[1, 1, 3, 3, 3, 7]);
        log.raise_commit(LogIndex(6));
        log.set_handed(LogIndex(6));
        log.set_applied(LogIndex(6));
        let before: Vec<_> = (cut..=6).map(|index| log.term(LogIndex(index))).collect();
        log.compact(LogIndex(cut));
        let after: Vec<_> = (cut..=6).map(|index| log.term(LogIndex(index))).collect();
        assert_eq!(before, after);
        assert_eq!(
            log.entries(LogIndex(1), LogIndex(6), usize::MAX).is_empty(),
            cut > 0
        );
        assert_eq!(
            log.memory_bytes(),
            log.bytes_between(LogIndex(1), LogIndex(6))
        );
        log.push(entry(7, 7));
        log.push(entry(8, 9));
        assert_eq!(log.term(LogIndex(8)), Some(Term(9)));
    }
}

#[test]
fn dropping_keeps_the_runs_in_step() {
    for from in 1..=7 {
        let mut log = log(&[1, 1, 3, 3, 3, 7]);
        log.drop_from(LogIndex(from));
        assert_eq!(log.last().index.0, from - 1);
        assert_eq!(
            log.memory_bytes(),
            24 * usize::try_from(from - 1).expect("small")
        );
        log.push(entry(from, 8));
        assert_eq!(log.term(LogIndex(from)), Some(Term(8)));
        assert_eq!(log.term(LogIndex(from + 1)), None);
    }
}

#[test]
fn entries_are_cut_by_bytes_but_never_to_nothing() {
    let log = log(&[1, 1, 1, 1]);
    let count = |bytes| log.entries(LogIndex(2), LogIndex(4), bytes).len();
    assert_eq!(
        [count(0), count(24), count(47), count(48), count(1000)],
        [1, 1, 1, 2, 3]
    );
}
