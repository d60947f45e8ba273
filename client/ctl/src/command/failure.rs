//! How a command fails: which exit code, and one sentence.

use std::fmt;

use tinykv_client::{BatchError, Error, RangeError};

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Refused, wrong, or it cannot be: exit code 1.
    Refused(String),
    /// Said already, by what was printed: exit code 1.
    Quiet,
    /// Nobody answered, or the answer got lost: exit code 2.
    Unreachable(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) | Failure::Quiet => 1,
            Failure::Unreachable(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(sentence) | Failure::Unreachable(sentence) => f.write_str(sentence),
            Failure::Quiet => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if error.is_unreachable() || error.is_undetermined() {
            Failure::Unreachable(error.to_string())
        } else {
            Failure::Refused(error.to_string())
        }
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Failure {
        if error.is_unreachable() || error.is_undetermined() {
            Failure::Unreachable(error.to_string())
        } else {
            Failure::Refused(error.to_string())
        }
    }
}

impl From<RangeError> for Failure {
    fn from(error: RangeError) -> Failure {
        if error.error.is_unreachable() || error.error.is_undetermined() {
            Failure::Unreachable(error.to_string())
        } else {
            Failure::Refused(error.to_string())
        }
    }
}
