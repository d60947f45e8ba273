//! The LSM tree: everything a store knows, ordered, on disk, without a log of its own.
//!
//! Writes go to a memtable; full memtables are flushed to sorted tables (SSTs) in order; tables are
//! merged level by level. There is **no write-ahead log here**: the caller's log (`tinykv-wal`)
//! replays whatever had not been flushed, starting for every origin (Raft group) behind the
//! applied index that [`Lsm::flushed`] names.
//!
//! # Invariants
//!
//! * A [`WriteBatch`] is in one memtable, together with the applied indexes it advances, and
//!   memtables are flushed in order: what is durable is a prefix of the order of writes, for all
//!   origins at once (invariants 1 and 2 of `tinykv-wal`).
//! * [`Lsm::flushed`] advances only when the version edit that carries it is synced (invariant 3).
//! * A flush may run only when the caller's log is durable past everything in it: the caller hands
//!   [`Lsm::write`] only what its log has synced, and may check [`Job::flushes`] (invariant 6).
//! * [`Lsm::ingest`] flushes every memtable that overlaps its ranges first and returns when the
//!   edit that drops and adds is durable (invariant 8).
//! * A snapshot keeps the memtables and tables it was taken from; they are never changed, so a
//!   compaction may always drop all versions of a key but the newest.
//! * A file goes when the last version that names it goes, and by no other way.
//! * Every block read is verified against its checksum, which covers the file's salt and the
//!   block's place.
//!
//! # Threads
//!
//! There are none here. [`Lsm::plan`] hands out [`Job`]s, which any thread runs: a flush, compactions
//! of disjoint inputs, and parts of a large compaction that several threads share. Nothing sleeps
//! here either: [`Job::run_paced`] says how long to pause, so that compactions write no faster than
//! what waits for them asks. Whoever runs jobs waits for the next one at [`Lsm::changes`].

mod batch;
mod error;
mod open;
mod options;
mod tree;

mod iter;
mod snapshot;

mod cache;
mod memtable;
mod table;
mod tombstone;
mod version;

mod build;
mod checkpoint;
mod compaction;
mod flush;
mod ingest;
mod job;
mod sst_writer;

mod changes;
mod extent;
mod pace;
mod pressure;
mod statistics;

mod codec;
mod key;
mod prefix;
mod range;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

pub use batch::{AppliedChange, Operation, OriginId, WriteBatch};
pub use changes::Changes;
pub use compaction::CompactionFilter;
pub use error::LsmError;
pub use extent::Contents;
pub use ingest::Ingest;
pub use iter::Iter;
pub use job::{Job, JobKind, JobReport};
pub use key::Sequence;
pub use options::{Compression, FilterKind, LsmOptions};
pub use prefix::PrefixRule;
pub use pressure::{Pressure, PressureCause};
pub use snapshot::{Cached, Snapshot};
pub use sst_writer::{SstSummary, SstWriter};
pub use statistics::{LevelStatistics, Statistics};
pub use tree::Lsm;
