//! Internal keys: user key, sequence, kind.
//!
//! An internal key is the user key followed by eight bytes, the *trailer*: the inverted, big-endian
//! form of `sequence << 8 | kind`. Two internal keys are ordered by user key ascending, then by
//! trailer ascending, which is sequence descending: of all versions of a key the newest comes
//! first. The whole is *not* ordered like a byte string (one user key may be a prefix of another),
//! so everything that orders internal keys goes through [`compare`].

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

use crate::LsmError;

/// The place of a change in the order of all changes of a tree. Starts at 1, never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// The largest sequence a trailer can hold.
pub(crate) const SEQUENCE_MAX: u64 = (1 << 56) - 1;
/// The longest user key.
const KEY_BYTES_MAX: usize = 1 << 20;
/// The longest value.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// Bytes that an internal key is longer than its user key.
pub(crate) const TRAILER_BYTES: usize = 8;

/// Refuses what the format cannot hold.
pub(crate) fn check_lengths(key: usize, value: usize) -> Result<(), LsmError> {
    if key > KEY_BYTES_MAX {
        let reason = format!("a key of {key} bytes is longer than {KEY_BYTES_MAX}");
        return Err(LsmError::invalid(reason));
    }
    if value > VALUE_BYTES_MAX {
        let reason = format!("a value of {value} bytes is longer than {VALUE_BYTES_MAX}");
        return Err(LsmError::invalid(reason));
    }
    Ok(())
}

/// What a version of a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The key has no value.
    Delete = 0,
    /// The key has the value that stands beside.
    Put = 1,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            0 => Some(Kind::Delete),
            1 => Some(Kind::Put),
            _ => None,
        }
    }
}

/// Appends the internal key to `out`.
pub(crate) fn encode_into(out: &mut Vec<u8>, user: &[u8], sequence: u64, kind: Kind) {
    out.extend_from_slice(user);
    out.extend_from_slice(&trailer(sequence, kind));
}

/// The internal key in an allocation of its own.
pub(crate) fn encode(user: &[u8], sequence: u64, kind: Kind) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len() + TRAILER_BYTES);
    encode_into(&mut out, user, sequence, kind);
    out
}

/// The internal key at or after which every version of `user` that `sequence` may see stands.
pub(crate) fn encode_seek(user: &[u8], sequence: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len() + TRAILER_BYTES);
    out.extend_from_slice(user);
    out.extend_from_slice(&seek_trailer(sequence));
    out
}

pub(crate) fn trailer(sequence: u64, kind: Kind) -> [u8; TRAILER_BYTES] {
    assert!(sequence <= SEQUENCE_MAX, "sequence {sequence} out of range");
    (!(sequence << 8 | kind as u64)).to_be_bytes()
}

fn seek_trailer(sequence: u64) -> [u8; TRAILER_BYTES] {
    (!(sequence << 8 | 0xff)).to_be_bytes()
}

/// The user key inside an internal key.
pub(crate) fn user(internal: &[u8]) -> &[u8] {
    &internal[..internal.len().saturating_sub(TRAILER_BYTES)]
}

/// Sequence and kind byte of an internal key; `None` when it is too short to be one.
pub(crate) fn split_trailer(internal: &[u8]) -> Option<(u64, u8)> {
    let packed = !u64::from_be_bytes(*internal.last_chunk::<TRAILER_BYTES>()?);
    Some((packed >> 8, (packed & 0xff) as u8))
}

/// The sequence of an internal key; 0 when it is too short to be one.
pub(crate) fn sequence(internal: &[u8]) -> u64 {
    split_trailer(internal).map_or(0, |(sequence, _)| sequence)
}

/// The order of internal keys.
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (user_a, trailer_a) = a.split_at(a.len().saturating_sub(TRAILER_BYTES));
    let (user_b, trailer_b) = b.split_at(b.len().saturating_sub(TRAILER_BYTES));
    user_a.cmp(user_b).then_with(|| trailer_a.cmp(trailer_b))
}

/// An internal key as a memtable owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedKey(pub(crate) Bytes);

/// An internal key that belongs to somebody else, in the order of [`compare`].
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct KeySlice([u8]);

impl KeySlice {
    pub(crate) fn new(internal: &[u8]) -> &KeySlice {
        // SAFETY: `KeySlice` is a transparent wrapper of `[u8]`, so both have one layout and the
        // lifetime stays that of the argument.
        unsafe { &*(std::ptr::from_ref(internal) as *const KeySlice) }
    }
}

impl Ord for KeySlice {
    fn cmp(&self, other: &KeySlice) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for KeySlice {
    fn partial_cmp(&self, other: &KeySlice) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<KeySlice> for OwnedKey {
    fn borrow(&self) -> &KeySlice {
        KeySlice::new(&self.0)
    }
}

impl Ord for OwnedKey {
    fn cmp(&self, other: &OwnedKey) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for OwnedKey {
    fn partial_cmp(&self, other: &OwnedKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
