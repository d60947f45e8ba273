//! Merges sorted sources into one order of internal keys.
//!
//! A binary heap of source numbers, ordered by the sources' current keys, smallest first when
//! walking forward, largest first when walking backward. No two sources hold the same internal
//! key, for every change has a sequence of its own.

use std::cmp::Ordering;

use bytes::Bytes;

use super::source::{Source, Step};
use crate::LsmError;
use crate::key;

/// See the module. Stands on no entry at first.
#[derive(Debug)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// Numbers of the sources that stand on an entry.
    heap: Vec<usize>,
    forward: bool,
}

impl Merge {
    pub(crate) fn new(sources: Vec<Source>) -> Merge {
        Merge {
            heap: Vec::with_capacity(sources.len()),
            sources,
            forward: true,
        }
    }

    pub(crate) fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.heap
            .first()
            .map_or(&[], |&top| self.sources[top].key())
    }

    pub(crate) fn value(&self) -> Bytes {
        let top = self.heap.first();
        top.map_or_else(Bytes::new, |&top| self.sources[top].value())
    }

    pub(crate) fn first(&mut self) -> Result<(), LsmError> {
        self.rebuild(true, Step::First)
    }

    pub(crate) fn last(&mut self) -> Result<(), LsmError> {
        self.rebuild(false, Step::Last)
    }

    /// Goes to the first entry at or after `target` and looks forward from there.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<(), LsmError> {
        self.rebuild(true, Step::Seek(target))
    }

    /// Goes to the last entry before `target` and looks backward from there.
    pub(crate) fn seek_before(&mut self, target: &[u8]) -> Result<(), LsmError> {
        self.rebuild(false, Step::SeekBefore(target))
    }

    /// One entry on in the direction it looks.
    pub(crate) fn step(&mut self) -> Result<(), LsmError> {
        let Some(&top) = self.heap.first() else {
            return Ok(());
        };
        let step = if self.forward { Step::Next } else { Step::Prev };
        if let Err(error) = self.sources[top].apply(step) {
            self.heap.clear();
            return Err(error);
        }
        if !self.sources[top].valid() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    fn rebuild(&mut self, forward: bool, step: Step<'_>) -> Result<(), LsmError> {
        self.heap.clear();
        self.forward = forward;
        for source in &mut self.sources {
            source.apply(step)?;
        }
        let standing = self.sources.iter().enumerate();
        self.heap
            .extend(standing.filter(|(_, s)| s.valid()).map(|(index, _)| index));
        for index in (0..self.heap.len() / 2).rev() {
            self.sift_down(index);
        }
        Ok(())
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let order = key::compare(
            self.sources[self.heap[a]].key(),
            self.sources[self.heap[b]].key(),
        );
        order
            == if self.forward {
                Ordering::Less
            } else {
                Ordering::Greater
            }
    }

    fn sift_down(&mut self, mut index: usize) {
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let mut first = index;
            if left < self.heap.len() && self.before(left, first) {
                first = left;
            }
            if right < self.heap.len() && self.before(right, first) {
                first = right;
            }
            if first == index {
                return;
            }
            self.heap.swap(index, first);
            index = first;
        }
    }
}
