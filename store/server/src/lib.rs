//! The store of TinyKV.

pub mod limits;
pub mod space;
pub mod value;

pub mod command;
pub mod machine;

pub mod checks;
pub mod clock;
pub mod raw;

pub mod bootstrap;
pub mod outcome;

pub mod config;
pub mod placement;
