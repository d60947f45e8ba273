//! The log as a whole, on a simulated machine.

mod crash;
mod damage;
mod limits;
mod model;
mod trace;
