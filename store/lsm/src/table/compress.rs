//! What is inside a block's frame: the block as it is, or compressed.
//!
//! A compressed block begins with the length (u32) of what it holds. That length is believed only
//! up to [`RATIO_MAX`] times the compressed length, so that reading allocates nothing on the word
//! of a damaged file; a block that would shrink by more is stored as LZ4, which cannot.

use std::cell::RefCell;
use std::fmt;

use zstd::bulk;

use crate::Compression;
use crate::codec::{Malformed, Reader};

/// How many times larger a block may be than its compressed form; LZ4's own limit is 255.
const RATIO_MAX: usize = 256;
/// Slower ones gain little on blocks of a few KiB.
const ZSTD_LEVEL: i32 = 3;

/// How the bytes of a frame are to be read; stands in the block's trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// As they are.
    Stored = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    pub(super) fn from_byte(byte: u8) -> Result<Codec, Malformed> {
        match byte {
            0 => Ok(Codec::Stored),
            1 => Ok(Codec::Lz4),
            2 => Ok(Codec::Zstd),
            _ => Err(Malformed("an unknown compression")),
        }
    }
}

/// Compresses the blocks of one table; keeps what zstd needs from block to block.
#[derive(Default)]
pub(super) struct Compressor {
    zstd: Option<bulk::Compressor<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// The compressed block, or `None` if it is best stored as it is.
    pub(super) fn compress(
        &mut self,
        block: &[u8],
        compression: Compression,
    ) -> Option<(Codec, Vec<u8>)> {
        let compressed = match compression {
            Compression::None => return None,
            Compression::Lz4 => lz4(block),
            Compression::Zstd => self
                .zstd(block)
                .map(|compressed| (Codec::Zstd, compressed))
                .filter(|(_, compressed)| block.len() <= compressed.len() * RATIO_MAX)
                .or_else(|| lz4(block)),
        };
        compressed.filter(|(_, compressed)| compressed.len() < block.len())
    }

    /// `None` if it would not shrink.
    fn zstd(&mut self, block: &[u8]) -> Option<Vec<u8>> {
        let len = u32::try_from(block.len()).ok()?;
        if self.zstd.is_none() {
            self.zstd = bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let compressor = self.zstd.as_mut()?;
        // Room for what is smaller than the block and no more: the compressor gives up early.
        let mut body = Vec::with_capacity(block.len());
        compressor.compress_to_buffer(block, &mut body).ok()?;
        let mut compressed = Vec::with_capacity(4 + body.len());
        compressed.extend_from_slice(&len.to_le_bytes());
        compressed.extend_from_slice(&body);
        Some(compressed)
    }
}

fn lz4(block: &[u8]) -> Option<(Codec, Vec<u8>)> {
    Some((Codec::Lz4, lz4_flex::block::compress_prepend_size(block)))
}

/// What [`Compressor::compress`] was given.
pub(super) fn uncompress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(bytes);
    let len = reader.u32()? as usize;
    let body = reader.take(reader.remaining())?;
    if len > bytes.len().saturating_mul(RATIO_MAX) {
        return Err(Malformed("a block claims to be too large"));
    }
    let block = match codec {
        Codec::Stored => Some(body.to_vec()),
        Codec::Lz4 => lz4_flex::block::decompress(body, len).ok(),
        Codec::Zstd => un_zstd(body, len),
    };
    let block = block.ok_or(Malformed("a block does not uncompress"))?;
    if block.len() != len {
        return Err(Malformed("a block has another size than it says"));
    }
    Ok(block)
}

thread_local! {
    /// Costs more to make than a block to read, so every thread keeps one.
    static ZSTD: RefCell<Option<bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn un_zstd(body: &[u8], len: usize) -> Option<Vec<u8>> {
    ZSTD.with_borrow_mut(|zstd| {
        if zstd.is_none() {
            *zstd = bulk::Decompressor::new().ok();
        }
        let mut block = Vec::with_capacity(len);
        zstd.as_mut()?.decompress_to_buffer(body, &mut block).ok()?;
        Some(block)
    })
}

#[cfg(test)]
mod tests;
