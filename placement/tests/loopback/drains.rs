//! Stores leave and are forgotten, settings are changed: as `tinykv-ctl` asks for it.

use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement::{
    ConfigureRequest, ConfigureResponse, DrainRequest, DrainResponse, EvictLeadersRequest,
    EvictLeadersResponse, Eviction, Leaving, OverviewRequest, RemoveTombstonesRequest,
    RemoveTombstonesResponse,
};

use super::cluster::{Placement, Store, directory, error, eventually};
use super::hand::Hand;
use super::heartbeats::Link;

impl Hand {
    async fn ask_drain(&mut self, store_id: u64, leaving: Leaving) -> DrainResponse {
        let request = DrainRequest {
            store_id,
            leaving: leaving.into(),
            ..DrainRequest::default()
        };
        let reply = self.client.drain(request).await;
        reply.expect("an answer").into_inner()
    }

    async fn drain(&mut self, store_id: u64, leaving: Leaving) -> DrainResponse {
        let reply = self.ask_drain(store_id, leaving).await;
        assert_eq!(error(reply.header.clone()), None);
        reply
    }

    async fn refused_drain(&mut self, store_id: u64, leaving: Leaving) -> (ErrorType, String) {
        let reply = self.ask_drain(store_id, leaving).await;
        error(reply.header).expect("refused")
    }

    async fn evict(&mut self, store_id: u64, eviction: Eviction) -> EvictLeadersResponse {
        let request = EvictLeadersRequest {
            store_id,
            eviction: eviction.into(),
            ..EvictLeadersRequest::default()
        };
        let reply = self.client.evict_leaders(request).await;
        reply.expect("an answer").into_inner()
    }

    async fn forget(&mut self, store_id: u64) -> RemoveTombstonesResponse {
        let request = RemoveTombstonesRequest {
            store_id,
            ..RemoveTombstonesRequest::default()
        };
        let reply = self.client.remove_tombstones(request).await;
        reply.expect("an answer").into_inner()
    }

    pub(crate) async fn configure(&mut self, name: &str, value: &str) -> ConfigureResponse {
        let request = ConfigureRequest {
            name: name.into(),
            value: value.into(),
            ..ConfigureRequest::default()
        };
        let reply = self.client.configure(request).await;
        reply.expect("an answer").into_inner()
    }
}

/// A cluster of so many stores, all heard; the first of them founded it.
async fn stores(placement: &Placement, count: usize) -> Vec<Store> {
    let mut stores = vec![placement.bootstrap().await.0];
    for _ in 1..count {
        stores.push(placement.join().await);
    }
    for store in &mut stores {
        assert_eq!(error(store.beat().await.header), None);
    }
    stores
}

#[tokio::test]
async fn a_store_with_nothing_on_it_leaves_is_forgotten_and_never_returns() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let mut stores = stores(&placement, 4).await;
    let mut hand = Hand::new(&placement).await;
    let mut gone = stores.pop().expect("four");
    let begun = hand.drain(gone.id, Leaving::Begin).await;
    assert_eq!((begun.state.as_str(), begun.is_leaving), ("offline", true));
    assert_eq!((begun.regions, begun.moving, begun.leaders), (0, 0, 0));
    let (kind, sentence) = error(hand.forget(gone.id).await.header).expect("not yet");
    assert_eq!(kind, ErrorType::InvalidValue);
    assert!(sentence.contains("is no tombstone"), "{sentence}");
    eventually("it has left", async || {
        let now = hand.drain(gone.id, Leaving::Look).await;
        (now.state == "tombstone").then_some(now)
    })
    .await;
    let (kind, _) = error(gone.beat().await.header).expect("it is told");
    assert_eq!(kind, ErrorType::StoreTombstone);
    for leaving in [Leaving::Begin, Leaving::End] {
        let (kind, sentence) = hand.refused_drain(gone.id, leaving).await;
        assert_eq!(kind, ErrorType::StoreTombstone);
        assert!(sentence.contains("has left the cluster"), "{sentence}");
    }
    assert_eq!(hand.forget(0).await.store_ids, [gone.id], "all that left");
    assert_eq!(hand.forget(0).await.store_ids, [0; 0]);
    let overview = hand.client.overview(OverviewRequest::default()).await;
    assert_eq!(overview.expect("an answer").into_inner().stores.len(), 3);
    gone.start += 1;
    let (kind, sentence) = gone.put().await.expect("refused for ever");
    assert_eq!(kind, ErrorType::StoreTombstone, "{sentence}");
    let (kind, _) = error(gone.beat().await.header).expect("it is told again");
    assert_eq!(kind, ErrorType::StoreTombstone);
    placement.stop().await;
}

#[tokio::test]
async fn a_drain_tells_what_blocks_it_and_is_cancelled_or_refused() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (first, regions) = placement.bootstrap().await;
    let mut hand = Hand::new(&placement).await;
    let (kind, sentence) = hand.refused_drain(77, Leaving::Begin).await;
    assert_eq!(kind, ErrorType::EntryNotFound, "{sentence}");
    assert!(sentence.contains("list the stores"), "{sentence}");
    let (kind, sentence) = hand.refused_drain(first.id, Leaving::Begin).await;
    assert_eq!(kind, ErrorType::InvalidValue, "{sentence}");
    assert!(sentence.contains("add a store first"), "{sentence}");
    for _ in 0..3 {
        assert_eq!(error(placement.join().await.beat().await.header), None);
    }
    let mut link = Link::open(&first, &regions[0], 5).await;
    link.heard(&regions[0]).await;
    let begun = hand.drain(first.id, Leaving::Begin).await;
    assert!(begun.is_leaving);
    assert_eq!((begun.regions, begun.leaders), (6, 1));
    let blocked = format!("region {} has no known leader", regions[1].id);
    assert!(begun.blocked_by.contains(&blocked), "{begun:?}");
    let again = hand.drain(first.id, Leaving::Begin).await;
    assert!(again.is_leaving, "it is asked twice");
    let stays = hand.drain(first.id, Leaving::End).await;
    assert_eq!((stays.is_leaving, stays.regions), (false, 6));
    assert_eq!(stays.blocked_by, [""; 0]);
    placement.stop().await;
}

#[tokio::test]
async fn a_store_is_kept_from_leading_until_that_is_ended() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let stores = stores(&placement, 2).await;
    let mut hand = Hand::new(&placement).await;
    let (first, second) = (stores[0].id, stores[1].id);
    let begun = hand.evict(first, Eviction::Begin).await;
    assert_eq!(error(begun.header), None);
    assert!(begun.is_evicted);
    let last = hand.evict(second, Eviction::Begin).await;
    let (kind, sentence) = error(last.header).expect("refused");
    assert_eq!(kind, ErrorType::InvalidValue);
    assert!(sentence.contains("is the last that may lead"), "{sentence}");
    let unknown = hand.evict(77, Eviction::End).await;
    let (_, sentence) = error(unknown.header).expect("refused");
    assert!(sentence.contains("list the stores"), "{sentence}");
    let overview = hand.client.overview(OverviewRequest::default()).await;
    let shown = overview.expect("an answer").into_inner().stores;
    let evicted: Vec<bool> = shown.iter().map(|store| store.is_evicted).collect();
    assert_eq!(evicted, [true, false]);
    let ended = hand.evict(first, Eviction::End).await;
    assert_eq!((error(ended.header), ended.is_evicted), (None, false));
    placement.stop().await;
}

#[tokio::test]
async fn settings_are_shown_changed_and_refused_in_one_sentence() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let mut hand = Hand::new(&placement).await;
    let value = |shown: &ConfigureResponse, name: &str| {
        let found = shown.settings.iter().find(|setting| setting.name == name);
        found.map(|setting| setting.value.clone())
    };
    let shown = hand.configure("", "").await;
    assert_eq!(value(&shown, "transfers_max").as_deref(), Some("4"));
    let refused = hand.configure("transfers_max", "0").await;
    let (kind, sentence) = error(refused.header).expect("refused");
    assert_eq!(kind, ErrorType::InvalidValue);
    assert_eq!(
        sentence,
        "transfers_max must be a whole number from 1 to 10000, not 0"
    );
    let set = hand.configure("transfers_max", "9").await;
    assert_eq!(value(&set, "transfers_max").as_deref(), Some("9"));
    placement.stop().await;
    // It survives a restart.
    let placement = Placement::start(data.path()).await;
    let mut hand = Hand::new(&placement).await;
    let shown = hand.configure("", "").await;
    assert_eq!(value(&shown, "transfers_max").as_deref(), Some("9"));
    placement.stop().await;
}
