//! What calls answer, and what they refuse.

use tinykv_keys::memcomparable;
use tinykv_proto::keyspacepb::keyspace_client::KeyspaceClient;
use tinykv_proto::pdpb::{self, ErrorType};
use tinykv_proto::{ASKER_METADATA, ASKER_RAW, keyspacepb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Request};

use super::cluster::{Placement, directory, error};

#[tokio::test]
async fn members_name_their_leader_byte_for_byte() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let mut client = placement.client().await;
    let reply = client.get_members(pdpb::GetMembersRequest::default()).await;
    let reply = reply.expect("members").into_inner();
    assert_eq!(reply.members.len(), 1);
    assert_eq!(reply.leader.as_ref(), reply.members.first());
    assert_eq!(reply.etcd_leader, reply.leader);
    let leader = reply.leader.expect("a leader");
    assert_eq!(
        leader.client_urls,
        [format!("http://{}", placement.address)]
    );
    let info = client
        .get_cluster_info(pdpb::GetClusterInfoRequest::default())
        .await;
    assert_eq!(info.expect("info").into_inner().service_modes, [1]);
    placement.stop().await;
}

#[tokio::test]
async fn another_clusters_id_is_a_failed_precondition() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let mut client = placement.client().await;
    for cluster_id in [0, placement.cluster_id + 1] {
        let header = Some(pdpb::RequestHeader {
            cluster_id,
            ..Default::default()
        });
        let status = client
            .alloc_id(pdpb::AllocIdRequest { header, count: 1 })
            .await;
        assert_eq!(
            status.expect_err("refused").code(),
            Code::FailedPrecondition
        );
    }
    placement.stop().await;
}

#[tokio::test]
async fn only_one_store_founds_the_cluster() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let mut client = placement.client().await;
    let asked = |header| pdpb::IsBootstrappedRequest { header };
    let before = client
        .is_bootstrapped(asked(placement.header()))
        .await
        .expect("an answer");
    assert!(!before.into_inner().bootstrapped);
    let mut early = placement.store().await;
    let (kind, _) = early.put().await.expect("too early");
    assert_eq!(kind, ErrorType::NotBootstrapped);
    let request = pdpb::GetRegionRequest {
        header: placement.header(),
        ..Default::default()
    };
    let reply = client
        .get_region(request)
        .await
        .expect("an answer")
        .into_inner();
    let (kind, _) = error(reply.header).expect("nothing is there yet");
    assert_eq!(kind, ErrorType::NotBootstrapped);

    let (mut winner, regions) = placement.bootstrap().await;
    let after = client
        .is_bootstrapped(asked(placement.header()))
        .await
        .expect("an answer");
    assert!(after.into_inner().bootstrapped);
    let again = winner.bootstrap(regions).await.expect("an answer");
    assert_eq!(error(again.header), None, "the answer may have been lost");
    let others = early.first_regions(&placement.ids(12).await);
    let late = early.bootstrap(others.clone()).await.expect("an answer");
    let (kind, _) = error(late.header).expect("too late");
    assert_eq!(kind, ErrorType::AlreadyBootstrapped);
    let status = early
        .bootstrap(others[..5].to_vec())
        .await
        .expect_err("one edge is missing");
    assert_eq!(status.code(), Code::InvalidArgument);
    placement.stop().await;
}

#[tokio::test]
async fn a_store_that_is_not_who_it_was_is_refused_in_one_sentence() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (mut store, _) = placement.bootstrap().await;
    assert_eq!(error(store.beat().await.header), None);
    store.start = 3;
    let (_, sentence) = error(store.beat().await.header).expect("not registered with this start");
    assert!(sentence.contains("start 3"), "{sentence}");
    assert_eq!(store.put().await, None);
    assert_eq!(error(store.beat().await.header), None);
    store.start = 2;
    let (_, sentence) = store.put().await.expect("an old copy of the disk");
    assert!(sentence.contains("older data directory"), "{sentence}");
    store.start = 4;
    store.incarnation += 1;
    let (_, sentence) = store.put().await.expect("another directory");
    assert!(sentence.contains("another data directory"), "{sentence}");
    let mut thief = placement.store().await;
    let id = thief.id;
    thief.id = store.id;
    let mut request = pdpb::PutStoreRequest {
        header: None,
        store: Some(thief.description()),
    };
    thief.id = id;
    request.header = thief.header();
    if let Some(description) = &mut request.store {
        description.id = id;
    }
    let reply = thief
        .client
        .put_store(request)
        .await
        .expect("an answer")
        .into_inner();
    let (kind, sentence) = error(reply.header).expect("the address is taken");
    assert_eq!(kind, ErrorType::DuplicatedEntry, "{sentence}");
    placement.stop().await;
}

#[tokio::test]
async fn ids_are_runs_that_never_overlap() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let mut all = Vec::new();
    for count in [1, 5, 900, 300, 2_500, 1] {
        all.extend(placement.ids(count).await);
    }
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), all.len());
    placement.stop().await;
}

#[tokio::test]
async fn each_asker_sees_bounds_it_can_read() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (_, regions) = placement.bootstrap().await;
    let edge = regions[1].start_key.clone();
    let scan = pdpb::ScanRegionsRequest {
        header: placement.header(),
        ..Default::default()
    };

    // A raw client: the empty key gives it away, and its connection stays raw.
    let mut raw = placement.client().await;
    let seen = raw
        .scan_regions(scan.clone())
        .await
        .expect("regions")
        .into_inner();
    assert_eq!(seen.regions.len(), 6);
    assert_eq!(seen.region_metas.len(), 6);
    assert_eq!(seen.leaders.len(), 6);
    let first = seen.regions[0].region.clone().expect("a region");
    assert_eq!(&first.end_key[..edge.len()], &edge[..]);
    assert_eq!(first.end_key.len(), edge.len() + 1, "raw(x) is no encoding");
    assert_eq!(first.region_epoch.map(|epoch| epoch.version), Some(1));
    let by_id = pdpb::GetRegionByIdRequest {
        header: placement.header(),
        region_id: first.id,
        ..Default::default()
    };
    let same = raw
        .get_region_by_id(by_id.clone())
        .await
        .expect("a region")
        .into_inner();
    assert_eq!(same.region, Some(first.clone()));

    // A client that decodes.
    let mut encoded = placement.client().await;
    let same = encoded
        .get_region_by_id(by_id)
        .await
        .expect("a region")
        .into_inner();
    assert_eq!(same.region.expect("the same").end_key, edge);
    let key = memcomparable::encode(b"x");
    let request = pdpb::GetRegionRequest {
        header: placement.header(),
        region_key: key.into(),
        ..Default::default()
    };
    let found = encoded
        .get_region(request.clone())
        .await
        .expect("a region")
        .into_inner();
    let found = found.region.expect("a region");
    assert!(memcomparable::is_encoding(&found.start_key));
    assert!(memcomparable::is_encoding(&found.end_key));

    // Ours says which it is; a region before, and none before the first.
    let mut ours = Request::new(request);
    let raw_value = ASKER_RAW.parse().expect("ascii");
    ours.metadata_mut().insert(ASKER_METADATA, raw_value);
    let before = encoded
        .get_prev_region(ours)
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(before.region.expect("one before").id, regions[1].id);
    let request = pdpb::GetRegionRequest {
        header: placement.header(),
        ..Default::default()
    };
    let none = raw
        .get_prev_region(request)
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!((error(none.header), none.region), (None, None));
    placement.stop().await;
}

#[tokio::test]
async fn stores_and_settings_are_told() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (mut store, _) = placement.bootstrap().await;
    store.beat().await;
    let mut client = placement.client().await;
    let ask = |store_id| pdpb::GetStoreRequest {
        header: placement.header(),
        store_id,
    };
    let known = client
        .get_store(ask(store.id))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(
        known.store.map(|known| known.address),
        Some(store.description().address)
    );
    assert_eq!(known.stats.map(|stats| stats.used_size), Some(400));
    let unknown = client
        .get_store(ask(5))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(
        error(unknown.header).map(|(kind, _)| kind),
        Some(ErrorType::EntryNotFound)
    );
    let all = pdpb::GetAllStoresRequest {
        header: placement.header(),
        ..Default::default()
    };
    let all = client
        .get_all_stores(all)
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(all.stores.len(), 1);

    let config = || pdpb::GetClusterConfigRequest {
        header: placement.header(),
    };
    let known = client
        .get_cluster_config(config())
        .await
        .expect("an answer")
        .into_inner();
    let mut cluster = known.cluster.expect("settings");
    assert_eq!(
        (cluster.id, cluster.max_peer_count),
        (placement.cluster_id, 3)
    );
    for (count, accepted) in [(4, false), (5, true)] {
        cluster.max_peer_count = count;
        let request = pdpb::PutClusterConfigRequest {
            header: placement.header(),
            cluster: Some(cluster),
        };
        let reply = client
            .put_cluster_config(request)
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(error(reply.header).is_none(), accepted, "{count}");
    }
    placement.stop().await;
}

#[tokio::test]
async fn the_default_keyspace_exists() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let url = format!("http://{}", placement.address);
    let mut client = KeyspaceClient::connect(url).await.expect("it listens");
    let ask = |name: &str| keyspacepb::LoadKeyspaceRequest {
        header: placement.header(),
        name: name.into(),
    };
    let found = client
        .load_keyspace(ask("DEFAULT"))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(
        found.keyspace.map(|keyspace| (keyspace.id, keyspace.state)),
        Some((0, 0))
    );
    let none = client
        .load_keyspace(ask("other"))
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(none.keyspace, None);
    placement.stop().await;
}

/// One port for both: HTTP/1.1 beside gRPC.
#[tokio::test]
async fn tools_find_their_page_on_the_same_port() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    placement.bootstrap().await;
    let get = async |path: &str| {
        let mut connection = tokio::net::TcpStream::connect(&placement.address)
            .await
            .expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        connection
            .write_all(request.as_bytes())
            .await
            .expect("sent");
        let mut answer = String::new();
        connection
            .read_to_string(&mut answer)
            .await
            .expect("received");
        answer
    };
    let page = get("/pd/api/v1/regions").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("\"count\":6,"), "{page}");
    assert!(get("/health").await.contains("\"healthy\":true"));
    let metrics = get("/metrics").await;
    assert!(metrics.contains("tinykv_placement_regions 6"), "{metrics}");
    assert!(get("/nothing").await.starts_with("HTTP/1.1 404"));
    placement.stop().await;
}
