//! The storage engine of a process: its log (`tinykv-wal`) and its tree (`tinykv-lsm`), opened
//! together, recovered and kept in step.
//!
//! The log is the only write-ahead log there is; the tree has none of its own. What was applied
//! from the log and not flushed is applied again after a restart. What that takes, the nine
//! invariants, stands in `tinykv-wal`; the ones between the two halves are kept here:
//!
//! * Every batch that reaches the tree advances the applied index of a group, and never beyond
//!   what the own log has made durable ([`Engine::write`], [`Job::run`]; 1, 2, 6).
//! * The log is cut only up to the *flushed* applied index; when a group that is slow or idle
//!   holds the oldest segment, the tree is asked for a flush ([`Engine::maintain`]; 3).
//! * A snapshot is taken in only after its `Installing` is durable in the log, and again after a
//!   crash before `Installed` ([`Engine::install`]; 5, 8).
//!
//! Two users: a store, where replicas write the log and apply, and the single-node store of this
//! crate, [`Standalone`], for which the log has one local group and no consensus.
//!
//! # A store in one process
//!
//! ```
//! use tinykv_engine::{Direction, Durability, Standalone, StandaloneOptions};
//! use tinykv_env::OsEnv;
//! use tinykv_lsm::WriteBatch;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let store = Standalone::open(OsEnv::shared(), dir.path(), StandaloneOptions::small())?;
//!
//! store.put("apple", "red", Durability::Synced)?;
//! store.put("banana", "yellow", Durability::Buffered)?;
//! let mut batch = WriteBatch::new();
//! batch.put("cherry", "dark red").delete("apple");
//! store.write(batch, Durability::Synced)?;
//!
//! assert_eq!(store.get(b"apple")?, None);
//! assert_eq!(store.get(b"banana")?.as_deref(), Some(&b"yellow"[..]));
//! let all: Vec<_> = store
//!     .scan(b"", b"", Direction::Forward)?
//!     .collect::<Result<_, _>>()?;
//! assert_eq!(all.len(), 2);
//! assert_eq!(&all[0].0[..], b"banana");
//!
//! store.close()?;
//! drop(store);
//! let store = Standalone::open(OsEnv::shared(), dir.path(), StandaloneOptions::small())?;
//! assert_eq!(store.get(b"cherry")?.as_deref(), Some(&b"dark red"[..]));
//! # Ok(())
//! # }
//! ```

mod engine;
mod error;
mod job;
mod open;
mod options;
mod standalone;
mod upkeep;

pub use engine::Engine;
pub use error::{EngineError, ErrorKind};
pub use job::Job;
pub use open::{GroupRecovery, Recovery};
pub use options::{EngineOptions, StandaloneOptions};
pub use standalone::{Direction, Durability, Scan, Standalone, StandaloneSnapshot};
pub use upkeep::Upkeep;
