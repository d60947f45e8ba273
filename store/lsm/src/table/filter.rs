//! Binary fuse filters (Graf and Lemire, 2022) over the hashes of user keys or their prefixes.
//!
//! A filter may say "perhaps" for a key that is not there, never "no" for one that is. The
//! construction can fail, and what it built is checked key by key before it is used; without a
//! filter every lookup reads.

use tinykv_mutants::{Mutant, planted};
use xorf::{BinaryFuse8, Descriptor, Filter as _};
use xxhash_rust::xxh3::xxh3_64;

use crate::PrefixRule;
use crate::codec::{Malformed, Reader};

/// A filter in memory.
#[derive(Debug)]
pub(crate) struct Filter {
    fuse: BinaryFuse8,
}

/// The hash a filter knows a user key by, or what a rule leaves of it.
pub(crate) fn hash(user: &[u8], rule: Option<&PrefixRule>) -> u64 {
    xxh3_64(rule.map_or(user, |rule| rule.prefix(user)))
}

/// The bytes of a filter over the hashes, or `None` if none can be built.
pub(crate) fn build(mut hashes: Vec<u64>) -> Option<Vec<u8>> {
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.is_empty() {
        return None;
    }
    let fuse = BinaryFuse8::try_from(hashes.as_slice()).ok()?;
    if !hashes.iter().all(|hash| fuse.contains(hash)) {
        return None;
    }
    let mut out = Vec::with_capacity(20 + fuse.fingerprints.len());
    out.extend_from_slice(&fuse.descriptor.seed.to_le_bytes());
    for field in [
        fuse.descriptor.segment_length,
        fuse.descriptor.segment_length_mask,
        fuse.descriptor.segment_count_length,
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&fuse.fingerprints);
    Some(out)
}

impl Filter {
    /// Refuses any descriptor by which a lookup could leave the fingerprints.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Filter, Malformed> {
        let mut reader = Reader::new(bytes);
        let descriptor = Descriptor {
            seed: reader.u64()?,
            segment_length: reader.u32()?,
            segment_length_mask: reader.u32()?,
            segment_count_length: reader.u32()?,
        };
        let fingerprints = reader.take(reader.remaining())?;
        let segment = u64::from(descriptor.segment_length);
        let total = u64::from(descriptor.segment_count_length) + 2 * segment;
        if !descriptor.segment_length.is_power_of_two()
            || descriptor.segment_length_mask != descriptor.segment_length - 1
            || descriptor.segment_count_length == 0
            || u64::from(descriptor.segment_count_length) % segment != 0
            || total != fingerprints.len() as u64
            || total > u64::from(u32::MAX)
        {
            return Err(Malformed("a filter whose parts do not fit"));
        }
        Ok(Filter {
            fuse: BinaryFuse8 {
                descriptor,
                fingerprints: fingerprints.into(),
            },
        })
    }

    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.fuse.contains(&hash)
            && !(planted(Mutant::FilterFalseNegative) && hash.is_multiple_of(16))
    }

    pub(crate) fn size(&self) -> usize {
        self.fuse.fingerprints.len() + std::mem::size_of::<Filter>()
    }
}
