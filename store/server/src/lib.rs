//! The store of TinyKV.

pub mod clock;
pub mod command;
pub mod config;
pub mod limits;
pub mod value;
