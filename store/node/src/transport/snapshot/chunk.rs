//! The bytes of chunks and of the end.

use bytes::{BufMut, Bytes, BytesMut};

const FORMAT: u8 = 1;

/// What a whole snapshot amounts to; both sides count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Chunks.
    pub(super) chunks: u64,
    /// Pairs in them.
    pub(super) pairs: u64,
    /// Bytes of all chunks.
    pub(super) bytes: u64,
    /// CRC-32C over the payloads of all chunks in order.
    pub(super) crc32c: u32,
}

impl Totals {
    pub(super) fn add(&mut self, payload: &[u8], pairs: u64) {
        self.chunks += 1;
        self.pairs += pairs;
        self.bytes += payload.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, payload);
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(29);
        out.put_u8(FORMAT);
        out.put_u64_le(self.chunks);
        out.put_u64_le(self.pairs);
        out.put_u64_le(self.bytes);
        out.put_u32_le(self.crc32c);
        out.freeze()
    }

    /// `None` if these are no totals.
    pub(super) fn decode(payload: &[u8]) -> Option<Totals> {
        let (format, rest) = payload.split_first()?;
        let (chunks, rest) = number(rest)?;
        let (pairs, rest) = number(rest)?;
        let (bytes, rest) = number(rest)?;
        let crc32c = u32::from_le_bytes(rest.try_into().ok()?);
        (*format == FORMAT).then_some(Totals {
            chunks,
            pairs,
            bytes,
            crc32c,
        })
    }
}

/// Collects pairs into a chunk.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    out: BytesMut,
    pairs: u64,
}

impl ChunkBuilder {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            let len = u32::try_from(part.len()).expect("keys and values are far below 4 GiB");
            self.out.put_u32_le(len);
            self.out.put_slice(part);
        }
        self.pairs += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn finish(self) -> (Bytes, u64) {
        (self.out.freeze(), self.pairs)
    }
}

/// Takes the next pair off a chunk: key, value, rest. `None` if it is malformed.
pub(super) fn split_pair(chunk: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key, rest) = part(chunk)?;
    let (value, rest) = part(rest)?;
    Some((key, value, rest))
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use tinykv_env::Prng;

    use super::*;

    #[test]
    fn pairs_and_totals_come_back_as_they_were() {
        let mut builder = ChunkBuilder::default();
        builder.add(b"a", b"1");
        builder.add(b"", b"");
        let (chunk, pairs) = builder.finish();
        let mut totals = Totals::default();
        totals.add(&chunk, pairs);
        assert_eq!((totals.chunks, totals.pairs), (1, 2));
        assert_eq!(totals.bytes, chunk.len() as u64);
        let (key, value, rest) = split_pair(&chunk).expect("first");
        assert_eq!((key, value), (&b"a"[..], &b"1"[..]));
        assert_eq!(split_pair(rest), Some((&b""[..], &b""[..], &b""[..])));
        assert_eq!(Totals::decode(&totals.encode()), Some(totals));
    }

    #[test]
    fn bad_bytes_never_panic() {
        let random = &mut Prng::new(1);
        for len in 0..64 {
            let mut noise = vec![0; len];
            random.fill(&mut noise);
            split_pair(&noise);
            assert!(len == 29 || Totals::decode(&noise).is_none());
        }
        assert_eq!(split_pair(&[0xff; 8]), None);
    }
}
