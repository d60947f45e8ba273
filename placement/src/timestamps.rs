//! Timestamps: strictly increasing over fail-over, restarts and clock jumps (M9, C5), pure.
//!
//! A timestamp is physical milliseconds and an 18-bit logical counter. Nothing at or above the
//! persisted bound is ever served; a new term begins at the bound it finds, so whatever an earlier
//! leader served lies below. The wall clock only pulls the physical part forward. What the caller
//! must add: after a draw and before the reply, check that the lease of the *same* term still
//! holds, because a paused old leader would otherwise answer small numbers late.

use tinykv_mutants::{Mutant, planted};

/// Bits of the logical counter.
pub const LOGICAL_BITS: u32 = 18;

/// Timestamps one call may draw; one millisecond's worth.
pub const BATCH_MAX: u32 = 1 << LOGICAL_BITS;

/// How far ahead of the clock the bound is persisted, in milliseconds. After a fail-over
/// timestamps run ahead of the clock by at most this much.
const WINDOW_MS: u64 = 3_000;

/// When less than this is left below the bound a new one is asked for, in milliseconds.
const REFILL_MS: u64 = 1_000;

/// One timestamp, or the largest of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Milliseconds since the Unix epoch, or a little ahead of them.
    pub physical_ms: u64,
    /// Counts within the millisecond, below 2^18.
    pub logical: u32,
}

impl Timestamp {
    /// The number transactions use.
    pub fn version(self) -> u64 {
        (self.physical_ms << LOGICAL_BITS) | u64::from(self.logical)
    }
}

/// What a draw came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The largest of the batch; the others have the same physical part and lie right below.
    /// Valid only if the lease of `term` still holds now.
    Drawn {
        /// The largest.
        last: Timestamp,
        /// Under which leadership.
        term: u64,
    },
    /// A higher bound has to be persisted first; then draw again.
    BoundReached,
    /// No leadership here, or its first bound is not persisted yet.
    NotServing,
}

/// The source of timestamps of one process.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    serving: Option<Serving>,
}

/// Only while leader, and only once the first bound of the term is applied.
#[derive(Clone, Debug)]
struct Serving {
    /// The Raft term of this leadership.
    term: u64,
    /// The largest timestamp drawn, or the one before the first.
    last: Timestamp,
    /// Persisted; timestamps stay below it.
    bound_ms: u64,
    /// Whether anybody asked since the bound was raised: nobody, no writes.
    asked: bool,
}

impl Oracle {
    /// The bound to persist when a term begins, given the bound found in the state.
    pub fn first_bound(found_bound_ms: u64, now_ms: u64) -> u64 {
        now_ms.max(found_bound_ms) + WINDOW_MS
    }

    /// Begins to serve: `found_bound_ms` stood in the state before this term raised it to
    /// `bound_ms`, which is applied.
    pub fn begin(&mut self, term: u64, found_bound_ms: u64, now_ms: u64, bound_ms: u64) {
        let first = match planted(Mutant::TimestampsFromClock) {
            true => now_ms,
            false => now_ms.max(found_bound_ms),
        };
        assert!(
            first < bound_ms,
            "the bound {bound_ms} of term {term} leaves no room above {first}"
        );
        self.serving = Some(Serving {
            term,
            last: Timestamp {
                physical_ms: first,
                logical: 0,
            },
            bound_ms,
            asked: false,
        });
    }

    /// Leadership is over: nothing is drawn until the next [`Oracle::begin`].
    pub fn end(&mut self) {
        self.serving = None;
    }

    /// A higher bound is applied. Ignored if the term has ended since it was proposed.
    pub fn raise_bound(&mut self, term: u64, bound_ms: u64) {
        if let Some(serving) = &mut self.serving
            && serving.term == term
        {
            serving.bound_ms = serving.bound_ms.max(bound_ms);
            serving.asked = false;
        }
    }

    /// The bound to propose, with its term, if the one in force is nearly reached and somebody has
    /// drawn since it was raised.
    pub fn wanted_bound(&self, now_ms: u64) -> Option<(u64, u64)> {
        let serving = self.serving.as_ref()?;
        let position = now_ms.max(serving.last.physical_ms);
        (serving.asked && position + REFILL_MS >= serving.bound_ms)
            .then_some((serving.term, position + WINDOW_MS))
    }

    /// Draws `count` timestamps that follow each other (1 to [`BATCH_MAX`]).
    pub fn draw(&mut self, count: u32, now_ms: u64) -> Draw {
        assert!(
            (1..=BATCH_MAX).contains(&count),
            "the caller checks the size of a batch, not {count}"
        );
        let Some(serving) = &mut self.serving else {
            return Draw::NotServing;
        };
        serving.asked = true;
        let last = serving.last;
        let mut physical_ms = now_ms.max(last.physical_ms);
        // The first logical number of a millisecond is 1, so that every batch lies above `last`.
        let below = if physical_ms == last.physical_ms {
            last.logical
        } else {
            0
        };
        let mut logical = below + count;
        if logical >= 1 << LOGICAL_BITS {
            physical_ms += 1;
            logical = count - 1;
        }
        if physical_ms >= serving.bound_ms {
            return Draw::BoundReached;
        }
        let next = Timestamp {
            physical_ms,
            logical,
        };
        assert!(next > last, "{next:?} follows {last:?}");
        serving.last = next;
        Draw::Drawn {
            last: next,
            term: serving.term,
        }
    }
}

#[cfg(test)]
mod tests;
