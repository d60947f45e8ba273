//! Raw calls without the wire: what a request becomes as a command, and how a snapshot answers it.

mod crc64;

pub mod plan;
pub mod ranges;
pub mod read;
