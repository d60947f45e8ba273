//! Calls over a whole range: removing it and counting it, region by region.

use bytes::Bytes;
use tinykv_proto::kvrpcpb::{self, KeyRange};
use tinykv_proto::store::RawCountRequest;

use super::{RawClient, check_bound};
use crate::error::{Error, RangeError};
use crate::walk::{Direction, Walk};

/// A checksum over a range: two ranges with the same keys and values have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// CRC-64 of each key and value together, combined by exclusive or: neither the order nor the
    /// regions matter.
    pub crc64_xor: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl RawClient {
    /// Removes every key from `lower` to below `upper`; an empty `upper` means all from there.
    ///
    /// Each region's share is removed at once, the whole is not; the error says how far it got.
    pub async fn delete_range(
        &self,
        lower: impl Into<Bytes>,
        upper: impl Into<Bytes>,
    ) -> Result<(), RangeError> {
        let (lower, upper) = (lower.into(), upper.into());
        let stopped_at = |at: &Bytes, error| RangeError {
            removed_below: at.clone(),
            error,
        };
        for bound in [&lower, &upper] {
            check_bound(bound).map_err(|error| stopped_at(&lower, error))?;
        }
        let mut walk = Walk::new(Direction::Forward, lower, upper);
        while !walk.is_done() {
            let removed = self
                .driver
                .call(walk.point(), self.deadline(), |target| {
                    let (start_key, end_key) = walk.rest_in(&target.route);
                    kvrpcpb::RawDeleteRangeRequest {
                        start_key,
                        end_key,
                        ..Default::default()
                    }
                })
                .await;
            match removed {
                Ok((_, route)) => walk.finish_region(&route),
                Err(error) => return Err(stopped_at(walk.rest().0, error)),
            }
        }
        Ok(())
    }

    /// How many keys there are from `lower` to below `upper`; an empty `upper` means all from
    /// there. Exact for each region at the moment it was counted.
    pub async fn count(
        &self,
        lower: impl Into<Bytes>,
        upper: impl Into<Bytes>,
    ) -> Result<u64, Error> {
        let (lower, upper) = (lower.into(), upper.into());
        check_bound(&lower)?;
        check_bound(&upper)?;
        let mut walk = Walk::new(Direction::Forward, lower, upper);
        let mut count = 0;
        while !walk.is_done() {
            let (response, route) = self
                .driver
                .call(walk.point(), self.deadline(), |target| {
                    let (start_key, end_key) = walk.rest_in(&target.route);
                    RawCountRequest {
                        start_key,
                        end_key,
                        ..Default::default()
                    }
                })
                .await?;
            count += response.count;
            if response.resume_key.is_empty() {
                walk.finish_region(&route);
            } else {
                walk.go_on_from(response.resume_key);
            }
        }
        Ok(count)
    }

    /// A checksum from `lower` to below `upper`; an empty `upper` means all from there. Of each
    /// region at the moment it was read.
    pub async fn checksum(
        &self,
        lower: impl Into<Bytes>,
        upper: impl Into<Bytes>,
    ) -> Result<Checksum, Error> {
        let (lower, upper) = (lower.into(), upper.into());
        check_bound(&lower)?;
        check_bound(&upper)?;
        let mut walk = Walk::new(Direction::Forward, lower, upper);
        let mut sum = Checksum::default();
        while !walk.is_done() {
            let (response, route) = self
                .driver
                .call(walk.point(), self.deadline(), |target| {
                    let (start_key, end_key) = walk.rest_in(&target.route);
                    kvrpcpb::RawChecksumRequest {
                        ranges: vec![KeyRange { start_key, end_key }],
                        ..Default::default()
                    }
                })
                .await?;
            sum.crc64_xor ^= response.checksum;
            sum.keys += response.total_kvs;
            sum.bytes += response.total_bytes;
            walk.finish_region(&route);
        }
        Ok(sum)
    }
}
