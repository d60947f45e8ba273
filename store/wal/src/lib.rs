//! The write-ahead log: the durable log of all Raft groups of a process, in one file sequence.
//!
//! A write is appended here once and fsynced once, together with whatever other groups have to
//! say at that moment; the LSM tree above has no log of its own and is rebuilt from this one
//! after a crash, from the applied indexes that it has flushed. Records of many groups
//! ([`Record`]) go into [`Batch`]es, batches into frames, frames into segments: files that are
//! filled with zeros once and used again and again, so that an `fdatasync` finds no metadata to
//! commit.
//!
//! [`Wal`] is the writer and has one owner; [`WalReader`]s read old entries beside it.
//! [`Wal::open`] recovers: hard states, truncation points, births, installations and tombstones of
//! all groups, and where each entry stands.
//!
//! # What survives a crash
//!
//! A prefix of what was appended, never less than what was synced. A record is part of it only if
//! its frame is whole, numbered without gap, and not cut off by an earlier recovery (`scan`).
//!
//! Every frame carries `durable_upto`, the end of the last frame known fsynced when it was
//! written. The highest one found is the watermark: a frame missing at or above it was promised to
//! nobody, a torn tail; one missing below it is damage, and every group that existed carries
//! [`RecoveredGroup::damaged`] from then on, whatever is recycled. To find the watermark the reader
//! goes on past bad frames to the end of every segment; an idle log writes an empty frame
//! soon, for the watermark in it.
//!
//! A failed write or fsync is final: the writer refuses everything after it, and leaves a marker
//! file by which the next start treats every group as damaged.
//!
//! # Invariants
//!
//! Nine invariants pay for having one log. Those of this crate are tested by crashing at every
//! I/O in every mode of `SimEnv` (`tests/wal/crash.rs`); the others by doing the same to log and
//! tree together (`store/engine/tests/engine/groups.rs`, called *groups* here) and to a whole
//! cluster (the simulator in `tests`).
//!
//! 1. **Every batch that applies entries advances that group's applied index in the same
//!    memtable; nothing else writes region data.** Asserted by `Engine::write`; *groups* compares
//!    the data at each group's flushed index with a model after every crash.
//! 2. **A batch is in one memtable; memtables flush in order, so the durable tree is a prefix of
//!    the order of applying, for all groups at once.** *groups*, `check_prefix`. (An ingest is
//!    durable at once and may overtake memtables that do not touch its range.)
//! 3. **The log is cut only up to the flushed applied index; a slow, idle group forces a flush,
//!    not an unbounded log.** `Engine::maintain`, held to it by *groups*, whose replay would miss
//!    entries; `limits::an_idle_group_does_not_hold_the_log`.
//! 4. **Births and deaths of groups are records here, synced before any message or reply that
//!    reveals them.** That they survive: `crash`; that nothing is revealed before: replica's
//!    effects go out after the sync, checked by the simulator.
//! 5. **Installing a snapshot is ordered with writes: `Installing` synced, then drop and ingest in
//!    one version edit, then `Installed`; a crash in between redoes it.** `Engine::install`
//!    asserts the record; *groups* crashes inside installations.
//! 6. **A memtable is flushed only when the own log is durable past every entry in it.**
//!    Asserted in `Engine::write` and `Job::run`; `Engine::open` reports a tree that is ahead of
//!    its log as damage, which no crash of *groups* may bring about.
//! 7. **On replay a child waits for its parent's split, a merge target for its source; a source's
//!    log stays until the merge is flushed.** Kept by `tinykv-replica` with births recorded here;
//!    its tests.
//! 8. **Dropping or ingesting a range first flushes every memtable that overlaps it, and a range
//!    is used again only after its drop is durable.** `Lsm::ingest`; *groups* buries groups and
//!    reuses their ranges, crashing in between.
//! 9. **Before a segment is recycled, what is alive in it is copied forward and synced.** The order
//!    is in `maintain`; `crash` runs it with segments so small that most traces recycle some.
//!
//! # Left out
//!
//! Compression and encryption of frames; sharing one log between processes; reading the log as a
//! stream (change feeds read entries by group).

mod codec;
mod error;
mod frame;
mod index;
mod maintain;
mod options;
mod parts;
mod position;
mod reader;
mod record;
mod recover;
mod recovered;
mod scan;
mod segment;
mod stored;
mod writer;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use error::{ReadError, WalError};
pub use options::WalOptions;
pub use position::Position;
pub use reader::{Extent, WalReader};
pub use record::{Batch, Record};
pub use recovered::{Damage, Recovered, RecoveredGroup};
pub use writer::{Upkeep, Wal, WalStatus};
