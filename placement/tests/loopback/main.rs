//! A placement member over loopback: real port, real disk, real driver.

mod answers;
mod cluster;
mod heartbeats;
mod members;
mod restart;
mod splits;
mod timestamps;
