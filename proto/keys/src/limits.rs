//! How long keys and values may be.

use std::error::Error;
use std::fmt;

/// Longest user key in bytes, without the prefix of its keyspace.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// A key or value that no request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// A key without bytes.
    EmptyKey,
    /// A key longer than [`KEY_BYTES_MAX`].
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A value longer than [`VALUE_BYTES_MAX`].
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::EmptyKey => write!(f, "the key is empty"),
            LimitError::KeyTooLong { bytes } => {
                write!(f, "the key has {bytes} bytes, {KEY_BYTES_MAX} are allowed")
            }
            LimitError::ValueTooLong { bytes } => {
                write!(
                    f,
                    "the value has {bytes} bytes, {VALUE_BYTES_MAX} are allowed"
                )
            }
        }
    }
}

impl Error for LimitError {}

/// Refuses an empty key and one that is too long.
pub fn check_key(key: &[u8]) -> Result<(), LimitError> {
    match key.len() {
        0 => Err(LimitError::EmptyKey),
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(LimitError::KeyTooLong { bytes }),
    }
}

/// Refuses a value that is too long; an empty one is fine.
pub fn check_value(value: &[u8]) -> Result<(), LimitError> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(()),
        bytes => Err(LimitError::ValueTooLong { bytes }),
    }
}
