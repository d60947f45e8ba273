//! The regions of this store, for its own client: commands for them go on without placement.

use std::fmt;
use std::sync::Arc;

use tinykv_client::routing::{Point, Route, StoreId};
use tinykv_client::{Whereabouts, wire};
use tinykv_keys::Asker;
use tinykv_node::directory::RegionEntry;
use tinykv_node::handle::NodeHandle;
use tinykv_replica as replica;

use crate::machine::RawMachine;
use crate::placement::Stores;
use crate::service::convert::{peer_to_proto, region_to_proto};

/// What a store knows of regions and stores without asking anybody.
pub struct OwnRegions {
    /// What lives here,
    pub node: NodeHandle<RawMachine>,
    /// where other stores are,
    pub stores: Arc<Stores>,
    /// and where this one is.
    pub own_address: String,
}

impl fmt::Debug for OwnRegions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnRegions").finish_non_exhaustive()
    }
}

impl Whereabouts for OwnRegions {
    fn route(&self, point: &Point) -> Option<Route> {
        let routes = self.node.directory().all().into_iter();
        let mut routes = routes.filter_map(|entry| route(&entry));
        routes.find(|route| route.contains(point))
    }

    fn address(&self, store: StoreId) -> Option<String> {
        match store.0 == self.node.identity().member_id {
            true => Some(self.own_address.clone()),
            false => self.stores.remembered(replica::StoreId(store.0)),
        }
    }
}

fn route(entry: &RegionEntry) -> Option<Route> {
    let view = entry.view();
    let region = &view.state.as_ref()?.region;
    let leader = view.leader.and_then(|id| region.peer(id));
    let leader = leader.map(peer_to_proto);
    wire::route(region_to_proto(region, Asker::Raw)?, leader.as_ref())
}
