//! From the parts of a request to the operation of a command. Everything a request alone can get
//! wrong is refused here.

use bytes::Bytes;

use crate::command::{Command, Condition, NewExpiry, Operation, Swap, Write};
use crate::limits::{self, Refused};
use crate::space::Space;
use crate::value::{PlacementTime, StoredValue};

/// One value to be stored, as the asker sends it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Life in milliseconds; 0: for ever.
    pub ttl_ms: u64,
}

/// Stores one value.
pub fn put(space: Space, pair: Pair<'_>) -> Result<Operation, Refused> {
    write(space, pair).map(Operation::Put)
}

/// Removes one key.
pub fn delete(space: Space, key: &[u8]) -> Result<Operation, Refused> {
    space.check_key(key)?;
    Ok(Operation::Delete {
        key: space.engine_key(key),
    })
}

/// Stores several values.
pub fn batch_put<'a>(
    space: Space,
    pairs: impl Iterator<Item = Pair<'a>>,
) -> Result<Operation, Refused> {
    let mut writes = Vec::new();
    let mut bytes = 0;
    for pair in pairs {
        bytes += pair.key.len() + pair.value.len();
        if bytes > limits::COMMAND_BYTES_MAX {
            return Err(Refused::BatchTooLong(bytes));
        }
        writes.push(write(space, pair)?);
    }
    within_limit(Operation::BatchPut(writes))
}

/// Removes several keys.
pub fn batch_delete<'a>(
    space: Space,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<Operation, Refused> {
    let mut engine_keys = Vec::new();
    for key in keys {
        space.check_key(key)?;
        engine_keys.push(space.engine_key(key));
    }
    within_limit(Operation::BatchDelete { keys: engine_keys })
}

/// Removes a range of keys, `start` included, `end` not.
pub fn delete_range(space: Space, start: &[u8], end: &[u8]) -> Result<Operation, Refused> {
    space.check_bound(start)?;
    space.check_bound(end)?;
    let (start, end) = (space.lower_bound(start), space.upper_bound(end));
    match start < end {
        true => Ok(Operation::DeleteRange { start, end }),
        false => Err(Refused::RangeEmpty),
    }
}

/// Replaces a value if it is the expected one; `new` without a value removes the key.
pub fn compare_and_swap(
    space: Space,
    key: &[u8],
    expected: Option<&[u8]>,
    new: Option<(&[u8], u64)>,
) -> Result<Operation, Refused> {
    space.check_key(key)?;
    expected.map_or(Ok(()), limits::check_value)?;
    let swap = match new {
        None => Swap::Delete,
        Some((value, ttl_ms)) => {
            limits::check_value(value)?;
            Swap::Put {
                stored: StoredValue::encode_plain(value),
                ttl_ms,
            }
        }
    };
    // Two largest values would make the command twice as long as any other may be.
    within_limit(Operation::CompareAndSwap {
        key: space.engine_key(key),
        expected: expected.map(Bytes::copy_from_slice),
        swap,
    })
}

/// Adds to a number.
pub fn increment(space: Space, key: &[u8], delta: i64) -> Result<Operation, Refused> {
    space.check_key(key)?;
    Ok(Operation::Increment {
        key: space.engine_key(key),
        delta,
    })
}

/// Adds bytes to a value.
pub fn append(space: Space, key: &[u8], suffix: &[u8]) -> Result<Operation, Refused> {
    space.check_key(key)?;
    limits::check_value(suffix)?;
    Ok(Operation::Append {
        key: space.engine_key(key),
        suffix: Bytes::copy_from_slice(suffix),
    })
}

/// Stores one value if the condition holds.
pub fn put_if(
    space: Space,
    key: &[u8],
    value: &[u8],
    condition: Condition,
    expiry: NewExpiry,
) -> Result<Operation, Refused> {
    space.check_key(key)?;
    limits::check_value(value)?;
    if let NewExpiry::After { ttl_ms } = expiry {
        limits::check_ttl_ms(ttl_ms)?;
    }
    Ok(Operation::PutIf {
        key: space.engine_key(key),
        stored: StoredValue::encode_plain(value),
        condition,
        expiry,
    })
}

/// Removes several keys and counts those that existed.
pub fn remove<'a>(
    space: Space,
    keys: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<Operation, Refused> {
    if keys.len() > limits::REMOVE_KEYS_MAX {
        return Err(Refused::TooManyKeys(keys.len()));
    }
    let mut engine_keys = Vec::with_capacity(keys.len());
    for key in keys {
        space.check_key(key)?;
        engine_keys.push(space.engine_key(key));
    }
    within_limit(Operation::Remove { keys: engine_keys })
}

/// Sets the expiry of a key, or takes it away.
pub fn expire(space: Space, key: &[u8], ttl_ms: u64) -> Result<Operation, Refused> {
    space.check_key(key)?;
    Ok(Operation::Expire {
        key: space.engine_key(key),
        ttl_ms: limits::check_ttl_ms(ttl_ms)?,
    })
}

fn write(space: Space, pair: Pair<'_>) -> Result<Write, Refused> {
    space.check_key(pair.key)?;
    limits::check_value(pair.value)?;
    Ok(Write {
        key: space.engine_key(pair.key),
        stored: StoredValue::encode_plain(pair.value),
        ttl_ms: pair.ttl_ms,
    })
}

fn within_limit(operation: Operation) -> Result<Operation, Refused> {
    let now = PlacementTime(0);
    let command = Command { now, operation };
    match command.encoded_len() {
        0..=limits::COMMAND_BYTES_MAX => Ok(command.operation),
        len => Err(Refused::BatchTooLong(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Space = Space::Plain;

    fn pair<'a>(key: &'a [u8], value: &'a [u8]) -> Pair<'a> {
        Pair {
            key,
            value,
            ttl_ms: 0,
        }
    }

    #[test]
    fn keys_become_engine_keys_and_values_their_stored_form() {
        let operation = put(PLAIN, pair(b"k", b"v")).expect("fine");
        let expected = Write {
            key: Bytes::from_static(b"rk"),
            stored: Bytes::from_static(b"\0v"),
            ttl_ms: 0,
        };
        assert_eq!(operation, Operation::Put(expected));
        let keyspace = delete(Space::Keyspace, b"r\0\0\x01k").expect("fine");
        let key = Bytes::from_static(b"kr\0\0\x01k");
        assert_eq!(keyspace, Operation::Delete { key });
    }

    #[test]
    fn a_swap_says_what_is_expected_and_what_comes() {
        let removed = compare_and_swap(PLAIN, b"k", Some(b"old"), None).expect("fine");
        let expected = Operation::CompareAndSwap {
            key: Bytes::from_static(b"rk"),
            expected: Some(Bytes::from_static(b"old")),
            swap: Swap::Delete,
        };
        assert_eq!(removed, expected);
    }

    #[test]
    fn ranges_need_a_beginning_before_their_end() {
        let range = |start: &[u8], end: &[u8]| delete_range(PLAIN, start, end);
        assert!(range(b"a", b"b").is_ok());
        assert_eq!(range(b"b", b"b"), Err(Refused::RangeEmpty));
        assert_eq!(range(b"c", b"b"), Err(Refused::RangeEmpty));
        // No bound is the end of the space; whether the region reaches so far is checked later.
        let all = Operation::DeleteRange {
            start: Bytes::from_static(b"r"),
            end: Bytes::from_static(b"s"),
        };
        assert_eq!(range(b"", b""), Ok(all));
    }

    #[test]
    fn what_does_not_fit_into_one_command_is_refused() {
        let value = vec![0; 8 << 20];
        assert!(put(PLAIN, pair(b"k", &value)).is_ok());
        let two = [pair(b"k", &value), pair(b"l", &value)];
        let refused = batch_put(PLAIN, two.into_iter());
        assert_eq!(refused, Err(Refused::BatchTooLong(2 * value.len() + 2)));
        let swap = compare_and_swap(PLAIN, b"k", Some(&value), Some((&value, 0)));
        assert!(matches!(swap, Err(Refused::BatchTooLong(_))), "{swap:?}");
        let swap = compare_and_swap(PLAIN, b"k", Some(&value), Some((b"v", 0)));
        assert!(swap.is_ok());
    }

    #[test]
    fn one_bad_pair_refuses_the_batch() {
        let pairs = [pair(b"k", b"v"), pair(b"", b"v")];
        assert!(matches!(
            batch_put(PLAIN, pairs.into_iter()),
            Err(Refused::Limit(_))
        ));
        let keys = [&b"k"[..], b""];
        assert!(matches!(
            batch_delete(PLAIN, keys.into_iter()),
            Err(Refused::Limit(_))
        ));
    }
}
