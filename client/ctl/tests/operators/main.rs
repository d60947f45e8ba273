//! The commands for operators, as processes, against a placement driver that is a fake: two
//! members, of which the second leads.

mod check;
mod steering;

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard};

use tinykv_proto::pdpb::pd_server::{Pd, PdServer};
use tinykv_proto::placement::add_operator_request::Action;
use tinykv_proto::placement::placement_server::{Placement, PlacementServer};
use tinykv_proto::{metapb, pdpb, placement};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What both members share.
#[derive(Debug, Default)]
struct World {
    members: Vec<String>,
    /// Orders as they came.
    orders: Vec<placement::AddOperatorRequest>,
    cancelled: Vec<placement::CancelOperatorRequest>,
    /// What was asked of stores that leave.
    drains: Vec<placement::Leaving>,
    /// What was asked of regions that are to be spread.
    scatters: Vec<placement::ScatterRequest>,
    /// Refuse the next order with this.
    refusal: Option<&'static str>,
    /// How often the operator was looked at; it makes a step each time.
    looks: u32,
    /// How it ends, and why.
    ending: (&'static str, &'static str),
    /// Looks after which the leader forgets it, as after a fail-over.
    forgets_after: Option<u32>,
    regions: Vec<placement::RegionStatus>,
    stores: Vec<placement::StoreStatus>,
    /// The member that comes or goes, and what it will be told to be, the last first.
    seat: Option<(&'static str, Vec<placement::MemberStanding>)>,
}

#[derive(Clone)]
struct Member {
    index: usize,
    world: Arc<Mutex<World>>,
}

const STEPS: [&str; 3] = ["add a learner on store 4", "promote it", "remove store 1"];

fn header(error: Option<&str>) -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader {
        cluster_id: 7,
        error: error.map(|message| pdpb::Error {
            r#type: pdpb::ErrorType::InvalidValue.into(),
            message: message.to_owned(),
        }),
    })
}

fn operator(looks: u32, ending: (&str, &str)) -> placement::OperatorStatus {
    let is_running = looks < STEPS.len() as u32;
    placement::OperatorStatus {
        id: 12,
        region_id: 2,
        kind: "move-peer".to_owned(),
        rule: "by hand".to_owned(),
        reason: "an operator asked for it".to_owned(),
        steps: STEPS.map(str::to_owned).to_vec(),
        step: looks.min(2),
        state: if is_running { "running" } else { ending.0 }.to_owned(),
        outcome: if is_running { "" } else { ending.1 }.to_owned(),
        ..placement::OperatorStatus::default()
    }
}

fn region(id: u64, start: &str, end: &str) -> placement::RegionStatus {
    let peer = |store_id| metapb::Peer {
        id: id * 10 + store_id,
        store_id,
        ..metapb::Peer::default()
    };
    placement::RegionStatus {
        region: Some(metapb::Region {
            id,
            start_key: start.to_owned().into(),
            end_key: end.to_owned().into(),
            region_epoch: Some(metapb::RegionEpoch::default()),
            peers: vec![peer(2), peer(3), peer(4)],
        }),
        leader: Some(peer(3)),
        complete: true,
        ..placement::RegionStatus::default()
    }
}

impl Member {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    fn lead(&self) -> Result<MutexGuard<'_, World>, Status> {
        match self.index {
            1 => Ok(self.world()),
            _ => Err(Status::unavailable("this member does not lead")),
        }
    }
}

#[tonic::async_trait]
impl Pd for Member {
    async fn get_members(
        &self,
        _: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let members: Vec<_> = members(&self.world());
        Ok(Response::new(pdpb::GetMembersResponse {
            header: header(None),
            leader: members.get(1).cloned(),
            members,
            ..pdpb::GetMembersResponse::default()
        }))
    }
}

fn members(world: &World) -> Vec<pdpb::Member> {
    let named = world.members.iter().enumerate();
    named
        .map(|(at, address)| pdpb::Member {
            name: format!("placement-{}", at + 1),
            member_id: at as u64 + 1,
            client_urls: vec![format!("http://{address}")],
            ..pdpb::Member::default()
        })
        .collect()
}

#[tonic::async_trait]
impl Placement for Member {
    async fn overview(
        &self,
        request: Request<placement::OverviewRequest>,
    ) -> Result<Response<placement::OverviewResponse>, Status> {
        let placement::OverviewRequest {
            start_key, limit, ..
        } = request.into_inner();
        let limit = match limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let world = self.lead()?;
        let ends_after = |known: &&placement::RegionStatus| {
            let end = known.region.as_ref().map(|it| &it.end_key);
            end.is_some_and(|end| end.is_empty() || start_key < *end)
        };
        let regions = world.regions.iter().filter(ends_after).take(limit);
        Ok(Response::new(placement::OverviewResponse {
            header: header(None),
            members: members(&world),
            leader_member_id: 2,
            regions: regions.cloned().collect(),
            stores: world.stores.clone(),
            ..placement::OverviewResponse::default()
        }))
    }

    async fn add_operator(
        &self,
        request: Request<placement::AddOperatorRequest>,
    ) -> Result<Response<placement::AddOperatorResponse>, Status> {
        let mut world = self.lead()?;
        world.orders.push(request.into_inner());
        let refusal = world.refusal.take();
        Ok(Response::new(placement::AddOperatorResponse {
            header: header(refusal),
            operator: refusal
                .is_none()
                .then(|| operator(world.looks, world.ending)),
        }))
    }

    async fn list_operators(
        &self,
        request: Request<placement::ListOperatorsRequest>,
    ) -> Result<Response<placement::ListOperatorsResponse>, Status> {
        let mut world = self.lead()?;
        if request.get_ref().operator_id == 12 {
            world.looks += 1;
        }
        let forgotten = world
            .forgets_after
            .is_some_and(|looks| world.looks >= looks);
        let error = forgotten.then_some("there is no operator 12");
        Ok(Response::new(placement::ListOperatorsResponse {
            header: header(error),
            operators: match forgotten {
                true => Vec::new(),
                false => vec![operator(world.looks, world.ending)],
            },
            ..placement::ListOperatorsResponse::default()
        }))
    }

    async fn cancel_operator(
        &self,
        request: Request<placement::CancelOperatorRequest>,
    ) -> Result<Response<placement::CancelOperatorResponse>, Status> {
        let mut world = self.lead()?;
        world.cancelled.push(request.into_inner());
        Ok(Response::new(placement::CancelOperatorResponse {
            header: header(None),
            operator: Some(operator(9, ("cancelled", "by an operator"))),
        }))
    }

    async fn configure(
        &self,
        request: Request<placement::ConfigureRequest>,
    ) -> Result<Response<placement::ConfigureResponse>, Status> {
        let mut world = self.lead()?;
        let asked = request.into_inner();
        let value = match asked.value.as_str() {
            "" => "4".to_owned(),
            value => value.to_owned(),
        };
        Ok(Response::new(placement::ConfigureResponse {
            header: header(world.refusal.take()),
            settings: vec![placement::Setting {
                name: "transfers_max".to_owned(),
                value,
            }],
        }))
    }

    /// A member comes nearer to voting with every look; one that was removed is gone at the second.
    async fn change_members(
        &self,
        request: Request<placement::ChangeMembersRequest>,
    ) -> Result<Response<placement::ChangeMembersResponse>, Status> {
        use placement::MemberStanding::{Invited, Joining, Leaving, Voting};
        use placement::change_members_request::Change;
        let mut world = self.lead()?;
        let change = request.into_inner().change;
        match &change {
            Some(Change::Add(_)) => world.seat = Some(("new", vec![Voting, Joining, Invited])),
            Some(Change::Remove(3)) => world.seat = Some(("old", vec![Leaving])),
            Some(Change::Remove(_)) | None => {}
        }
        let there = members(&world).into_iter();
        let mut told: Vec<placement::MemberStatus> = there
            .map(|it| placement::MemberStatus {
                member_id: it.member_id,
                name: it.name,
                url: it.client_urls[0].clone(),
                standing: Voting.into(),
                leads: it.member_id == 2,
                silent_ms: 0,
            })
            .collect();
        let (name, next) = match &mut world.seat {
            None => ("old", Some(Voting)),
            Some(("new", standings)) if standings.len() == 1 => ("new", Some(standings[0])),
            Some((name, standings)) => (*name, standings.pop()),
        };
        told.extend(next.map(|standing| placement::MemberStatus {
            member_id: 3,
            name: name.into(),
            url: format!("http://{name}:1"),
            standing: standing.into(),
            ..placement::MemberStatus::default()
        }));
        Ok(Response::new(placement::ChangeMembersResponse {
            header: header(change.and_then(|_| world.refusal.take())),
            members: told,
        }))
    }

    /// One region less is led from it with every look.
    async fn evict_leaders(
        &self,
        request: Request<placement::EvictLeadersRequest>,
    ) -> Result<Response<placement::EvictLeadersResponse>, Status> {
        let mut world = self.lead()?;
        let leaders = 2_u32.saturating_sub(world.looks);
        world.looks += 1;
        Ok(Response::new(placement::EvictLeadersResponse {
            header: header(world.refusal.take()),
            is_evicted: request.get_ref().eviction() != placement::Eviction::End,
            leaders,
            blocked_by: match leaders {
                1 => vec!["no other store can lead region 7".to_owned()],
                _ => Vec::new(),
            },
        }))
    }

    /// One region less is left with every look.
    async fn scatter(
        &self,
        request: Request<placement::ScatterRequest>,
    ) -> Result<Response<placement::ScatterResponse>, Status> {
        let mut world = self.lead()?;
        let left = 2_u32.saturating_sub(world.looks);
        world.looks += 1;
        world.scatters.push(request.into_inner());
        let forgotten = world.forgets_after.is_some_and(|looks| world.looks > looks);
        Ok(Response::new(placement::ScatterResponse {
            header: header(world.refusal.take()),
            left,
            moving: 1,
            blocked_by: Vec::new(),
            known_for_ms: if forgotten { 0 } else { 3_600_000 },
        }))
    }

    /// It shows what it was told.
    async fn label_store(
        &self,
        request: Request<placement::LabelStoreRequest>,
    ) -> Result<Response<placement::LabelStoreResponse>, Status> {
        let mut world = self.lead()?;
        Ok(Response::new(placement::LabelStoreResponse {
            header: header(world.refusal.take()),
            labels: request.into_inner().labels,
        }))
    }

    async fn remove_tombstones(
        &self,
        request: Request<placement::RemoveTombstonesRequest>,
    ) -> Result<Response<placement::RemoveTombstonesResponse>, Status> {
        let mut world = self.lead()?;
        let store_ids = match request.get_ref().store_id {
            0 => vec![8, 9],
            store => vec![store],
        };
        Ok(Response::new(placement::RemoveTombstonesResponse {
            header: header(world.refusal.take()),
            store_ids,
        }))
    }

    /// Two regions leave with every look.
    async fn drain(
        &self,
        request: Request<placement::DrainRequest>,
    ) -> Result<Response<placement::DrainResponse>, Status> {
        let mut world = self.lead()?;
        let leaving = request.get_ref().leaving();
        world.drains.push(leaving);
        let moved = 2 * world.looks;
        world.looks += 1;
        let is_gone = moved >= 4;
        Ok(Response::new(placement::DrainResponse {
            header: header(world.refusal.take()),
            state: if is_gone { "tombstone" } else { "offline" }.to_owned(),
            is_leaving: leaving != placement::Leaving::End,
            regions: 4_u32.saturating_sub(moved),
            leaders: 1,
            moving: 2,
            moved,
            remaining_ms: (moved > 0).then_some(1_500),
            blocked_by: match moved {
                2 => vec!["region 7 has no known leader".to_owned()],
                _ => Vec::new(),
            },
        }))
    }
}

/// The fake; its servers end with it.
struct Fake {
    world: Arc<Mutex<World>>,
    servers: Vec<JoinSet<()>>,
}

impl Fake {
    async fn start() -> Fake {
        let world = Arc::new(Mutex::new(World {
            ending: ("success", ""),
            regions: vec![
                region(1, "", "b"),
                region(2, "b", "k"),
                region(4, "k", "p"),
                region(5, "p", ""),
            ],
            ..World::default()
        }));
        let mut servers = Vec::new();
        for index in 0..2 {
            let member = Member {
                index,
                world: world.clone(),
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("it is bound").to_string();
            world.lock().expect("no panic").members.push(address);
            let router = Server::builder()
                .add_service(PdServer::new(member.clone()))
                .add_service(PlacementServer::new(member));
            let mut server = JoinSet::new();
            server.spawn(async move {
                let served = router.serve_with_incoming(TcpIncoming::from(listener));
                served.await.expect("the fake serves");
            });
            servers.push(server);
        }
        Fake { world, servers }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    /// Runs the command line; it is given the member that does not lead.
    async fn ctl(&self, arguments: &[&str]) -> Ran {
        let member = self.world().members[0].clone();
        ctl(&member, arguments).await
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn ctl(member: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinykv-ctl"));
    command
        .args(["-u", member, "-o", "table"])
        .args(arguments)
        .kill_on_drop(true);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().await.expect("the binary runs");
    Ran {
        code: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

#[tokio::test]
async fn a_split_that_is_waited_for_shows_steps_and_says_what_is_true() {
    let fake = Fake::start().await;
    let ran = fake.ctl(&["region", "split", "k", "--wait"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "split region 2 success, left: 2, right: 4\n");
    let steps: Vec<String> = STEPS
        .iter()
        .enumerate()
        .map(|(at, step)| format!("step {} of 3: {step}", at + 1))
        .collect();
    assert_eq!(ran.err.lines().collect::<Vec<_>>(), steps);
    let order = fake.world().orders[0].clone();
    assert_eq!((order.region_id, order.key.as_ref()), (0, &b"k"[..]));
    let Some(Action::Split(split)) = order.action else {
        panic!("a split: {order:?}");
    };
    assert_eq!(split.keys, ["k"]);
}

#[tokio::test]
async fn each_order_says_what_it_is() {
    let fake = Fake::start().await;
    let orders: [(&[&str], Action, &str); 6] = [
        (
            &["split", "--region", "2"],
            Action::Split(placement::SplitAtKeys { keys: Vec::new() }),
            "left: 2, right: 4",
        ),
        (
            &["transfer-leader", "2", "--to", "3"],
            Action::TransferLeader(placement::TransferLeaderTo { store_id: 3 }),
            "region 2 is led from store 3",
        ),
        (
            &["add-peer", "2", "--store", "4"],
            Action::AddPeer(placement::AddPeerOn { store_id: 4 }),
            "region 2 is on stores 2 3* 4",
        ),
        (
            &["remove-peer", "2", "--store", "1"],
            Action::RemovePeer(placement::RemovePeerFrom { store_id: 1 }),
            "region 2 is on stores 2 3* 4",
        ),
        (
            &["move", "2", "--from", "1", "--to", "4"],
            Action::MovePeer(placement::MovePeer {
                from_store_id: 1,
                to_store_id: 4,
            }),
            "region 2 is on stores 2 3* 4",
        ),
        (
            &["merge", "2", "4"],
            Action::Merge(placement::MergeInto {
                target_region_id: 4,
            }),
            "region 2 is merged into region 4, which is on stores 2 3* 4",
        ),
    ];
    for (arguments, action, truth) in orders {
        fake.world().looks = 0;
        let ran = fake
            .ctl(&[&["region"], arguments, &["--wait"]].concat())
            .await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.trim_end().ends_with(truth), "{ran:?}");
        let order = fake.world().orders.pop().expect("it came");
        assert_eq!((order.region_id, order.action), (2, Some(action)));
    }
}

#[tokio::test]
async fn hot_regions_are_listed_by_what_is_asked_for() {
    let fake = Fake::start().await;
    {
        let mut world = fake.world();
        world.regions[0].read_bytes_per_s = 5 << 20;
        world.regions[1].written_bytes_per_s = 1 << 20;
        world.regions[1].written_keys_per_s = 1_000_000;
    }
    let ids = async |flags: &[&str]| {
        let ran = fake.ctl(&[&["region", "hot"], flags].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let words = ran.out.lines().skip(1);
        let ids = words.filter_map(|line| line.split_whitespace().next());
        ids.collect::<Vec<_>>().join(" ")
    };
    let (first, second) = {
        let world = fake.world();
        let id = |at: usize| world.regions[at].region.as_ref().map_or(0, |it| it.id);
        (id(0), id(1))
    };
    assert_eq!(ids(&[]).await, format!("{second} {first}"), "keys count");
    assert_eq!(ids(&["--read"]).await, first.to_string());
    assert_eq!(ids(&["--write"]).await, second.to_string());
    assert_eq!(ids(&["--limit", "1"]).await, second.to_string());
}

#[tokio::test]
async fn without_waiting_an_order_ends_when_it_is_admitted() {
    let fake = Fake::start().await;
    let ran = fake.ctl(&["region", "split", "k"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("operator 12 has begun"), "{ran:?}");
    let ran = fake.ctl(&["-o", "json", "region", "split", "k"]).await;
    assert_eq!(ran.code, Some(1), "-o twice is wrong usage: {ran:?}");
    let ran = fake.ctl(&["operator", "list"]).await;
    assert!(
        ran.out.contains("1 of 3: add a learner on store 4"),
        "{ran:?}"
    );
    let ran = fake.ctl(&["operator", "cancel", "12"]).await;
    assert_eq!(
        ran.out,
        "operator 12 (move-peer of region 2) is cancelled\n"
    );
    assert_eq!(fake.world().cancelled[0].operator_id, 12);
}

#[tokio::test]
async fn what_placement_refuses_is_told_in_its_words() {
    let fake = Fake::start().await;
    let sentence = "region 2 begins at this key; give one inside it";
    fake.world().refusal = Some(sentence);
    let ran = fake.ctl(&["region", "split", "b", "--wait"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.err, format!("tinykv-ctl: {sentence}\n"));
    assert_eq!(fake.world().orders.len(), 1, "an order is given once");
}

#[tokio::test]
async fn an_operator_that_does_not_succeed_is_no_success() {
    let fake = Fake::start().await;
    fake.world().ending = ("timeout", "store 4 does not answer");
    let ran = fake
        .ctl(&["region", "add-peer", "2", "--store", "4", "--wait"])
        .await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err
            .ends_with("ended as timeout: store 4 does not answer\n"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn what_a_fail_over_forgets_and_what_takes_too_long_is_not_known() {
    let fake = Fake::start().await;
    fake.world().forgets_after = Some(2);
    let arguments = ["region", "add-peer", "2", "--store", "4", "--wait"];
    let ran = fake.ctl(&arguments).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.err
            .contains("what became of operator 12 is not known (there is no operator 12)"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_dead_member_is_named_and_nobody_listening_ends_with_two() {
    let mut fake = Fake::start().await;
    let (first, second) = {
        let world = fake.world();
        (world.members[0].clone(), world.members[1].clone())
    };
    drop(fake.servers.remove(0));
    let ran = ctl(&format!("{first},{second}"), &["member", "list"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = |name: &str| {
        let found = ran.out.lines().find(|line| line.contains(name));
        found.unwrap_or_default().to_owned()
    };
    assert!(line("placement-1").contains("down"), "{ran:?}");
    assert!(line("placement-2").contains("leader"), "{ran:?}");
    let ran = ctl(&second, &["status"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out.contains(&format!(
            "placement member placement-1 ({first}) does not answer"
        )),
        "{ran:?}"
    );
    drop(fake.servers.remove(0));
    let ran = ctl(&second, &["operator", "list"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("no placement member answered"), "{ran:?}");
}
