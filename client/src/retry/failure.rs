//! What an attempt, or a look-up, may end with.

use std::fmt;
use std::time::Duration;

use crate::error::{Conflict, Reason};
use crate::routing::{Peer, Route};
use crate::story::Millis;

/// Why an attempt at a store brought no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer does not lead the region.
    NotLeader {
        /// Who does, if the peer is sure.
        leader: Option<Peer>,
    },
    /// The region has changed since the route was learnt.
    EpochNotMatch {
        /// What is there now, as far as the store knows; may be empty. No leaders.
        current: Vec<Route>,
    },
    /// The request came to the wrong place.
    Misrouted {
        /// In what way.
        how: Misrouted,
        /// What the store said.
        message: String,
    },
    /// The store takes no more work for now; it did nothing.
    Busy {
        /// What it is short of.
        reason: String,
        /// How long it wants to be left alone.
        wait: Duration,
    },
    /// A disk has no room; the store did nothing.
    DiskFull {
        /// Which.
        reason: String,
    },
    /// The request is not acceptable as such; nobody will do it.
    Refused {
        /// Why.
        message: String,
    },
    /// What is stored forbids the update; decided when it was applied, and nothing was changed.
    Conflict(Conflict),
    /// The region cannot serve this now. Whether a write was proposed is not known.
    NotNow {
        /// The error's name.
        what: String,
    },
    /// The store itself does not know whether the write is, or will be, applied.
    Undetermined {
        /// What it knows.
        message: String,
    },
    /// There was no connection, and so nothing was sent.
    NotSent {
        /// Why not.
        cause: String,
    },
    /// The connection broke, or the server failed, after the request was sent.
    Lost {
        /// How.
        cause: String,
    },
    /// No answer came in time.
    TimedOut {
        /// How long that was.
        after: Duration,
    },
}

/// In what way a request came to the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misrouted {
    /// The store has no peer of the region.
    RegionNotFound,
    /// The peer does not serve the region yet: it has not received it, or the region has not yet
    /// reached its replica count.
    RegionNotInitialized,
    /// The key is not in the region.
    KeyNotInRegion,
    /// Another peer of the region is on the store.
    PeerMismatch,
    /// Another store answers at the address.
    StoreMismatch,
}

impl Failure {
    /// Whether a write that ended so was not applied and never will be (K1).
    pub fn proves_not_applied(&self) -> bool {
        match self {
            Failure::NotLeader { .. }
            | Failure::EpochNotMatch { .. }
            | Failure::Misrouted { .. }
            | Failure::Busy { .. }
            | Failure::DiskFull { .. }
            | Failure::Refused { .. }
            | Failure::Conflict(_)
            | Failure::NotSent { .. } => true,
            Failure::NotNow { .. }
            | Failure::Undetermined { .. }
            | Failure::Lost { .. }
            | Failure::TimedOut { .. } => false,
        }
    }

    /// Whether some store answered.
    pub fn is_answer(&self) -> bool {
        !matches!(
            self,
            Failure::NotSent { .. } | Failure::Lost { .. } | Failure::TimedOut { .. }
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotLeader { leader: None } => write!(f, "not leader"),
            Failure::NotLeader {
                leader: Some(Peer { id, store, .. }),
            } => {
                write!(f, "not leader, peer {id} on store {store} is")
            }
            Failure::EpochNotMatch { current } => {
                write!(
                    f,
                    "the region has changed ({} known there now)",
                    current.len()
                )
            }
            Failure::Misrouted { how, message } => write!(f, "{how}: {message}"),
            Failure::Busy { reason, wait } => write!(f, "busy ({reason}), wait {}", Millis(*wait)),
            Failure::DiskFull { reason } => write!(f, "disk full ({reason})"),
            Failure::Refused { message } => write!(f, "refused: {message}"),
            Failure::Conflict(conflict) => write!(f, "conflict: {conflict}"),
            Failure::NotNow { what } => write!(f, "cannot serve now ({what})"),
            Failure::Undetermined { message } => write!(f, "undetermined: {message}"),
            Failure::NotSent { cause } => write!(f, "cannot connect: {cause}"),
            Failure::Lost { cause } => write!(f, "connection lost: {cause}"),
            Failure::TimedOut { after } => write!(f, "no answer within {}", Millis(*after)),
        }
    }
}

impl fmt::Display for Misrouted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Misrouted::RegionNotFound => "the region is not there",
            Misrouted::RegionNotInitialized => "the region is not ready",
            Misrouted::KeyNotInRegion => "the key is not in the region",
            Misrouted::PeerMismatch => "another peer of the region is there",
            Misrouted::StoreMismatch => "another store is there",
        })
    }
}

/// Why placement did not tell where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// No member of the placement driver could be asked, or answered in time.
    Unreachable {
        /// What happened.
        cause: String,
    },
    /// A member answered that it does not lead, or that nobody does.
    NoLeader {
        /// What it said.
        message: String,
    },
    /// Placement answered, and does not know: not bootstrapped, no such region or store.
    Unknown {
        /// What it said.
        message: String,
    },
}

impl From<LookupFailure> for Reason {
    fn from(failure: LookupFailure) -> Reason {
        match failure {
            LookupFailure::Unreachable { cause } => Reason::PlacementUnreachable { cause },
            LookupFailure::NoLeader { message } => Reason::PlacementNoLeader { message },
            LookupFailure::Unknown { message } => Reason::Unknown { message },
        }
    }
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupFailure::Unreachable { cause } => {
                write!(f, "placement cannot be reached: {cause}")
            }
            LookupFailure::NoLeader { message } => write!(f, "placement has no leader: {message}"),
            LookupFailure::Unknown { message } => write!(f, "placement does not know: {message}"),
        }
    }
}
