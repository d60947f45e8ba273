//! Between the messages of the wire and the types of the core: the only place that knows both.
//!
//! Pure: it neither sends nor waits. What a store's answer proves about a write is decided here
//! ([`verdict()`], [`failure`]) and in `retry::Failure`, for sockets and simulator alike.

mod ask;
mod convert;
mod verdict;

pub use ask::Ask;
pub use convert::{context, failure, route};
pub use verdict::verdict;
