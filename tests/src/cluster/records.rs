//! Records for loads: key and value follow from a number, so that any of them can be checked.

use bytes::Bytes;

/// Bytes of every value.
pub const VALUE_LEN: usize = 100;

/// The key of a record: 16 hexadecimal digits. Numbers that follow each other lie far apart.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("{:016x}", mixed(number)))
}

/// The value of a record: [`VALUE_LEN`] bytes that do not compress.
pub fn value(number: u64) -> Bytes {
    let words = (1..).map(|word| mixed(number ^ mixed(word)).to_le_bytes());
    words.flatten().take(VALUE_LEN).collect()
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
/// section 4): a permutation, so that no two numbers share a key.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{VALUE_LEN, key, value};

    #[test]
    fn records_differ() {
        let keys: BTreeSet<_> = (0..10_000).map(key).collect();
        let values: BTreeSet<_> = (0..10_000).map(value).collect();
        assert_eq!((keys.len(), values.len()), (10_000, 10_000));
        assert!(keys.iter().all(|key| key.len() == 16));
        assert!(values.iter().all(|value| value.len() == VALUE_LEN));
    }
}
