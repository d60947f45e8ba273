//! Blocks through every codec, and bytes that are no compressed block.

use proptest::prelude::*;
use tinykv_env::Prng;

use super::{Codec, Compressor, RATIO_MAX, uncompress};
use crate::Compression;

/// Text of few words, so that every codec finds something to do.
fn text(random: &mut Prng, len: usize) -> Vec<u8> {
    let words = ["region", "store", "peer", "leader", "index ", "term"];
    let mut text = Vec::new();
    while text.len() < len {
        text.extend_from_slice(words[random.below(6) as usize].as_bytes());
        text.push(b'0' + random.below(10) as u8);
    }
    text.truncate(len);
    text
}

#[test]
fn what_is_compressed_is_read() {
    let random = &mut Prng::new(1);
    let mut compressor = Compressor::default();
    for len in [200, 1000, 4096, 100_000] {
        let block = text(random, len);
        for (compression, expected) in [
            (Compression::Lz4, Codec::Lz4),
            (Compression::Zstd, Codec::Zstd),
        ] {
            let compressed = compressor.compress(&block, compression);
            let (codec, bytes) = compressed.expect("it shrinks");
            assert_eq!(codec, expected, "{len} bytes");
            assert!(bytes.len() < block.len());
            assert_eq!(uncompress(codec, &bytes), Ok(block.clone()));
        }
        assert_eq!(compressor.compress(&block, Compression::None), None);
    }
}

#[test]
fn zstd_is_smaller_than_lz4() {
    let block = text(&mut Prng::new(2), 4096);
    let mut compressor = Compressor::default();
    let mut len = |compression| {
        let compressed = compressor.compress(&block, compression);
        compressed.expect("it shrinks").1.len()
    };
    assert!(len(Compression::Zstd) < len(Compression::Lz4));
}

#[test]
fn what_does_not_shrink_is_stored() {
    let random = &mut Prng::new(3);
    let mut compressor = Compressor::default();
    for len in [0, 1, 20, 4096] {
        let mut block = vec![0; len];
        random.fill(&mut block);
        for compression in [Compression::Lz4, Compression::Zstd] {
            assert_eq!(compressor.compress(&block, compression), None, "{len}");
        }
    }
}

/// A megabyte of zeros is a few dozen bytes to zstd; a reader would not believe it.
#[test]
fn nothing_shrinks_by_more_than_a_reader_believes() {
    let block = vec![0; 1 << 20];
    let compressed = Compressor::default().compress(&block, Compression::Zstd);
    let (codec, bytes) = compressed.expect("it shrinks");
    assert_eq!(codec, Codec::Lz4);
    assert!(block.len() <= bytes.len() * RATIO_MAX);
    assert_eq!(uncompress(codec, &bytes), Ok(block));
}

#[test]
fn a_false_length_is_refused() {
    let block = text(&mut Prng::new(4), 1000);
    let mut compressor = Compressor::default();
    for compression in [Compression::Lz4, Compression::Zstd] {
        let compressed = compressor.compress(&block, compression);
        let (codec, bytes) = compressed.expect("it shrinks");
        for len in [0, 1, 999, 1001, 5000, u32::MAX] {
            let mut lie = bytes.clone();
            lie[..4].copy_from_slice(&len.to_le_bytes());
            assert!(uncompress(codec, &lie).is_err(), "{codec:?}, {len}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for codec in [Codec::Lz4, Codec::Zstd] {
            if let Ok(block) = uncompress(codec, &bytes) {
                prop_assert!(block.len() <= bytes.len() * RATIO_MAX);
            }
        }
    }

    #[test]
    fn a_damaged_block_is_survived(seed: u64, at: prop::sample::Index, bit in 0u32..8) {
        let block = text(&mut Prng::new(seed), 500);
        for compression in [Compression::Lz4, Compression::Zstd] {
            let compressed = Compressor::default().compress(&block, compression);
            let (codec, mut bytes) = compressed.expect("it shrinks");
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(block) = uncompress(codec, &bytes) {
                prop_assert!(block.len() <= bytes.len() * RATIO_MAX);
            }
        }
    }
}
