//! Where stores stand, and how close to each other the replicas of a region are.
//!
//! Two stores share a level if their labels do not tell them apart on it or on any wider one: what
//! is not labelled counts as the same place. Replicas are close by how many of them share the
//! widest level, then the next one, and so on.

use std::collections::BTreeMap;

use tinykv_replica::{Peer, StoreId};

use crate::state::{LEVELS_MAX, Settings};
use crate::view::{ClusterView, RegionView};

/// How many other replicas share each level with a store, the widest first. Less is better.
pub(super) type Closeness = [u8; LEVELS_MAX];

/// The labels of all stores, by level.
pub(super) struct Locations<'a> {
    stores: BTreeMap<StoreId, [Option<&'a str>; LEVELS_MAX]>,
    /// How many levels there are.
    levels: usize,
    /// On this level, counted from the widest, no two replicas may stand in one domain.
    apart: Option<usize>,
}

impl<'a> Locations<'a> {
    pub(super) fn new(view: &'a ClusterView, settings: &Settings) -> Locations<'a> {
        let levels = settings.location_labels;
        let stores = view.stores.iter().map(|(id, known)| {
            let mut place = [None; LEVELS_MAX];
            for (named, level) in place.iter_mut().zip(levels.iter()) {
                *named = known.record.labels.get(level.name()).map(String::as_str);
            }
            (*id, place)
        });
        let apart = settings
            .isolation_level
            .and_then(|apart| levels.iter().position(|level| level == apart));
        Locations {
            stores: stores.collect(),
            levels: levels.iter().count(),
            apart,
        }
    }

    /// Whether no labels tell any stores apart.
    pub(super) fn are_all_alike(&self) -> bool {
        self.stores
            .values()
            .all(|place| *place == [None; LEVELS_MAX])
    }

    /// How close a replica on the store would be to these others.
    pub(super) fn closeness(
        &self,
        store: StoreId,
        others: impl Iterator<Item = Peer>,
    ) -> Closeness {
        let mut closeness = [0; LEVELS_MAX];
        for other in others {
            for count in closeness.iter_mut().take(self.shared(store, other.store)) {
                *count = u8::saturating_add(*count, 1);
            }
        }
        closeness
    }

    /// Whether the peer would be closer to the other voters of its region there than it is.
    pub(super) fn is_closer(&self, region: &RegionView, peer: Peer, to: StoreId) -> bool {
        let others = || region.voters().filter(|other| other.id != peer.id);
        self.closeness(to, others()) > self.closeness(peer.store, others())
    }

    /// Whether a replica on the store would stand in one domain with another where the settings
    /// forbid that.
    pub(super) fn is_too_close(
        &self,
        store: StoreId,
        mut others: impl Iterator<Item = Peer>,
    ) -> bool {
        let apart = self.apart;
        apart.is_some_and(|apart| others.any(|other| self.shared(store, other.store) > apart))
    }

    /// How many levels, from the widest on, do not tell the two apart.
    fn shared(&self, one: StoreId, other: StoreId) -> usize {
        let (Some(one), Some(other)) = (self.stores.get(&one), self.stores.get(&other)) else {
            return self.levels;
        };
        let differ = |(one, other): (&Option<&str>, &Option<&str>)| {
            one.is_some() && other.is_some() && one != other
        };
        let told_apart = one.iter().zip(other).position(differ);
        told_apart.unwrap_or(self.levels)
    }
}
