//! Scans: a range as a stream of pairs, in either direction.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tinykv_proto::kvrpcpb::KvPair;

use super::{RawClient, check_bound};
use crate::error::Error;
use crate::range::{Pages, Scan, Visit};

/// Ranges read at once.
const SCANS_AT_ONCE: usize = 8;

/// Pairs of a range in the order of the scan.
///
/// Each page is a snapshot of its region; over many pages every key that stays there is seen
/// exactly once, whatever is split or merged meanwhile.
#[derive(Debug)]
pub struct ScanStream {
    client: RawClient,
    pages: Pages,
    /// What is left of the page that was read last.
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
            pages: Pages::new(scan),
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
            if self.pages.point().is_none() {
                return Ok(None);
            }
            if let Some(error) = &self.refused {
                return Err(error.clone());
            }
            self.client.go_on(&mut self.pages).await?;
            self.page = std::mem::take(&mut self.pages.page).into();
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
}
