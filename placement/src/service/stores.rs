//! Stores: bootstrap, joining, heartbeats, look-ups; ids and settings.

use tinykv_proto::pdpb;
use tinykv_replica::StoreId;
use tonic::{Request, Response, Status};

use super::{Service, failure, refusal, unavailable};
use crate::convert::{
    node_state, region_from_proto, stats_from_proto, stats_to_proto, store_from_proto,
    store_to_proto,
};
use crate::state::{
    Command, IDS_PER_COMMAND_MAX, Refusal, Reply, STORE_HEARTBEAT_INTERVAL_MS, Settings, State,
    StoreLife, StoreRecord,
};

/// Checks that a call of a store comes from the directory and the start that are registered
/// (D9, M12).
pub(super) fn check_sender(
    state: &State,
    header: Option<&pdpb::RequestHeader>,
    store: StoreId,
) -> Result<(), (pdpb::ErrorType, String)> {
    if state.has_left(store) {
        let message = format!("store {store} was removed from the cluster");
        return Err((pdpb::ErrorType::StoreTombstone, message));
    }
    let Some(known) = state.stores().get(&store) else {
        let message = format!("store {store} is unknown");
        return Err((pdpb::ErrorType::EntryNotFound, message));
    };
    let (sender, incarnation, start) = header.map_or((0, 0, 0), |header| {
        (
            header.sender_id,
            header.sender_incarnation,
            header.sender_start,
        )
    });
    if sender != store.0 || incarnation != known.incarnation || start != known.start_number {
        let message = format!(
            "store {store} registered with incarnation {:016x} and start {}, this call is from \
             store {sender} with incarnation {incarnation:016x} and start {start}",
            known.incarnation, known.start_number
        );
        return Err((pdpb::ErrorType::Unknown, message));
    }
    Ok(())
}

impl Service {
    pub(super) async fn bootstrap_cluster(
        &self,
        message: pdpb::BootstrapRequest,
    ) -> Result<pdpb::BootstrapResponse, Status> {
        self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let command = bootstrap_command(&message).map_err(Status::invalid_argument)?;
        let header = self.change(header, &command).await?;
        Ok(pdpb::BootstrapResponse {
            header: Some(header),
        })
    }

    pub(super) async fn register_store(
        &self,
        message: pdpb::PutStoreRequest,
    ) -> Result<pdpb::PutStoreResponse, Status> {
        self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let store = registered(message.store.as_ref(), message.header.as_ref())
            .map_err(Status::invalid_argument)?;
        let header = self.change(header, &Command::PutStore(store)).await?;
        Ok(pdpb::PutStoreResponse {
            header: Some(header),
        })
    }

    pub(super) async fn change_settings(
        &self,
        message: pdpb::PutClusterConfigRequest,
    ) -> Result<pdpb::PutClusterConfigResponse, Status> {
        self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let replica_count = message.cluster.map_or(0, |cluster| cluster.max_peer_count);
        let known = *self.desk().group().state().read().settings();
        let settings = Settings {
            replica_count,
            ..known
        };
        let header = self
            .change(header, &Command::ChangeSettings(settings))
            .await?;
        Ok(pdpb::PutClusterConfigResponse {
            header: Some(header),
        })
    }

    /// Proposes a command about stores or settings; the view follows what it changed.
    pub(super) async fn change(
        &self,
        header: pdpb::ResponseHeader,
        command: &Command,
    ) -> Result<pdpb::ResponseHeader, Status> {
        let group = self.desk().group();
        let reply = group
            .propose(command, None)
            .await
            .map_err(|error| unavailable(&error))?;
        if let Some(leadership) = self.desk().leadership() {
            leadership.follow(&group.state().read());
        }
        Ok(match reply {
            Reply::Refused(reason) => {
                // To lose the race for the bootstrap is the normal fate of all stores but one.
                match reason {
                    Refusal::AlreadyBootstrapped => tracing::debug!("refused: {reason}"),
                    _ => tracing::warn!("refused: {reason}"),
                }
                refusal(header, &reason)
            }
            _ => header,
        })
    }

    pub(super) async fn allocate_ids(
        &self,
        message: pdpb::AllocIdRequest,
    ) -> Result<pdpb::AllocIdResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let count = message.count.max(1);
        if count > IDS_PER_COMMAND_MAX {
            return Err(Status::invalid_argument(format!(
                "{IDS_PER_COMMAND_MAX} ids can be had at once, not {count}"
            )));
        }
        let ids = self
            .desk()
            .take_ids(&leadership, count)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(pdpb::AllocIdResponse {
            header: Some(header),
            id: ids.end - 1,
            count,
        })
    }

    pub(super) async fn beat(
        &self,
        message: pdpb::StoreHeartbeatRequest,
    ) -> Result<pdpb::StoreHeartbeatResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let id = message.stats.as_ref().map(|stats| stats.store_id);
        let id = id.ok_or_else(|| Status::invalid_argument("the heartbeat has no stats"))?;
        let id = StoreId(id);
        let group = self.desk().group();
        let checked = {
            let state = group.state().read();
            check_sender(&state, message.header.as_ref(), id)
                .map(|()| (*state.settings(), state.replicas_wanted()))
        };
        let (settings, wanted) = match checked {
            Ok(known) => known,
            Err((kind, sentence)) => {
                return Ok(pdpb::StoreHeartbeatResponse {
                    header: Some(failure(header, kind, sentence)),
                    ..pdpb::StoreHeartbeatResponse::default()
                });
            }
        };
        let stats = stats_from_proto(&message);
        let state = leadership.on_store_heartbeat(id, stats, &settings, group.now());
        let drawn = self.desk().draw_timestamps(&leadership, 1).await;
        Ok(pdpb::StoreHeartbeatResponse {
            header: Some(header),
            cluster_version: env!("CARGO_PKG_VERSION").into(),
            state: node_state(state).into(),
            wanted_replicas: wanted,
            interval_ms: STORE_HEARTBEAT_INTERVAL_MS,
            time_ms: drawn.map_or(0, |timestamp| timestamp.physical_ms),
        })
    }

    pub(super) async fn one_store(
        &self,
        message: pdpb::GetStoreRequest,
    ) -> Result<pdpb::GetStoreResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let id = StoreId(message.store_id);
        let store = self
            .desk()
            .group()
            .state()
            .read()
            .stores()
            .get(&id)
            .cloned();
        let Some(store) = store else {
            let sentence = format!("store {id} is unknown");
            return Ok(pdpb::GetStoreResponse {
                header: Some(failure(header, pdpb::ErrorType::EntryNotFound, sentence)),
                ..pdpb::GetStoreResponse::default()
            });
        };
        let coordinator = leadership.coordinator();
        let stats = coordinator
            .view()
            .stores
            .get(&id)
            .map(|known| stats_to_proto(id, &known.stats));
        Ok(pdpb::GetStoreResponse {
            header: Some(header),
            store: Some(store_to_proto(&store)),
            stats,
        })
    }

    pub(super) async fn all_stores(
        &self,
        message: pdpb::GetAllStoresRequest,
    ) -> Result<pdpb::GetAllStoresResponse, Status> {
        self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let state = self.desk().group().state().read();
        let stores = state
            .stores()
            .values()
            .filter(|store| !message.exclude_tombstone_stores || store.life != StoreLife::Tombstone)
            .map(store_to_proto);
        Ok(pdpb::GetAllStoresResponse {
            header: Some(header),
            stores: stores.collect(),
        })
    }
}

fn bootstrap_command(message: &pdpb::BootstrapRequest) -> Result<Command, String> {
    let store = registered(message.store.as_ref(), message.header.as_ref())?;
    // TiKV's form names one region; ours names all of them.
    let regions = if message.regions.is_empty() {
        message
            .region
            .iter()
            .map(region_from_proto)
            .collect::<Result<Vec<_>, _>>()?
    } else {
        message
            .regions
            .iter()
            .map(region_from_proto)
            .collect::<Result<Vec<_>, _>>()?
    };
    let edges = tinykv_keys::bootstrap_regions();
    let fits = regions.len() == edges.len()
        && regions
            .iter()
            .zip(&edges)
            .all(|(region, edge)| region.start == edge.start[..] && region.end == edge.end[..]);
    if !fits {
        return Err("the first regions do not lie between the bootstrap edges".into());
    }
    Ok(Command::Bootstrap { store, regions })
}

fn registered(
    store: Option<&tinykv_proto::metapb::Store>,
    header: Option<&pdpb::RequestHeader>,
) -> Result<StoreRecord, String> {
    let store = store.ok_or("the request names no store")?;
    let header = header.ok_or("the request has no header")?;
    store_from_proto(store, header)
}

impl Service {
    pub(super) async fn is_cluster_bootstrapped(
        &self,
        request: Request<pdpb::IsBootstrappedRequest>,
    ) -> Result<Response<pdpb::IsBootstrappedResponse>, Status> {
        self.lead().await?;
        let header = self.header(request.get_ref().header.as_ref())?;
        Ok(Response::new(pdpb::IsBootstrappedResponse {
            header: Some(header),
            bootstrapped: self.desk().group().state().read().is_bootstrapped(),
        }))
    }
}
