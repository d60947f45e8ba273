//! How a process ends when it cannot go on: one sentence on standard error and a documented code.

use std::fmt;

use thiserror::Error;

/// Why a process stops. The message is one sentence that names the thing at fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    /// A flag, environment variable, configuration key or address is wrong. Exit code 2.
    #[error("{0}")]
    Configuration(String),
    /// The data directory is locked, damaged, foreign or written by a newer version. Exit code 3.
    #[error("{0}")]
    Storage(String),
    /// The operating system could not make written data durable (D4). Exit code 74.
    #[error("{0}")]
    FailedSync(String),
    /// Anything else that keeps the process from working. Exit code 1.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// A [`Failure::Configuration`] with this sentence.
    pub fn configuration(sentence: impl fmt::Display) -> Failure {
        Failure::Configuration(sentence.to_string())
    }

    /// A [`Failure::Storage`] with this sentence.
    pub fn storage(sentence: impl fmt::Display) -> Failure {
        Failure::Storage(sentence.to_string())
    }

    /// A [`Failure::Other`] with this sentence.
    pub fn other(sentence: impl fmt::Display) -> Failure {
        Failure::Other(sentence.to_string())
    }

    /// The exit code of the process, as documented for operators and service managers.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Configuration(_) => 2,
            Failure::Storage(_) => 3,
            Failure::FailedSync(_) => 74,
            Failure::Other(_) => 1,
        }
    }
}
