//! Footer, properties, block handles, and the frame around every block.

use bytes::Bytes;
use crc32c::crc32c_append;

use super::compress::{Codec, uncompress};
use crate::PrefixRule;
use crate::codec::{Malformed, Reader, put_bytes, put_varint};

/// The newest version of the table format.
pub(crate) const FORMAT_VERSION: u32 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"TinyKVst");
/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: usize = 60;
/// Bytes behind every block: codec and checksum.
pub(crate) const BLOCK_TRAILER_BYTES: usize = 5;

/// Where a block stands, without its trailer. A length of 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Handle {
    pub(crate) fn is_none(self) -> bool {
        self.len == 0
    }

    pub(crate) fn encode_into(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, u64::from(self.len));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Handle, Malformed> {
        let offset = reader.varint()?;
        let len = u32::try_from(reader.varint()?).map_err(|_| Malformed("a block is too long"))?;
        Ok(Handle { offset, len })
    }

    fn put_fixed(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
    }

    fn fixed(reader: &mut Reader<'_>) -> Result<Handle, Malformed> {
        Ok(Handle {
            offset: reader.u64()?,
            len: reader.u32()?,
        })
    }
}

/// The end of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Random; goes into the checksum of every block of the file.
    pub(crate) salt: u64,
    pub(crate) top_index: Handle,
    pub(crate) tombstones: Handle,
    pub(crate) properties: Handle,
}

/// Why a footer cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FooterError {
    Malformed(Malformed),
    Newer(u32),
}

impl From<Malformed> for FooterError {
    fn from(malformed: Malformed) -> FooterError {
        FooterError::Malformed(malformed)
    }
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.salt.to_le_bytes());
        for handle in [self.top_index, self.tombstones, self.properties] {
            handle.put_fixed(&mut out);
        }
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let checksum = crc32c_append(0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out
    }

    /// The footer and its checksum, by which a version edit knows the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Footer, u32), FooterError> {
        let mut reader = Reader::new(bytes);
        let footer = Footer {
            salt: reader.u64()?,
            top_index: Handle::fixed(&mut reader)?,
            tombstones: Handle::fixed(&mut reader)?,
            properties: Handle::fixed(&mut reader)?,
        };
        let version = reader.u32()?;
        let checksum = reader.u32()?;
        if reader.u64()? != MAGIC {
            return Err(Malformed("not the footer of a table").into());
        }
        let covered = bytes.get(..FOOTER_BYTES - 12).unwrap_or(&[]);
        if crc32c_append(0, covered) != checksum {
            return Err(Malformed("the footer's checksum does not hold").into());
        }
        if version > FORMAT_VERSION {
            return Err(FooterError::Newer(version));
        }
        Ok((footer, checksum))
    }
}

fn checksum(salt: u64, offset: u64, framed: &[u8]) -> u32 {
    let crc = crc32c_append(0, &salt.to_le_bytes());
    crc32c_append(crc32c_append(crc, &offset.to_le_bytes()), framed)
}

/// Appends the block as it stands at `offset` of a file: in its codec, with its trailer. Returns
/// its length without the trailer.
pub(super) fn frame_into(
    out: &mut Vec<u8>,
    (codec, body): (Codec, &[u8]),
    salt: u64,
    offset: u64,
) -> u32 {
    let begin = out.len();
    out.extend_from_slice(body);
    let len = out.len() - begin;
    out.push(codec as u8);
    let checksum = checksum(salt, offset, &out[begin..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    u32::try_from(len).expect("keys and values are limited to far less than 4 GiB")
}

/// The block inside its frame, verified and uncompressed.
pub(super) fn unframe(framed: Bytes, salt: u64, offset: u64) -> Result<Bytes, Malformed> {
    let body_end = framed
        .len()
        .checked_sub(BLOCK_TRAILER_BYTES)
        .ok_or(Malformed("too short for a block"))?;
    let mut trailer = Reader::new(&framed[body_end..]);
    let codec = trailer.u8()?;
    if trailer.u32()? != checksum(salt, offset, &framed[..=body_end]) {
        return Err(Malformed("the block's checksum does not hold"));
    }
    match Codec::from_byte(codec)? {
        Codec::Stored => Ok(framed.slice(..body_end)),
        codec => uncompress(codec, &framed[..body_end]).map(Bytes::from),
    }
}

/// What is known about a table without reading its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Versions of keys.
    pub(crate) entries: u64,
    /// Of these, deletes.
    pub(crate) deletes: u64,
    /// Fragments of range tombstones.
    pub(crate) range_tombstones: u64,
    /// Data blocks.
    pub(crate) data_blocks: u64,
    /// Bytes of user keys and values.
    pub(crate) raw_bytes: u64,
    /// Oldest sequence.
    pub(crate) smallest_sequence: u64,
    /// Newest sequence.
    pub(crate) largest_sequence: u64,
    /// The first user key, or the start of the first range tombstone.
    pub(crate) smallest: Bytes,
    /// The last user key, or the end of the last range tombstone.
    pub(crate) largest: Bytes,
    /// Whether `largest` itself is not in the table (it is the end of a range tombstone).
    pub(crate) largest_excluded: bool,
    /// Whether it was made outside a tree, to be taken in: all sequences are 0.
    pub(crate) external: bool,
    /// By what part of a key its filters know it; `None`: the whole.
    pub(crate) prefix_rule: Option<PrefixRule>,
}

impl Properties {
    /// Pairs of tag and bytes; unknown tags are skipped, missing ones are zero.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let numbers = [
            self.entries,
            self.deletes,
            self.range_tombstones,
            self.data_blocks,
            self.raw_bytes,
            self.smallest_sequence,
            self.largest_sequence,
            u64::from(self.largest_excluded),
            u64::from(self.external),
        ];
        for (tag, number) in (1u64..).zip(numbers) {
            put_varint(&mut out, tag);
            put_bytes(&mut out, &number.to_le_bytes());
        }
        for (tag, bytes) in [(32u64, &self.smallest), (33, &self.largest)] {
            put_varint(&mut out, tag);
            put_bytes(&mut out, bytes);
        }
        if let Some(rule) = &self.prefix_rule {
            put_varint(&mut out, 34);
            put_bytes(&mut out, &rule.encode());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Properties, Malformed> {
        let mut properties = Properties::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.varint()?;
            let bytes = reader.bytes()?;
            let number = || Reader::new(bytes).u64();
            match tag {
                1 => properties.entries = number()?,
                2 => properties.deletes = number()?,
                3 => properties.range_tombstones = number()?,
                4 => properties.data_blocks = number()?,
                5 => properties.raw_bytes = number()?,
                6 => properties.smallest_sequence = number()?,
                7 => properties.largest_sequence = number()?,
                8 => properties.largest_excluded = number()? != 0,
                9 => properties.external = number()? != 0,
                32 => properties.smallest = Bytes::copy_from_slice(bytes),
                33 => properties.largest = Bytes::copy_from_slice(bytes),
                34 => properties.prefix_rule = Some(PrefixRule::decode(bytes)?),
                _ => {}
            }
        }
        Ok(properties)
    }
}
