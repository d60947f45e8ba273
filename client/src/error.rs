//! How calls fail: with proof that nothing happened, or without.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tinykv_keys::LimitError;

use crate::story::{Millis, Story};

/// Why a call brought no result. What it prints tells the attempts, one a line.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// Nothing was changed, and nothing will be. Every failed read is of this kind.
    #[error("{reason}{story}")]
    DefinitelyNot {
        /// Why.
        reason: Reason,
        /// What was tried.
        story: Box<Story>,
    },
    /// The write may have been applied, may yet be, or never; at most once. It was not sent again.
    #[error("the fate of the write is unknown: {doubt}{story}")]
    Undetermined {
        /// Why it is not known.
        doubt: Doubt,
        /// What was tried.
        story: Box<Story>,
    },
}

/// Why nothing was changed: the last thing that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// A key or value that no request may carry; nothing was sent.
    #[error("{0}")]
    Invalid(#[from] LimitError),
    /// A request that makes no sense; nothing was sent.
    #[error("{what}")]
    BadRequest {
        /// What would be right.
        what: &'static str,
    },
    /// What is stored forbids the update.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// The store will not do this.
    #[error("the store refuses: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// A disk has no room.
    #[error("disk full: {reason}")]
    DiskFull {
        /// Which.
        reason: String,
    },
    /// The store took no more work until the deadline.
    #[error("the store is busy: {reason}")]
    Busy {
        /// What it is short of.
        reason: String,
    },
    /// No leader was found until the deadline.
    #[error("the region has no leader")]
    NoLeader,
    /// The region kept changing, or could not be found, until the deadline.
    #[error("no store serves the region: {what}")]
    RegionNotFound {
        /// What the last one said.
        what: String,
    },
    /// The read could not be served until the deadline.
    #[error("the region cannot be read: {what}")]
    NotNow {
        /// What the last one said.
        what: String,
    },
    /// Placement did not know the region or the store until the deadline.
    #[error("placement does not know the way: {message}")]
    Unknown {
        /// What it said.
        message: String,
    },
    /// No placement member could be asked until the deadline.
    #[error("placement cannot be reached: {cause}")]
    PlacementUnreachable {
        /// What happened last.
        cause: String,
    },
    /// Placement had no leader until the deadline; its members can be reached.
    #[error("placement has no leader: {message}")]
    PlacementNoLeader {
        /// What the last one said.
        message: String,
    },
    /// No store of the region could be asked until the deadline.
    #[error("the region's stores cannot be reached: {cause}")]
    StoreUnreachable {
        /// What happened last.
        cause: String,
    },
    /// The deadline had passed before anything was tried.
    #[error("no time was left of the {} allowed", Millis(*limit))]
    NoTime {
        /// The time allowed.
        limit: Duration,
    },
}

/// Why what is stored forbids an update. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Conflict {
    /// A number cannot be added to this value.
    #[error("the value is not a decimal integer of 64 bits; only such a value can be added to")]
    NotAnInteger,
    /// The number would be too large or too small.
    #[error("the sum would not fit into 64 bits; it is from -2^63 to 2^63-1")]
    Overflow,
    /// The value would be too long.
    #[error(
        "the value would have more than {} bytes, the most a value may have",
        tinykv_keys::VALUE_BYTES_MAX
    )]
    TooLong,
}

/// Why the fate of a write is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Doubt {
    /// The connection broke after the request was sent.
    #[error("the connection was lost ({cause})")]
    ConnectionLost {
        /// How.
        cause: String,
    },
    /// No answer came before the deadline.
    #[error("no answer within {}", Millis(*after))]
    Deadline {
        /// How long that was.
        after: Duration,
    },
    /// The store does not know either, or answered something that proves nothing.
    #[error("the store says: {message}")]
    Told {
        /// What it said.
        message: String,
    },
}

impl Error {
    /// Whether the write may have been applied.
    pub fn is_undetermined(&self) -> bool {
        matches!(self, Error::Undetermined { .. })
    }

    /// Whether the call failed because nobody could be reached who can decide.
    pub fn is_unreachable(&self) -> bool {
        let Error::DefinitelyNot { reason, .. } = self else {
            return false;
        };
        matches!(
            reason,
            Reason::PlacementUnreachable { .. }
                | Reason::PlacementNoLeader { .. }
                | Reason::StoreUnreachable { .. }
        )
    }

    /// What about the stored value forbids the update, if that is why it failed.
    pub fn conflict(&self) -> Option<Conflict> {
        match self {
            Error::DefinitelyNot {
                reason: Reason::Conflict(conflict),
                ..
            } => Some(*conflict),
            _ => None,
        }
    }

    /// What was tried.
    pub fn story(&self) -> &Story {
        match self {
            Error::DefinitelyNot { story, .. } | Error::Undetermined { story, .. } => story,
        }
    }

    /// A request that makes no sense.
    pub(crate) fn bad_request(what: &'static str) -> Error {
        Error::before(Reason::BadRequest { what })
    }

    /// A refusal before anything was tried.
    pub(crate) fn before(reason: Reason) -> Error {
        let story = Box::new(Story::new(Duration::ZERO, Duration::ZERO));
        Error::DefinitelyNot { reason, story }
    }
}

impl From<LimitError> for Error {
    fn from(error: LimitError) -> Error {
        Error::before(Reason::Invalid(error))
    }
}

/// How a batch of writes over several regions failed. Each part is one region's share of it, and
/// was applied as a whole, or not at all, or that is not known.
#[derive(Clone, Debug)]
pub struct BatchError {
    /// Keys that were written.
    pub applied: Vec<Bytes>,
    /// Keys that were not, part by part, each with why not. At least one part failed.
    pub failed: Vec<FailedPart>,
}

/// The share of a batch that one failed request carried.
#[derive(Clone, Debug)]
pub struct FailedPart {
    /// Its keys.
    pub keys: Vec<Bytes>,
    /// Why it failed. If undetermined, either all of `keys` are or will be written, or none.
    pub error: Error,
}

impl BatchError {
    /// Whether the fate of some keys is not known.
    pub fn is_undetermined(&self) -> bool {
        self.failed.iter().any(|part| part.error.is_undetermined())
    }

    /// Whether nothing was written because nobody could be reached.
    pub fn is_unreachable(&self) -> bool {
        self.applied.is_empty() && self.failed.iter().all(|part| part.error.is_unreachable())
    }

    /// The whole batch refused before anything was sent.
    pub(crate) fn before(keys: Vec<Bytes>, error: Error) -> BatchError {
        BatchError {
            applied: Vec::new(),
            failed: vec![FailedPart { keys, error }],
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |undetermined: bool| {
            let parts = self.failed.iter();
            let parts = parts.filter(|part| part.error.is_undetermined() == undetermined);
            parts.map(|part| part.keys.len()).sum::<usize>()
        };
        write!(
            f,
            "{} keys were written, {} were not, the fate of {} is unknown",
            self.applied.len(),
            count(false),
            count(true)
        )?;
        for part in &self.failed {
            write!(f, "\n{} keys: {}", part.keys.len(), part.error)?;
        }
        Ok(())
    }
}

impl std::error::Error for BatchError {}

/// How the removal of a range over several regions failed.
#[derive(Clone, Debug, Error)]
#[error("the range is removed only below {removed_below:?}: {error}")]
pub struct RangeError {
    /// Everything from the range's first key up to here was removed.
    pub removed_below: Bytes,
    /// Why the removal stopped here. If undetermined, more may have been removed.
    pub error: Error,
}
