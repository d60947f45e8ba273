//! What a client believes about who holds which key.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use tinykv_raft::GroupId;
use tinykv_replica::{Region, StoreId};

/// A region as a client knows it.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) region: Region,
    /// Whom it takes for the leader.
    pub(super) leader: Option<StoreId>,
    /// Refusals since the route was learnt.
    pub(super) refusals: u32,
}

/// Routes by the start of their range; they do not overlap.
#[derive(Debug, Default)]
pub(super) struct Routes {
    by_start: BTreeMap<Bytes, Route>,
}

impl Routes {
    pub(super) fn at(&mut self, key: &[u8]) -> Option<&mut Route> {
        let range = (Bound::Unbounded, Bound::Included(key));
        let (_, route) = self.by_start.range_mut::<[u8], _>(range).next_back()?;
        route.region.contains(key).then_some(route)
    }

    /// Takes over what somebody told, unless something newer is known of part of it.
    pub(super) fn learn(&mut self, region: Region, leader: Option<StoreId>) {
        let overlapping: Vec<Bytes> = self
            .by_start
            .iter()
            .filter(|(_, known)| known.region.overlaps(&region))
            .map(|(start, _)| start.clone())
            .collect();
        let is_outdated = overlapping.iter().any(|start| {
            let known = &self.by_start[start].region;
            known.epoch.version > region.epoch.version
                || (known.id == region.id && region.epoch.is_behind(known.epoch))
        });
        if is_outdated {
            return;
        }
        for start in overlapping {
            self.by_start.remove(&start);
        }
        let route = Route {
            region,
            leader,
            refusals: 0,
        };
        self.by_start.insert(route.region.start.clone(), route);
    }

    pub(super) fn forget(&mut self, group: GroupId) {
        self.by_start.retain(|_, route| route.region.id != group);
    }
}
