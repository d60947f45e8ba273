//! Stores are labelled: at their start, and by hand.

use tinykv_proto::metapb::StoreLabel;
use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement::{LabelStoreRequest, LabelStoreResponse};

use super::cluster::{Placement, directory, error};
use super::hand::Hand;

impl Hand {
    async fn label(&mut self, store_id: u64, labels: &[(&str, &str)]) -> LabelStoreResponse {
        let labels = labels.iter().map(|(key, value)| StoreLabel {
            key: (*key).into(),
            value: (*value).into(),
        });
        let request = LabelStoreRequest {
            store_id,
            labels: labels.collect(),
            ..LabelStoreRequest::default()
        };
        let reply = self.client.label_store(request).await;
        reply.expect("an answer").into_inner()
    }
}

#[tokio::test]
async fn labels_are_set_looked_at_and_refused_and_last() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (store, _) = placement.bootstrap().await;
    let mut hand = Hand::new(&placement).await;
    let shown = |reply: &LabelStoreResponse| -> Vec<String> {
        let labels = reply.labels.iter();
        labels
            .map(|label| format!("{}={}", label.key, label.value))
            .collect()
    };
    let set = hand.label(store.id, &[("zone", "a"), ("host", "h")]).await;
    assert_eq!(error(set.header.clone()), None);
    assert_eq!(shown(&set), ["host=h", "zone=a"]);
    let cut = hand.label(store.id, &[("host", "")]).await;
    assert_eq!(shown(&cut), ["zone=a"]);
    for (labels, words) in [
        (&[("row", "7")][..], "there is no level `row`"),
        (&[("zone", "a"), ("zone", "b")][..], "named twice"),
    ] {
        let (kind, sentence) = error(hand.label(store.id, labels).await.header).expect("refused");
        assert_eq!(kind, ErrorType::InvalidValue);
        assert!(sentence.contains(words), "{sentence}");
    }
    let (kind, _) = error(hand.label(77, &[]).await.header).expect("refused");
    assert_eq!(kind, ErrorType::EntryNotFound);
    placement.stop().await;
    let placement = Placement::start(data.path()).await;
    let mut hand = Hand::new(&placement).await;
    assert_eq!(shown(&hand.label(store.id, &[]).await), ["zone=a"]);
    placement.stop().await;
}
