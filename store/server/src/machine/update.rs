//! Updates that read what they change: increment, append, conditional put, counted removal, expiry.
//!
//! All of them see a value that has expired by the region's time as none at all, and a value they
//! only change keeps the expiry it has.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use tinykv_keys::VALUE_BYTES_MAX;
use tinykv_replica::{ApplyContext, NeedsKeys};

use super::{advance, live};
use crate::command::{Condition, Conflict, Expiry, NewExpiry, Reply};
use crate::value::{PlacementTime, StoredValue};

/// What a conditional put asks for.
pub(super) struct Put {
    pub(super) key: Bytes,
    pub(super) stored: Bytes,
    pub(super) condition: Condition,
    pub(super) expiry: NewExpiry,
}

pub(super) fn increment(
    key: Bytes,
    delta: i64,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Reply, NeedsKeys> {
    let stored = context.get(&key)?;
    let previous = match live(stored, now, context) {
        Ok(previous) => previous,
        Err(error) => return Ok(Reply::Unreadable(error)),
    };
    let (number, expires_at) = match previous {
        None => (0, None),
        Some(value) => match integer(&value.payload) {
            Some(number) => (number, value.expires_at),
            None => return Ok(Reply::Conflict(Conflict::NotAnInteger)),
        },
    };
    let Some(sum) = number.checked_add(delta) else {
        return Ok(Reply::Conflict(Conflict::Overflow));
    };
    let value = StoredValue {
        expires_at,
        payload: Bytes::from(sum.to_string()),
    };
    context.put(key, value.encode());
    Ok(Reply::Sum(sum))
}

pub(super) fn append(
    key: Bytes,
    suffix: &[u8],
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Reply, NeedsKeys> {
    let stored = context.get(&key)?;
    let previous = match live(stored, now, context) {
        Ok(previous) => previous,
        Err(error) => return Ok(Reply::Unreadable(error)),
    };
    let (head, expires_at) = previous.map_or((Bytes::new(), None), |value| {
        (value.payload, value.expires_at)
    });
    // The limit is part of the format: all replicas have to draw it at the same length.
    let length = head.len() + suffix.len();
    if length > VALUE_BYTES_MAX {
        return Ok(Reply::Conflict(Conflict::TooLong(length)));
    }
    let mut payload = BytesMut::with_capacity(length);
    payload.extend_from_slice(&head);
    payload.extend_from_slice(suffix);
    let value = StoredValue {
        expires_at,
        payload: payload.freeze(),
    };
    context.put(key, value.encode());
    Ok(Reply::Length(length as u64))
}

pub(super) fn put_if(
    put: Put,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Reply, NeedsKeys> {
    let stored = context.get(&put.key)?;
    let previous = match live(stored, now, context) {
        Ok(previous) => previous,
        Err(error) => return Ok(Reply::Unreadable(error)),
    };
    let holds = match put.condition {
        Condition::Always => true,
        Condition::IfAbsent => previous.is_none(),
        Condition::IfPresent => previous.is_some(),
    };
    if !holds {
        return Ok(Reply::Stored(false));
    }
    let expires_at = match put.expiry {
        NewExpiry::After { ttl_ms } => expires_at(ttl_ms, now, context),
        NewExpiry::Kept => previous.and_then(|value| value.expires_at),
    };
    let stored = match expires_at {
        None => put.stored,
        Some(_) => with_expiry(&put.stored, expires_at),
    };
    context.put(put.key, stored);
    Ok(Reply::Stored(true))
}

pub(super) fn remove(
    keys: Vec<Bytes>,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Reply, NeedsKeys> {
    let keys: Vec<Bytes> = BTreeSet::from_iter(keys).into_iter().collect();
    let values = context.multi_get(&keys)?;
    let mut removed = 0;
    for (key, stored) in keys.into_iter().zip(values) {
        if stored.is_none() {
            continue;
        }
        // What cannot be read is no value anybody could have got, but there is something to go.
        if !matches!(live(stored, now, context), Ok(None)) {
            removed += 1;
        }
        context.delete(key);
    }
    Ok(Reply::Removed(removed))
}

pub(super) fn expire(
    key: Bytes,
    ttl_ms: u64,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Reply, NeedsKeys> {
    let stored = context.get(&key)?;
    let previous = match live(stored, now, context) {
        Ok(Some(previous)) => previous,
        Ok(None) => return Ok(Reply::Expiry(Expiry::NotFound)),
        Err(error) => return Ok(Reply::Unreadable(error)),
    };
    let had_expiry = previous.expires_at.is_some();
    let expires_at = expires_at(ttl_ms, now, context);
    if expires_at != previous.expires_at {
        let value = StoredValue {
            expires_at,
            payload: previous.payload,
        };
        context.put(key, value.encode());
    }
    Ok(Reply::Expiry(Expiry::Changed { had_expiry }))
}

fn expires_at(
    ttl_ms: u64,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Option<PlacementTime> {
    match ttl_ms {
        0 => None,
        ttl_ms => Some(advance(now, context).plus_ms(ttl_ms)),
    }
}

fn with_expiry(plain: &Bytes, expires_at: Option<PlacementTime>) -> Bytes {
    let payload = plain.slice(StoredValue::PLAIN_HEADER_LEN..);
    StoredValue {
        expires_at,
        payload,
    }
    .encode()
}

/// The number that a text says exactly as it would be written: no plus, no leading zeros, no
/// spaces, no minus before zero.
fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    match canonical {
        true => std::str::from_utf8(text).ok()?.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_texts_as_they_would_be_written() {
        for number in [0, 1, -1, 10, 907, i64::MAX, i64::MIN] {
            assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "-0",
            "00",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "--1",
            "1\n",
            "9223372036854775808",
            "-9223372036854775809",
            "١",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(integer(b"\xFF"), None);
    }
}
