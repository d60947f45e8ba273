//! What the fuzzer does with the parts of a table; see [`crate::fuzzing`].

use std::sync::Arc;

use bytes::Bytes;

use super::block::{Block, BlockBuilder, BlockIter};
use super::filter::{self, Filter};
use super::format::{FOOTER_BYTES, FORMAT_VERSION, Footer, FooterError, Handle, Properties};
use super::reader::decode_top_index;
use crate::PrefixRule;
use crate::key::{self, Kind};

/// Walks a block in both directions and seeks in it.
pub(crate) fn block(data: &[u8]) {
    let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let sequence = (data[0] % 2 == 1).then_some(u64::from(data[0]));
    let mut iter = BlockIter::new(Arc::new(block), sequence);
    let mut steps = 0;
    let mut moved = iter.first();
    while moved.is_ok() && iter.valid() {
        // An entry takes three bytes at least, and what it shares is no longer than what was read.
        steps += 1;
        assert!(3 * steps <= data.len() && iter.key().len() <= data.len());
        assert!(iter.value().len() <= data.len());
        moved = iter.next();
    }
    if iter.last().is_ok() && iter.valid() {
        let last = iter.key().to_vec();
        let _ = iter.prev();
        let _ = iter.seek(&last);
    }
    for len in [8, 9, 16] {
        let _ = iter.seek(&data[..len.min(data.len())]);
    }
}

pub(crate) fn block_seed() -> Vec<u8> {
    let mut builder = BlockBuilder::new(3);
    for number in 0..20u64 {
        let internal = key::encode(format!("key{number:02}").as_bytes(), number, Kind::Put);
        builder.add(&internal, &vec![b'v'; number as usize]);
    }
    builder.finish()
}

/// Reads a footer whose checksum has been made to hold.
pub(crate) fn footer(data: &[u8]) {
    let mut bytes = data.to_vec();
    bytes.resize(FOOTER_BYTES, 0);
    let _ = Footer::decode(data);
    let covered = FOOTER_BYTES - 12;
    let checksum = crc32c::crc32c_append(0, &bytes[..covered]);
    let version = u32::from_le_bytes([
        bytes[covered - 4],
        bytes[covered - 3],
        bytes[covered - 2],
        bytes[covered - 1],
    ]);
    bytes[covered..covered + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes[covered + 4..].copy_from_slice(&footer_seed()[covered + 4..]);
    match Footer::decode(&bytes) {
        Ok((footer, tag)) => {
            assert_eq!(tag, checksum);
            assert!(version <= FORMAT_VERSION);
            assert_eq!(footer.encode()[..covered - 4], bytes[..covered - 4]);
        }
        Err(error) => assert_eq!(error, FooterError::Newer(version)),
    }
}

pub(crate) fn footer_seed() -> Vec<u8> {
    let handle = |offset| Handle { offset, len: 40 };
    let footer = Footer {
        salt: 7,
        top_index: handle(1000),
        tombstones: handle(2000),
        properties: handle(3000),
    };
    footer.encode()
}

/// Reads the partitions of an index; they rise, or it is refused.
pub(crate) fn index(data: &[u8]) {
    if let Ok(partitions) = decode_top_index(Bytes::copy_from_slice(data)) {
        assert!(partitions.len() <= data.len());
        let rises = |pair: &[super::reader::Partition]| {
            key::compare(&pair[0].last_key, &pair[1].last_key).is_lt()
        };
        assert!(partitions.windows(2).all(rises));
    }
}

pub(crate) fn index_seed() -> Vec<u8> {
    let mut builder = BlockBuilder::new(2);
    for number in 0..6u64 {
        let internal = key::encode(format!("key{number}").as_bytes(), number, Kind::Put);
        let mut handles = Vec::new();
        for len in [300, 90] {
            let offset = number * 1000;
            Handle { offset, len }.encode_into(&mut handles);
        }
        builder.add(&internal, &handles);
    }
    builder.finish()
}

/// Asks a filter, whatever it is made of.
pub(crate) fn filter(data: &[u8]) {
    if let Ok(filter) = Filter::parse(data) {
        for key in data.chunks(8) {
            filter.may_contain(filter::hash(key, None));
        }
        for hash in [0, u64::MAX, 1 << 63] {
            filter.may_contain(hash);
        }
    }
}

pub(crate) fn filter_seed() -> Vec<u8> {
    let hashes = (0..60u64).map(|number| filter::hash(&number.to_le_bytes(), None));
    filter::build(hashes.collect()).unwrap_or_default()
}

/// What was read is written and read again as the same.
pub(crate) fn properties(data: &[u8]) {
    if let Ok(properties) = Properties::decode(data) {
        assert_eq!(Properties::decode(&properties.encode()), Ok(properties));
    }
}

pub(crate) fn properties_seed() -> Vec<u8> {
    let properties = Properties {
        entries: 12,
        smallest: Bytes::from_static(b"a"),
        largest: Bytes::from_static(b"z"),
        largest_excluded: true,
        prefix_rule: Some(PrefixRule::new(8, b"v")),
        ..Properties::default()
    };
    properties.encode()
}
