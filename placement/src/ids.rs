//! Ids from runs that were reserved in the replicated state, pure.
//!
//! A run belongs to whoever reserved it for ever, leader or not, so an id is never handed out
//! twice whatever happens to leadership (M9). What is left of a run when the leadership ends is
//! never used: a later leader has handed out higher ones meanwhile, and ids are relied on to rise
//! in the order in which they are handed out. A store that has removed a peer takes every peer of
//! that group with a lower id for one that was removed before it (M7).

use std::ops::Range;

/// Ids reserved at once; a change of leader wastes at most this many.
pub const RUN: u32 = 1_000;

/// The rest of a run.
#[derive(Clone, Debug, Default)]
pub struct IdRun {
    rest: Range<u64>,
}

impl IdRun {
    /// Takes `count` ids that follow each other; `None` if the rest of the run is too short.
    pub fn take(&mut self, count: u32) -> Option<Range<u64>> {
        let end = self.rest.start.checked_add(u64::from(count))?;
        if end > self.rest.end {
            return None;
        }
        let taken = self.rest.start..end;
        self.rest.start = end;
        Some(taken)
    }

    /// Goes on with a new run; what is left of the old one is lost if the new one is longer.
    pub fn refill(&mut self, run: Range<u64>) {
        if run.end - run.start > self.rest.end - self.rest.start {
            self.rest = run;
        }
    }
}

#[cfg(test)]
mod tests;
