//! What the store tells placement, and what placement tells back.
//!
//! [`store`] sends a heartbeat of the store every second, [`regions`] one for each region that is
//! led here: at once when its leader, epoch or peers changed, soon while something about it is
//! under way, otherwise now and then. Orders come back on the same stream and are carried out by
//! the region's leader ([`order`]); placement sees their outcome in later heartbeats.

pub mod order;
