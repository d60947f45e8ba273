//! The placement driver: it knows every store and region, hands out ids and timestamps, and has
//! every region brought to its replica count.
//!
//! # Map
//!
//! Pure, without clock or I/O: [`state`] (what the group replicates), [`view`] (what its leader
//! hears), [`schedule`] (what it decides), [`timestamps`] and [`ids`] (what it hands out).

pub mod ids;
pub mod schedule;
pub mod state;
pub mod timestamps;
pub mod view;
