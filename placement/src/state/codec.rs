//! The byte format of commands and rows: fixed-width little-endian numbers, length-prefixed bytes.
//!
//! Every command and every row begins with a format version, so that a later release can add a
//! second shape beside the first. The reader takes bytes from disk and network: it never indexes,
//! never allocates more than what is really there, and refuses what is left over.

use bytes::Bytes;
use thiserror::Error;

/// Why bytes could not be read as what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the field does.
    #[error("{field} is cut off: {wanted} bytes wanted, {left} left")]
    Short {
        /// The field being read.
        field: &'static str,
        /// How many bytes it needs.
        wanted: usize,
        /// How many there are.
        left: usize,
    },
    /// A number that names nothing in this release: a version, a tag, a role.
    #[error("{field} has the unknown value {value}")]
    Unknown {
        /// The field being read.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// Text that is not UTF-8.
    #[error("{field} is no UTF-8 text")]
    Text {
        /// The field being read.
        field: &'static str,
    },
    /// A setting that this release does not know, or not so.
    #[error("{what}")]
    Setting {
        /// One sentence that names it.
        what: String,
    },
    /// Bytes after the end.
    #[error("{left} bytes are left over")]
    Trailing {
        /// How many.
        left: usize,
    },
}

/// Builds an encoding.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins with a format version and a tag.
    pub(crate) fn new(version: u8, tag: u8) -> Writer {
        Writer {
            buffer: vec![version, tag],
        }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// The length of a list, then its items follow.
    pub(crate) fn count(&mut self, items: usize) {
        self.u32(u32::try_from(items).expect("lists are bounded far below four billion"));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.buffer.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.buffer)
    }
}

/// Reads an encoding from the front.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    fn take(&mut self, wanted: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(wanted) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(DecodeError::Short {
                field,
                wanted,
                left: self.rest.len(),
            }),
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("take returned exactly N bytes"))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// The length of a list. Callers push item by item and reserve nothing: a false length then
    /// ends in [`DecodeError::Short`] and costs no memory.
    pub(crate) fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        Ok(self.u32(field)? as usize)
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count(field)?;
        Ok(Bytes::copy_from_slice(self.take(length, field)?))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length = self.count(field)?;
        let taken = self.take(length, field)?;
        match std::str::from_utf8(taken) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::Text { field }),
        }
    }

    /// Checks the version byte and returns the tag after it.
    pub(crate) fn open(&mut self, version: u8, field: &'static str) -> Result<u8, DecodeError> {
        let found = self.u8(field)?;
        if found != version {
            return Err(unknown(field, found));
        }
        self.u8(field)
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left }),
        }
    }
}

pub(crate) fn unknown(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Unknown {
        field,
        value: u64::from(value),
    }
}
