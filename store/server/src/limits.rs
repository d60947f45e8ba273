//! What a request may ask for, and the sentences that refuse what it may not.
//!
//! Every check here happens before anything is proposed or read, so a refusal always means
//! "definitely not applied".

use tinykv_keys::LimitError;

/// Longest encoded command in bytes: one largest put, or a batch of up to this size.
pub const COMMAND_BYTES_MAX: usize = 9 << 20;

/// Longest bound of a range in bytes. Bounds of regions may be encodings, and so longer than keys.
pub const BOUND_BYTES_MAX: usize = 128 << 10;

/// Most keys one scan answers; a larger limit is lowered to it, as clients expect.
pub const SCAN_KEYS_MAX: usize = 10_240;

/// Most keys one counted removal takes: their values are read when it is applied.
pub const REMOVE_KEYS_MAX: usize = 1024;

/// Longest time to live in milliseconds; added to any time it is still a time.
pub const TTL_MS_MAX: u64 = 1 << 62;

/// Most ranges one request names: each costs a seek in every table.
pub const RANGES_MAX: usize = 4096;

/// Most bytes of keys and values one answer carries. A scan whose asker can continue is cut well
/// before; any other answer that would be longer is refused.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a request is refused whatever the state of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A key or value of a length that is not allowed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// See [`BOUND_BYTES_MAX`].
    #[error("the bound of the range has {0} bytes, {BOUND_BYTES_MAX} are allowed")]
    BoundTooLong(usize),
    /// See [`COMMAND_BYTES_MAX`].
    #[error("the request takes {0} bytes, {COMMAND_BYTES_MAX} are allowed; send it in parts")]
    BatchTooLong(usize),
    /// See [`ANSWER_BYTES_MAX`].
    #[error("the answer would take more than {ANSWER_BYTES_MAX} bytes; ask for fewer keys")]
    AnswerTooLong,
    /// Raw calls know one column family.
    #[error("column family `{0}` does not exist; raw calls know `default` (or an empty name)")]
    ColumnFamily(String),
    /// A range whose end is at or below its start.
    #[error("the range ends where or before it starts")]
    RangeEmpty,
    /// A time to live that does not fit into milliseconds.
    #[error("a time to live of {0} seconds is too long")]
    TtlTooLong(u64),
    /// See [`TTL_MS_MAX`].
    #[error("a time to live of {0} milliseconds is too long; {TTL_MS_MAX} are allowed")]
    TtlMsTooLong(u64),
    /// A time to live beside the wish to keep the one there is.
    #[error("a time to live of {0} milliseconds makes no sense when the expiry is to be kept")]
    TtlAndKept(u64),
    /// A condition of a newer client.
    #[error("condition {0} of the put is unknown; 0 always, 1 if absent, 2 if present")]
    Condition(i32),
    /// See [`REMOVE_KEYS_MAX`].
    #[error("the request names {0} keys, {REMOVE_KEYS_MAX} are allowed; send it in parts")]
    TooManyKeys(usize),
    /// See [`RANGES_MAX`].
    #[error("the request names {0} ranges, {RANGES_MAX} are allowed; send it in parts")]
    TooManyRanges(usize),
    /// A checksum of a newer client.
    #[error("checksum algorithm {0} is unknown; 0 is CRC-64 of each pair, combined by xor")]
    ChecksumAlgorithm(i32),
    /// Time-to-live lists must be parallel to the pairs.
    #[error("{ttls} times to live for {pairs} pairs; give none, one, or one for each pair")]
    TtlCount {
        /// How many were given.
        ttls: usize,
        /// How many would be right.
        pairs: usize,
    },
    /// The keyspace prefix that a V2 key must have is missing.
    #[error("a key of API version 2 starts with `r` and three bytes of keyspace id")]
    KeyspacePrefix,
    /// API versions other than V1 and V2.
    #[error("API version {0} is not supported; raw calls know V1 and V2")]
    ApiVersion(i32),
}

/// The only column family there is has two names.
pub fn check_column_family(name: &str) -> Result<(), Refused> {
    match name {
        "" | "default" => Ok(()),
        other => Err(Refused::ColumnFamily(other.to_owned())),
    }
}

/// A key as the user knows it, without prefix.
pub fn check_key(key: &[u8]) -> Result<(), Refused> {
    Ok(tinykv_keys::check_key(key)?)
}

/// A value as the user knows it.
pub fn check_value(value: &[u8]) -> Result<(), Refused> {
    Ok(tinykv_keys::check_value(value)?)
}

/// Seconds of a request as milliseconds of a command; 0 stays "for ever".
pub fn ttl_ms(seconds: u64) -> Result<u64, Refused> {
    seconds
        .checked_mul(1000)
        .filter(|ms| *ms <= TTL_MS_MAX)
        .ok_or(Refused::TtlTooLong(seconds))
}

/// Refuses a time to live in milliseconds that is too long.
pub fn check_ttl_ms(ms: u64) -> Result<u64, Refused> {
    match ms {
        0..=TTL_MS_MAX => Ok(ms),
        _ => Err(Refused::TtlMsTooLong(ms)),
    }
}

/// The times to live of a batch, in milliseconds, one for each pair. `ttls` holds none, one for
/// all, or one for each; `legacy` is the older field for all, used when `ttls` is empty.
pub fn batch_ttls_ms(ttls: &[u64], legacy: u64, pairs: usize) -> Result<Vec<u64>, Refused> {
    match ttls {
        [] => Ok(vec![ttl_ms(legacy)?; pairs]),
        [one] => Ok(vec![ttl_ms(*one)?; pairs]),
        each if each.len() == pairs => each.iter().map(|&seconds| ttl_ms(seconds)).collect(),
        _ => Err(Refused::TtlCount {
            ttls: ttls.len(),
            pairs,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_over_their_limits_are_told_their_length() {
        let sentence = |result: Result<(), Refused>| result.expect_err("refused").to_string();
        assert_eq!(sentence(check_key(b"")), "the key is empty");
        assert_eq!(
            sentence(check_key(&vec![0; (64 << 10) + 1])),
            "the key has 65537 bytes, 65536 are allowed"
        );
        assert_eq!(check_value(&vec![0; 8 << 20]), Ok(()));
        assert_eq!(
            sentence(check_value(&vec![0; (8 << 20) + 1])),
            "the value has 8388609 bytes, 8388608 are allowed"
        );
    }

    #[test]
    fn one_column_family_under_two_names() {
        assert_eq!(check_column_family(""), Ok(()));
        assert_eq!(check_column_family("default"), Ok(()));
        let refused = check_column_family("write").expect_err("another family");
        assert_eq!(
            refused.to_string(),
            "column family `write` does not exist; raw calls know `default` (or an empty name)"
        );
    }

    #[test]
    fn times_to_live_of_a_batch() {
        assert_eq!(batch_ttls_ms(&[], 0, 2), Ok(vec![0, 0]));
        assert_eq!(batch_ttls_ms(&[], 3, 2), Ok(vec![3000, 3000]));
        assert_eq!(batch_ttls_ms(&[4], 3, 2), Ok(vec![4000, 4000]));
        assert_eq!(batch_ttls_ms(&[4, 0], 3, 2), Ok(vec![4000, 0]));
        assert_eq!(
            batch_ttls_ms(&[1, 2, 3], 0, 2),
            Err(Refused::TtlCount { ttls: 3, pairs: 2 })
        );
        assert_eq!(
            batch_ttls_ms(&[u64::MAX], 0, 1),
            Err(Refused::TtlTooLong(u64::MAX))
        );
    }
}
