//! How much a door takes, and what happens beyond.

use std::time::Duration;

/// Most open connections; a further one is told so in Redis's words and closed.
pub(super) const CONNECTIONS_MAX: usize = 10_000;

/// Most commands of a connection that are under way or wait; then it is not read from.
pub(super) const COMMANDS_PER_CONNECTION_MAX: usize = 1_024;

/// Most calls of a connection that are under way at once; further ones wait their turn.
pub(super) const CALLS_PER_CONNECTION_MAX: usize = 64;

/// Most calls of all connections that are under way at once.
pub(super) const CALLS_MAX: usize = 4_096;

/// Bytes of commands and answers that a connection holds before it is no longer read from. One
/// command, or the answers of the calls under way, may go beyond.
pub(super) const CONNECTION_BYTES_MAX: usize = 1 << 20;

/// What a connection may hold even if all connections together hold too much, so that small
/// commands always find a way.
pub(super) const CONNECTION_BYTES_MIN: usize = 16 << 10;

/// Bytes that all connections hold before those with more than [`CONNECTION_BYTES_MIN`] are no
/// longer read from.
pub(super) const BYTES_MAX: usize = 256 << 20;

/// How long a connection in the middle of a command waits for others to hold less; then it is
/// told so and closed.
pub(super) const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often it looks.
pub(super) const ROOM_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Most bytes of values in one answer; see [`crate::limits::ANSWER_BYTES_MAX`].
pub(super) const ANSWER_BYTES_MAX: usize = crate::limits::ANSWER_BYTES_MAX;

/// How long a connection that is being closed may go on sending, and how many bytes, so that it
/// reads its last answers before it is cut off.
pub(super) const LAST_BYTES_TIME_MAX: Duration = Duration::from_millis(500);
/// See [`LAST_BYTES_TIME_MAX`].
pub(super) const LAST_BYTES_MAX: usize = 1 << 20;
