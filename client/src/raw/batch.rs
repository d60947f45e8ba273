//! Batches: many keys in one call, cut by region, several regions at a time.
//!
//! A batch of writes is atomic within each part that one request carries, not as a whole; what
//! became of each part is reported.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tinykv_keys::{check_key, check_value};
use tinykv_proto::kvrpcpb::{self, KvPair};
use tinykv_proto::store::RawRemoveRequest;

use super::RawClient;
use super::expiry::ttl_ms;
use crate::batch::{Item, Parts, part_len, sort_and_deduplicate};
use crate::error::{BatchError, Error, FailedPart};
use crate::retry::Target;
use crate::routing::Point;
use crate::shell::Rpc;

/// Parts of a batch under way at once.
const PARTS_AT_ONCE: usize = 8;

impl RawClient {
    /// The keys that have values, with these, in key order.
    pub async fn batch_get(&self, keys: Vec<Bytes>) -> Result<Vec<(Bytes, Bytes)>, Error> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let deadline = self.deadline();
        let keys = sort_and_deduplicate(keys);
        let groups = self.group(&keys, deadline).await?;
        let request = |keys: &[Bytes]| kvrpcpb::RawBatchGetRequest {
            keys: keys.to_vec(),
            ..Default::default()
        };
        let mut found = Vec::new();
        // A list and no lazy stream: a closure that borrows would keep this from being `Send`.
        let reads: Vec<_> = groups
            .into_iter()
            .map(|group| self.read_group(group, deadline, request))
            .collect();
        let mut groups = stream::iter(reads).buffered(PARTS_AT_ONCE);
        while let Some(pairs) = groups.next().await {
            found.extend(pairs?);
        }
        Ok(found)
    }

    /// Stores values. Of several for one key the last stays.
    pub async fn batch_put(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<(), BatchError> {
        self.put_all(pairs, 0).await
    }

    /// Stores values that expire after a time, which is rounded up to whole seconds. Of several
    /// for one key the last stays.
    pub async fn batch_put_with_ttl(
        &self,
        pairs: Vec<(Bytes, Bytes)>,
        ttl: Duration,
    ) -> Result<(), BatchError> {
        match ttl_ms(ttl) {
            Ok(ms) => self.put_all(pairs, ms.div_ceil(1_000)).await,
            Err(error) => {
                let keys = pairs.into_iter().map(|(key, _)| key).collect();
                Err(BatchError::before(keys, error))
            }
        }
    }

    /// Stores values that live so many seconds; 0: for ever.
    async fn put_all(&self, pairs: Vec<(Bytes, Bytes)>, ttl: u64) -> Result<(), BatchError> {
        let checked = pairs.iter().try_for_each(|(key, value)| {
            check_key(key)?;
            check_value(value)
        });
        if let Err(error) = checked {
            let keys = pairs.into_iter().map(|(key, _)| key).collect();
            return Err(BatchError::before(keys, error.into()));
        }
        let request = |pairs: &[(Bytes, Bytes)]| kvrpcpb::RawBatchPutRequest {
            pairs: pairs
                .iter()
                .map(|(key, value)| KvPair {
                    error: None,
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            ttl,
            ..Default::default()
        };
        self.write(pairs, request, |_| 0).await.map(|_| ())
    }

    /// Removes keys; missing ones are fine.
    pub async fn batch_delete(&self, keys: Vec<Bytes>) -> Result<(), BatchError> {
        if let Err(error) = keys.iter().try_for_each(|key| check_key(key)) {
            return Err(BatchError::before(keys, error.into()));
        }
        let request = |keys: &[Bytes]| kvrpcpb::RawBatchDeleteRequest {
            keys: keys.to_vec(),
            ..Default::default()
        };
        self.write(keys, request, |_| 0).await.map(|_| ())
    }

    /// Removes keys and tells how many of them existed; one named twice counts once.
    pub async fn remove(&self, keys: Vec<Bytes>) -> Result<u64, BatchError> {
        if let Err(error) = keys.iter().try_for_each(|key| check_key(key)) {
            return Err(BatchError::before(keys, error.into()));
        }
        let request = |keys: &[Bytes]| RawRemoveRequest {
            keys: keys.to_vec(),
            ..Default::default()
        };
        self.write(keys, request, |response| response.removed).await
    }

    /// Writes a batch, part by part, and reports on every key; adds up what the parts tell.
    async fn write<T, R>(
        &self,
        items: Vec<T>,
        request: impl Fn(&[T]) -> R + Send + Sync + Copy,
        tally: impl Fn(&R::Response) -> u64 + Send + Sync + Copy,
    ) -> Result<u64, BatchError>
    where
        T: Item + Send + Sync,
        R: Rpc,
    {
        let deadline = self.deadline();
        let items = sort_and_deduplicate(items);
        let groups = match self.group(&items, deadline).await {
            Ok(groups) => groups,
            Err(error) => {
                let keys = items.iter().map(|item| item.key().clone()).collect();
                return Err(BatchError::before(keys, error));
            }
        };
        let writes: Vec<_> = groups
            .into_iter()
            .map(|group| self.write_group(group, deadline, request, tally))
            .collect();
        let mut done = stream::iter(writes).buffered(PARTS_AT_ONCE);
        let mut report = BatchError {
            applied: Vec::new(),
            failed: Vec::new(),
        };
        let mut total = 0;
        while let Some((BatchError { applied, failed }, count)) = done.next().await {
            report.applied.extend(applied);
            report.failed.extend(failed);
            total += count;
        }
        if report.failed.is_empty() {
            Ok(total)
        } else {
            Err(report)
        }
    }

    /// Reads what was one region's when the batch was cut, and is several regions' if that was
    /// split since.
    async fn read_group(
        &self,
        group: &[Bytes],
        deadline: Duration,
        request: impl Fn(&[Bytes]) -> kvrpcpb::RawBatchGetRequest + Send + Sync + Copy,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut pairs = Vec::new();
        let mut parts = Parts::new(group);
        while let Some(point) = parts.point() {
            let request = |target: &Target| request(parts.part(&target.route));
            let (response, _) = self.driver.call(point, deadline, request).await?;
            let found = response.pairs.into_iter();
            pairs.extend(found.map(|pair| (pair.key, pair.value)));
            parts.take();
        }
        Ok(pairs)
    }

    /// Writes what was one region's when the batch was cut, and is several regions' if that was
    /// split since.
    async fn write_group<T, R>(
        &self,
        group: &[T],
        deadline: Duration,
        request: impl Fn(&[T]) -> R + Send + Sync + Copy,
        tally: impl Fn(&R::Response) -> u64 + Send + Sync + Copy,
    ) -> (BatchError, u64)
    where
        T: Item + Send + Sync,
        R: Rpc,
    {
        let mut report = BatchError {
            applied: Vec::new(),
            failed: Vec::new(),
        };
        let mut total = 0;
        let mut parts = Parts::new(group);
        while let Some(point) = parts.point() {
            let request = |target: &Target| request(parts.part(&target.route));
            let written = self.driver.call(point, deadline, request).await;
            let keys = parts.take().iter().map(|item| item.key().clone());
            match written {
                Ok((response, _)) => {
                    total += tally(&response);
                    report.applied.extend(keys);
                }
                Err(error) => report.failed.push(FailedPart {
                    keys: keys.collect(),
                    error,
                }),
            }
        }
        (report, total)
    }

    /// Cuts sorted items into what one request each can carry, by the routes known now.
    async fn group<'a, T: Item>(
        &self,
        items: &'a [T],
        deadline: Duration,
    ) -> Result<Vec<&'a [T]>, Error> {
        let mut groups = Vec::new();
        let mut rest = items;
        while let Some(first) = rest.first() {
            let route = self
                .driver
                .locate(Point::At(first.key().clone()), deadline)
                .await?;
            let (group, after) = rest.split_at(part_len(rest, &route).max(1));
            groups.push(group);
            rest = after;
        }
        Ok(groups)
    }
}
