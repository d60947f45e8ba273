//! From the parts of a request to the operation of a command. Everything a request alone can get
//! wrong is refused here.

use bytes::Bytes;

use crate::command::{Command, Operation, Swap, Write};
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
