//! Where the transport finds the other members, and who they must be.

use std::sync::Arc;

use futures::future::BoxFuture;
use tinykv_node::transport::{Destination, Resolver};
use tinykv_raft::PeerId;
use tinykv_replica::StoreId;

use crate::acquaintance::Acquaintance;
use crate::config::InitialCluster;
use crate::machine::SharedState;

/// Where the other members are: as configured, or as they were added. Who they are: as they were met,
/// and as they registered; nobody else speaks for them, and nobody else is spoken to (D9, M12).
pub(crate) struct Members {
    pub(crate) cluster: InitialCluster,
    pub(crate) acquaintance: Arc<Acquaintance>,
    pub(crate) state: SharedState,
}

impl Members {
    fn destination(&self, id: PeerId) -> Option<Destination> {
        let state = self.state.read();
        let registered = state.members().get(&id).filter(|it| !it.is_invited());
        let start_number = registered.map(|record| record.start_number);
        let mut members = self.cluster.members().iter();
        if let Some(member) = members.find(|member| member.id == id) {
            return Some(Destination {
                address: member.address.clone(),
                incarnation: self.acquaintance.incarnation(id),
                start_number,
            });
        }
        let record = registered?;
        let address = record.url.strip_prefix("http://").unwrap_or(&record.url);
        Some(Destination {
            address: address.to_owned(),
            incarnation: Some(record.incarnation),
            start_number,
        })
    }
}

impl Resolver for Members {
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>> {
        Box::pin(std::future::ready(self.destination(PeerId(store.0))))
    }
}
