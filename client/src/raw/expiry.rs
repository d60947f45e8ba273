//! Keys that expire: values with a time to live, and that time set, removed and asked for.
//!
//! Time is counted by the stores, from when the write is applied, in milliseconds. A key that has
//! expired does not exist for any call.

use std::time::Duration;

use bytes::Bytes;
use tinykv_keys::{check_key, check_value};
use tinykv_proto::kvrpcpb;
use tinykv_proto::store::{RawExpireRequest, RawGetExpiryRequest};

use super::{PutOptions, RawClient};
use crate::error::Error;

/// Longest time to live that a store takes, in milliseconds.
const TTL_MS_MAX: u64 = 1 << 62;

/// How long a key will live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The key does not exist.
    NotFound,
    /// It exists and does not expire.
    Never,
    /// It expires after this time, at least a millisecond.
    In(Duration),
}

/// What became of the change of an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The key does not exist.
    NotFound,
    /// It is as asked.
    Changed {
        /// Whether the key had an expiry before.
        had_expiry: bool,
    },
}

impl RawClient {
    /// Stores a value that expires after a time, rounded up to whole milliseconds; at least one.
    pub async fn put_with_ttl(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let (key, value) = (key.into(), value.into());
        let ms = ttl_ms(ttl)?;
        if !ms.is_multiple_of(1_000) {
            // TiKV's call counts in seconds.
            let options = PutOptions {
                ttl: Some(ttl),
                ..PutOptions::default()
            };
            return self.put_if(key, value, options).await.map(|_| ());
        }
        check_key(&key)?;
        check_value(&value)?;
        let request = |_: &_| kvrpcpb::RawPutRequest {
            key: key.clone(),
            value: value.clone(),
            ttl: ms / 1_000,
            ..Default::default()
        };
        self.call(&key, request).await?;
        Ok(())
    }

    /// Sets how long a key lives from now, rounded up to whole milliseconds, at least one; `None`:
    /// for ever. Its value stays.
    pub async fn expire(
        &self,
        key: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Expired, Error> {
        let key = key.into();
        check_key(&key)?;
        let ttl_ms = ttl.map_or(Ok(0), ttl_ms)?;
        let request = |_: &_| RawExpireRequest {
            key: key.clone(),
            ttl_ms,
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok(match response.not_found {
            true => Expired::NotFound,
            false => Expired::Changed {
                had_expiry: response.had_expiry,
            },
        })
    }

    /// How long a key will live.
    pub async fn expiry(&self, key: impl Into<Bytes>) -> Result<Expiry, Error> {
        let key = key.into();
        check_key(&key)?;
        let request = |_: &_| RawGetExpiryRequest {
            key: key.clone(),
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok(match (response.not_found, response.ttl_ms) {
            (true, _) => Expiry::NotFound,
            (false, None) => Expiry::Never,
            (false, Some(ms)) => Expiry::In(Duration::from_millis(ms.max(1))),
        })
    }
}

/// Whole milliseconds of a time to live, rounded up.
pub(super) fn ttl_ms(ttl: Duration) -> Result<u64, Error> {
    if ttl.is_zero() {
        return Err(Error::bad_request("a time to live is at least 1 ms"));
    }
    match u64::try_from(ttl.as_nanos().div_ceil(1_000_000)) {
        Ok(ms) if ms <= TTL_MS_MAX => Ok(ms),
        _ => Err(Error::bad_request("a time to live is at most 2^62 ms")),
    }
}
