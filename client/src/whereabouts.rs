//! Somebody else to ask where regions are.

use std::fmt;

use crate::routing::{Point, Route, StoreId};

/// What somebody in this process knows of regions and stores by himself: a store knows the regions
/// that it has replicas of. It is asked when placement does not answer, so that calls for these go on
/// without it.
///
/// What it says is a hint, as everything about routes is ([`crate::routing`]).
pub trait Whereabouts: fmt::Debug + Send + Sync + 'static {
    /// The region that contains a point, if it is known.
    fn route(&self, point: &Point) -> Option<Route>;

    /// Where a store is, `host:port`, if that is known.
    fn address(&self, store: StoreId) -> Option<String>;
}
