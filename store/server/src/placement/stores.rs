//! Where the other stores are.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use tinykv_proto::metapb;
use tinykv_replica::StoreId;

/// Addresses of the cluster's stores, as placement last told. Readers never wait.
#[derive(Debug, Default)]
pub struct Stores {
    addresses: ArcSwap<BTreeMap<StoreId, String>>,
}

impl Stores {
    /// Where peers of this store are reached (`host:port`); `None` if placement has not told.
    pub fn address(&self, store: StoreId) -> Option<String> {
        self.addresses.load().get(&store).cloned()
    }

    /// Replaces everything that was known.
    pub fn replace(&self, stores: &[metapb::Store]) {
        let addresses = stores.iter().filter(|store| !store.address.is_empty());
        let addresses = addresses.map(|store| {
            let address = match store.peer_address.is_empty() {
                true => &store.address,
                false => &store.peer_address,
            };
            (StoreId(store.id), address.clone())
        });
        self.addresses
            .store(std::sync::Arc::new(addresses.collect()));
    }
}
