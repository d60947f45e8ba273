//! The only retry loop of the system.
//!
//! A [`Call`] is one request for one region, from its first look-up to its last attempt. It does
//! no I/O: [`Call::next`] says what to do ([`Step`]), whoever drives it does that and tells how it
//! ended. What an attempt may end with is a [`Failure`]; what follows from each is one table
//! (`table.rs`). Nothing else in TinyKV sends a request a second time.
//!
//! Two rules of the contract live here. A read is repeated freely. A write is repeated only after
//! proof that it was not and will not be applied ([`Failure::proves_not_applied`]); anything else
//! ends the call at once as undetermined (K1, K2). And the deadline bounds everything: look-ups,
//! waits and attempts (K5).

mod backoff;
mod call;
mod failure;
mod table;

pub use backoff::{BACKOFF_FIRST, BACKOFF_MAX, Backoff};
pub use call::{Access, Call, LOOKUP_TIMEOUT_MAX, READ_TIMEOUT_FIRST, Step, Target};
pub use failure::{Failure, LookupFailure, Misrouted};

#[cfg(test)]
mod tests;
