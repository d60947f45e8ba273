//! The store of TinyKV: keeps replicas of regions, answers TiKV's raw calls and its own, does what
//! the placement driver orders.
//!
//! # From the core outwards
//!
//! * [`space`], [`value`], [`command`]: keys, values and commands as bytes. Keys and bounds are
//!   encoded and compared by `tinykv-keys` alone.
//! * [`machine`]: what commands do. Pure; runs under the driver of `tinykv-replica`.
//! * [`limits`], [`checks`], [`outcome`]: what is refused, and what an asker is told then. Pure.
//! * [`raw`]: requests become commands, snapshots become answers.
//! * [`admission`], [`service`]: the calls of clients. Messages of the wire stop here.
//! * [`resp`]: Redis's protocol, which asks the whole cluster through `tinykv-client`.
//! * [`check`]: whether all replicas of a region hold the same.
//! * [`expiry`]: expired values leave the disk.
//! * [`splitting`], [`load_split`]: regions led here are cut, when asked to, when they are large, or
//!   when they are busy.
//! * [`bootstrap`], [`placement`], [`reporting`]: the link to the placement driver, both ways.
//! * [`config`] and [`main()`]: a process of it.
//!
//! # What holds
//!
//! * A write is decided when it is applied, from what all replicas share: never from a clock, a
//!   setting or a read at propose.
//! * A value is gone once the region's replicated time has reached its expiry, and for nobody
//!   earlier: a reader whose own clock is ahead moves the region's time first.
//! * A read is served from a snapshot: taken before the lease is checked that it rests on, or after
//!   a confirmed index is applied. Epoch and range are checked after the snapshot either way.
//! * What is refused was not applied and never will be; what may have been applied is told as
//!   undetermined, and nothing is proposed after the asker's deadline.
//! * Limits: bytes of commands under way ([`admission::IN_FLIGHT_BYTES_MAX`]), of keys, values,
//!   commands and answers ([`limits`]); above, requests wait shortly and are then refused.
//!
//! # Not here yet
//!
//! Merges and transactions: commands and values have room for them.

pub mod limits;
pub mod space;
pub mod value;

pub mod command;
pub mod machine;

pub mod admission;
pub mod checks;
pub mod clock;
pub mod outcome;
pub mod raw;
pub mod service;

pub mod resp;

pub mod load_split;
pub mod splitting;

pub mod bootstrap;
pub mod placement;
pub mod reporting;

pub mod check;
pub mod expiry;

pub mod config;
mod run;

pub use run::{main, run};
pub use tinykv_node::settings::VERSION;
