//! Regions are spread evenly, as `tinykv-ctl` asks for it.

use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement::{ScatterRequest, ScatterResponse};

use super::cluster::{Placement, directory, error};
use super::hand::Hand;

impl Hand {
    async fn scatter(&mut self, region_ids: &[u64], begin: bool) -> ScatterResponse {
        let request = ScatterRequest {
            region_ids: region_ids.to_vec(),
            begin,
            ..ScatterRequest::default()
        };
        let reply = self.client.scatter(request).await;
        reply.expect("an answer").into_inner()
    }
}

#[tokio::test]
async fn regions_are_scattered_looked_at_and_refused() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (_store, regions) = placement.bootstrap().await;
    let mut hand = Hand::new(&placement).await;
    let (kind, sentence) = error(hand.scatter(&[77], true).await.header).expect("refused");
    assert_eq!(kind, ErrorType::RegionNotFound);
    assert!(sentence.contains("region 77 is not known"), "{sentence}");
    let looked = hand.scatter(&[], false).await;
    assert_eq!((error(looked.header.clone()), looked.left), (None, 0));
    let begun = hand.scatter(&[regions[0].id], true).await;
    assert_eq!((error(begun.header.clone()), begun.left), (None, 1));
    // Nobody leads it, so it is waited for.
    assert_eq!(
        begun.blocked_by,
        [format!(
            "region {} has not all its voters, healthy and with a known leader",
            regions[0].id
        )]
    );
    let all = hand.scatter(&[], true).await;
    assert_eq!(all.left, regions.len() as u32);
    placement.stop().await;
}
