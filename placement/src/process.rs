//! The process: from settings to a serving member, and to its end.

use std::sync::Arc;
use std::time::Duration;

use tinykv_engine::EngineOptions;
use tinykv_env::{Env, OsEnv};
use tinykv_node::failure::Failure;
use tinykv_node::identity::{DataDir, Identity, Role};
use tinykv_node::node::{Node, NodeParts};
use tinykv_node::options::NodeOptions;
use tinykv_node::process::Stop;
use tinykv_node::server::{self, DECODE_BYTES_MAX, Listener};
use tinykv_node::spawn::{Fatal, Tasks};
use tinykv_node::storage::Storage;
use tinykv_proto::keyspacepb::keyspace_server::KeyspaceServer;
use tinykv_proto::pdpb::pd_server::PdServer;
use tinykv_proto::placement::members_server::MembersServer;
use tinykv_proto::placement::placement_server::PlacementServer;
use tinykv_raft::PeerId;
use tinykv_replica::{Birth, Peer, Region, RegionEpoch, RegionState, ShardConfig, StoreId};
use tokio::runtime::Handle;
use tonic::service::Routes;

use crate::acquaintance::Acquaintance;
use crate::config::{Args, InitialCluster};
use crate::desk::Desk;
use crate::group::{GROUP, Group};
use crate::introduction::Introduction;
use crate::joining::find_group;
use crate::machine::{Machine, SharedState};
use crate::neighbours::Neighbours;
use crate::pages;
use crate::resolver::Members;
use crate::service::Service;
use crate::state::MemberRecord;

/// How long open requests may take to finish once the process is asked to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);

/// A member that listens and has recovered what it had, ready to serve.
///
/// Made for whoever runs a member inside another process; [`crate::main`] does it for a process
/// of its own.
pub struct Member {
    listener: Listener,
    node: Node<Machine>,
    desk: Arc<Desk>,
    service: Service,
    introduction: Introduction,
    tasks: Tasks,
    fatal: Fatal,
}

impl Member {
    /// Binds the port, opens the data directory and starts the threads. A failure that must end the process later goes to `fatal`.
    ///
    /// # Errors
    /// [`Failure::Configuration`] for a wrong setting or an address in use, [`Failure::Storage`]
    /// for a directory that is in use, damaged or somebody else's.
    pub async fn start(args: &Args, fatal: Fatal) -> Result<Member, Failure> {
        let listener = Listener::bind(args.listen_address()?).await?;
        let founders = founders(args, &listener)?;
        let env: Arc<dyn Env> = OsEnv::shared();
        let mut dir = DataDir::open(Arc::clone(&env), &args.data_dir, Role::Placement)?;
        let acquaintance = Acquaintance::open(Arc::clone(&env), dir.path())?;
        let acquaintance = Arc::new(acquaintance);
        let cluster = find_cluster(args, founders, &listener, &dir, &acquaintance).await?;
        let identity = establish(&mut dir, args, &cluster)?;
        let storage = Storage::open(&dir, EngineOptions::default())?;
        let state = SharedState::default();
        let neighbours = Arc::new(Neighbours::new(
            &cluster,
            state.clone(),
            Arc::clone(&acquaintance),
        )?);
        let is_new = storage.is_empty();
        if is_new && acquaintance.took_part() {
            return Err(Failure::storage(format!(
                "the data directory {} has lost its log: a member that has forgotten its votes \
                 may not take part again; bring back the whole directory",
                args.data_dir.display()
            )));
        }
        let seen_by_machine = state.clone();
        let tasks = Tasks::new(Handle::current(), fatal.clone());
        let node = Node::start(NodeParts {
            dir,
            storage,
            options: NodeOptions {
                shards: 1,
                ..NodeOptions::default()
            },
            shard: ShardConfig::new(StoreId(identity.member_id), env.random_u64()),
            factory: Arc::new(move |_| Machine::new(seen_by_machine.clone())),
            resolver: Arc::new(Members {
                cluster: cluster.clone(),
                acquaintance: Arc::clone(&acquaintance),
                state: state.clone(),
            }),
            hooks: Arc::new(()),
            runtime: Handle::current(),
            fatal: fatal.clone(),
        })?;
        let group = Group::new(node.handle(), state, env);
        let record = record(&cluster, identity);
        let desk = Arc::new(Desk::new(group.clone(), record.clone()));
        let known = Arc::clone(&acquaintance);
        Ok(Member {
            service: Service::new(Arc::clone(&desk), &cluster, Arc::clone(&neighbours), known),
            introduction: Introduction {
                neighbours,
                acquaintance,
                group,
                node: node.handle(),
                record,
                birth: (is_new && cluster.is_founding()).then(|| birth(&cluster)),
                is_joining: !cluster.is_founding(),
            },
            listener,
            node,
            desk,
            tasks,
            fatal,
        })
    }

    /// Where this member listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.listener.address()
    }

    /// Serves until asked to stop; then hands leadership on, answers what is open and ends.
    ///
    /// # Errors
    /// [`Failure::Other`] when the server cannot go on.
    pub async fn serve(self, stop: Stop) -> Result<(), Failure> {
        let pages = pages::router(&self.desk);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        let service = self.service;
        let routes =
            Routes::new(PdServer::new(service.clone()).max_decoding_message_size(DECODE_BYTES_MAX))
                .add_service(KeyspaceServer::new(service.clone()))
                .add_service(MembersServer::new(service.clone()))
                .add_service(PlacementServer::new(service))
                .add_service(self.node.peer_service().into_server())
                .add_service(health);
        let desk_stop = Stop::new();
        let desk = Arc::clone(&self.desk);
        let asked = desk_stop.clone();
        self.tasks
            .spawn("desk", async move { desk.run(asked).await });
        let (introduction, fatal) = (self.introduction, self.fatal);
        let asked = desk_stop.clone();
        self.tasks.spawn("introduction", async move {
            if let Err(failure) = introduction.run(&asked).await {
                fatal.report(failure);
            }
        });
        let drained = Stop::new();
        let until = drained.clone();
        let serving = server::serve(self.listener, routes, pages, async move {
            until.requested().await;
        });
        tokio::pin!(serving);
        let outcome = tokio::select! {
            outcome = &mut serving => Some(outcome),
            () = stop.requested() => None,
        };
        // Streams end with the leadership, leadership with the desk.
        desk_stop.request();
        let rest = async {
            self.node.shutdown().await;
            drained.request();
        };
        match outcome {
            Some(outcome) => {
                rest.await;
                self.tasks.join(DRAIN_TIME_MAX).await;
                outcome
            }
            None => {
                let drain = async {
                    let (served, ()) = tokio::join!(&mut serving, rest);
                    served
                };
                let outcome = drain_for(drain).await;
                self.tasks.join(DRAIN_TIME_MAX).await;
                outcome
            }
        }
    }
}

/// What has not finished in time is dropped, as in a crash.
async fn drain_for(drain: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let limit = DRAIN_TIME_MAX + NodeOptions::default().evict_time_max;
    tokio::time::timeout(limit, drain).await.unwrap_or(Ok(()))
}

/// Runs a member in this process until it is asked to stop.
pub(crate) async fn run(args: Args, stop: Stop) -> Result<(), Failure> {
    let member = tokio::select! {
        member = Member::start(&args, Fatal::exit_process()) => member?,
        // One that joins waits for somebody to answer.
        () = stop.requested() => return Ok(()),
    };
    tracing::info!(
        address = %member.address(),
        name = args.name,
        data = %args.data_dir.display(),
        version = tinykv_node::settings::VERSION,
        "placement member serves"
    );
    member.serve(stop).await
}

/// A group that this member founds with others has these members, unless the directory says that it
/// joined one.
fn founders(args: &Args, listener: &Listener) -> Result<Option<InitialCluster>, Failure> {
    match args.contacts()?.is_empty() {
        true => args.initial_cluster(listener.address()).map(Some),
        false => Ok(None),
    }
}

/// The group that this member founds with others, or joins.
async fn find_cluster(
    args: &Args,
    founders: Option<InitialCluster>,
    listener: &Listener,
    dir: &DataDir,
    acquaintance: &Acquaintance,
) -> Result<InitialCluster, Failure> {
    match founders {
        None => {
            let own = args.own_address(listener.address())?;
            find_group(dir, acquaintance, (&args.name, &own), &args.contacts()?).await
        }
        Some(_) if acquaintance.joined().is_some() => Err(Failure::storage(format!(
            "the data directory {} is that of a member that joined: start it with --join, not with \
             --initial-cluster",
            args.data_dir.display()
        ))),
        Some(founders) => Ok(founders),
    }
}

/// Makes the directory this member's at its first start.
fn establish(
    dir: &mut DataDir,
    args: &Args,
    cluster: &InitialCluster,
) -> Result<Identity, Failure> {
    let own = cluster.own();
    match dir.identity() {
        None => dir.establish(cluster.fingerprint(), own.id.0),
        Some(identity) if identity.member_id != own.id.0 => Err(Failure::storage(format!(
            "the data directory {} belongs to member {} of its placement group, but {} is \
                 member {} of --initial-cluster",
            args.data_dir.display(),
            identity.member_id,
            own.name,
            own.id
        ))),
        Some(identity) => Ok(identity),
    }
}

/// The group's first state; all founding members make the same.
fn birth(cluster: &InitialCluster) -> Birth {
    let peer = |id: PeerId| Peer::voter(id, StoreId(id.0));
    let region = Region {
        id: GROUP,
        epoch: RegionEpoch::FIRST,
        peers: cluster
            .members()
            .iter()
            .map(|member| peer(member.id))
            .collect(),
        ..Region::default()
    };
    Birth {
        peer: peer(cluster.own().id),
        state: RegionState {
            region,
            // The members are all there from the start: nothing to wait for.
            open: true,
            ..RegionState::default()
        },
    }
}

fn record(cluster: &InitialCluster, identity: Identity) -> MemberRecord {
    let own = cluster.own();
    MemberRecord {
        id: own.id,
        name: own.name.clone(),
        url: own.url(),
        incarnation: identity.incarnation,
        start_number: identity.start_number,
    }
}
