//! Which of the raw key spaces a request is about, and where its keys stand.
//!
//! A thin layer over `tinykv-keys`, which alone knows how keys and bounds are encoded: here the
//! API version of a request chooses between raw keys without and with a keyspace, and ranges of
//! user keys become ranges of engine keys inside a region.

use bytes::Bytes;
use tinykv_keys::engine::{self, EngineRange, Kind, RegionMeta};
use tinykv_keys::{Asker, Bounds};
use tinykv_raft::GroupId;
use tinykv_replica::{KeyRange, Region};

use crate::limits::{self, BOUND_BYTES_MAX, Refused};

/// The prefix of a key with a keyspace: `r` and three bytes of keyspace id.
const PREFIX_LEN: usize = 4;

/// One of the raw key spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Raw keys without keyspace (API version 1).
    Plain,
    /// Raw keys that carry the prefix of their keyspace (API version 2).
    Keyspace,
}

impl Space {
    /// How askers of this space see bounds.
    pub fn asker(self) -> Asker {
        match self {
            Space::Plain => Asker::Raw,
            Space::Keyspace => Asker::Encoded,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Space::Plain => Kind::Raw,
            Space::Keyspace => Kind::KeyspaceRaw,
        }
    }

    /// Refuses an empty key, one that is too long, and one without the prefix it needs.
    pub fn check_key(self, key: &[u8]) -> Result<(), Refused> {
        match self {
            Space::Plain => limits::check_key(key),
            Space::Keyspace => {
                self.check_bound(key)?;
                limits::check_key(&key[PREFIX_LEN..])
            }
        }
    }

    /// Refuses a bound of a range that is too long or lacks the prefix it needs. An empty bound of
    /// a plain range means "no bound"; a range of a keyspace always has both.
    pub fn check_bound(self, bound: &[u8]) -> Result<(), Refused> {
        let prefix_len = match self {
            Space::Plain => 0,
            // The end of the last keyspace is `s` and zeros.
            Space::Keyspace if bound.len() >= PREFIX_LEN && matches!(bound[0], b'r' | b's') => {
                PREFIX_LEN
            }
            Space::Keyspace => return Err(Refused::KeyspacePrefix),
        };
        match bound.len() - prefix_len {
            0..=BOUND_BYTES_MAX => Ok(()),
            len => Err(Refused::BoundTooLong(len)),
        }
    }

    /// Where a key stands in the engine.
    pub fn engine_key(self, key: &[u8]) -> Bytes {
        Bytes::from(match self {
            Space::Plain => engine::raw(key),
            Space::Keyspace => engine::keyspace_raw(key),
        })
    }

    /// The key as the user knows it, of an engine key of this space.
    pub fn user_key(self, engine_key: &[u8]) -> &[u8] {
        engine::user_key(engine_key).expect("ranges of a space hold keys of its kind only")
    }

    /// The engine key at which a range begins; an empty bound is the beginning of the space.
    pub fn lower_bound(self, bound: &[u8]) -> Bytes {
        self.engine_key(bound)
    }

    /// The engine key before which a range ends; an empty bound is the end of the space.
    pub fn upper_bound(self, bound: &[u8]) -> Bytes {
        match bound {
            [] => Bytes::from(self.kind().range().end),
            bound => self.engine_key(bound),
        }
    }

    /// Whether a key lies in the region.
    pub fn contains(self, region: &Region, key: &[u8]) -> bool {
        match self {
            Space::Plain => bounds(region).contains_raw(key),
            Space::Keyspace => bounds(region).contains_encoded(key),
        }
    }

    /// The part of a range of user keys that lies in the region, as engine keys; `None` if there
    /// is none. An empty `upper` is no bound.
    pub fn clamp(self, region: &Region, lower: &[u8], upper: &[u8]) -> Option<KeyRange> {
        let window = engine::region_range(self.kind(), &bounds(region))?;
        let range = KeyRange {
            start: self.lower_bound(lower).max(Bytes::from(window.start)),
            end: self.upper_bound(upper).min(Bytes::from(window.end)),
        };
        (range.start < range.end).then_some(range)
    }
}

/// The bounds of a region, for `tinykv-keys`.
pub fn bounds(region: &Region) -> Bounds<'_> {
    Bounds::new(&region.start, &region.end)
}

/// All engine ranges that hold data of a region.
pub fn ranges(region: &Region) -> Vec<KeyRange> {
    let ranges = engine::region_ranges(&bounds(region));
    ranges.into_iter().map(key_range).collect()
}

/// Whether an engine key of raw data lies in a region.
pub fn contains(region: &Region, engine_key: &[u8]) -> bool {
    match (Kind::of(engine_key), engine::user_key(engine_key)) {
        (Some(Kind::Raw), Some(key)) => bounds(region).contains_raw(key),
        (Some(Kind::KeyspaceRaw), Some(key)) => bounds(region).contains_encoded(key),
        _ => false,
    }
}

/// Whether a range of engine keys of raw data lies in a region as a whole.
pub fn encloses(region: &Region, start: &[u8], end: &[u8]) -> bool {
    let Some(kind @ (Kind::Raw | Kind::KeyspaceRaw)) = Kind::of(start) else {
        return false;
    };
    engine::region_range(kind, &bounds(region))
        .is_some_and(|range| range.start.as_slice() <= start && end <= range.end.as_slice())
}

/// An engine key of raw data as its user knows it; any other as it is.
pub fn shown(engine_key: &Bytes) -> Bytes {
    match engine::user_key(engine_key) {
        Some(key) => engine_key.slice_ref(key),
        None => engine_key.clone(),
    }
}

/// Where the region's own record stands.
pub fn region_state_key(region: GroupId) -> [u8; 10] {
    engine::region_meta(region.0, RegionMeta::Descriptor)
}

/// Where the records of all regions stand, other things about regions between them.
pub fn region_states() -> KeyRange {
    key_range(EngineRange {
        start: engine::region_meta_range(1).start,
        end: engine::region_meta_range(u64::MAX).end,
    })
}

/// Whether raw data stands at an engine key.
pub fn is_raw(engine_key: &[u8]) -> bool {
    matches!(Kind::of(engine_key), Some(Kind::Raw | Kind::KeyspaceRaw))
}

/// The region whose record stands at an engine key; `None` if something else does.
pub fn region_of_state(engine_key: &[u8]) -> Option<GroupId> {
    match engine::parse_region_meta(engine_key)? {
        (region, RegionMeta::Descriptor) => Some(GroupId(region)),
        (_, RegionMeta::ApplyState) => None,
    }
}

fn key_range(range: EngineRange) -> KeyRange {
    KeyRange {
        start: Bytes::from(range.start),
        end: Bytes::from(range.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: &'static [u8], end: &'static [u8]) -> Region {
        Region {
            id: GroupId(1),
            start: Bytes::from_static(start),
            end: Bytes::from_static(end),
            ..Region::default()
        }
    }

    fn clamped(region: &Region, lower: &[u8], upper: &[u8]) -> Option<(String, String)> {
        let range = Space::Plain.clamp(region, lower, upper)?;
        let shown = |key: &Bytes| key.escape_ascii().to_string();
        Some((shown(&range.start), shown(&range.end)))
    }

    #[test]
    fn ranges_are_clamped_to_the_region() {
        let some = |start: &str, end: &str| Some((start.to_owned(), end.to_owned()));
        let middle = region(b"b", b"d");
        assert_eq!(clamped(&middle, b"", b""), some("rb", "rd"));
        assert_eq!(clamped(&middle, b"a", b"z"), some("rb", "rd"));
        assert_eq!(clamped(&middle, b"bb", b"c"), some("rbb", "rc"));
        assert_eq!(clamped(&middle, b"c", b"c"), None);
        assert_eq!(clamped(&middle, b"d", b""), None);
        assert_eq!(clamped(&middle, b"", b"b"), None);
        let all = region(b"", b"");
        assert_eq!(clamped(&all, b"", b""), some("r", "s"));
        assert_eq!(clamped(&all, b"x", b""), some("rx", "s"));
    }

    #[test]
    fn a_range_of_engine_keys_lies_inside_or_not() {
        let middle = region(b"b", b"d");
        assert!(encloses(&middle, b"rb", b"rd"));
        assert!(!encloses(&middle, b"ra", b"rd"));
        assert!(!encloses(&middle, b"rb", b"rda"));
        assert!(!encloses(&middle, b"m", b"n"));
        assert!(contains(&middle, b"rb"));
        assert!(!contains(&middle, b"rd"));
        assert!(!contains(&middle, b"mb"));
        assert!(!contains(&middle, b""));
    }

    #[test]
    fn keys_of_keyspaces_need_their_prefix() {
        let check = |key: &[u8]| Space::Keyspace.check_key(key);
        assert_eq!(check(b"r\0\0\x01k"), Ok(()));
        assert!(matches!(check(b"r\0\0\x01"), Err(Refused::Limit(_))));
        assert_eq!(check(b"r\0\0"), Err(Refused::KeyspacePrefix));
        assert_eq!(check(b"x\0\0\0k"), Err(Refused::KeyspacePrefix));
        assert_eq!(Space::Keyspace.check_bound(b"s\0\0\0"), Ok(()));
        assert_eq!(
            Space::Keyspace.check_bound(b""),
            Err(Refused::KeyspacePrefix)
        );
        assert_eq!(Space::Plain.check_bound(b""), Ok(()));
    }
}
