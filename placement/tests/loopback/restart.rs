//! A member that ends and starts again on its directory has forgotten nothing that was promised.

use tinykv_proto::pdpb;

use super::cluster::{Placement, directory, error};
use super::timestamps::draw;

#[tokio::test]
async fn a_restart_keeps_everything() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let (store, regions) = placement.bootstrap().await;
    let mut second = placement.join().await;
    let cluster_id = placement.cluster_id;
    let mut ids = placement.ids(3).await;
    let mut largest = draw(&placement, &[5]).await[0].1;
    let mut client = placement.client().await;
    let cluster = tinykv_proto::metapb::Cluster {
        id: cluster_id,
        max_peer_count: 5,
    };
    let request = pdpb::PutClusterConfigRequest {
        header: placement.header(),
        cluster: Some(cluster),
    };
    let reply = client
        .put_cluster_config(request)
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(error(reply.header), None);
    placement.stop().await;

    for _round in 0..3 {
        let placement = Placement::start(data.path()).await;
        assert_eq!(placement.cluster_id, cluster_id);
        let mut client = placement.client().await;
        let scan = pdpb::ScanRegionsRequest {
            header: store.header(),
            ..Default::default()
        };
        let known = client
            .scan_regions(scan)
            .await
            .expect("regions")
            .into_inner();
        assert_eq!(known.region_metas, regions, "as they were brought");
        let all = pdpb::GetAllStoresRequest {
            header: placement.header(),
            ..Default::default()
        };
        let all = client
            .get_all_stores(all)
            .await
            .expect("stores")
            .into_inner();
        let known: Vec<u64> = all.stores.iter().map(|store| store.id).collect();
        assert_eq!(known, [store.id, second.id]);
        let config = pdpb::GetClusterConfigRequest {
            header: placement.header(),
        };
        let config = client
            .get_cluster_config(config)
            .await
            .expect("settings")
            .into_inner();
        assert_eq!(
            config.cluster.map(|cluster| cluster.max_peer_count),
            Some(5)
        );

        let more = placement.ids(3).await;
        assert!(
            more[0] > *ids.last().expect("some"),
            "{more:?} after {ids:?}"
        );
        ids.extend(more);
        let (first, last) = draw(&placement, &[5]).await[0];
        assert!(first > largest, "{first} after {largest}");
        largest = last;

        second.client = placement.client().await;
        second.start -= 1;
        let (_, sentence) = second
            .put()
            .await
            .expect("an old copy is remembered as such");
        assert!(
            sentence.contains("no start number") || sentence.contains("older"),
            "{sentence}"
        );
        second.start += 2;
        assert_eq!(second.put().await, None);
        placement.stop().await;
    }
}

#[tokio::test]
async fn a_directory_in_use_or_foreign_is_refused() {
    use clap::Parser;
    use tinykv_node::spawn::Fatal;
    use tinykv_placement::config::Args;
    use tinykv_placement::process::Member;

    let data = directory();
    let placement = Placement::start(data.path()).await;
    let start = async |extra: &[&str]| {
        let path = data.path().to_str().expect("UTF-8");
        let args = ["test", "--addr", "127.0.0.1:0", "--data-dir", path];
        let args = Args::parse_from(args.iter().chain(extra));
        let failed = Member::start(&args, Fatal::new(|_| ())).await.err();
        failed.expect("refused")
    };
    let in_use = start(&[]).await;
    assert_eq!(in_use.exit_code(), 3);
    assert!(in_use.to_string().contains("in use"), "{in_use}");
    let list = format!("a=http://{}", placement.address);
    let stranger = ["--advertise-addr", "x:1", "--initial-cluster", &list];
    let failed = start(&stranger).await;
    assert_eq!(
        failed.exit_code(),
        2,
        "this member is not in the list: {failed}"
    );
    placement.stop().await;
    let other = ["--name", "b", "--advertise-addr", "h:2"];
    let list = ["--initial-cluster", "a=http://h:1,b=http://h:2"];
    let foreign = start(&[other.as_slice(), list.as_slice()].concat()).await;
    assert_eq!(foreign.exit_code(), 3);
    assert!(
        foreign.to_string().contains("belongs to member 1"),
        "{foreign}"
    );
}
