//! A check of a region that lives on one store, its refusals and its figures.

use tinykv_proto::check::check_client::CheckClient;
use tinykv_proto::check::{CheckRegionRequest, CheckRegionResponse, Refusal};
use tonic::transport::Channel;

use super::{Setting, in_time};

async fn check(client: &mut CheckClient<Channel>, region_id: u64) -> CheckRegionResponse {
    let answer = client.check_region(CheckRegionRequest { region_id }).await;
    answer.expect("answered").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_checked_and_what_is_no_region_here_is_refused() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        running.put("k1", "one", 0).await;
        running.put("k2", "lives long", 3_600).await;
        let address = format!("http://{}", running.store.address);
        let mut client = CheckClient::connect(address).await.expect("connect");
        let region = running.context(b"k1").expect("a region").region_id;
        let mut sums = Vec::new();
        for _ in 0..2 {
            let answer = check(&mut client, region).await;
            assert_eq!(
                (answer.refusal(), answer.error.as_str()),
                (Refusal::None, "")
            );
            let [replica] = &answer.replicas[..] else {
                panic!("{answer:?}");
            };
            assert!(!replica.is_odd && replica.error.is_empty(), "{replica:?}");
            let sum = replica.sum.expect("it told");
            assert_eq!((sum.pairs, sum.index), (2, answer.index));
            sums.push(sum);
        }
        assert_eq!(sums[0].crc32c, sums[1].crc32c, "nothing was written");
        assert!(sums[0].index < sums[1].index);
        running.put("k1", "two", 0).await;
        let answer = check(&mut client, region).await;
        let sum = answer.replicas[0].sum.expect("it told");
        assert_ne!(sum.crc32c, sums[0].crc32c);

        let unknown = check(&mut client, 999).await;
        assert_eq!(unknown.refusal(), Refusal::UnknownRegion);
        let sentence =
            "region 999 does not live on this store; ask the placement driver where it does";
        assert_eq!(unknown.error, sentence);
        let page = running.page("/metrics").await;
        let figure = |line: &str| page.contains(line);
        assert!(
            figure(r#"tinykv_store_checks_total{outcome="Same"} 3"#),
            "{page}"
        );
        assert!(
            figure(r#"tinykv_store_checks_total{outcome="Refused"} 1"#),
            "{page}"
        );
        running.end().await;
        setting.end().await;
    })
    .await;
}
