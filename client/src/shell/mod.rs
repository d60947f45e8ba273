//! What touches the network: connections, placement, stores, and the driver of a call.
//!
//! Nothing here decides anything. The driver ([`drive`]) carries out the steps of a
//! [`crate::retry::Call`]; [`exchange`] is the only place that sends a request to a store, so that
//! many calls share one stream there ([`lane`]) without anybody noticing.

mod clock;
mod connections;
mod drive;
mod exchange;
mod lane;
mod members;
mod placement;
mod rpc;

pub(crate) use drive::Driver;
pub(crate) use rpc::Rpc;
