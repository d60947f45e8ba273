//! Merges: from the wish to the order, and to a route that is gone for good.

use tinykv_proto::metapb;
use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement::MergeInto;
use tinykv_proto::placement::add_operator_request::Action;

use super::cluster::{Placement, Store, directory, error};
use super::hand::Hand;
use super::heartbeats::{Link, region};
use super::splits::{ask, at, report, split};

fn into(target: &metapb::Region) -> Action {
    Action::Merge(MergeInto {
        target_region_id: target.id,
    })
}

/// A store that has split its first region at `g` and `p`, and leads all three parts.
async fn three_parts(placement: &Placement) -> (Store, Vec<metapb::Region>, Link) {
    let (mut store, regions) = placement.bootstrap().await;
    store.beat().await;
    let ids = ask(&store, &regions[0], 2).await.expect("ids");
    let parts = split(&regions[0], &[b"g", b"p"], &ids);
    assert_eq!(report(&store, &parts).await, None);
    let mut link = Link::open(&store, &parts[0], 5).await;
    for part in &parts[1..] {
        link.report(part, 5, &[]).await;
    }
    link.heard(&parts[0]).await;
    (store, parts, link)
}

/// The region as it is after so many changes of its range; a freeze counts as one of its peers, too.
fn changed(region: &metapb::Region, changes: u64, conf_changes: u64) -> metapb::Region {
    let mut changed = region.clone();
    let epoch = changed.region_epoch.as_mut().expect("an epoch");
    epoch.version += changes;
    epoch.conf_ver += conf_changes;
    changed
}

#[tokio::test]
async fn a_merge_by_hand_is_ordered_and_the_source_is_gone_for_good() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (_store, parts, mut link) = three_parts(&placement).await;
    let [left, source, _] = &parts[..] else {
        panic!("three parts: {parts:?}");
    };
    let mut hand = Hand::new(&placement).await;
    let begun = hand.begin(source.id, into(left)).await;
    assert_eq!(begun.kind, "merge");
    assert_eq!(begun.steps, [format!("merge into region {}", left.id)]);
    let order = link.answer().await;
    assert_eq!(order.region_id, source.id);
    assert_eq!(order.region_epoch, source.region_epoch);
    let target = order.merge.and_then(|merge| merge.target);
    assert_eq!(target.as_ref(), Some(left), "as it is stored");

    // Both are busy.
    for (asked, wish) in [(left, into(source)), (&parts[2], into(source))] {
        let (kind, sentence) = hand.refused(asked.id, wish).await;
        assert_eq!(kind, ErrorType::DuplicatedEntry);
        let operator = format!("operator {} (merge, manual)", begun.id);
        assert!(sentence.contains(&operator), "{sentence}");
    }

    // The source freezes; then the target takes it in.
    let frozen = changed(source, 1, 1);
    link.report(&frozen, 5, &[]).await;
    link.heard(left).await;
    assert_eq!(
        hand.list(begun.id).await.expect("known")[0].state,
        "running"
    );
    let mut merged = changed(left, 2, 0);
    merged.end_key = source.end_key.clone();
    link.report(&merged, 5, &[]).await;
    link.heard(&merged).await;
    let listed = hand.list(begun.id).await.expect("remembered");
    assert_eq!(listed[0].state, "success", "{}", listed[0].outcome);

    // Whoever asks is told of the one region, and what the source still says is not believed.
    assert_eq!(at(&placement, b"h").await, merged);
    assert_eq!(region(&placement, source.id).await.region, None);
    let found = region(&placement, merged.id).await;
    let epoch = found.region.and_then(|region| region.region_epoch);
    assert_eq!(epoch, merged.region_epoch);
    for late in [source.clone(), frozen.clone(), changed(&frozen, 0, 1)] {
        link.report(&late, 9, &[]).await;
        let (_, sentence) = error(link.answer().await.header).expect("refused");
        assert!(sentence.contains("outdated"), "{sentence}");
    }
    assert_eq!(region(&placement, source.id).await.region, None);
    let (kind, sentence) = hand.refused(source.id, into(&merged)).await;
    assert_eq!(kind, ErrorType::RegionNotFound);
    assert!(sentence.contains("list the regions"), "{sentence}");
    placement.stop().await;
}

#[tokio::test]
async fn merges_that_do_not_fit_are_refused_in_one_sentence() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (mut store, parts, mut link) = three_parts(&placement).await;
    let mut hand = Hand::new(&placement).await;
    store.beat_splitting(2_999).await;
    let beyond = at(&placement, &parts[2].end_key).await;
    link.report(&beyond, 5, &[]).await;
    link.heard(&beyond).await;
    let cases = [
        (&parts[0], &parts[1], "a store splits regions of 2999 bytes"),
        (&parts[1], &parts[1], "name a region beside it"),
        (&parts[0], &parts[2], "can be merged into region"),
        (&parts[2], &beyond, "is the edge of a keyspace, which stays"),
        (&beyond, &parts[2], "is the edge of a keyspace, which stays"),
    ];
    for (source, target, expected) in cases {
        let (kind, sentence) = hand.refused(source.id, into(target)).await;
        assert_eq!(kind, ErrorType::InvalidValue, "{sentence}");
        assert!(sentence.contains(expected), "{sentence}");
    }
    let nobody = metapb::Region {
        id: placement.ids(1).await[0],
        ..metapb::Region::default()
    };
    let (kind, _) = hand.refused(parts[0].id, into(&nobody)).await;
    assert_eq!(kind, ErrorType::RegionNotFound);
    placement.stop().await;
}

#[tokio::test]
async fn small_neighbours_are_merged_once_they_were_not_cut_for_long() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (_store, parts, mut link) = three_parts(&placement).await;
    let mut hand = Hand::new(&placement).await;
    let refused = hand.configure("merged_mib_max", "10").await;
    let (_, sentence) = error(refused.header).expect("refused");
    assert_eq!(
        sentence,
        "merged_mib_max (10) must not be below merge_mib_max (20)"
    );
    let set = hand.configure("split_merge_interval_ms", "0").await;
    assert_eq!(error(set.header), None);
    let order = link.answer().await;
    let target = order.merge.and_then(|merge| merge.target);
    let pair = (order.region_id, target.map(|target| target.id));
    let wanted = (parts[0].id, Some(parts[1].id));
    assert_eq!(
        pair, wanted,
        "the first in key order, into the only one beside it"
    );
    let begun = hand.list(0).await.expect("all of them");
    assert_eq!(
        (begun[0].kind.as_str(), begun[0].rule.as_str()),
        ("merge", "merge-small")
    );
    assert!(
        begun[0]
            .reason
            .contains("bytes together 2000, keys together 20"),
        "{}",
        begun[0].reason
    );
    placement.stop().await;
}
