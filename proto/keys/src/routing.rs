//! Points of the space that regions partition, and how user keys get there.

use std::fmt;

use crate::memcomparable;

/// A point of the space that regions partition: a boundary, or where a key is routed.
///
/// It is bytes, compared as bytes. As a boundary it may be any bytes; empty means "no bound" and
/// is not a routing key. Only the constructors here make one from a user key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingKey(Vec<u8>);

impl RoutingKey {
    /// A boundary as it is stored, or a routing key as an asker with a codec sent it.
    pub fn from_stored(bytes: impl Into<Vec<u8>>) -> RoutingKey {
        RoutingKey(bytes.into())
    }

    /// Where a key is routed that is not a raw key without keyspace: a key under the prefix of its
    /// keyspace, or a transactional key.
    ///
    /// It is also the boundary that a region is split at before this key.
    pub fn of_encoded(user_key: &[u8]) -> RoutingKey {
        RoutingKey(memcomparable::encode(user_key))
    }

    /// The boundary at which a region is split before a raw key without keyspace: *raw(key)*.
    ///
    /// It is the key itself, with a zero byte appended if the key happens to be a valid encoding,
    /// so that the boundary is never one. (Such a key is then the last one before the boundary.)
    pub fn cut_before_raw(key: &[u8]) -> RoutingKey {
        let mut bytes = Vec::with_capacity(key.len() + 1);
        bytes.extend_from_slice(key);
        if memcomparable::is_encoding(key) {
            bytes.push(0);
        }
        RoutingKey(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl AsRef<[u8]> for RoutingKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Printable bytes as they are, others as `\xNN`.
impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// What the keys of a keyspace are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyspaceMode {
    /// Raw keys; their prefix begins with `r`.
    Raw,
    /// Transactional keys; their prefix begins with `x`.
    Transactional,
}

/// The four bytes at the head of every key of a keyspace: the mode and the id, big-endian.
///
/// `None` if the id needs more than three bytes.
pub fn keyspace_prefix(mode: KeyspaceMode, keyspace: u32) -> Option<[u8; 4]> {
    let [0, high, middle, low] = keyspace.to_be_bytes() else {
        return None;
    };
    let mode = match mode {
        KeyspaceMode::Raw => b'r',
        KeyspaceMode::Transactional => b'x',
    };
    Some([mode, high, middle, low])
}

/// A key under the prefix of its keyspace; `None` if the id needs more than three bytes.
pub fn prefixed_key(mode: KeyspaceMode, keyspace: u32, key: &[u8]) -> Option<Vec<u8>> {
    let prefix = keyspace_prefix(mode, keyspace)?;
    Some([&prefix, key].concat())
}
