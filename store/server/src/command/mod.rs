//! Commands: what a store writes into a region's log, and what it answers when they are applied.
//!
//! A command is encoded once, by the service that received the request, and shared as [`Bytes`]
//! from the log entry to the memtable: keys stand in it as *engine keys* and values in their
//! *stored form*, so that applying a plain put copies nothing. Everything that depends on what is
//! stored (compare-and-swap) or on time (expiry) is decided when the command is applied, from the
//! state all replicas share, never when it is proposed.
//!
//! The encoding carries a format version. A number of an operation is never used again for
//! something else; a new operation may be proposed only once the cluster version allows it,
//! because a store that does not know it has to stop.

mod codec;

use bytes::Bytes;

use crate::value::{PlacementTime, ValueError};
pub use codec::CommandError;

/// One command of a region's state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Placement's time as the proposer knew it. The region's replicated time moves up to it when
    /// the command is applied, and never back. Zero if the proposer does not know the time.
    pub now: PlacementTime,
    /// What to do.
    pub operation: Operation,
}

/// What a command does. All keys are engine keys of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Only moves the region's time. Proposed by a reader that met a value which has expired by
    /// its own knowledge but not yet by the region's.
    AdvanceTime,
    /// Stores one value.
    Put(Write),
    /// Removes one key; a missing one is fine.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Stores several values at once. Of two writes to one key the later in the list wins.
    BatchPut(Vec<Write>),
    /// Removes several keys at once.
    BatchDelete {
        /// The keys; missing ones are fine.
        keys: Vec<Bytes>,
    },
    /// Removes every key from `start` up to but not including `end`.
    DeleteRange {
        /// First key to go.
        start: Bytes,
        /// First key to stay; above `start`.
        end: Bytes,
    },
    /// Replaces the value of a key if it is what the caller believes it to be.
    CompareAndSwap {
        /// The key.
        key: Bytes,
        /// The payload the caller believes to be there; `None`: no value at all.
        expected: Option<Bytes>,
        /// What to do if that is so.
        swap: Swap,
    },
}

impl Operation {
    /// Whether there is nothing to do: an empty batch.
    pub fn is_nothing(&self) -> bool {
        match self {
            Operation::BatchPut(writes) => writes.is_empty(),
            Operation::BatchDelete { keys } => keys.is_empty(),
            _ => false,
        }
    }
}

/// One value to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The engine key.
    pub key: Bytes,
    /// The stored form without expiry (see [`crate::value::StoredValue`]): a flags byte, then the
    /// payload. This is what reaches the memtable when `ttl_ms` is 0.
    pub stored: Bytes,
    /// Life in milliseconds, counted in the region's time from the moment of applying; 0: for ever.
    pub ttl_ms: u64,
}

/// The second half of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Store this value.
    Put {
        /// The stored form without expiry, as in [`Write`].
        stored: Bytes,
        /// As in [`Write`].
        ttl_ms: u64,
    },
    /// Remove the key.
    Delete,
}

/// What the proposer of a command learns when it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; there is nothing more to say.
    Done,
    /// The outcome of a compare-and-swap.
    Swapped {
        /// Whether the value was what the caller believed, and was replaced.
        succeeded: bool,
        /// The payload before the operation; `None`: there was none.
        previous: Option<Bytes>,
    },
    /// What is stored under the key of a compare-and-swap cannot be read; nothing was changed.
    Unreadable(ValueError),
}

#[cfg(test)]
mod tests;
