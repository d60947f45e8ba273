//! What a command asks for: its words become an answer that is known at once, or a call.
//!
//! No I/O: names, numbers of arguments, options and numbers are checked here, in Redis's order and
//! with its texts; what is left to do is a [`Call`], one call of the client for most commands.

mod connection;
mod keys;
mod server;
mod strings;
mod table;

use bytes::Bytes;
use tinykv_client::PutOptions;

use std::time::Duration;

use super::number;
use super::reply::{Protocol, Reply};

pub(super) use server::Facts;
pub(super) use table::UNKNOWN;

/// Longest name of a connection, and most of an unknown command that is told back, in bytes.
const TOLD_BYTES_MAX: usize = 128;

/// What a connection has said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// Its number, unique in this process.
    pub(super) id: u64,
    /// Its name; empty until it gives one.
    pub(super) name: Bytes,
    /// The version of the protocol it asked for last.
    pub(super) protocol: Protocol,
}

/// What has to be done for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing but to answer.
    Answer(Reply),
    /// To answer, and everything from this answer on, in another version of the protocol.
    Speak(Protocol, Reply),
    /// To tell about the process; which sections.
    Info(Vec<String>),
    /// To answer and close.
    Quit(Reply),
    /// To close without a word.
    Drop,
    /// To ask the stores.
    Call(Call),
}

/// What is asked of the stores. Keys and values have been checked for their length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The value.
    Get(Bytes),
    /// The values, in this order.
    GetMany(Vec<Bytes>),
    /// How long the value is.
    Length(Bytes),
    /// What kind of value it is.
    Kind(Bytes),
    /// How many of these exist; one named twice counts twice.
    Exists(Vec<Bytes>),
    /// Store a value.
    Set {
        /// Where.
        key: Bytes,
        /// What.
        value: Bytes,
        /// Under which condition and for how long.
        options: PutOptions,
        /// Whether the answer is 1 or 0 rather than `OK` or nothing.
        counted: bool,
    },
    /// Store several values.
    SetMany(Vec<(Bytes, Bytes)>),
    /// Remove keys and count those that existed.
    Remove(Vec<Bytes>),
    /// Add to a number.
    Increment {
        /// Where.
        key: Bytes,
        /// How much.
        delta: i64,
    },
    /// Add to the end of a value.
    Append {
        /// Where.
        key: Bytes,
        /// What.
        value: Bytes,
    },
    /// Set how long a key lives.
    Expire {
        /// Which.
        key: Bytes,
        /// How long from now.
        ttl: Duration,
    },
    /// Let a key live for ever.
    Persist(Bytes),
    /// How long a key will live.
    TimeLeft {
        /// Which.
        key: Bytes,
        /// What the answer counts.
        unit: Unit,
    },
    /// Some keys, and where to go on.
    Scan {
        /// What an earlier answer said; 0 begins.
        cursor: u64,
        /// What the keys look like.
        pattern: Option<Bytes>,
        /// How many keys to look at.
        count: u64,
        /// Whether values of the wanted kind exist at all.
        any: bool,
    },
    /// How many keys there are.
    Count,
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What a call touches, for the order of the calls of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads these keys.
    Read(Vec<Bytes>),
    /// Writes these keys.
    Write(Vec<Bytes>),
    /// Reads any key.
    Everything,
}

impl Call {
    /// What it touches.
    pub(super) fn access(&self) -> Access {
        match self {
            Call::Get(key) | Call::Length(key) | Call::Kind(key) | Call::TimeLeft { key, .. } => {
                Access::Read(vec![key.clone()])
            }
            Call::GetMany(keys) | Call::Exists(keys) => Access::Read(keys.clone()),
            Call::Set { key, .. }
            | Call::Increment { key, .. }
            | Call::Append { key, .. }
            | Call::Expire { key, .. }
            | Call::Persist(key) => Access::Write(vec![key.clone()]),
            Call::SetMany(pairs) => {
                Access::Write(pairs.iter().map(|(key, _)| key.clone()).collect())
            }
            Call::Remove(keys) => Access::Write(keys.clone()),
            Call::Scan { .. } | Call::Count => Access::Everything,
        }
    }
}

/// What to do for a command, and its name for the figures ([`UNKNOWN`] if it has none).
pub(super) fn plan(words: &[Bytes], session: &mut Session) -> (&'static str, Action) {
    let Some((name, arguments)) = words.split_first() else {
        return (UNKNOWN, Action::Drop);
    };
    // What a browser sends that was lured here; it must not get as far as its next line.
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return (UNKNOWN, Action::Drop);
    }
    let Some(spec) = table::find(name) else {
        return (UNKNOWN, Action::Answer(unknown(name, arguments)));
    };
    if !spec.takes(words.len()) {
        return (spec.name, Action::Answer(wrong_arity(spec.name)));
    }
    let action = (spec.plan)(
        &Arguments {
            name: spec.name,
            words: arguments,
        },
        session,
    );
    (spec.name, action.unwrap_or_else(Action::Answer))
}

/// What stands behind the name of a command, as many words as it takes.
struct Arguments<'a> {
    /// The name, for errors.
    name: &'static str,
    words: &'a [Bytes],
}

impl Arguments<'_> {
    /// The key at a place.
    fn key(&self, at: usize) -> Result<Bytes, Reply> {
        checked_key(&self.words[at])
    }

    /// All words, as keys.
    fn keys(&self) -> Result<Vec<Bytes>, Reply> {
        self.words.iter().map(checked_key).collect()
    }

    /// The number at a place.
    fn number(&self, at: usize) -> Result<i64, Reply> {
        integer(&self.words[at])
    }

    /// How many words there are too few or too many.
    fn wrong_arity(&self) -> Reply {
        wrong_arity(self.name)
    }

    /// A time to live out of its range.
    fn invalid_expire(&self) -> Reply {
        Reply::error(format!("invalid expire time in '{}' command", self.name))
    }

    /// A subcommand, in lower case.
    fn subcommand(&self) -> String {
        self.words[0]
            .to_ascii_lowercase()
            .escape_ascii()
            .to_string()
    }

    /// A subcommand that does not exist.
    fn unknown_subcommand(&self) -> Reply {
        let told = told(&self.words[0]);
        let name = self.name.to_ascii_uppercase();
        Reply::error(format!("unknown subcommand '{told}'. Try {name} HELP."))
    }
}

/// A key that a store takes.
fn checked_key(word: &Bytes) -> Result<Bytes, Reply> {
    match tinykv_keys::check_key(word) {
        Ok(()) => Ok(word.clone()),
        Err(tinykv_keys::LimitError::EmptyKey) => Err(Reply::error(format!(
            "the key is empty; keys have 1 to {} bytes",
            tinykv_keys::KEY_BYTES_MAX
        ))),
        Err(error) => Err(Reply::error(error.to_string())),
    }
}

/// A number in a word.
fn integer(word: &[u8]) -> Result<i64, Reply> {
    number::parse(word).ok_or_else(|| Reply::error("value is not an integer or out of range"))
}

fn syntax_error() -> Reply {
    Reply::error("syntax error")
}

fn wrong_arity(name: &str) -> Reply {
    Reply::error(format!("wrong number of arguments for '{name}' command"))
}

/// A command that does not exist, told back with its first arguments.
fn unknown(name: &[u8], arguments: &[Bytes]) -> Reply {
    let mut beginning = String::new();
    for argument in arguments {
        if beginning.len() >= TOLD_BYTES_MAX {
            break;
        }
        beginning.push_str(&format!("'{}' ", told(argument)));
    }
    Reply::error(format!(
        "unknown command '{}', with args beginning with: {beginning}",
        told(name)
    ))
}

/// The beginning of a word, readable.
fn told(word: &[u8]) -> String {
    let beginning = &word[..word.len().min(TOLD_BYTES_MAX)];
    String::from_utf8_lossy(beginning).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests;
