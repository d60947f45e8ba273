//! Where the other stores are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use tinykv_env::Env;
use tinykv_node::transport::{Destination, Resolver};
use tinykv_proto::metapb;
use tinykv_replica::StoreId;

use super::Placement;
use super::address_book::{AddressBook, Addresses};

/// Time placement has to answer before what is known already must do.
const ASK_TIME_MAX: Duration = Duration::from_millis(900);

/// Addresses of the cluster's stores, asked for at each connection and remembered, over restarts
/// too, for the times when placement does not answer.
#[derive(Debug)]
pub struct Stores {
    placement: Arc<Placement>,
    known: ArcSwap<Addresses>,
    book: Arc<AddressBook>,
}

impl Stores {
    /// What is known is what an earlier start wrote into the data directory.
    pub fn new(placement: Arc<Placement>, env: Arc<dyn Env>, data_dir: &Path) -> Stores {
        let book = AddressBook::new(env, data_dir);
        Stores {
            placement,
            known: ArcSwap::from_pointee(book.read()),
            book: Arc::new(book),
        }
    }

    async fn find(&self, store: StoreId) -> Option<Destination> {
        match tokio::time::timeout(ASK_TIME_MAX, self.placement.stores()).await {
            Ok(Ok(stores)) => self.learn(addresses(&stores)).await,
            Ok(Err(error)) => tracing::debug!(%store, "cannot ask where a store is: {error}"),
            Err(_) => tracing::debug!(%store, "placement did not say in time where a store is"),
        }
        Some(Destination {
            address: self.remembered(store)?,
            incarnation: None,
            start_number: None,
        })
    }

    /// Where a store was when placement was asked last.
    pub fn remembered(&self, store: StoreId) -> Option<String> {
        self.known.load().get(&store).cloned()
    }

    async fn learn(&self, addresses: Addresses) {
        if **self.known.load() == addresses {
            return;
        }
        let addresses = Arc::new(addresses);
        self.known.store(Arc::clone(&addresses));
        let book = Arc::clone(&self.book);
        let written = tokio::task::spawn_blocking(move || book.write(&addresses));
        match written.await {
            Ok(Ok(())) => {}
            // What was written before will do, or placement will.
            Ok(Err(error)) => tracing::warn!("addresses of stores cannot be written: {error}"),
            Err(error) => tracing::warn!("addresses of stores were not written: {error}"),
        }
    }
}

impl Resolver for Stores {
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>> {
        self.find(store).boxed()
    }
}

/// Where peers of each store are reached.
fn addresses(stores: &[metapb::Store]) -> Addresses {
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

#[cfg(test)]
mod tests {
    use tinykv_env::OsEnv;

    use super::*;

    #[tokio::test]
    async fn stores_are_found_again_while_placement_is_away() {
        let temp = tempfile::tempdir().expect("temp dir");
        // A port of which nobody listens.
        let away = || Arc::new(Placement::new(vec!["127.0.0.1:1".to_owned()], None));
        let stores = || Stores::new(away(), OsEnv::shared(), temp.path());
        let first = stores();
        assert_eq!(
            first.find(StoreId(2)).await.map(|found| found.address),
            None
        );
        let known = metapb::Store {
            id: 2,
            address: "clients:1".to_owned(),
            peer_address: "peers:1".to_owned(),
            ..metapb::Store::default()
        };
        first.learn(addresses(&[known])).await;
        let again = stores();
        let found = again.find(StoreId(2)).await.map(|found| found.address);
        assert_eq!(found.as_deref(), Some("peers:1"));
    }
}
