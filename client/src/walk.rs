//! A walk over a range, region by region, in either direction.
//!
//! A walk knows how far it has come, as a key and not as a region. So it visits every key of its
//! range exactly once, whatever is split or merged meanwhile (C4): each page was served by a store
//! that checked the epoch of the route it was asked by, and the next page begins where that one
//! ended.

use bytes::Bytes;
use tinykv_mutants::{Mutant, planted};

use crate::routing::{Point, Route};

/// From which end of a range to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    #[default]
    Forward,
    /// From the highest key down.
    Reverse,
}

/// What is left of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    direction: Direction,
    /// First key that is left.
    lower: Bytes,
    /// First key after what is left; empty means that there is none.
    upper: Bytes,
    done: bool,
}

impl Walk {
    /// A walk over the keys from `lower` to below `upper`; an empty `upper` means all from there.
    pub fn new(direction: Direction, lower: Bytes, upper: Bytes) -> Walk {
        let done = !upper.is_empty() && lower >= upper;
        Walk {
            direction,
            lower,
            upper,
            done,
        }
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Where the next page is.
    pub fn point(&self) -> Point {
        match self.direction {
            Direction::Forward => Point::At(self.lower.clone()),
            Direction::Reverse => Point::Below(self.upper.clone()),
        }
    }

    /// The same; `None` if nothing is left.
    pub fn next_point(&self) -> Option<Point> {
        (!self.done).then(|| self.point())
    }

    /// What is left of the range: first key, and end (empty: none).
    pub fn rest(&self) -> (&Bytes, &Bytes) {
        (&self.lower, &self.upper)
    }

    /// The part of the rest that lies in a region: first key, and end (empty: none).
    pub fn rest_in(&self, route: &Route) -> (Bytes, Bytes) {
        let lower = (&self.lower).max(&route.start).clone();
        let upper = match (self.upper.is_empty(), route.end.is_empty()) {
            (true, _) => route.end.clone(),
            (false, true) => self.upper.clone(),
            (false, false) => (&self.upper).min(&route.end).clone(),
        };
        (lower, upper)
    }

    /// The page ended early: a forward walk goes on from this key, a reverse one below it.
    pub fn go_on_from(&mut self, key: Bytes) {
        match self.direction {
            Direction::Forward => self.lower = key,
            Direction::Reverse => self.upper = key,
        }
        self.done = !self.upper.is_empty() && self.lower >= self.upper;
    }

    /// Everything of the rest that lies in this region has been visited.
    pub fn finish_region(&mut self, route: &Route) {
        let at_edge = match self.direction {
            Direction::Forward => &route.end,
            Direction::Reverse => &route.start,
        };
        if at_edge.is_empty() {
            self.done = true;
        } else {
            let is_hasty = planted(Mutant::ScanSkipsBorder);
            let next = match self.direction {
                Direction::Forward if is_hasty => successor(at_edge),
                _ => at_edge.clone(),
            };
            self.go_on_from(next);
        }
    }
}

/// The least key above a key.
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

#[cfg(test)]
pub(crate) mod tests;
