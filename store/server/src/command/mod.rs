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
    /// Adds to the decimal number stored under a key; a missing one counts as 0. Its expiry stays.
    Increment {
        /// The key.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// Adds bytes to the end of a value; a missing one counts as empty. Its expiry stays.
    Append {
        /// The key.
        key: Bytes,
        /// What to add.
        suffix: Bytes,
    },
    /// Stores a value if the condition holds.
    PutIf {
        /// The key.
        key: Bytes,
        /// The stored form without expiry, as in [`Write`].
        stored: Bytes,
        /// When to store it.
        condition: Condition,
        /// When it will expire.
        expiry: NewExpiry,
    },
    /// Removes keys and tells how many of them existed; a key named twice counts once.
    Remove {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Sets or takes away the expiry of a key that exists.
    Expire {
        /// The key.
        key: Bytes,
        /// As in [`Write`].
        ttl_ms: u64,
    },
}

impl Operation {
    /// Whether there is nothing to do: an empty batch.
    pub fn is_nothing(&self) -> bool {
        match self {
            Operation::BatchPut(writes) => writes.is_empty(),
            Operation::BatchDelete { keys } | Operation::Remove { keys } => keys.is_empty(),
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

/// When a conditional put takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever there is.
    Always,
    /// Only if the key has no value.
    IfAbsent,
    /// Only if it has one.
    IfPresent,
}

/// The expiry of a value that replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewExpiry {
    /// Its own.
    After {
        /// As in [`Write`].
        ttl_ms: u64,
    },
    /// That of the value it replaces; none if there is no such value.
    Kept,
}

/// Why what is stored forbids an update. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Exactly: an optional minus, then digits without leading zeros, in the range of 64 bits.
    #[error("the value is no decimal number of 64 bits with a sign")]
    NotAnInteger,
    /// The sum would leave that range.
    #[error("the sum would not fit into 64 bits with a sign")]
    Overflow,
    /// The longer value would be longer than a value may be.
    #[error("the value would have {0} bytes, {max} are allowed", max = tinykv_keys::VALUE_BYTES_MAX)]
    TooLong(usize),
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
    /// The number after an increment.
    Sum(i64),
    /// The length of the value in bytes after an append.
    Length(u64),
    /// What is stored forbids the increment or append.
    Conflict(Conflict),
    /// The outcome of a conditional put: whether the condition held and the value was stored.
    Stored(bool),
    /// How many of the keys to be removed existed.
    Removed(u64),
    /// The outcome of a new expiry.
    Expiry(Expiry),
    /// What is stored under a key that has to be read cannot be read; nothing was changed.
    Unreadable(ValueError),
}

/// What became of a new expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The key has no value.
    NotFound,
    /// It is as asked.
    Changed {
        /// Whether the value would have expired before.
        had_expiry: bool,
    },
}

#[cfg(test)]
mod tests;
