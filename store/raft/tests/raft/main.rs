//! Tests of the core from outside: golden scripts named after situations, and a simulation of a
//! group under faults. Both drive the nodes of `node`, whose disks forget what was not synced.

#![expect(unreachable_pub, reason = "modules of one test binary")]

mod bad_input;
mod display;
mod node;
mod parity;
mod scripts;
mod simulation;
mod timeouts;
