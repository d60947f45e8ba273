//! Scans: a range as a stream of pairs, in either direction.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tinykv_proto::kvrpcpb::{self, KvPair};

use super::{RawClient, check_bound};
use crate::error::Error;
use crate::walk::{Direction, Walk, successor};

/// Pairs asked for at a time.
const PAGE_PAIRS: u32 = 1_024;

/// Bytes after which a store cuts a page.
const PAGE_BYTES: u32 = 2 << 20;

/// Ranges read at once.
const SCANS_AT_ONCE: usize = 8;

/// What to scan. The default is everything, from the lowest key up.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// First key of the range.
    pub lower: Bytes,
    /// First key after the range; empty means that there is none.
    pub upper: Bytes,
    /// From which end to go.
    pub direction: Direction,
    /// Leave out the values; they come as empty.
    pub keys_only: bool,
    /// How many pairs at most.
    pub limit: Option<u64>,
}

/// Pairs of a range in the order of the scan.
///
/// Each page is a snapshot of its region; over many pages every key that stays there is seen
/// exactly once, whatever is split or merged meanwhile.
#[derive(Debug)]
pub struct ScanStream {
    client: RawClient,
    walk: Walk,
    direction: Direction,
    keys_only: bool,
    /// Pairs still wanted, those in `page` not counted.
    left: u64,
    page: VecDeque<KvPair>,
    /// A bound that no key can have; told by the first `next`.
    refused: Option<Error>,
}

impl RawClient {
    /// Begins a scan. Nothing is read before [`ScanStream::next`].
    pub fn scan(&self, scan: Scan) -> ScanStream {
        let checked = check_bound(&scan.lower).and_then(|()| check_bound(&scan.upper));
        ScanStream {
            refused: checked.err(),
            client: self.clone(),
            walk: Walk::new(scan.direction, scan.lower, scan.upper),
            direction: scan.direction,
            keys_only: scan.keys_only,
            left: scan.limit.unwrap_or(u64::MAX),
            page: VecDeque::new(),
        }
    }
}

impl RawClient {
    /// Several ranges at once, each as a scan of its own: the pairs of each, in the order asked.
    ///
    /// Ranges may overlap and lie in different regions. That is why this is not TiKV's call for
    /// several ranges of one region, whose answer does not say which range a pair is from.
    pub async fn batch_scan(&self, scans: Vec<Scan>) -> Result<Vec<Vec<(Bytes, Bytes)>>, Error> {
        // A list and no lazy stream: a closure that borrows would keep this from being `Send`.
        let scans: Vec<_> = scans
            .into_iter()
            .map(|scan| self.scan(scan).collect())
            .collect();
        stream::iter(scans)
            .buffered(SCANS_AT_ONCE)
            .try_collect()
            .await
    }
}

impl ScanStream {
    /// The next pair; `None` at the end. After an error the scan can go on where it was.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        loop {
            if let Some(pair) = self.page.pop_front() {
                return Ok(Some((pair.key, pair.value)));
            }
            if self.walk.is_done() || self.left == 0 {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    /// All that is left, as one list.
    pub async fn collect(mut self) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = self.next().await? {
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// Reads one page.
    async fn fetch(&mut self) -> Result<(), Error> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let limit = u32::try_from(self.left)
            .unwrap_or(PAGE_PAIRS)
            .min(PAGE_PAIRS);
        let (walk, direction, key_only) = (&self.walk, self.direction, self.keys_only);
        let request = |target: &crate::retry::Target| {
            let (lower, upper) = walk.rest_in(&target.route);
            let (start_key, end_key) = match direction {
                Direction::Forward => (lower, upper),
                Direction::Reverse => (upper, lower),
            };
            kvrpcpb::RawScanRequest {
                start_key,
                end_key,
                limit,
                key_only,
                reverse: direction == Direction::Reverse,
                bytes_max: PAGE_BYTES,
                ..Default::default()
            }
        };
        let deadline = self.client.deadline();
        let (response, route) = self
            .client
            .driver
            .call(walk.point(), deadline, request)
            .await?;
        if !response.resume_key.is_empty() {
            self.walk.go_on_from(response.resume_key);
        } else if let Some(last) = response.kvs.last()
            && response.kvs.len() >= limit as usize
        {
            let from = match direction {
                Direction::Forward => successor(&last.key),
                Direction::Reverse => last.key.clone(),
            };
            self.walk.go_on_from(from);
        } else {
            self.walk.finish_region(&route);
        }
        self.left -= (response.kvs.len() as u64).min(self.left);
        self.page = response.kvs.into();
        Ok(())
    }
}
