//! The bytes of this crate's own formats: one format byte, then fixed-width little-endian numbers
//! and length-prefixed byte strings. Decoders take slices of the input and never panic.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that are not what they should be. Whoever reads a file adds its name and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} at byte {at}: {problem}")]
pub struct FormatError {
    /// Which format was expected.
    pub what: &'static str,
    /// Where reading stopped.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

pub(crate) struct Encoder {
    out: BytesMut,
}

impl Encoder {
    pub(crate) fn new(format: u8) -> Encoder {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(format);
        Encoder { out }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.put_u32_le(value);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.put_u64_le(value);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).expect("keys and states are far below 4 GiB"));
        self.out.put_slice(value);
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

pub(crate) struct Decoder<'a> {
    what: &'static str,
    input: &'a Bytes,
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(
        input: &'a Bytes,
        format: u8,
        what: &'static str,
    ) -> Result<Decoder<'a>, FormatError> {
        let mut decoder = Decoder { what, input, at: 0 };
        if decoder.u8()? != format {
            return Err(decoder.error("unknown format"));
        }
        Ok(decoder)
    }

    pub(crate) fn error(&self, problem: &'static str) -> FormatError {
        FormatError {
            what: self.what,
            at: self.at,
            problem,
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.fixed::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, FormatError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("neither true nor false")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, FormatError> {
        let len = self.u32()? as usize;
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.input.len());
        let end = end.ok_or_else(|| self.error("length beyond the end"))?;
        let bytes = self.input.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    pub(crate) fn rest(self) -> Bytes {
        self.input.slice(self.at..)
    }

    pub(crate) fn end(&self) -> Result<(), FormatError> {
        if self.at == self.input.len() {
            Ok(())
        } else {
            Err(self.error("bytes left over"))
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self
            .input
            .get(self.at..self.at + N)
            .and_then(|slice| slice.first_chunk::<N>());
        let bytes = *bytes.ok_or_else(|| self.error("ends too early"))?;
        self.at += N;
        Ok(bytes)
    }
}
