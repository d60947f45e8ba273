//! A store's life: who it is, what it finds, serving, reporting, and an orderly end.

mod join;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tinykv_client::{Options, RawClient};
use tinykv_env::{Env, OsEnv};
use tinykv_node::failure::Failure;
use tinykv_node::handle::NodeHandle;
use tinykv_node::identity::{DataDir, Role};
use tinykv_node::metrics;
use tinykv_node::node::{Node, NodeParts};
use tinykv_node::options::NodeOptions;
use tinykv_node::pages::{self, Health};
use tinykv_node::process::{self, Stop};
use tinykv_node::server::{self, Listener};
use tinykv_node::spawn::{Fatal, Tasks};
use tinykv_node::storage::Storage;
use tinykv_replica::{ShardConfig, StoreId};
use tokio::runtime::Handle;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::check::Checker;
use crate::clock::PlacementClock;
use crate::config::Settings;
use crate::expiry::{self, Expiry};
use crate::load_split;
use crate::machine::RawMachine;
use crate::placement::{Placement, Stores};
use crate::reporting::{self, Flows, News, Reporting, Told};
use crate::resp;
use crate::service::{self, Calls};
use crate::splitting::Splitter;
use crate::splitting::sizes::{self, Sizes};

/// How long requests that are being answered may take when the store ends.
const LAST_ANSWERS_TIME_MAX: Duration = Duration::from_secs(1);
/// How long the last words to placement may take.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(500);

/// The process of a store, from its command line (program name first) to its exit code. The
/// playground calls this under a hidden subcommand.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    process::run(arguments, |settings: &Settings| &settings.common, run)
}

/// Runs a store until `stop` is requested or it cannot go on.
///
/// # Errors
/// What keeps the store from working, in one sentence.
pub async fn run(settings: Settings, stop: Stop) -> Result<(), Failure> {
    settings.validate()?;
    let listener = Listener::bind(settings.addr).await?;
    let resp = match settings.resp_addr {
        Some(address) => Some(resp::Listener::bind(address).await?),
        None => None,
    };
    let env = OsEnv::shared();
    let mut dir = DataDir::open(Arc::clone(&env), &settings.data_dir, Role::Store)?;
    let addresses = settings.placement.iter().map(ToString::to_string).collect();
    let placement = Arc::new(Placement::new(addresses, dir.identity()));
    if !join::identify(&mut dir, &placement, &stop).await? {
        return Ok(());
    }
    let listeners = Listeners {
        grpc: listener,
        resp,
    };
    let store = Store::start(settings, listeners, env, dir, placement, &stop)?;
    let outcome = match store.join(&stop).await {
        Ok(()) => {
            stop.requested().await;
            Ok(())
        }
        Err(failure) => Err(failure),
    };
    store.end(&stop).await;
    outcome
}

/// The ports of a store, bound before anything else is done.
struct Listeners {
    grpc: Listener,
    /// If there is a RESP door.
    resp: Option<resp::Listener>,
}

/// A store that serves.
struct Store {
    settings: Settings,
    listening_on: SocketAddr,
    env: Arc<dyn Env>,
    node: Node<RawMachine>,
    /// Whether damage may have taken peers out of the log.
    was_damaged: bool,
    placement: Arc<Placement>,
    reporting: Reporting,
    /// Which values may leave the disk.
    expiry: Arc<Expiry>,
    /// What becomes of busy regions.
    load_splits: load_split::Figures,
    /// Reporting and orders: they end first.
    reporters: Tasks,
    /// Writes that are under way, and the server.
    servers: Tasks,
    /// Ends the server.
    serving: Stop,
    /// What `grpc.health.v1.Health` answers.
    grpc_health: HealthReporter,
}

impl Store {
    fn start(
        settings: Settings,
        listeners: Listeners,
        env: Arc<dyn Env>,
        dir: DataDir,
        placement: Arc<Placement>,
        stop: &Stop,
    ) -> Result<Store, Failure> {
        let fatal = Fatal::exit_process();
        let expiry = Arc::new(Expiry::default());
        let storage = Storage::open(&dir, expiry::engine_options(&expiry))?;
        let was_damaged = storage.was_damaged();
        let identity = dir.identity().expect("established before");
        let news = Arc::new(News::default());
        let stores = Stores::new(Arc::clone(&placement), Arc::clone(&env), &settings.data_dir);
        let stores = Arc::new(stores);
        let node = Node::start(NodeParts {
            dir,
            storage,
            options: NodeOptions::default(),
            shard: shard_config(&settings, StoreId(identity.member_id)),
            factory: Arc::new(|_| RawMachine),
            resolver: stores.clone(),
            hooks: Arc::<News>::clone(&news),
            runtime: Handle::current(),
            fatal: fatal.clone(),
        })?;
        let clock = Arc::new(PlacementClock::default());
        let told = Arc::new(Told::default());
        let reporters = Tasks::new(Handle::current(), fatal.clone());
        let servers = Tasks::new(Handle::current(), fatal.clone());
        let splitter = Splitter::new(node.handle(), Arc::clone(&placement), Arc::clone(&news));
        let splitter = Arc::new(splitter);
        let reporting = Reporting {
            node: node.handle(),
            env: Arc::clone(&env),
            data_dir: settings.data_dir.clone(),
            placement: Arc::clone(&placement),
            clock: Arc::clone(&clock),
            news,
            told: Arc::clone(&told),
            splitter: Arc::clone(&splitter),
            sizes: Arc::new(Sizes::default()),
            flows: Arc::new(Flows::default()),
            tasks: reporters.clone(),
            stop: stop.clone(),
            fatal: fatal.clone(),
        };
        let listening_on = listeners.grpc.address();
        let serving = Stop::new();
        let calls = Calls::new(
            node.handle(),
            clock,
            servers.clone(),
            serving.clone(),
            splitter,
        );
        let (grpc_health, health_service) = tonic_health::server::health_reporter();
        let checker = Checker::new(node.handle(), Arc::clone(&env), stores.clone());
        let services = calls
            .routes()
            .add_service(service::check::server(checker.clone()))
            .add_service(node.peer_service().into_server())
            .add_service(health_service);
        let load_splits = load_split::Figures::default();
        let mut registry = Registry::default();
        metrics::register(&mut registry, &node.handle());
        calls.register(&mut registry);
        checker.register(&mut registry);
        load_splits.register(&mut registry);
        if let Some(listener) = listeners.resp {
            let owner = resp::Owner {
                store: identity.member_id,
                cluster: identity.cluster_id,
                random: env.random_u64(),
            };
            let client = own_client(&settings, listening_on, node.handle(), stores);
            let registry = &mut registry;
            open_resp(listener, client, owner, registry, (&servers, &serving));
        }
        let pages = pages::router(move || health(&told), Arc::new(registry));
        let until = serving.clone();
        let until = async move { until.requested().await };
        let server = server::serve(listeners.grpc, services, pages, until);
        servers.spawn("server", async move {
            server.await.unwrap_or_else(|failure| fatal.report(failure));
        });
        tracing::info!(
            store = identity.member_id,
            cluster = identity.cluster_id,
            address = %listening_on,
            "serving"
        );
        Ok(Store {
            settings,
            listening_on,
            env,
            node,
            was_damaged,
            placement,
            reporting,
            expiry,
            load_splits,
            reporters,
            servers,
            serving,
            grpc_health,
        })
    }

    /// Reports for duty and, if nobody did before, founds the cluster; then reports on and on.
    async fn join(&self, stop: &Stop) -> Result<(), Failure> {
        let node = self.node.handle();
        let card = join::card(
            &self.settings,
            self.listening_on,
            &node,
            self.env.wall_clock(),
        );
        let joined = join::report_for_duty(
            &self.placement,
            &card,
            &node,
            self.env.as_ref(),
            &self.settings.data_dir,
            stop,
        );
        if !joined.await? {
            return Ok(());
        }
        if self.was_damaged {
            join::tell_new_peers(&self.placement, &node, stop).await?;
        }
        let reporting = self.reporting.clone();
        self.reporters
            .spawn("orphans", reporting::orphans::run(reporting));
        let split_size = self.settings.region_split_size.0;
        let thresholds = self.settings.load_thresholds();
        let heartbeats = reporting::store::run(self.reporting.clone(), split_size, thresholds);
        self.reporters.spawn("heartbeats", heartbeats);
        let reporting = self.reporting.clone();
        self.reporters
            .spawn("regions", reporting::regions::run(reporting));
        self.reporters
            .spawn("sizes", sizes::run(self.reporting.clone(), split_size));
        let figures = self.load_splits.clone();
        let looks = load_split::run(self.reporting.clone(), thresholds, figures);
        self.reporters.spawn("load", looks);
        let expiry = Arc::clone(&self.expiry);
        self.reporters
            .spawn("expiry", expiry::run(self.reporting.clone(), expiry));
        Ok(())
    }

    /// Hands leaders away while everything still runs, then ends it in order.
    async fn end(self, stop: &Stop) {
        stop.request();
        self.grpc_health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        self.reporters.join(LAST_WORDS_TIME_MAX).await;
        self.node.shutdown().await;
        self.serving.request();
        self.servers.join(LAST_ANSWERS_TIME_MAX).await;
        tracing::info!("stopped");
    }
}

fn shard_config(settings: &Settings, store: StoreId) -> ShardConfig {
    let mut shard = ShardConfig::new(store, 0);
    shard.hibernate_after_ticks = settings.hibernate_after_ticks(shard.tick);
    shard
}

/// A client that finds the cluster by itself, through placement or, where that is possible, without
/// it; until it does calls wait.
fn own_client(
    settings: &Settings,
    listening_on: SocketAddr,
    node: NodeHandle<RawMachine>,
    stores: Arc<Stores>,
) -> RawClient {
    let placement = settings.placement.iter().map(ToString::to_string);
    let placement: Vec<String> = placement.collect();
    let own_address = settings.advertised(listening_on);
    let known = resp::OwnRegions {
        node,
        stores,
        own_address,
    };
    RawClient::beside(Arc::new(known), &placement, Options::default())
}

/// Opens the RESP door.
fn open_resp(
    listener: resp::Listener,
    client: RawClient,
    owner: resp::Owner,
    registry: &mut Registry,
    (servers, serving): (&Tasks, &Stop),
) {
    let door = Arc::new(resp::Door::new(&listener, client, owner));
    door.register(registry);
    tracing::info!(address = %listener.address(), "the RESP door is open");
    let serve = door.serve(listener, servers.clone(), serving.clone());
    servers.spawn("resp", serve);
}

fn health(told: &Told) -> Health {
    match told.placement_hears() {
        true => Health {
            healthy: true,
            message: "serving".to_owned(),
        },
        false => Health {
            healthy: false,
            message: "the placement driver does not answer this store".to_owned(),
        },
    }
}
