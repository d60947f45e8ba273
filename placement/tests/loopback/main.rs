//! A placement member over loopback: real port, real disk, real driver.

mod answers;
mod cluster;
mod drains;
mod failover;
mod hand;
mod heartbeats;
mod joining;
mod labels;
mod members;
mod merges;
mod processes;
mod restart;
mod scatters;
mod splits;
mod timestamps;
