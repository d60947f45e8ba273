//! Merging tables downwards: what to merge ([`pick()`], pure) and the merge itself, in one part or
//! in several at once.

mod filter;
mod pick;
mod run;

pub use filter::CompactionFilter;
pub(crate) use pick::{Busy, Choice, debt_bytes, pick, pick_old, pick_small};
pub(crate) use run::Compaction;

#[cfg(test)]
mod tests;
