//! Calls as the stores carry them out: each becomes a call or few of the client, which finds the
//! leaders, wherever they are.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use tinykv_client::{Condition, Error, Expired, Expiry, PutOptions, RawClient, Scan};

use super::command::{Call, Unit};
use super::cursors::Cursors;
use super::glob;
use super::limits::ANSWER_BYTES_MAX;
use super::refusal;
use super::reply::Reply;

/// Keys read at a time for one answer, so that an answer that is too long is noticed early.
const KEYS_AT_ONCE: usize = 64;

/// Keys whose existence is asked for at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// Bytes of keys after which an answer to `SCAN` is cut.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// Why a call has no ordinary answer: the error to answer instead.
type Outcome = Result<Reply, Reply>;

/// Carries out a call.
pub(super) async fn perform(client: &RawClient, cursors: &Mutex<Cursors>, call: Call) -> Reply {
    let outcome = match call {
        Call::Get(key) => get(client, key).await,
        Call::GetMany(keys) => get_many(client, keys).await,
        Call::Length(key) => length(client, key).await,
        Call::Kind(key) => kind(client, key).await,
        Call::Exists(keys) => exists(client, keys).await,
        Call::Set {
            key,
            value,
            options,
            counted,
        } => set(client, key, value, options, counted).await,
        Call::SetMany(pairs) => match client.batch_put(pairs).await {
            Ok(()) => Ok(Reply::Simple("OK")),
            Err(error) => Err(refusal::of_batch(&error)),
        },
        Call::Remove(keys) => match client.remove(keys).await {
            Ok(count) => Ok(Reply::count(count)),
            Err(error) => Err(refusal::of_batch(&error)),
        },
        Call::Increment { key, delta } => {
            let sum = client.increment(key, delta).await;
            sum.map(Reply::Integer).map_err(refused)
        }
        Call::Append { key, value } => {
            let length = client.append(key, value).await;
            length.map(Reply::count).map_err(refused)
        }
        Call::Expire { key, ttl } => expire(client, key, Some(ttl)).await,
        Call::Persist(key) => expire(client, key, None).await,
        Call::TimeLeft { key, unit } => time_left(client, key, unit).await,
        Call::Scan {
            cursor,
            pattern,
            count,
            any,
        } => scan(client, cursors, cursor, pattern, count, any).await,
        Call::Count => {
            let count = client.count(Bytes::new(), Bytes::new()).await;
            count.map(Reply::count).map_err(refused)
        }
    };
    outcome.unwrap_or_else(|error| error)
}

async fn get(client: &RawClient, key: Bytes) -> Outcome {
    let value = client.get(key).await.map_err(refused)?;
    Ok(value.map_or(Reply::Null, Reply::Bulk))
}

async fn get_many(client: &RawClient, keys: Vec<Bytes>) -> Outcome {
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for keys in keys.chunks(KEYS_AT_ONCE) {
        let found = client.batch_get(keys.to_vec()).await.map_err(refused)?;
        let found: HashMap<Bytes, Bytes> = found.into_iter().collect();
        for key in keys {
            let value = found.get(key);
            bytes += value.map_or(0, Bytes::len);
            values.push(value.map_or(Reply::Null, |value| Reply::Bulk(value.clone())));
        }
        if bytes > ANSWER_BYTES_MAX {
            return Err(Reply::error(format!(
                "the answer would take more than {ANSWER_BYTES_MAX} bytes; ask for fewer keys"
            )));
        }
    }
    Ok(Reply::Array(values))
}

async fn length(client: &RawClient, key: Bytes) -> Outcome {
    let value = client.get(key).await.map_err(refused)?;
    Ok(Reply::count(value.map_or(0, |value| value.len() as u64)))
}

async fn kind(client: &RawClient, key: Bytes) -> Outcome {
    Ok(Reply::Simple(
        match client.expiry(key).await.map_err(refused)? {
            Expiry::NotFound => "none",
            Expiry::Never | Expiry::In(_) => "string",
        },
    ))
}

/// Asks for expiries, which say whether a key exists and carry no value.
async fn exists(client: &RawClient, keys: Vec<Bytes>) -> Outcome {
    let questions: Vec<_> = keys.into_iter().map(|key| client.expiry(key)).collect();
    let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS_AT_ONCE);
    let mut count = 0;
    while let Some(expiry) = answers.next().await {
        count += u64::from(expiry.map_err(refused)? != Expiry::NotFound);
    }
    Ok(Reply::count(count))
}

async fn set(
    client: &RawClient,
    key: Bytes,
    value: Bytes,
    options: PutOptions,
    counted: bool,
) -> Outcome {
    let stored = match options {
        PutOptions {
            condition: Condition::Always,
            ttl: None,
            keep_expiry: false,
        } => client.put(key, value).await.map(|()| true),
        _ => client.put_if(key, value, options).await,
    };
    Ok(match (stored.map_err(refused)?, counted) {
        (stored, true) => Reply::flag(stored),
        (true, false) => Reply::Simple("OK"),
        (false, false) => Reply::Null,
    })
}

async fn expire(client: &RawClient, key: Bytes, ttl: Option<Duration>) -> Outcome {
    Ok(Reply::flag(
        match client.expire(key, ttl).await.map_err(refused)? {
            Expired::NotFound => false,
            Expired::Changed { had_expiry } => ttl.is_some() || had_expiry,
        },
    ))
}

async fn time_left(client: &RawClient, key: Bytes, unit: Unit) -> Outcome {
    let left = match client.expiry(key).await.map_err(refused)? {
        Expiry::NotFound => return Ok(Reply::Integer(-2)),
        Expiry::Never => return Ok(Reply::Integer(-1)),
        Expiry::In(left) => u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    };
    Ok(Reply::count(match unit {
        Unit::Milliseconds => left,
        // To the nearest, as in Redis.
        Unit::Seconds => left.saturating_add(500) / 1_000,
    }))
}

/// Looks at some keys. A pattern that begins with plain letters is looked for there alone.
async fn scan(
    client: &RawClient,
    cursors: &Mutex<Cursors>,
    cursor: u64,
    pattern: Option<Bytes>,
    count: u64,
    any: bool,
) -> Outcome {
    let prefix = pattern.as_deref().map_or(Bytes::new(), glob::prefix);
    let from = match cursor {
        0 => prefix.clone(),
        _ => {
            let from = cursors.lock().find(cursor);
            let from = from.ok_or_else(|| {
                Reply::error(format!(
                    "unknown cursor {cursor}: this store did not give it, or has given too many \
                     since; begin again with 0"
                ))
            })?;
            from.max(prefix.clone())
        }
    };
    let upper = glob::behind(&prefix);
    if !any || (!upper.is_empty() && from >= upper) {
        return Ok(page(0, Vec::new()));
    }
    let mut keys = client.scan(Scan {
        lower: from,
        upper,
        keys_only: true,
        limit: Some(count + 1),
        ..Scan::default()
    });
    let (mut found, mut seen, mut bytes) = (Vec::new(), 0, 0);
    while let Some((key, _)) = keys.next().await.map_err(refused)? {
        if seen == count || bytes > SCAN_BYTES_MAX {
            return Ok(page(cursors.lock().give(&key), found));
        }
        seen += 1;
        bytes += key.len();
        if pattern
            .as_ref()
            .is_none_or(|pattern| glob::matches(pattern, &key))
        {
            found.push(Reply::Bulk(key));
        }
    }
    Ok(page(0, found))
}

/// An answer to `SCAN`.
fn page(next: u64, keys: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(keys)])
}

fn refused(error: Error) -> Reply {
    refusal::of(&error)
}
