//! A key that leaves about half of a region on either side.

use bytes::Bytes;
use tinykv_keys::{RoutingKey, engine};
use tinykv_lsm::{Lsm, LsmError};
use tinykv_replica::{KeyRange, Region};

use crate::space;

/// Keys read at most to find the middle of a region whose tables do not tell it.
const SCAN_KEYS_MAX: usize = 10_000;
/// Bytes read at most for that.
const SCAN_BYTES_MAX: u64 = 32 << 20;

/// A boundary about in the middle of the region by bytes; `None` if none leaves something on
/// either side. Reads index blocks, of a small region its data.
///
/// A region holds several kinds of data, whose keys are ranges of their own in the engine. The
/// middle of the largest is taken: if others hold much, too, the next split will cut them.
pub fn key(lsm: &Lsm, region: &Region) -> Result<Option<RoutingKey>, LsmError> {
    let ranges = space::ranges(region).into_iter();
    let mut ranges: Vec<(u64, KeyRange)> = ranges
        .map(|range| (lsm.approximate_size(&range.start, &range.end), range))
        .collect();
    ranges.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    for (_, range) in &ranges {
        let middle = lsm.approximate_middle(&range.start, &range.end);
        if let Some(boundary) = middle.and_then(|key| inside(region, &key)) {
            return Ok(Some(boundary));
        }
    }
    for (_, range) in &ranges {
        if let Some(boundary) = scanned(lsm, region, range)? {
            return Ok(Some(boundary));
        }
    }
    Ok(None)
}

/// The boundary before an engine key, if the region can be split there.
fn inside(region: &Region, engine_key: &[u8]) -> Option<RoutingKey> {
    let boundary = engine::boundary_before(engine_key)?;
    space::bounds(region)
        .can_split_at(&boundary)
        .then_some(boundary)
}

/// The middle of what a bounded scan finds from the beginning of a range.
fn scanned(lsm: &Lsm, region: &Region, range: &KeyRange) -> Result<Option<RoutingKey>, LsmError> {
    let snapshot = lsm.snapshot();
    let mut iter = snapshot.iter(&range.start, &range.end)?;
    // Each key with the bytes before it.
    let mut keys: Vec<(Bytes, u64)> = Vec::new();
    let mut bytes = 0;
    while keys.len() < SCAN_KEYS_MAX && bytes < SCAN_BYTES_MAX && iter.next()? {
        keys.push((Bytes::copy_from_slice(iter.key()), bytes));
        bytes += (iter.key().len() + iter.value().len()) as u64;
    }
    // Not before the first key: nothing would be left below.
    let candidates = keys.get(1..).unwrap_or_default();
    let closest = candidates
        .iter()
        .min_by_key(|(_, before)| before.abs_diff(bytes / 2));
    Ok(closest.and_then(|(key, _)| inside(region, key)))
}

#[cfg(test)]
mod tests {
    use tinykv_env::OsEnv;
    use tinykv_lsm::{LsmOptions, WriteBatch};

    use super::*;

    fn tree(pairs: &[(Vec<u8>, usize)]) -> (Lsm, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("temp dir");
        let lsm = Lsm::open(OsEnv::shared(), dir.path(), LsmOptions::default()).expect("open");
        let mut batch = WriteBatch::new();
        for (key, length) in pairs {
            batch.put(Bytes::from(key.clone()), Bytes::from(vec![0; *length]));
        }
        lsm.write(&batch).expect("write");
        (lsm, dir)
    }

    fn found(
        pairs: &[(Vec<u8>, usize)],
        start: &'static [u8],
        end: &'static [u8],
    ) -> Option<String> {
        let (lsm, _dir) = tree(pairs);
        let region = Region {
            start: Bytes::from_static(start),
            end: Bytes::from_static(end),
            ..Region::default()
        };
        let key = key(&lsm, &region).expect("read")?;
        assert!(space::bounds(&region).can_split_at(&key));
        Some(key.to_string())
    }

    fn raw(keys: &[(&str, usize)]) -> Vec<(Vec<u8>, usize)> {
        let at = |(key, length): &(&str, usize)| (engine::raw(key.as_bytes()), *length);
        keys.iter().map(at).collect()
    }

    #[test]
    fn a_handful_of_keys_is_cut_by_bytes() {
        let even = raw(&[("a", 9), ("b", 9), ("c", 9), ("d", 9)]);
        assert_eq!(found(&even, b"", b"").as_deref(), Some("c"));
        let heavy_end = raw(&[("a", 9), ("b", 9), ("c", 9), ("d", 1000)]);
        assert_eq!(found(&heavy_end, b"", b"").as_deref(), Some("d"));
        let heavy_start = raw(&[("a", 1000), ("b", 9), ("c", 9), ("d", 9)]);
        assert_eq!(found(&heavy_start, b"", b"").as_deref(), Some("b"));
        // Only what lies in the region counts.
        assert_eq!(found(&even, b"a", b"c").as_deref(), Some("b"));
    }

    #[test]
    fn where_nothing_can_be_cut() {
        assert_eq!(found(&[], b"", b""), None);
        let one = raw(&[("b", 9)]);
        assert_eq!(found(&one, b"", b""), None);
        let outside = raw(&[("b", 9), ("x", 9), ("y", 9)]);
        assert_eq!(found(&outside, b"a", b"c"), None);
    }

    #[test]
    fn many_keys_are_cut_about_in_half() {
        let pairs: Vec<_> = (0..4000_u32)
            .map(|number| (engine::raw(format!("k{number:05}").as_bytes()), 100))
            .collect();
        let middle = found(&pairs, b"", b"").expect("there is one");
        assert!(("k01000".."k03000").contains(&middle.as_str()), "{middle}");
    }

    #[test]
    fn keys_of_keyspaces_are_cut_at_their_encoding() {
        let keys = [&b"r\0\0\0a"[..], b"r\0\0\0b", b"r\0\0\0c"];
        let pairs: Vec<_> = keys
            .iter()
            .map(|key| (engine::keyspace_raw(key), 9))
            .collect();
        let (lsm, _dir) = tree(&pairs);
        let boundary = key(&lsm, &Region::default()).expect("read").expect("found");
        let decoded = tinykv_keys::memcomparable::decode(boundary.as_bytes());
        assert_eq!(decoded.as_deref(), Some(&b"r\0\0\0b"[..]));
    }
}
