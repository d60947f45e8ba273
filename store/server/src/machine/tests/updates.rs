//! The edges of updates: the moment of expiry, the ends of the numbers, the longest value.

use tinykv_keys::VALUE_BYTES_MAX;

use super::*;
use crate::command::{Conflict, Expiry};

impl Single {
    fn at(&mut self, now: u64, operation: Operation) -> Reply {
        self.reply(&Command {
            now: PlacementTime(now),
            operation,
        })
    }

    fn put(&mut self, now: u64, value: &[u8], ttl_ms: u64) {
        let write = Write {
            key: plain(b"k"),
            stored: StoredValue::encode_plain(value),
            ttl_ms,
        };
        assert_eq!(self.at(now, Operation::Put(write)), Reply::Done);
    }

    /// The stored form of `k`, taken apart.
    fn stored(&self) -> Option<(Bytes, Option<u64>)> {
        let stored = self.engine.data.get(&plain(b"k"))?;
        let value = StoredValue::decode(stored).expect("written by the machine");
        Some((value.payload, value.expires_at.map(|at| at.0)))
    }
}

fn increment(delta: i64) -> Operation {
    Operation::Increment {
        key: plain(b"k"),
        delta,
    }
}

fn append(suffix: &[u8]) -> Operation {
    Operation::Append {
        key: plain(b"k"),
        suffix: Bytes::copy_from_slice(suffix),
    }
}

fn put_if(value: &[u8], condition: Condition, expiry: NewExpiry) -> Operation {
    Operation::PutIf {
        key: plain(b"k"),
        stored: StoredValue::encode_plain(value),
        condition,
        expiry,
    }
}

fn expire(ttl_ms: u64) -> Operation {
    Operation::Expire {
        key: plain(b"k"),
        ttl_ms,
    }
}

const FOR_EVER: NewExpiry = NewExpiry::After { ttl_ms: 0 };

fn stored(value: &'static str, expires_at: Option<u64>) -> Option<(Bytes, Option<u64>)> {
    Some((Bytes::from_static(value.as_bytes()), expires_at))
}

/// What each update does to a value of `5` that expires at 1,100, one moment before and at that
/// moment: its reply, and what is stored then.
#[test]
fn up_to_its_last_moment_a_value_counts_and_keeps_its_expiry() {
    type After = (Reply, Option<(Bytes, Option<u64>)>);
    let changed = |had_expiry| Reply::Expiry(Expiry::Changed { had_expiry });
    let gone = stored("5", Some(1100));
    let rows: Vec<(Operation, After, After)> = vec![
        (
            increment(2),
            (Reply::Sum(7), stored("7", Some(1100))),
            (Reply::Sum(2), stored("2", None)),
        ),
        (
            append(b"x"),
            (Reply::Length(2), stored("5x", Some(1100))),
            (Reply::Length(1), stored("x", None)),
        ),
        (
            put_if(b"n", Condition::IfAbsent, FOR_EVER),
            (Reply::Stored(false), stored("5", Some(1100))),
            (Reply::Stored(true), stored("n", None)),
        ),
        (
            put_if(b"n", Condition::IfPresent, NewExpiry::After { ttl_ms: 50 }),
            (Reply::Stored(true), stored("n", Some(1149))),
            (Reply::Stored(false), gone.clone()),
        ),
        (
            put_if(b"n", Condition::Always, NewExpiry::Kept),
            (Reply::Stored(true), stored("n", Some(1100))),
            (Reply::Stored(true), stored("n", None)),
        ),
        (
            Operation::Remove {
                keys: vec![plain(b"k"), plain(b"k"), plain(b"l")],
            },
            (Reply::Removed(1), None),
            (Reply::Removed(0), None),
        ),
        (
            expire(0),
            (changed(true), stored("5", None)),
            (Reply::Expiry(Expiry::NotFound), gone.clone()),
        ),
        (
            expire(200),
            (changed(true), stored("5", Some(1299))),
            (Reply::Expiry(Expiry::NotFound), gone),
        ),
    ];
    for (operation, before, after) in rows {
        for (now, (reply, left)) in [(1099, before), (1100, after)] {
            let mut single = Single::open();
            single.put(1000, b"5", 100);
            assert_eq!(single.at(now, operation.clone()), reply, "{operation:?}");
            assert_eq!(single.stored(), left, "{operation:?} at {now}");
        }
    }
}

#[test]
fn a_new_expiry_tells_whether_there_was_one() {
    let mut single = Single::open();
    let changed = |had_expiry| Reply::Expiry(Expiry::Changed { had_expiry });
    assert_eq!(
        single.at(10, expire(5)),
        Reply::Expiry(Expiry::NotFound),
        "nothing there"
    );
    single.put(10, b"v", 0);
    assert_eq!(single.at(10, expire(0)), changed(false));
    assert_eq!(single.at(10, expire(5)), changed(false));
    assert_eq!(single.at(11, expire(0)), changed(true));
    assert_eq!(single.stored(), stored("v", None));
    // A proposer that knows an older time does not turn the region's back.
    assert_eq!(single.at(30, expire(5)), changed(false));
    assert_eq!(single.at(20, expire(5)), changed(true));
    assert_eq!(single.stored(), stored("v", Some(35)));
}

#[test]
fn sums_end_where_the_numbers_end() {
    let mut single = Single::open();
    let overflow = Reply::Conflict(Conflict::Overflow);
    assert_eq!(single.at(0, increment(i64::MIN)), Reply::Sum(i64::MIN));
    assert_eq!(single.at(0, increment(-1)), overflow);
    assert_eq!(single.stored(), stored("-9223372036854775808", None));
    assert_eq!(single.at(0, increment(i64::MAX)), Reply::Sum(-1));
    assert_eq!(single.at(0, increment(1)), Reply::Sum(0));
    assert_eq!(single.stored(), stored("0", None));
    assert_eq!(single.at(0, increment(i64::MAX)), Reply::Sum(i64::MAX));
    assert_eq!(single.at(0, increment(1)), overflow);
    assert_eq!(single.stored(), stored("9223372036854775807", None));
}

#[test]
fn what_is_no_number_is_left_alone() {
    for text in ["", "-0", "+1", "01", " 1", "1 ", "a", "9223372036854775808"] {
        let mut single = Single::open();
        single.put(0, text.as_bytes(), 0);
        assert_eq!(
            single.at(0, increment(1)),
            Reply::Conflict(Conflict::NotAnInteger),
            "{text:?}"
        );
        assert_eq!(single.stored(), stored(text, None));
    }
}

#[test]
fn a_value_grows_to_the_longest_and_no_further() {
    let mut single = Single::open();
    single.put(0, &vec![7; VALUE_BYTES_MAX - 1], 0);
    let longest = VALUE_BYTES_MAX as u64;
    assert_eq!(single.at(0, append(b"x")), Reply::Length(longest));
    assert_eq!(single.at(0, append(b"")), Reply::Length(longest));
    assert_eq!(
        single.at(0, append(b"x")),
        Reply::Conflict(Conflict::TooLong(VALUE_BYTES_MAX + 1))
    );
    let (value, _) = single.stored().expect("still there");
    assert_eq!(value.len(), VALUE_BYTES_MAX);
}

#[test]
fn keys_of_updates_have_to_lie_in_the_region() {
    let mut single = Single::open();
    let outside = plain(b"z");
    let rows = [
        Operation::Increment {
            key: outside.clone(),
            delta: 1,
        },
        Operation::Append {
            key: outside.clone(),
            suffix: Bytes::new(),
        },
        Operation::PutIf {
            key: outside.clone(),
            stored: StoredValue::encode_plain(b""),
            condition: Condition::Always,
            expiry: FOR_EVER,
        },
        Operation::Remove {
            keys: vec![plain(b"k"), outside.clone()],
        },
        Operation::Expire {
            key: outside,
            ttl_ms: 1,
        },
    ];
    for operation in rows {
        let command = Command {
            now: PlacementTime(0),
            operation,
        };
        let outcome = single.outcome(&command);
        assert!(
            matches!(
                outcome,
                Outcome::DefinitelyNot(Refusal::KeyNotInRegion { .. })
            ),
            "{command:?} ended as {outcome:?}"
        );
    }
}
