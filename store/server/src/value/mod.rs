//! The stored form of a raw value, and the time by which values expire.
//!
//! ```text
//! stored = flags:u8 [expires_at_ms:u64 little-endian, if flags bit 0] payload
//! ```
//!
//! The other bits of the flags byte are room: bit 1 is meant for a version of the value (eight
//! bytes after the expiry). A value with a bit this build does not know is refused, not guessed.
//!
//! Time for expiry is placement's time ([`PlacementTime`]), never a wall clock. Each region
//! replicates the latest it has seen; a value has expired once the region's time has reached
//! `expires_at`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

const HAS_EXPIRY: u8 = 1;
const EXPIRY_LEN: usize = 8;

/// Milliseconds since the Unix epoch by placement's clock; 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacementTime(pub u64);

impl PlacementTime {
    /// The moment `ms` milliseconds later; the end of time if there is no such moment.
    pub fn plus_ms(self, ms: u64) -> PlacementTime {
        PlacementTime(self.0.saturating_add(ms))
    }
}

impl fmt::Display for PlacementTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// A raw value taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// From this moment of the region's time on the value is gone; `None`: it stays.
    pub expires_at: Option<PlacementTime>,
    /// What the user stored.
    pub payload: Bytes,
}

/// Why bytes are no stored value. Only damage that checksums missed, or a newer build, makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not even a flags byte, or no room for the expiry the flags announce.
    #[error("a stored value of {0} bytes is cut short")]
    CutShort(usize),
    /// A newer build wrote it.
    #[error("a stored value has flags {0:#04x}, of which this build knows only {HAS_EXPIRY:#04x}")]
    Flags(u8),
}

impl StoredValue {
    /// Bytes in front of the payload of a value that does not expire.
    pub const PLAIN_HEADER_LEN: usize = 1;

    /// The stored form of a payload that does not expire.
    pub fn encode_plain(payload: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(StoredValue::PLAIN_HEADER_LEN + payload.len());
        out.put_u8(0);
        out.put_slice(payload);
        out.freeze()
    }

    /// Whether bytes are the stored form of a value that does not expire.
    pub fn is_plain(stored: &[u8]) -> bool {
        stored.first() == Some(&0)
    }

    /// When bytes that are a stored value expire; `None`: never, as far as this build can tell.
    pub fn expiry_of(stored: &[u8]) -> Option<PlacementTime> {
        let (&HAS_EXPIRY, rest) = stored.split_first()? else {
            return None;
        };
        let expiry = rest.first_chunk::<EXPIRY_LEN>()?;
        Some(PlacementTime(u64::from_le_bytes(*expiry)))
    }

    /// The stored form.
    pub fn encode(&self) -> Bytes {
        let Some(expires_at) = self.expires_at else {
            return StoredValue::encode_plain(&self.payload);
        };
        let mut out = BytesMut::with_capacity(1 + EXPIRY_LEN + self.payload.len());
        out.put_u8(HAS_EXPIRY);
        out.put_u64_le(expires_at.0);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Takes a stored form apart; the payload shares its allocation.
    pub fn decode(stored: &Bytes) -> Result<StoredValue, ValueError> {
        let cut_short = ValueError::CutShort(stored.len());
        let flags = *stored.first().ok_or(cut_short)?;
        match flags {
            0 => Ok(StoredValue {
                expires_at: None,
                payload: stored.slice(StoredValue::PLAIN_HEADER_LEN..),
            }),
            HAS_EXPIRY => Ok(StoredValue {
                expires_at: Some(StoredValue::expiry_of(stored).ok_or(cut_short)?),
                payload: stored.slice(1 + EXPIRY_LEN..),
            }),
            _ => Err(ValueError::Flags(flags)),
        }
    }

    /// Whether the value is gone at this moment of the region's time.
    pub fn expired_at(&self, now: PlacementTime) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

#[cfg(test)]
mod tests;
