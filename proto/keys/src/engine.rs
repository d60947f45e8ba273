//! Where things stand in the one LSM tree of a store.
//!
//! The first byte of an engine key says what stands there ([`Kind`]). Kinds never meet: raw data
//! without keyspace, raw data of keyspaces and transactional data are ranges of their own, so the
//! data of a region is a handful of ranges ([`region_ranges`]), one of each kind.
//!
//! | first byte | then |
//! | --- | --- |
//! | `k` | a raw key under the prefix of its keyspace |
//! | `l` | a transactional key: its lock |
//! | `m` | region id (8 bytes, big-endian, 0 for the store itself), what it is (1 byte) |
//! | `r` | a raw key without keyspace |
//! | `v` | a transactional key, encoded; start timestamp, inverted (8 bytes, big-endian): a value |
//! | `w` | a transactional key, encoded; commit timestamp, inverted: a write record |
//!
//! Keys of versions are encoded because the timestamp behind them needs an end that sorts; newer
//! versions come first. Transactional keys stand under the prefix of their keyspace, if any.

use crate::bounds::{Asker, Bounds, OwnedBounds};
use crate::memcomparable;
use crate::routing::RoutingKey;

/// What stands at an engine key: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Raw data of a keyspace.
    KeyspaceRaw = b'k',
    /// The lock of a transactional key.
    Lock = b'l',
    /// What the store itself remembers.
    Meta = b'm',
    /// Raw data without keyspace.
    Raw = b'r',
    /// A version of a transactional key's value.
    Value = b'v',
    /// The record of a commit or roll-back.
    Write = b'w',
}

impl Kind {
    /// Kinds that hold the data of regions, in the order of their ranges.
    pub const DATA: [Kind; 5] = [
        Kind::KeyspaceRaw,
        Kind::Lock,
        Kind::Raw,
        Kind::Value,
        Kind::Write,
    ];

    /// The kind of an engine key; `None` if there is no such kind, or the key is empty.
    pub fn of(engine_key: &[u8]) -> Option<Kind> {
        match engine_key.first()? {
            b'k' => Some(Kind::KeyspaceRaw),
            b'l' => Some(Kind::Lock),
            b'm' => Some(Kind::Meta),
            b'r' => Some(Kind::Raw),
            b'v' => Some(Kind::Value),
            b'w' => Some(Kind::Write),
            _ => None,
        }
    }

    /// The range of everything of this kind.
    pub fn range(self) -> EngineRange {
        let first = self as u8;
        EngineRange {
            start: vec![first],
            end: vec![first + 1],
        }
    }
}

/// A range of engine keys; both ends are always present.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineRange {
    /// The first engine key.
    pub start: Vec<u8>,
    /// The first engine key after the range.
    pub end: Vec<u8>,
}

impl EngineRange {
    /// Whether an engine key lies in the range.
    pub fn contains(&self, engine_key: &[u8]) -> bool {
        self.start.as_slice() <= engine_key && engine_key < self.end.as_slice()
    }
}

/// Where a raw key without keyspace stands.
pub fn raw(key: &[u8]) -> Vec<u8> {
    tagged(Kind::Raw, key)
}

/// Where a raw key stands that carries the prefix of its keyspace.
pub fn keyspace_raw(prefixed_key: &[u8]) -> Vec<u8> {
    tagged(Kind::KeyspaceRaw, prefixed_key)
}

/// Where the lock of a transactional key stands.
pub fn lock(user_key: &[u8]) -> Vec<u8> {
    tagged(Kind::Lock, user_key)
}

/// Where a version of a transactional key's value stands.
pub fn value(user_key: &[u8], start_timestamp: u64) -> Vec<u8> {
    versioned(Kind::Value, user_key, start_timestamp)
}

/// Where the record of a commit or roll-back stands.
pub fn write(user_key: &[u8], commit_timestamp: u64) -> Vec<u8> {
    versioned(Kind::Write, user_key, commit_timestamp)
}

/// The user key of raw data, with or without keyspace, or of a lock; `None` for other kinds.
pub fn user_key(engine_key: &[u8]) -> Option<&[u8]> {
    match Kind::of(engine_key)? {
        Kind::Raw | Kind::KeyspaceRaw | Kind::Lock => Some(&engine_key[1..]),
        Kind::Meta | Kind::Value | Kind::Write => None,
    }
}

/// The user key and timestamp of a value or write record; `None` for other kinds and for bytes
/// that are not one.
pub fn user_key_and_timestamp(engine_key: &[u8]) -> Option<(Vec<u8>, u64)> {
    match Kind::of(engine_key)? {
        Kind::Value | Kind::Write => {
            let (encoding, timestamp) = engine_key[1..].split_last_chunk::<8>()?;
            Some((
                memcomparable::decode(encoding)?,
                !u64::from_be_bytes(*timestamp),
            ))
        }
        Kind::KeyspaceRaw | Kind::Lock | Kind::Meta | Kind::Raw => None,
    }
}

/// What is remembered about a region beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RegionMeta {
    /// Its id, bounds, epoch and peers.
    Descriptor = 1,
    /// What its state machine carries on beside data, such as its time.
    ApplyState = 2,
}

/// Where something about a region stands. The region's id is never 0.
pub fn region_meta(region_id: u64, what: RegionMeta) -> [u8; 10] {
    meta(region_id, what as u8)
}

/// The region and the thing about it that stand at an engine key; `None` if it is another key.
pub fn parse_region_meta(engine_key: &[u8]) -> Option<(u64, RegionMeta)> {
    let (&[kind], rest) = engine_key.split_first_chunk::<1>()?;
    let (id, what) = rest.split_first_chunk::<8>()?;
    let what = match what {
        [1] => RegionMeta::Descriptor,
        [2] => RegionMeta::ApplyState,
        _ => return None,
    };
    let id = u64::from_be_bytes(*id);
    (kind == Kind::Meta as u8 && id != 0).then_some((id, what))
}

/// Everything that is remembered about a region beside its data.
pub fn region_meta_range(region_id: u64) -> EngineRange {
    EngineRange {
        start: meta(region_id, 0).to_vec(),
        end: meta(region_id, u8::MAX).to_vec(),
    }
}

/// The range of one kind of data of a region with these stored bounds; `None` if it can hold no
/// key. For [`Kind::Meta`] there is none.
pub fn region_range(kind: Kind, bounds: &Bounds<'_>) -> Option<EngineRange> {
    let seen = match kind {
        Kind::Meta => return None,
        Kind::Raw => bounds.seen_by(Asker::Raw)?,
        Kind::Value | Kind::Write => bounds.seen_by(Asker::Encoded)?,
        Kind::KeyspaceRaw | Kind::Lock => {
            let OwnedBounds { start, end } = bounds.seen_by(Asker::Encoded)?;
            OwnedBounds {
                start: decode_bound(&start),
                end: decode_bound(&end),
            }
        }
    };
    let end = match seen.end.as_slice() {
        [] => kind.range().end,
        end => tagged(kind, end),
    };
    Some(EngineRange {
        start: tagged(kind, &seen.start),
        end,
    })
}

/// The ranges that hold the data of a region with these stored bounds, in order.
pub fn region_ranges(bounds: &Bounds<'_>) -> Vec<EngineRange> {
    Kind::DATA
        .iter()
        .filter_map(|kind| region_range(*kind, bounds))
        .collect()
}

/// The boundary before the key that stands at an engine key: where a region is split so that this
/// key is the first of the part above. All versions of a key stay together. `None` for keys that
/// no region holds.
pub fn boundary_before(engine_key: &[u8]) -> Option<RoutingKey> {
    let (kind, key) = (Kind::of(engine_key)?, engine_key.get(1..)?);
    match kind {
        Kind::Meta => None,
        Kind::Raw => Some(RoutingKey::cut_before_raw(key)),
        Kind::KeyspaceRaw | Kind::Lock => Some(RoutingKey::of_encoded(key)),
        Kind::Value | Kind::Write => {
            let (encoded, _timestamp) = key.split_last_chunk::<8>()?;
            memcomparable::is_encoding(encoded).then(|| RoutingKey::from_stored(encoded))
        }
    }
}

/// A key behind its kind.
fn tagged(kind: Kind, key: &[u8]) -> Vec<u8> {
    let mut engine_key = Vec::with_capacity(key.len() + 1);
    engine_key.push(kind as u8);
    engine_key.extend_from_slice(key);
    engine_key
}

/// An encoded key behind its kind, and an inverted timestamp.
fn versioned(kind: Kind, user_key: &[u8], timestamp: u64) -> Vec<u8> {
    let length = 1 + memcomparable::encoded_len(user_key.len()) + 8;
    let mut engine_key = Vec::with_capacity(length);
    engine_key.push(kind as u8);
    memcomparable::encode_into(user_key, &mut engine_key);
    engine_key.extend_from_slice(&(!timestamp).to_be_bytes());
    engine_key
}

/// A key of [`Kind::Meta`].
fn meta(id: u64, what: u8) -> [u8; 10] {
    let mut engine_key = [0; 10];
    engine_key[0] = Kind::Meta as u8;
    engine_key[1..9].copy_from_slice(&id.to_be_bytes());
    engine_key[9] = what;
    engine_key
}

/// Decodes a bound in the encoded view; no bound stays no bound.
///
/// An end that is the encoding of the empty key would decode to "no bound". It cannot occur:
/// nothing lies below it, so the range is empty in the encoded view and was left out.
fn decode_bound(bound: &[u8]) -> Vec<u8> {
    if bound.is_empty() {
        return Vec::new();
    }
    memcomparable::decode(bound).expect("the encoded view of a bound is an encoding")
}
