//! Where the other stores are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use tinykv_node::transport::{Destination, Resolver};
use tinykv_proto::metapb;
use tinykv_replica::StoreId;

use super::Placement;

/// Time placement has to answer before what is known already must do.
const ASK_TIME_MAX: Duration = Duration::from_millis(900);

/// Addresses of the cluster's stores, asked for at each connection and remembered for the times
/// when placement does not answer.
#[derive(Debug)]
pub struct Stores {
    placement: Arc<Placement>,
    known: ArcSwap<BTreeMap<StoreId, String>>,
}

impl Stores {
    /// Nothing is known yet.
    pub fn new(placement: Arc<Placement>) -> Stores {
        Stores {
            placement,
            known: ArcSwap::default(),
        }
    }

    async fn find(&self, store: StoreId) -> Option<Destination> {
        match tokio::time::timeout(ASK_TIME_MAX, self.placement.stores()).await {
            Ok(Ok(stores)) => self.known.store(Arc::new(addresses(&stores))),
            Ok(Err(error)) => tracing::debug!(%store, "cannot ask where a store is: {error}"),
            Err(_) => tracing::debug!(%store, "placement did not say in time where a store is"),
        }
        let address = self.known.load().get(&store)?.clone();
        Some(Destination {
            address,
            incarnation: None,
            start_number: None,
        })
    }
}

impl Resolver for Stores {
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>> {
        self.find(store).boxed()
    }
}

/// Where peers of each store are reached.
fn addresses(stores: &[metapb::Store]) -> BTreeMap<StoreId, String> {
    let stores = stores.iter().filter(|store| !store.address.is_empty());
    let stores = stores.map(|store| {
        let address = match store.peer_address.is_empty() {
            true => &store.address,
            false => &store.peer_address,
        };
        (StoreId(store.id), address.clone())
    });
    stores.collect()
}
