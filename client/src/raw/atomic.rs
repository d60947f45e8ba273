//! Updates that depend on what is stored, decided when they are applied: no reader and no other
//! writer comes between.

use std::time::Duration;

use bytes::Bytes;
use tinykv_keys::{check_key, check_value};
use tinykv_proto::kvrpcpb;
use tinykv_proto::store::{self, RawAppendRequest, RawIncrementRequest, RawPutIfRequest};

use super::RawClient;
use super::expiry::ttl_ms;
use crate::error::Error;

/// When a put takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever there is.
    #[default]
    Always,
    /// Only if the key does not exist.
    IfAbsent,
    /// Only if it exists.
    IfPresent,
}

/// How a value is put. The default: whatever there is, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// When it takes effect.
    pub condition: Condition,
    /// How long the value lives, rounded up to whole milliseconds, at least one; `None`: for ever.
    pub ttl: Option<Duration>,
    /// An existing key keeps the expiry it has; `ttl` is then `None`.
    pub keep_expiry: bool,
}

/// What became of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Whether the value was what was expected, and is replaced.
    pub swapped: bool,
    /// The value before.
    pub previous: Option<Bytes>,
}

impl RawClient {
    /// Replaces the value of a key if it is what is expected; `None` expects that there is none.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        new: impl Into<Bytes>,
    ) -> Result<Swap, Error> {
        let (key, new) = (key.into(), new.into());
        check_key(&key)?;
        check_value(&new)?;
        let request = |_: &_| kvrpcpb::RawCasRequest {
            key: key.clone(),
            value: new.clone(),
            previous_not_exist: expected.is_none(),
            previous_value: expected.clone().unwrap_or_default(),
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok(Swap {
            swapped: response.succeed,
            previous: (!response.previous_not_exist).then_some(response.previous_value),
        })
    }

    /// Stores a value under a condition; returns whether that held and the value was stored.
    pub async fn put_if(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<bool, Error> {
        let (key, value) = (key.into(), value.into());
        check_key(&key)?;
        check_value(&value)?;
        if options.keep_expiry && options.ttl.is_some() {
            return Err(Error::bad_request(
                "a put either keeps the expiry of the key or has a time to live, not both",
            ));
        }
        let ttl_ms = options.ttl.map_or(Ok(0), ttl_ms)?;
        let condition = match options.condition {
            Condition::Always => store::Condition::Always,
            Condition::IfAbsent => store::Condition::IfAbsent,
            Condition::IfPresent => store::Condition::IfPresent,
        };
        let request = |_: &_| RawPutIfRequest {
            key: key.clone(),
            value: value.clone(),
            condition: condition.into(),
            ttl_ms,
            keep_expiry: options.keep_expiry,
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok(response.succeed)
    }

    /// Stores a value if the key does not exist; returns whether it was stored.
    pub async fn put_if_absent(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<bool, Error> {
        let options = PutOptions {
            condition: Condition::IfAbsent,
            ..PutOptions::default()
        };
        self.put_if(key, value, options).await
    }

    /// Adds to a number that is stored as decimal text, and returns the sum. A missing key counts
    /// as 0; the expiry of an existing one stays. A value that is no number, or a sum that is too
    /// large, is a [`crate::Conflict`].
    pub async fn increment(&self, key: impl Into<Bytes>, delta: i64) -> Result<i64, Error> {
        let key = key.into();
        check_key(&key)?;
        let request = |_: &_| RawIncrementRequest {
            key: key.clone(),
            delta,
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok(response.value)
    }

    /// Adds bytes to the end of a value, and returns how many it has then. A missing key counts as
    /// empty; the expiry of an existing one stays. A value that would be too long is a
    /// [`crate::Conflict`].
    pub async fn append(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<u64, Error> {
        let (key, value) = (key.into(), value.into());
        check_key(&key)?;
        check_value(&value)?;
        let request = |_: &_| RawAppendRequest {
            key: key.clone(),
            value: value.clone(),
            ..Default::default()
        };
        let (response, _) = self.call(&key, request).await?;
        Ok(response.length)
    }
}
