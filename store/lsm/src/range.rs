//! Ranges of user keys that tables and jobs cover.

use bytes::Bytes;

/// From `start` to `end`, inclusive or not. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    /// Whether `end` itself is outside.
    pub(crate) end_excluded: bool,
}

impl KeyRange {
    /// `start..end`.
    pub(crate) fn half_open(start: Bytes, end: Bytes) -> KeyRange {
        KeyRange {
            start,
            end,
            end_excluded: true,
        }
    }

    pub(crate) fn contains(&self, user: &[u8]) -> bool {
        self.start.as_ref() <= user && !self.ends_before(user)
    }

    /// Whether all of it lies before `user`.
    pub(crate) fn ends_before(&self, user: &[u8]) -> bool {
        let end = self.end.as_ref();
        end < user || (self.end_excluded && end == user)
    }

    pub(crate) fn overlaps(&self, other: &KeyRange) -> bool {
        !self.ends_before(&other.start) && !other.ends_before(&self.start)
    }

    /// Whether all of `other` lies inside.
    pub(crate) fn covers(&self, other: &KeyRange) -> bool {
        self.start <= other.start
            && (other.end < self.end
                || (other.end == self.end && (!self.end_excluded || other.end_excluded)))
    }

    /// The smallest range around both.
    pub(crate) fn hull(&self, other: &KeyRange) -> KeyRange {
        let later = if other.end > self.end || (other.end == self.end && self.end_excluded) {
            other
        } else {
            self
        };
        KeyRange {
            start: (&self.start).min(&other.start).clone(),
            end: later.end.clone(),
            end_excluded: later.end_excluded,
        }
    }

    /// The smallest range around all; `None` for none.
    pub(crate) fn hull_of<'a>(ranges: impl IntoIterator<Item = &'a KeyRange>) -> Option<KeyRange> {
        let mut ranges = ranges.into_iter();
        let first = ranges.next()?.clone();
        Some(ranges.fold(first, |hull, range| hull.hull(range)))
    }
}
