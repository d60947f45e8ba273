//! Raw calls without the wire: what a request becomes as a command, and how a snapshot answers it.

pub mod plan;
pub mod read;
