//! The cache of routes and addresses.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::{PeerId, Point, RegionId, Route, StoreId};

/// Routes kept at most. Beyond that the one farthest up the key space goes; it is looked up again
/// when it is needed.
pub const ROUTES_MAX: usize = 100_000;

/// What the client knows about regions and stores.
///
/// Routes never overlap. Of two that do, the one of the older epoch goes.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Routes by their first key.
    by_start: BTreeMap<Bytes, Arc<Route>>,
    /// First keys by region.
    starts: BTreeMap<RegionId, Bytes>,
    /// Addresses of stores, `host:port`.
    addresses: BTreeMap<StoreId, Arc<str>>,
}

impl Routes {
    /// Nothing known yet.
    pub fn new() -> Routes {
        Routes::default()
    }

    /// How many routes are known.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether no route is known.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The route of the region that contains a point.
    pub fn find(&self, point: &Point) -> Option<&Arc<Route>> {
        let up_to = match point {
            Point::At(key) => Bound::Included(key),
            Point::Below(limit) if limit.is_empty() => Bound::Unbounded,
            Point::Below(limit) => Bound::Excluded(limit),
        };
        let (_, route) = self
            .by_start
            .range::<Bytes, _>((Bound::Unbounded, up_to))
            .next_back()?;
        route.contains(point).then_some(route)
    }

    /// The route of a region.
    pub fn region(&self, region: RegionId) -> Option<&Arc<Route>> {
        self.by_start.get(self.starts.get(&region)?)
    }

    /// Learns a route. What it overlaps goes, unless that is newer: then the new one is forgotten.
    /// A route without keys or voters is none.
    pub fn insert(&mut self, route: Route) {
        let outdated = |known: &Route| {
            if known.region == route.region {
                route.epoch.is_behind(known.epoch)
            } else {
                route.epoch.version < known.epoch.version
            }
        };
        let mut overlapping = self.overlapping(&route);
        overlapping.extend(self.region(route.region).map(|known| known.region));
        let is_outdated = overlapping
            .iter()
            .any(|id| self.region(*id).is_some_and(|known| outdated(known)));
        if is_outdated || route.bounds().is_empty() || !route.peers.iter().any(|peer| peer.votes) {
            return;
        }
        for region in overlapping {
            self.forget_region(region);
        }
        self.starts.insert(route.region, route.start.clone());
        self.by_start.insert(route.start.clone(), Arc::new(route));
        if self.by_start.len() > ROUTES_MAX
            && let Some((_, last)) = self.by_start.pop_last()
        {
            self.starts.remove(&last.region);
        }
    }

    /// Forgets the route of a region.
    pub fn forget_region(&mut self, region: RegionId) {
        if let Some(start) = self.starts.remove(&region) {
            self.by_start.remove(&start);
        }
    }

    /// Learns who leads a region, or that nobody is known to. A peer that the route does not name
    /// is none of the region's, so the route is forgotten.
    pub fn set_leader(&mut self, region: RegionId, leader: Option<PeerId>) {
        let Some(route) = self
            .starts
            .get(&region)
            .and_then(|at| self.by_start.get_mut(at))
        else {
            return;
        };
        match leader {
            Some(peer) if route.peer(peer).is_none() => self.forget_region(region),
            leader => Arc::make_mut(route).leader = leader,
        }
    }

    /// Where a store is.
    pub fn address(&self, store: StoreId) -> Option<&Arc<str>> {
        self.addresses.get(&store)
    }

    /// Learns where a store is.
    pub fn set_address(&mut self, store: StoreId, address: &str) {
        self.addresses.insert(store, Arc::from(address));
    }

    /// Forgets where a store is.
    pub fn forget_address(&mut self, store: StoreId) {
        self.addresses.remove(&store);
    }

    /// Regions whose routes overlap one.
    fn overlapping(&self, route: &Route) -> Vec<RegionId> {
        let bounds = route.bounds();
        let before = self.by_start.range::<Bytes, _>(..&route.start).next_back();
        let from_here = self.by_start.range::<Bytes, _>(&route.start..);
        before
            .into_iter()
            .chain(from_here.take_while(|(start, _)| bounds.contains(start)))
            .filter(|(_, known)| known.bounds().overlaps(&bounds))
            .map(|(_, known)| known.region)
            .collect()
    }
}
