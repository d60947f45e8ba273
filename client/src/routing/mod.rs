//! Where keys live, as far as this client has been told.
//!
//! Bounds here are in the view of a raw asker (see `tinykv-keys`): plain bytes that are compared
//! with keys as they are. They come from placement and, in errors about epochs, from stores.
//!
//! What is here may be outdated at any time; a store refuses a request that was sent by an
//! outdated route, and says what is right. So routes are a hint that costs a round trip when it is
//! wrong, and nothing else (K6).

mod ids;
mod route;
mod routes;

pub use ids::{PeerId, RegionId, StoreId};
pub use route::{Epoch, Peer, Point, Route};
pub use routes::{ROUTES_MAX, Routes};

#[cfg(test)]
mod tests;
