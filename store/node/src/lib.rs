//! The shell of a process: threads, sockets, clocks and files, shared by `tinykv-store` and
//! `tinykv-placement`.
//!
//! Everything below is pure or goes through `tinykv-env`; here is where it meets the world. A
//! process reads its [`settings`], opens its data directory ([`identity`]) and [`storage`],
//! starts a [`node`], adds its services to the node's own ([`transport::PeerService`]) and the
//! [`pages`], and [`server`]s them on one port until [`process`] says stop.
//!
//! # Threads of a node
//!
//! * **Shard threads** own the groups. They take all there is from a bounded inbox, run the pure
//!   [`tinykv_replica::Shard`] and carry out its effects in order. They never wait for a disk or
//!   a lock that is held across I/O.
//! * **The log's thread** owns the writing half of the log: one write and one sync for the records
//!   of all shards, then the promises that rest on them leave, then the shards hear of it.
//! * **Upkeep threads** run the engine's flushes and compactions and report what is durable.
//! * **The pool** reads from disk for parked groups and for services, installs snapshots.
//! * **tokio tasks** are the connections.
//!
//! # What holds
//!
//! * A promise never leaves before the sync it depends on (D1): promises travel with their
//!   records to the log's thread.
//! * A failed sync ends the process with exit code 74, after a marker for the next start (D4).
//! * Everybody who asks is answered once, at shutdown too.
//! * A lease is taken back before anything leaves that depends on its absence (C2).
//! * Peers are checked before they are heard: cluster, store, incarnation, start number (M12).

pub mod failure;
pub mod logging;
pub mod process;
pub mod settings;
pub mod spawn;

pub mod identity;
pub mod options;
pub mod storage;

pub mod checksum;
pub mod directory;
pub mod handle;
pub mod lease;
pub mod metrics;
pub mod node;
pub mod pool;
pub mod slowness;
pub mod traffic;
pub mod transport;

pub mod pages;
pub mod server;

mod admission;
mod homes;
mod inbox;
#[cfg(test)]
mod inert;
mod install;
mod jobs;
mod shard_thread;
mod shards;
mod trouble;
mod upkeep;
mod waiters;
mod wal_queue;
mod wal_thread;
