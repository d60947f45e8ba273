//! The log as a whole, on a simulated machine.

// The one writer of the ledger. The crate it belongs to depends on this one.
#[path = "../../../../tests/src/ledger.rs"]
pub mod ledger;

mod crash;
mod damage;
mod limits;
mod model;
mod trace;
