//! The shell of a process: threads, sockets, clocks and files, shared by `tinykv-store` and
//! `tinykv-placement`.

pub mod failure;
pub mod identity;
pub mod lease;
pub mod logging;
pub mod pages;
pub mod process;
pub mod server;
pub mod settings;
pub mod spawn;
pub mod transport;
