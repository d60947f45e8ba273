//! Locks, atomics and threads of the tree and the engine, by one name each, so that the same source
//! can be compiled a second time with others in their place.
//!
//! The product has these. The packages under `store/interleavings` compile the sources of
//! `tinykv-lsm` and `tinykv-engine` once more against `tinykv-sync-shuttle`, whose items have the
//! same names and a schedule that a test decides; which of the two a package gets stands in its
//! `Cargo.toml` and nowhere else, so no feature of a build can change what the product runs on
//! (`.ci/check_workspace.py` sees to it).
//!
//! Not here: `Arc`, `Weak` and `OnceLock` of the standard library, which decide nothing that an
//! order could upset (every `OnceLock` of ours is set from a value that is ready), counters for
//! statistics, and what third parties lock inside (skip list, cache).

pub use arc_swap::ArcSwap;
pub use parking_lot::{Condvar, Mutex, MutexGuard};
pub use std::sync::atomic;
pub use std::thread;
