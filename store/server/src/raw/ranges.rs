//! Answers of a snapshot over several ranges: batch scans and checksums.

use bytes::Bytes;

use super::crc64::crc64;
use super::read::{Order, Scan, Scanned, Step, Unanswered, Values, View};
use crate::space::Space;

/// A range of keys as the user knows them; an empty upper bound is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Lowest key, inclusive.
    pub lower: Bytes,
    /// Highest key, exclusive.
    pub upper: Bytes,
}

/// What a batch scan is to do with each range.
#[derive(Clone, Copy, Debug)]
pub struct Each {
    /// From the highest key down.
    pub order: Order,
    /// Most pairs of each range.
    pub keys_max: usize,
    /// Leave out the values.
    pub values: Values,
}

/// The checksum of all pairs of some ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// CRC-64 of each key followed by its value, combined by exclusive or: the order of the pairs
    /// does not matter, so checksums of regions can be combined.
    pub checksum: u64,
    /// Pairs.
    pub pairs: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl View<'_> {
    /// The live keys of several ranges, range by range, each clamped to the region.
    pub fn batch_scan(
        &self,
        space: Space,
        ranges: &[Range],
        each: Each,
    ) -> Result<Vec<(Bytes, Bytes)>, Unanswered> {
        let mut scanned = Scanned::default();
        let mut bytes = 0;
        for range in ranges {
            let scan = Scan {
                lower: &range.lower,
                upper: &range.upper,
                order: each.order,
                keys_max: each.keys_max,
                values: each.values,
                bytes_max: None,
            };
            self.scan_into(space, &scan, &mut scanned, &mut bytes)?;
        }
        Ok(scanned.pairs)
    }

    /// The checksum of the live keys of several ranges, each clamped to the region.
    pub fn checksum(&self, space: Space, ranges: &[Range]) -> Result<Checksum, Unanswered> {
        let mut sum = Checksum::default();
        for range in ranges {
            self.visit(
                space,
                &range.lower,
                &range.upper,
                Order::Forward,
                |key, value| {
                    sum.checksum ^= crc64([key, &value.payload]);
                    sum.pairs += 1;
                    sum.bytes += (key.len() + value.payload.len()) as u64;
                    Step::Continue
                },
            )?;
        }
        Ok(sum)
    }
}
