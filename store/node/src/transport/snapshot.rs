//! Snapshots between stores: all pairs of a region's engine ranges at one moment.
//!
//! A snapshot is a stream of its own: hello, header (the Raft message and the region), chunks of
//! pairs in ascending order of keys, and an end that says what the whole must amount to. Each
//! frame is checked as it arrives and the whole at the end (D7). The receiver writes tables
//! straight away, which the engine later takes in as they are; a stream that breaks leaves
//! nothing behind.

mod chunk;
mod files;
mod receive;
mod send;

pub(crate) use files::SnapshotFiles;
pub(crate) use receive::SnapshotReceiver;
pub(crate) use send::SnapshotSender;
