//! The tree as the driver sees it.

use bytes::Bytes;
use tinykv_lsm::{Cached, Lsm, Snapshot};
use tinykv_replica::{KeyRange, Lookup, ReadError, Reader};

/// A snapshot for one run. What the cache lacks is said to be on disk, as in a real store.
pub(super) struct LsmReader {
    snapshot: Snapshot,
}

impl LsmReader {
    pub(super) fn new(lsm: &Lsm) -> LsmReader {
        LsmReader {
            snapshot: lsm.snapshot(),
        }
    }
}

impl Reader for LsmReader {
    fn get(&self, key: &[u8]) -> Lookup {
        match self.snapshot.get_cached(key) {
            Ok(Cached::Found(value)) => Lookup::Found(value),
            Ok(Cached::Missing) => Lookup::Missing,
            Ok(Cached::NeedsRead) | Err(_) => Lookup::NotCached,
        }
    }

    fn load(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.snapshot
            .get(key)
            .map_err(|error| ReadError(error.to_string()))
    }

    fn scan(&self, range: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        pairs(&self.snapshot, range).map_err(|error| ReadError(error.to_string()))
    }
}

/// All pairs of a range.
pub(super) fn pairs(
    snapshot: &Snapshot,
    range: &KeyRange,
) -> Result<Vec<(Bytes, Bytes)>, tinykv_lsm::LsmError> {
    let mut pairs = Vec::new();
    let mut iter = snapshot.iter(&range.start, &range.end)?;
    while iter.next()? {
        pairs.push((Bytes::copy_from_slice(iter.key()), iter.value()));
    }
    Ok(pairs)
}
