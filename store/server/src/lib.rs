//! The store of TinyKV.

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

pub mod bootstrap;
pub mod placement;
pub mod reporting;

pub mod config;
mod run;

pub use run::{main, run};
pub use tinykv_node::settings::VERSION;
