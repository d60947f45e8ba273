//! A range of routing keys, such as a region's, and how each kind of asker sees it.

use std::fmt;

use crate::memcomparable;
use crate::routing::RoutingKey;

/// Who asks, and so which view of a boundary it is shown (the crate's docs say why).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// The system itself: bounds as they are stored.
    Stored,
    /// Takes bounds as encodings and decodes them: sees *up(x)*.
    Encoded,
    /// A raw client without keyspace: sees *raw(x)*.
    Raw,
}

/// The bounds of a region as they are stored. An empty start means from the first key on, an
/// empty end means without end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounds<'a> {
    /// The first routing key.
    pub start: &'a [u8],
    /// The first routing key after the range; empty means that there is none.
    pub end: &'a [u8],
}

/// Bounds in some view, as values of their own. Empty means "no bound", as in [`Bounds`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedBounds {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key after the range; empty means that there is none.
    pub end: Vec<u8>,
}

impl<'a> Bounds<'a> {
    /// The whole space.
    pub const ALL: Bounds<'static> = Bounds {
        start: &[],
        end: &[],
    };

    /// Bounds from their two ends.
    pub fn new(start: &'a [u8], end: &'a [u8]) -> Bounds<'a> {
        Bounds { start, end }
    }

    /// Whether no routing key lies in the range.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// Whether a point of the space lies in the range; for keys, ask by their kind instead.
    pub fn contains(&self, point: &[u8]) -> bool {
        self.start <= point && (self.end.is_empty() || point < self.end)
    }

    /// Whether a raw key without keyspace belongs here: raw(start) ≤ key < raw(end).
    pub fn contains_raw(&self, key: &[u8]) -> bool {
        // x with a zero byte appended is the least key above x: "at or above" it is "above x".
        let above_start = if memcomparable::is_encoding(self.start) {
            self.start < key
        } else {
            self.start <= key
        };
        let below_end = if memcomparable::is_encoding(self.end) {
            key <= self.end
        } else {
            self.end.is_empty() || key < self.end
        };
        above_start && below_end
    }

    /// Whether any other key belongs here, given as the user key: its encoding is looked for.
    pub fn contains_encoded(&self, user_key: &[u8]) -> bool {
        self.contains(&memcomparable::encode(user_key))
    }

    /// Whether a key belongs here that is given as an asker of this kind gives it to placement:
    /// plain from a raw asker, encoded from one that decodes.
    pub fn contains_as(&self, asker: Asker, key: &[u8]) -> bool {
        match asker {
            Asker::Stored | Asker::Encoded => self.contains(key),
            Asker::Raw => self.contains_raw(key),
        }
    }

    /// The bounds as an asker has to see them; `None` if the range is empty in its view.
    pub fn seen_by(&self, asker: Asker) -> Option<OwnedBounds> {
        let seen = OwnedBounds {
            start: see(asker, self.start),
            end: see(asker, self.end),
        };
        // Below the encoding of the empty key there is no encoding, so "from the first key on" is
        // "from there on" for the question whether anything lies in the range.
        let first = match asker {
            Asker::Encoded if self.start.is_empty() => &memcomparable::encode(&[]),
            Asker::Encoded | Asker::Raw | Asker::Stored => &seen.start,
        };
        (!Bounds::new(first, &seen.end).is_empty()).then_some(seen)
    }

    /// Whether the two ranges have a routing key in common.
    pub fn overlaps(&self, other: &Bounds<'_>) -> bool {
        !self.intersection(other).is_empty()
    }

    /// What the two ranges have in common; empty ([`Bounds::is_empty`]) if that is nothing.
    pub fn intersection<'b>(&self, other: &Bounds<'b>) -> Bounds<'b>
    where
        'a: 'b,
    {
        let end = match (self.end, other.end) {
            ([], end) | (end, []) => end,
            (one, two) => one.min(two),
        };
        Bounds {
            start: self.start.max(other.start),
            end,
        }
    }

    /// Whether every routing key of the other range lies in this one.
    pub fn encloses(&self, other: &Bounds<'_>) -> bool {
        let end_fits = self.end.is_empty() || (!other.end.is_empty() && other.end <= self.end);
        self.start <= other.start && end_fits
    }

    /// Whether a region with these bounds can be split at a boundary: it lies strictly inside.
    pub fn can_split_at(&self, boundary: &RoutingKey) -> bool {
        self.start < boundary.as_bytes() && self.contains(boundary.as_bytes())
    }
}

impl OwnedBounds {
    /// The same bounds, borrowed.
    pub fn as_bounds(&self) -> Bounds<'_> {
        Bounds {
            start: &self.start,
            end: &self.end,
        }
    }
}

/// `[start, end)` with printable bytes as they are, others as `\xNN`; no end is `∞`.
impl fmt::Display for Bounds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, ", self.start.escape_ascii())?;
        if self.end.is_empty() {
            write!(f, "∞)")
        } else {
            write!(f, "{})", self.end.escape_ascii())
        }
    }
}

impl fmt::Debug for Bounds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One boundary in an asker's view.
fn see(asker: Asker, boundary: &[u8]) -> Vec<u8> {
    if boundary.is_empty() {
        return Vec::new();
    }
    match asker {
        Asker::Stored => boundary.to_vec(),
        Asker::Encoded => memcomparable::ceiling(boundary),
        Asker::Raw => RoutingKey::cut_before_raw(boundary).into_bytes(),
    }
}
