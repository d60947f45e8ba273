//! The commands there are.

use super::{Action, Arguments, Reply, Session};
use super::{connection, keys, server, strings};

/// The name in the figures of a command that does not exist.
pub(crate) const UNKNOWN: &str = "unknown";

/// One command.
pub(super) struct Spec {
    /// Its name in lower case.
    pub(super) name: &'static str,
    /// How many words it has, its name counted; below zero: at least so many.
    pub(super) arity: i64,
    /// What Redis says of commands like it.
    pub(super) flags: &'static [&'static str],
    /// Where its keys are: the first, the last (from the end if below zero), every which. 0: none.
    pub(super) keys: (i64, i64, i64),
    /// Under which heading `redis-cli` lists it.
    pub(super) group: &'static str,
    /// What it does.
    pub(super) summary: &'static str,
    /// Checks its arguments.
    pub(super) plan: fn(&Arguments<'_>, &mut Session) -> Result<Action, Reply>,
}

impl Spec {
    /// Whether it can have so many words.
    pub(super) fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        match self.arity {
            exactly @ 0.. => words == exactly,
            at_least => words >= -at_least,
        }
    }
}

/// The command with this name, in upper or lower case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    TABLE
        .iter()
        .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

const READ: &[&str] = &["readonly", "fast"];
const SLOW_READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const REMOVE: &[&str] = &["write"];
const CONNECTION: &[&str] = &["fast", "loading", "stale"];

const NO_KEY: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);

macro_rules! table {
    ($($group:ident {$(
        $name:literal $arity:literal $flags:ident $keys:ident $plan:path, $summary:literal;
    )*})*) => {
        &[$($(Spec {
            name: $name,
            arity: $arity,
            flags: $flags,
            keys: $keys,
            group: stringify!($group),
            summary: $summary,
            plan: $plan,
        },)*)*]
    };
}

/// All commands. The frequent ones are found first.
pub(super) const TABLE: &[Spec] = table! {
    string {
        "get" 2 READ ONE_KEY strings::get, "Returns the value of a key";
        "set" -3 WRITE ONE_KEY strings::set, "Stores a value [NX|XX] [EX s|PX ms|KEEPTTL]";
        "mget" -2 READ ALL_KEYS strings::mget, "Returns the values of several keys";
        "mset" -3 WRITE PAIRS strings::mset, "Stores several values, atomically within a region";
        "incr" 2 WRITE ONE_KEY strings::incr, "Adds one to a number";
        "decr" 2 WRITE ONE_KEY strings::decr, "Subtracts one from a number";
        "incrby" 3 WRITE ONE_KEY strings::incrby, "Adds to a number";
        "decrby" 3 WRITE ONE_KEY strings::decrby, "Subtracts from a number";
        "append" 3 WRITE ONE_KEY strings::append, "Adds bytes to the end of a value";
        "strlen" 2 READ ONE_KEY strings::strlen, "Returns the length of a value";
        "setnx" 3 WRITE ONE_KEY strings::setnx, "Stores a value if the key does not exist";
        "setex" 4 WRITE ONE_KEY strings::setex, "Stores a value that lives for some seconds";
        "psetex" 4 WRITE ONE_KEY strings::psetex, "Stores a value that lives for some milliseconds";
    }
    generic {
        "del" -2 REMOVE ALL_KEYS keys::del, "Removes keys and counts those that existed";
        "unlink" -2 REMOVE ALL_KEYS keys::del, "Removes keys and counts those that existed";
        "exists" -2 READ ALL_KEYS keys::exists, "Counts the keys that exist";
        "expire" -3 REMOVE ONE_KEY keys::expire, "Sets how many seconds a key lives";
        "pexpire" -3 REMOVE ONE_KEY keys::pexpire, "Sets how many milliseconds a key lives";
        "ttl" 2 READ ONE_KEY keys::ttl, "Returns how many seconds a key will live";
        "pttl" 2 READ ONE_KEY keys::pttl, "Returns how many milliseconds a key will live";
        "persist" 2 REMOVE ONE_KEY keys::persist, "Lets a key live for ever";
        "type" 2 READ ONE_KEY keys::kind, "Returns what kind of value a key has";
        "scan" -2 SLOW_READ NO_KEY keys::scan, "Returns some keys and where to go on";
    }
    connection {
        "ping" -1 CONNECTION NO_KEY connection::ping, "Answers";
        "echo" 2 CONNECTION NO_KEY connection::echo, "Answers with what it was given";
        "hello" -1 CONNECTION NO_KEY connection::hello, "Chooses the version of the protocol";
        "select" 2 CONNECTION NO_KEY connection::select, "Chooses the database, of which there is one";
        "auth" -2 CONNECTION NO_KEY connection::auth, "Is refused: there are no passwords yet";
        "client" -2 CONNECTION NO_KEY connection::client, "Names the connection, or tells its name";
        "quit" -1 CONNECTION NO_KEY connection::quit, "Closes the connection";
    }
    server {
        "dbsize" 1 SLOW_READ NO_KEY server::dbsize, "Counts all keys, exactly, region by region";
        "info" -1 CONNECTION NO_KEY server::info, "Tells about this store";
        "command" -1 CONNECTION NO_KEY server::command, "Tells about commands";
        "config" -2 CONNECTION NO_KEY server::config, "Tells some settings";
    }
};
