//! The whole tree against a naive model: generated histories, crashes at every I/O, damage.
//!
//! `TINYKV_CASES` multiplies the number of generated cases; `TINYKV_LEDGER` (an absolute path) is
//! where a run appends its figures.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../tests/src/ledger.rs"]
pub mod ledger;
/// For the ledger: what is checked out.
pub const BUILT_FROM: Option<&str> = None;

mod support;

mod cache;
mod changes;
mod compaction_filter;
mod corruption;
mod crash;
mod limits;
mod middle;
mod model;
mod small_tables;
mod statistics;
mod threads;
