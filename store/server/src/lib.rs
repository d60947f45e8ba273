//! The store of TinyKV.

pub mod command;
pub mod value;
