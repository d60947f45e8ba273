//! Replicas compared, against a store that is a fake: it leads every region.

use tinykv_proto::check::check_server::{Check, CheckServer};
use tinykv_proto::check::{self as pb, CheckRegionRequest, CheckRegionResponse, Refusal};

use super::*;

/// What the store answers about each region.
#[derive(Clone, Default)]
struct Store {
    /// By region: the sums of the replicas on stores 2, 3 and 4; 0 of one that tells nothing.
    sums: Arc<Mutex<BTreeMap<u64, [u32; 3]>>>,
    /// It leads nothing for so many questions.
    refusals: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl Check for Store {
    async fn check_region(
        &self,
        request: Request<CheckRegionRequest>,
    ) -> Result<Response<CheckRegionResponse>, Status> {
        let region = request.into_inner().region_id;
        let mut refusals = self.refusals.lock().expect("no panic");
        if *refusals > 0 {
            *refusals -= 1;
            return Ok(Response::new(CheckRegionResponse {
                refusal: Refusal::NotLeader.into(),
                error: format!("region {region} is not led from this store"),
                ..CheckRegionResponse::default()
            }));
        }
        let sums = self.sums.lock().expect("no panic");
        let sums = sums.get(&region).copied().unwrap_or([7, 7, 7]);
        let replica = |(store_id, crc32c): (u64, u32)| pb::Replica {
            peer_id: region * 10 + store_id,
            store_id,
            sum: (crc32c > 0).then_some(pb::Sum {
                index: 12,
                term: 3,
                crc32c,
                pairs: 2,
                bytes: 20,
            }),
            error: match crc32c {
                0 => "its store cannot be reached".to_owned(),
                _ => String::new(),
            },
            is_odd: crc32c > 0 && crc32c != 7,
        };
        let ends = [(1, "b"), (2, "k"), (4, "p"), (5, "")];
        let end = ends.into_iter().find(|(id, _)| *id == region);
        Ok(Response::new(CheckRegionResponse {
            index: 12,
            replicas: (2..).zip(sums).map(replica).collect(),
            end_key: end.map_or("", |(_, end)| end).into(),
            ..CheckRegionResponse::default()
        }))
    }
}

/// A cluster whose regions are all led from the store.
async fn start() -> (Fake, Store) {
    let mut fake = Fake::start().await;
    let store = Store::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let router = Server::builder().add_service(CheckServer::new(store.clone()));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let served = router.serve_with_incoming(TcpIncoming::from(listener));
        served.await.expect("the fake serves");
    });
    fake.servers.push(server);
    fake.world().stores = vec![placement::StoreStatus {
        store: Some(metapb::Store {
            id: 3,
            address,
            ..metapb::Store::default()
        }),
        ..placement::StoreStatus::default()
    }];
    (fake, store)
}

fn ids(ran: &Ran) -> Vec<&str> {
    let rows = ran.out.lines().skip(1);
    let rows = rows.take_while(|line| !line.contains(" regions: "));
    rows.filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[tokio::test]
async fn equal_regions_end_with_zero() {
    let (fake, store) = start().await;
    *store.refusals.lock().expect("no panic") = 2;
    let ran = fake.ctl(&["check"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ids(&ran), ["1", "2", "4", "5"]);
    let last = ran.out.lines().last();
    assert_eq!(
        last,
        Some("4 regions: 4 equal, 0 different, 0 not checked"),
        "a refusal is no end"
    );
    assert!(ran.out.contains("store 2, store 3, store 4"), "{ran:?}");
    let all = fake.ctl(&["check", "--all"]).await;
    assert_eq!((all.code, all.out), (ran.code, ran.out));
}

#[tokio::test]
async fn what_is_asked_for_is_checked() {
    let (fake, _store) = start().await;
    for (arguments, checked) in [
        (&["check", "4", "2"][..], &["4", "2"][..]),
        (&["check", "--from", "c"], &["2", "4", "5"]),
        (&["check", "--to", "k"], &["1", "2"]),
        (&["check", "--from", "k", "--to", "k0"], &["4"]),
    ] {
        let ran = fake.ctl(arguments).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ids(&ran), checked, "{arguments:?}");
    }
    for (arguments, sentence) in [
        (
            &["check", "9"][..],
            "there is no region 9; see `region list`",
        ),
        (
            &["check", "--from", "k", "--to", "c"],
            "give a --from that lies before --to",
        ),
        (&["check", "2", "--all"], "cannot be used with"),
        (&["check", "0"], "0 is not in 1.."),
    ] {
        let ran = fake.ctl(arguments).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(sentence), "{ran:?}");
    }
}

#[tokio::test]
async fn a_difference_names_the_store_and_ends_with_one() {
    let (fake, store) = start().await;
    let plant = |region, sums| store.sums.lock().expect("no panic").insert(region, sums);
    plant(2, [7, 7, 8]);
    plant(5, [7, 0, 7]);
    let ran = fake.ctl(&["check"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.err, "", "it is said already");
    let row = |id: &str| {
        let mut lines = ran.out.lines().map(str::trim_start);
        let row = lines.find(|line| line.starts_with(id));
        row.unwrap_or_default().to_owned()
    };
    assert!(row("2 ").contains("DIFFERENT"), "{ran:?}");
    assert!(row("2 ").contains("store 4 (peer 24) DIFFERS"), "{ran:?}");
    assert!(row("2 ").contains("store 3 (peer 23) holds 2 pairs"));
    assert!(row("5 ").contains("not checked"), "{ran:?}");
    assert!(
        row("5 ").contains("store 3 told nothing: its store cannot be reached"),
        "{ran:?}"
    );
    let last = ran.out.lines().last();
    assert_eq!(last, Some("4 regions: 2 equal, 1 different, 1 not checked"));
    let silent = fake.ctl(&["check", "5"]).await;
    assert_eq!(silent.code, Some(1), "{silent:?}");
}

#[tokio::test]
async fn programs_get_everything() {
    let (fake, store) = start().await;
    let sums = [(2, [7, 8, 0])];
    store.sums.lock().expect("no panic").extend(sums);
    let member = fake.world().members[0].clone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinykv-ctl"));
    command.args(["-u", &member, "-o", "json", "check", "2"]);
    let output = command.output().await.expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let region = &told[0];
    assert_eq!(region["id"], 2);
    assert_eq!(region["result"], "different");
    assert_eq!(region["index"], 12);
    assert_eq!(region["replicas"][1]["store_id"], 3);
    assert_eq!(region["replicas"][1]["is_different"], true);
    assert_eq!(region["replicas"][1]["holds"]["crc32c"], "00000008");
    assert!(region["replicas"][2]["holds"].is_null(), "{told}");
}

#[tokio::test]
async fn nobody_listening_ends_with_two() {
    let (mut fake, _store) = start().await;
    fake.servers.clear();
    let ran = fake.ctl(&["check"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("no placement member answered"), "{ran:?}");
}
