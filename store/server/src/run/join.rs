//! How a store becomes one of its cluster.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tinykv_env::Env;
use tinykv_keys::Asker;
use tinykv_node::failure::Failure;
use tinykv_node::handle::NodeHandle;
use tinykv_node::identity::DataDir;
use tinykv_node::process::Stop;
use tinykv_proto::{metapb, pdpb};
use tinykv_raft::PeerId;
use tinykv_replica::StoreId;

use crate::bootstrap::Plan;
use crate::config::Settings;
use crate::machine::RawMachine;
use crate::placement::{CallError, Placement};
use crate::service::region_to_proto;

/// How often it is looked whether the first regions are led.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Makes sure that the data directory has an identity of the cluster that placement drives. False
/// when the store is to stop before that.
pub(super) async fn identify(
    dir: &mut DataDir,
    placement: &Placement,
    stop: &Stop,
) -> Result<bool, Failure> {
    if dir.identity().is_some() {
        return match placement.cluster_id().await {
            Err(error @ CallError::OtherCluster { .. }) => Err(error.into_failure()),
            // What lives here goes on without placement for now.
            Err(_) | Ok(_) => Ok(true),
        };
    }
    let Some(cluster_id) = placement
        .insist(stop, || placement.cluster_id().boxed())
        .await
    else {
        return Ok(false);
    };
    let cluster_id = cluster_id.map_err(CallError::into_failure)?;
    let Some(ids) = placement
        .insist(stop, || placement.allocate(1).boxed())
        .await
    else {
        return Ok(false);
    };
    let store_id = *ids.map_err(CallError::into_failure)?.start();
    let identity = dir.establish(cluster_id, store_id)?;
    placement.identify(identity);
    tracing::info!(store = store_id, cluster = cluster_id, "a new store");
    Ok(true)
}

/// How the store introduces itself.
pub(super) fn card(
    settings: &Settings,
    listening_on: SocketAddr,
    node: &NodeHandle<RawMachine>,
    wall_clock: Duration,
) -> metapb::Store {
    let address = settings.advertised(listening_on);
    let labels = settings.labels.iter().map(|label| metapb::StoreLabel {
        key: label.key.clone(),
        value: label.value.clone(),
    });
    metapb::Store {
        id: node.identity().member_id,
        address: address.clone(),
        labels: labels.collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_address: address.clone(),
        status_address: address,
        start_timestamp: i64::try_from(wall_clock.as_secs()).unwrap_or(i64::MAX),
        ..metapb::Store::default()
    }
}

/// Tells placement that the store is here, and founds the cluster if nobody has. False when the
/// store is to stop before that.
pub(super) async fn report_for_duty(
    placement: &Placement,
    card: &metapb::Store,
    node: &NodeHandle<RawMachine>,
    env: &dyn Env,
    data_dir: &Path,
    stop: &Stop,
) -> Result<bool, Failure> {
    let founding = Founding {
        placement,
        card,
        node,
        env,
        data_dir,
        stop,
    };
    match founding.found().await {
        None => return Ok(false),
        Some(founded) => founded?,
    }
    let reported = placement
        .insist(stop, || placement.put_store(card.clone()).boxed())
        .await;
    match reported {
        None => Ok(false),
        Some(reported) => {
            reported.map_err(CallError::into_failure)?;
            tracing::info!("joined the cluster");
            Ok(true)
        }
    }
}

/// An id that is drawn now tells those of new peers from those of peers that a damaged log may have
/// lost.
pub(super) async fn tell_new_peers(
    placement: &Placement,
    node: &NodeHandle<RawMachine>,
    stop: &Stop,
) -> Result<(), Failure> {
    let drawn = placement
        .insist(stop, || placement.allocate(1).boxed())
        .await;
    if let Some(ids) = drawn {
        let first = PeerId(*ids.map_err(CallError::into_failure)?.start());
        tracing::info!(%first, "the log was damaged once: only younger peers are new here");
        node.new_peers_from(first);
    }
    Ok(())
}

struct Founding<'a> {
    placement: &'a Placement,
    card: &'a metapb::Store,
    node: &'a NodeHandle<RawMachine>,
    env: &'a dyn Env,
    data_dir: &'a Path,
    stop: &'a Stop,
}

/// `None`: the store is to stop.
type Outcome<T> = Option<Result<T, Failure>>;

impl Founding<'_> {
    async fn found(&self) -> Outcome<()> {
        match Plan::load(self.env, self.data_dir) {
            Err(error) => Some(Err(storage(error))),
            Ok(Some(plan)) => self.offer(&plan).await,
            Ok(None) if !self.node.directory().all().is_empty() => Some(Ok(())),
            Ok(None) => match self
                .ask(|| self.placement.is_bootstrapped().boxed())
                .await?
            {
                Err(failure) => Some(Err(failure)),
                Ok(true) => Some(Ok(())),
                Ok(false) => self.plan().await,
            },
        }
    }

    async fn plan(&self) -> Outcome<()> {
        let ids = self
            .ask(|| self.placement.allocate(Plan::ids_needed()).boxed())
            .await?;
        let plan = match ids {
            Ok(ids) => Plan::new(ids),
            Err(failure) => return Some(Err(failure)),
        };
        if let Err(error) = plan.save(self.env, self.data_dir) {
            return Some(Err(storage(error)));
        }
        self.offer(&plan).await
    }

    /// Offers the plan to placement and carries it out if it is the one that counts.
    async fn offer(&self, plan: &Plan) -> Outcome<()> {
        let store = StoreId(self.card.id);
        let regions = plan.regions(store);
        let shown = regions
            .iter()
            .filter_map(|region| region_to_proto(region, Asker::Stored));
        let shown: Vec<metapb::Region> = shown.collect();
        match self.ask(|| self.is_accepted(&shown).boxed()).await? {
            Err(failure) => return Some(Err(failure)),
            Ok(true) => {
                self.carry_out(plan, store).await?;
                tracing::info!(regions = shown.len(), "founded the cluster");
            }
            Ok(false) => tracing::info!("another store founded the cluster"),
        }
        let removed = Plan::remove(self.env, self.data_dir);
        Some(removed.map_err(storage))
    }

    /// Whether placement takes these regions as the cluster's first.
    async fn is_accepted(&self, planned: &[metapb::Region]) -> Result<bool, CallError> {
        let offered = self
            .placement
            .bootstrap(self.card.clone(), planned.to_vec())
            .await;
        match offered {
            Ok(()) => Ok(true),
            Err(CallError::Refused {
                kind: pdpb::ErrorType::AlreadyBootstrapped,
                ..
            }) => self.is_ours(planned).await,
            Err(error) => Err(error),
        }
    }

    /// Whether the cluster was founded by this very plan, in an earlier try whose answer was lost.
    async fn is_ours(&self, planned: &[metapb::Region]) -> Result<bool, CallError> {
        let Some(first) = planned.first() else {
            return Ok(false);
        };
        let known = self.placement.region(first.id).await?;
        Ok(known.is_some_and(|known| known.peers == first.peers))
    }

    /// Brings the peers to life and waits until each leads, which it does only when its birth is
    /// durable.
    async fn carry_out(&self, plan: &Plan, store: StoreId) -> Option<()> {
        let directory = self.node.directory();
        let groups: Vec<_> = plan.regions(store).iter().map(|region| region.id).collect();
        for birth in plan.births(store) {
            if directory.group(birth.state.region.id).is_none() {
                self.node.create(birth);
            }
        }
        let led = |group| {
            let entry = directory.group(group);
            entry.is_some_and(|entry| entry.view().leader.is_some())
        };
        while !groups.iter().copied().all(led) {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.stop.requested() => return None,
            }
        }
        Some(())
    }

    async fn ask<'a, T>(
        &self,
        call: impl Fn() -> BoxFuture<'a, Result<T, CallError>>,
    ) -> Outcome<T> {
        let answer = self.placement.insist(self.stop, call).await?;
        Some(answer.map_err(CallError::into_failure))
    }
}

fn storage(error: io::Error) -> Failure {
    Failure::storage(format!("data directory: {error}"))
}
