//! Splits: ids before, routes after; and operators by hand, from the wish to the outcome.

use tinykv_proto::metapb;
use tinykv_proto::pdpb::{self, ErrorType};
use tinykv_proto::placement::add_operator_request::Action;
use tinykv_proto::placement::{
    AddOperatorRequest, AddOperatorResponse, AddPeerOn, CancelOperatorRequest,
    ListOperatorsRequest, MovePeer, OperatorStatus, RemovePeerFrom, SplitAtKeys, TransferLeaderTo,
};

use super::cluster::{Placement, Store, directory, error};
use super::hand::Hand;
use super::heartbeats::{Link, region};

pub(crate) async fn ask(
    store: &Store,
    region: &metapb::Region,
    count: u32,
) -> Result<Vec<pdpb::SplitId>, (ErrorType, String)> {
    let request = pdpb::AskBatchSplitRequest {
        header: store.header(),
        region: Some(region.clone()),
        split_count: count,
        ..Default::default()
    };
    let reply = store.client.clone().ask_batch_split(request).await;
    let reply = reply.expect("an answer").into_inner();
    match error(reply.header) {
        None => Ok(reply.ids),
        Some(refused) => Err(refused),
    }
}

pub(crate) async fn report(store: &Store, parts: &[metapb::Region]) -> Option<(ErrorType, String)> {
    let request = pdpb::ReportBatchSplitRequest {
        header: store.header(),
        regions: parts.to_vec(),
    };
    let reply = store.client.clone().report_batch_split(request).await;
    error(reply.expect("an answer").into_inner().header)
}

/// The parts a split at these keys makes, as the parent's leader applies it.
pub(crate) fn split(
    parent: &metapb::Region,
    keys: &[&'static [u8]],
    ids: &[pdpb::SplitId],
) -> Vec<metapb::Region> {
    let mut epoch = parent.region_epoch.expect("an epoch");
    epoch.version += keys.len() as u64;
    let ends = keys[1..].iter().map(|key| key.to_vec());
    let ends = ends.chain([parent.end_key.to_vec()]);
    let mut parts = vec![metapb::Region {
        end_key: keys[0].into(),
        region_epoch: Some(epoch),
        ..parent.clone()
    }];
    for ((key, end), ids) in keys.iter().zip(ends).zip(ids) {
        let peers = parent.peers.iter().zip(&ids.new_peer_ids);
        parts.push(metapb::Region {
            id: ids.new_region_id,
            start_key: (*key).into(),
            end_key: end.into(),
            region_epoch: Some(epoch),
            peers: peers
                .map(|(peer, id)| metapb::Peer { id: *id, ..*peer })
                .collect(),
        });
    }
    parts
}

/// The region that contains a key; unlike a look-up this does not wait for its leader.
pub(crate) async fn at(placement: &Placement, key: &[u8]) -> metapb::Region {
    let request = pdpb::ScanRegionsRequest {
        header: placement.header(),
        start_key: key.to_vec().into(),
        limit: 1,
        ..Default::default()
    };
    let reply = placement.client().await.scan_regions(request).await;
    let mut found = reply.expect("an answer").into_inner().region_metas;
    found.pop().expect("a region")
}

#[tokio::test]
async fn a_split_gets_fresh_ids_and_all_its_parts_are_shown_at_once() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (store, regions) = placement.bootstrap().await;
    let parent = &regions[0];
    let ids = ask(&store, parent, 2).await.expect("ids");
    let again = ask(&store, parent, 2).await.expect("other ids");
    let mut all: Vec<u64> = ids
        .iter()
        .chain(&again)
        .flat_map(|id| std::iter::once(id.new_region_id).chain(id.new_peer_ids.clone()))
        .collect();
    assert_eq!(all.len(), 8, "a region and a peer each");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8, "no id twice");

    let parts = split(parent, &[b"g", b"p"], &ids);
    assert_eq!(report(&store, &parts).await, None);
    assert_eq!(report(&store, &parts).await, None, "a repeat is no news");
    for (key, part) in [(&b"a"[..], 0), (b"g", 1), (b"o", 1), (b"p", 2)] {
        assert_eq!(at(&placement, key).await.id, parts[part].id, "{key:?}");
    }

    // The store falls back behind what it reported, and somebody else reports the same range.
    let (kind, sentence) = ask(&store, parent, 1).await.expect_err("an older epoch");
    assert_eq!(kind, ErrorType::Unknown);
    assert!(sentence.contains("outdated"), "{sentence}");
    let overlapping = split(parent, &[b"k"], &again);
    let (_, sentence) = report(&store, &overlapping).await.expect("refused");
    assert!(sentence.contains("outdated"), "{sentence}");
    for (key, part) in [(&b"a"[..], 0), (b"k", 1)] {
        assert_eq!(at(&placement, key).await, parts[part], "nothing changed");
    }
    placement.stop().await;
}

#[tokio::test]
async fn splits_that_do_not_fit_are_refused_in_one_sentence() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (store, regions) = placement.bootstrap().await;
    let stranger = placement.join().await;
    let mut unknown = regions[0].clone();
    unknown.id = placement.ids(1).await[0];
    let refused = ask(&store, &unknown, 1).await.expect_err("unknown");
    assert_eq!(refused.0, ErrorType::RegionNotFound);
    for count in [0, 65] {
        let refused = ask(&store, &regions[0], count).await.expect_err("a bound");
        assert_eq!(refused.0, ErrorType::InvalidValue);
        assert!(refused.1.contains("1 to 64"), "{}", refused.1);
    }
    let refused = ask(&stranger, &regions[0], 1).await.expect_err("not its");
    assert!(refused.1.contains("no peer of region"), "{}", refused.1);
    let mut impostor = store.clone();
    impostor.start += 1;
    let refused = ask(&impostor, &regions[0], 1).await.expect_err("not it");
    assert!(refused.1.contains("registered with"), "{}", refused.1);
    let refused = report(&impostor, &regions).await.expect("not it");
    assert!(refused.1.contains("registered with"), "{}", refused.1);
    let refused = report(&store, &[]).await.expect("no parts");
    assert!(refused.1.contains("2 to 65 parts"), "{}", refused.1);
    placement.stop().await;
}

impl Hand {
    async fn add(&mut self, region: u64, action: Action) -> AddOperatorResponse {
        let request = AddOperatorRequest {
            region_id: region,
            action: Some(action),
            ..Default::default()
        };
        let reply = self.client.add_operator(request).await;
        reply.expect("an answer").into_inner()
    }

    pub(crate) async fn begin(&mut self, region: u64, action: Action) -> OperatorStatus {
        let reply = self.add(region, action).await;
        assert_eq!(error(reply.header), None);
        reply.operator.expect("it begins")
    }

    pub(crate) async fn refused(&mut self, region: u64, action: Action) -> (ErrorType, String) {
        let reply = self.add(region, action).await;
        assert_eq!(reply.operator, None);
        error(reply.header).expect("refused")
    }

    pub(crate) async fn list(
        &mut self,
        id: u64,
    ) -> Result<Vec<OperatorStatus>, (ErrorType, String)> {
        let request = ListOperatorsRequest {
            with_ended: true,
            operator_id: id,
            ..Default::default()
        };
        let reply = self.client.list_operators(request).await;
        let reply = reply.expect("an answer").into_inner();
        match error(reply.header) {
            None => Ok(reply.operators),
            Some(refused) => Err(refused),
        }
    }

    async fn cancel(&mut self, id: u64) -> Result<OperatorStatus, (ErrorType, String)> {
        let request = CancelOperatorRequest {
            operator_id: id,
            ..Default::default()
        };
        let reply = self.client.cancel_operator(request).await;
        let reply = reply.expect("an answer").into_inner();
        match error(reply.header) {
            None => Ok(reply.operator.expect("as it ended")),
            Some(refused) => Err(refused),
        }
    }
}

pub(crate) fn at_keys(keys: &[&'static [u8]]) -> Action {
    Action::Split(SplitAtKeys {
        keys: keys.iter().map(|key| (*key).into()).collect(),
    })
}

#[tokio::test]
async fn a_split_by_hand_is_ordered_carried_out_and_told() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (mut store, regions) = placement.bootstrap().await;
    store.beat().await;
    let parent = &regions[0];
    let mut link = Link::open(&store, parent, 5).await;
    let mut hand = Hand::new(&placement).await;
    // The wish may come before the heartbeat that names the leader; it waits.
    let begun = hand.begin(parent.id, at_keys(&[b"g"])).await;
    assert_eq!(
        (begun.kind.as_str(), begun.rule.as_str()),
        ("split", "manual")
    );
    assert_eq!((begun.state.as_str(), begun.step), ("running", 0));
    assert_eq!(begun.steps, ["split at 1 key"]);

    let (kind, sentence) = hand.refused(parent.id, at_keys(&[b"h"])).await;
    assert_eq!(kind, ErrorType::DuplicatedEntry);
    assert!(
        sentence.contains(&format!("operator {}", begun.id)),
        "{sentence}"
    );

    let order = link.answer().await;
    let wanted = order.split_region.expect("a split is ordered");
    assert_eq!(wanted.policy(), pdpb::CheckPolicy::Usekey);
    assert_eq!(wanted.keys, [&b"g"[..]]);
    assert_eq!(order.region_epoch, parent.region_epoch);

    let ids = ask(&store, parent, 1).await.expect("ids");
    let parts = split(parent, &[b"g"], &ids);
    assert_eq!(report(&store, &parts).await, None);
    let listed = hand.list(begun.id).await.expect("it is remembered");
    assert_eq!(listed[0].state, "success", "{}", listed[0].outcome);
    assert_eq!(hand.list(0).await.expect("all of them"), listed);

    // In the middle, and given up.
    link.report(&parts[0], 5, &[]).await;
    let middle = hand.add(parent.id, at_keys(&[])).await;
    let middle = middle
        .operator
        .expect("it waits for the left part's leader");
    let order = link.answer().await;
    let wanted = order.split_region.expect("a split is ordered");
    assert_eq!(wanted.policy(), pdpb::CheckPolicy::Approximate);
    let cancelled = hand.cancel(middle.id).await.expect("under way");
    assert_eq!(cancelled.state, "cancelled");
    assert!(
        cancelled.outcome.contains("by hand"),
        "{}",
        cancelled.outcome
    );
    let (kind, sentence) = hand.cancel(middle.id).await.expect_err("over");
    assert_eq!(kind, ErrorType::EntryNotFound);
    assert!(sentence.contains("ended already"), "{sentence}");
    let (kind, sentence) = hand.list(7).await.expect_err("never begun");
    assert_eq!(kind, ErrorType::EntryNotFound);
    assert!(
        sentence.contains("another member begins to lead"),
        "{sentence}"
    );
    placement.stop().await;
}

#[tokio::test]
async fn wishes_that_do_not_fit_are_refused_in_one_sentence() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (mut store, regions) = placement.bootstrap().await;
    store.beat().await;
    let away = placement.join().await;
    let parent = &regions[1];
    let _link = Link::open(&store, parent, 5).await;
    let mut hand = Hand::new(&placement).await;
    let to = |store_id| Action::TransferLeader(TransferLeaderTo { store_id });
    let add = |store_id| Action::AddPeer(AddPeerOn { store_id });
    let remove = |store_id| Action::RemovePeer(RemovePeerFrom { store_id });
    let moved = |from_store_id, to_store_id| {
        Action::MovePeer(MovePeer {
            from_store_id,
            to_store_id,
        })
    };
    let nobody = placement.ids(1).await[0];
    let found = region(&placement, parent.id).await;
    assert!(found.leader.is_some(), "a look-up waits for the leader");
    let cases = [
        (to(store.id), "leads region"),
        (to(away.id), "has no peer of region"),
        (to(nobody), "does not exist"),
        (add(store.id), "has peer"),
        (add(away.id), "is joined: name a store that is up"),
        (add(nobody), "does not exist"),
        (remove(store.id), "needs its voter"),
        (remove(away.id), "has no peer"),
        (moved(store.id, store.id), "name a store that has none"),
        (moved(away.id, store.id), "has no peer"),
        (moved(store.id, away.id), "is joined"),
        (at_keys(&[b"\0"]), "lies outside"),
    ];
    for (action, expected) in cases {
        let (kind, sentence) = hand.refused(parent.id, action).await;
        assert_eq!(kind, ErrorType::InvalidValue, "{sentence}");
        assert!(sentence.contains(expected), "{sentence}");
    }
    let (kind, _) = hand.refused(nobody, add(away.id)).await;
    assert_eq!(kind, ErrorType::RegionNotFound);
    placement.stop().await;
}
