//! Where the transport finds the other members, and who they must be.

use std::sync::Arc;

use futures::future::BoxFuture;
use tinykv_node::transport::{Destination, Resolver};
use tinykv_raft::PeerId;
use tinykv_replica::StoreId;

use crate::acquaintance::{Acquaintance, Named};
use crate::config::InitialCluster;
use crate::machine::SharedState;

/// Where the other members are: as configured, or as they were added; those that were removed, too, as
/// long as they have a peer that is to be told. Who they are: as they were met,
/// and as they registered; nobody else speaks for them, and nobody else is spoken to (D9, M12).
///
/// One that was away while others came may be met by nobody it knows. So a member that is known from
/// nowhere is taken at its word, until there is a better one: it has a place in the group, or the
/// group would not have told it where this one is.
pub(crate) struct Members {
    pub(crate) cluster: InitialCluster,
    pub(crate) acquaintance: Arc<Acquaintance>,
    pub(crate) state: SharedState,
}

impl Members {
    fn destination(&self, id: PeerId) -> Option<Destination> {
        let state = self.state.read();
        let registered = state.registered_member(id);
        let start_number = registered.map(|record| record.start_number);
        let mut members = self.cluster.members().iter();
        if let Some(member) = members.find(|member| member.id == id) {
            return Some(Destination {
                address: member.address.clone(),
                incarnation: self.acquaintance.incarnation(id),
                start_number,
            });
        }
        let of_state = registered.map(|record| (record.url.clone(), record.incarnation));
        let told = || self.acquaintance.told(id);
        let (url, incarnation) = of_state.or_else(|| {
            let named = told()?;
            Some((named.url, named.incarnation))
        })?;
        Some(Destination {
            address: url.trim_start_matches("http://").to_owned(),
            incarnation: Some(incarnation),
            start_number,
        })
    }
}

impl Resolver for Members {
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>> {
        Box::pin(std::future::ready(self.destination(PeerId(store.0))))
    }

    fn own_address(&self) -> String {
        self.cluster.own().address.clone()
    }

    fn introduced(&self, store: StoreId, destination: Destination) {
        let Some(incarnation) = destination.incarnation else {
            return;
        };
        let url = format!("http://{}", destination.address);
        tracing::info!("member {store} introduces itself: it is reached at {url}");
        let named = Named { url, incarnation };
        self.acquaintance.hear_of(PeerId(store.0), named);
    }
}
