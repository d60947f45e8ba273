//! The log as a whole, on a simulated machine.
//!
//! `TINYKV_CASES` multiplies the number of generated cases; `TINYKV_LEDGER` (an absolute path) is
//! where a run appends its figures.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../tests/src/ledger.rs"]
pub mod ledger;
/// For the ledger: what is checked out.
pub const BUILT_FROM: Option<&str> = None;

mod crash;
mod damage;
mod limits;
mod model;
mod trace;
