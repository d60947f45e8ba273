//! A batch of keys, cut into what one region can take.

use std::ops::Deref;

use bytes::Bytes;

use crate::routing::{Point, Route};

/// Keys in one request at most.
pub const PART_KEYS_MAX: usize = 512;

/// Bytes in one request at most, unless a single item has more.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// Something with a key that is sent in batches.
pub trait Item {
    /// The key that says where it belongs.
    fn key(&self) -> &Bytes;

    /// Bytes it adds to a request.
    fn size(&self) -> usize;
}

impl Item for Bytes {
    fn key(&self) -> &Bytes {
        self
    }

    fn size(&self) -> usize {
        self.len()
    }
}

/// A key and its value.
impl Item for (Bytes, Bytes) {
    fn key(&self) -> &Bytes {
        &self.0
    }

    fn size(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

/// How many of these items, from the front, one request to this region can carry: items of the
/// region, within the limits. Items are sorted. It is none if the first is not the region's.
pub fn part_len<T: Item>(items: &[T], route: &Route) -> usize {
    let mut size = 0;
    let fits = |(index, item): &(usize, &T)| {
        size += item.size();
        route.bounds().contains(item.key()) && (*index == 0 || size <= PART_BYTES_MAX)
    };
    items
        .iter()
        .take(PART_KEYS_MAX)
        .enumerate()
        .take_while(fits)
        .count()
}

/// Sorts by key. Of several items with one key the last given stays, as if each had been sent
/// after the other.
pub fn sort_and_deduplicate<T: Item>(items: Vec<T>) -> Vec<T> {
    let mut items = items;
    // The sort is stable: the last given of one key is the last of its run.
    items.sort_by(|one, two| one.key().cmp(two.key()));
    let mut kept: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        match kept.last_mut() {
            Some(last) if last.key() == item.key() => *last = item,
            _ => kept.push(item),
        }
    }
    kept
}

/// A sorted batch on its way: parts, one after the other, each what one request can carry by the
/// route it is sent by.
#[derive(Clone, Debug)]
pub struct Parts<S> {
    /// The batch.
    items: S,
    /// How many of its items are done with.
    done: usize,
    /// How many more the last request carried.
    covered: usize,
}

impl<T: Item, S: Deref<Target = [T]>> Parts<S> {
    /// Nothing of the batch was sent yet. Items are sorted.
    pub fn new(items: S) -> Parts<S> {
        Parts {
            items,
            done: 0,
            covered: 0,
        }
    }

    /// Where the next request goes; `None`: nothing is left.
    pub fn point(&self) -> Option<Point> {
        let first = self.items.get(self.done)?;
        Some(Point::At(first.key().clone()))
    }

    /// What a request by this route carries.
    pub fn part(&mut self, route: &Route) -> &[T] {
        let rest = &self.items[self.done..];
        self.covered = part_len(rest, route);
        &rest[..self.covered]
    }

    /// The call is over, well or not: the items it was about. If nothing was ever sent, that is
    /// all there is, because no time is left.
    pub fn take(&mut self) -> &[T] {
        let from = self.done;
        self.done = match std::mem::take(&mut self.covered) {
            0 => self.items.len(),
            covered => from + covered,
        };
        &self.items[from..self.done]
    }
}

#[cfg(test)]
mod tests;
