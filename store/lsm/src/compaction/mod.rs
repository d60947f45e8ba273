//! Merging tables downwards: what to merge ([`pick()`], pure) and the merge itself.

mod filter;
mod pick;
mod run;

pub use filter::CompactionFilter;
pub(crate) use pick::{Busy, Choice, debt_bytes, pick};
pub(crate) use run::run;

#[cfg(test)]
mod tests;
