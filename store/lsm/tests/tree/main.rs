//! The whole tree against a naive model: generated histories, crashes at every I/O, damage.

mod support;

mod corruption;
mod crash;
mod model;
mod threads;
