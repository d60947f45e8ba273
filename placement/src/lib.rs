//! The placement driver: it knows every store and region, hands out ids and timestamps, and has
//! every region brought to its replica count.
//!
//! # Map
//!
//! Pure, without clock or I/O: [`state`] (what the group replicates), [`view`] (what its leader
//! hears), [`schedule`] (what it decides), [`coordinator`] (what it makes of heartbeats, wishes and
//! time), [`timestamps`] and [`ids`] (what it hands out), [`convert`] (all that as messages).
//!
//! Around them: [`machine`] puts the state under the replication driver; `desk` begins and ends
//! leaderships, plans, and hands things out; `service` and `pages` are gRPC and HTTP on one port;
//! [`config`] and [`process`] make a process of it; `acquaintance`, `neighbours` and `introduction`
//! are how its members know each other, `membership` and `joining` how they come and go.
//!
//! # Invariants
//!
//! * Nothing is answered from the view, and no timestamp is served, unless the lease of the same
//!   term holds at that moment (M9).
//! * Ids are never reused and rise in the order in which they are handed out, from leader to leader
//!   (M7, M9).
//! * A route is shown only once the entry that brought it is applied; an older epoch or a deposed
//!   leader never takes the place of a newer one (M1, M8).
//! * No order takes away a voter that is needed (M10).
//! * A store is who it registered as, or refused; a member of the group itself likewise, and it
//!   takes part only once it knows all the others (D9).

pub mod config;
pub mod convert;
pub mod coordinator;
pub mod ids;
pub mod machine;
pub mod membership;
pub mod process;
pub mod schedule;
pub mod state;
pub mod timestamps;
pub mod view;

mod acquaintance;
mod desk;
mod group;
mod introduction;
mod joining;
mod leadership;
mod neighbours;
mod pages;
mod resolver;
mod service;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the process: settings from `arguments` (program name first), environment and file; serves
/// until SIGTERM or SIGINT.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    tinykv_node::process::run::<config::Args, _>(arguments, |args| &args.common, process::run)
}
