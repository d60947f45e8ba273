//! The whole tree against a naive model: generated histories, crashes at every I/O, damage.

mod support;

mod cache;
mod compaction_filter;
mod corruption;
mod crash;
mod middle;
mod model;
mod statistics;
mod threads;
