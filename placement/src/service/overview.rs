//! `tinykv.placement.Placement`: the cluster at one glance, for `tinykv-ctl`.

use std::time::Duration;

use tinykv_keys::Asker;
use tinykv_proto::placement;
use tonic::{Request, Response, Status};

use super::operators::list_running;
use super::{Service, millis};
use crate::convert::{
    down_to_proto, peer_to_proto, pending_to_proto, region_to_proto, store_to_proto,
};
use crate::state::{Settings, State};
use crate::view::{ClusterView, RegionView, StoreState};

/// Most regions of one answer.
const REGIONS_MAX: usize = 10_000;

#[tonic::async_trait]
impl placement::placement_server::Placement for Service {
    async fn overview(
        &self,
        request: Request<placement::OverviewRequest>,
    ) -> Result<Response<placement::OverviewResponse>, Status> {
        let request = request.into_inner();
        let leadership = self.lead().await?;
        let header = self.operator_header(request.header.as_ref())?;
        let group = self.desk().group();
        let leader_member_id = group.office().leader.map_or(0, |leader| leader.0);
        let (members, now) = (self.members(), group.now());
        // Always in this order: state, then coordinator.
        let state = group.state().read();
        let coordinator = leadership.coordinator();
        let view = coordinator.view();
        let regions = if request.with_regions {
            list_regions(&state, view, &request, now)
        } else {
            Vec::new()
        };
        Ok(Response::new(placement::OverviewResponse {
            header: Some(header),
            settings: Some(settings(&state)),
            members,
            leader_member_id,
            stores: list_stores(view, state.settings(), now),
            regions,
            regions_total: view.regions.len() as u64,
            regions_complete: count_complete(view) as u64,
            operators: list_running(view, now),
        }))
    }

    async fn add_operator(
        &self,
        request: Request<placement::AddOperatorRequest>,
    ) -> Result<Response<placement::AddOperatorResponse>, Status> {
        self.begin_operator(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_operators(
        &self,
        request: Request<placement::ListOperatorsRequest>,
    ) -> Result<Response<placement::ListOperatorsResponse>, Status> {
        Service::list_operators(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn cancel_operator(
        &self,
        request: Request<placement::CancelOperatorRequest>,
    ) -> Result<Response<placement::CancelOperatorResponse>, Status> {
        self.end_operator(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn configure(
        &self,
        request: Request<placement::ConfigureRequest>,
    ) -> Result<Response<placement::ConfigureResponse>, Status> {
        self.show_settings(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn drain(
        &self,
        request: Request<placement::DrainRequest>,
    ) -> Result<Response<placement::DrainResponse>, Status> {
        self.drain_store(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn evict_leaders(
        &self,
        request: Request<placement::EvictLeadersRequest>,
    ) -> Result<Response<placement::EvictLeadersResponse>, Status> {
        self.keep_from_leading(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn scatter(
        &self,
        request: Request<placement::ScatterRequest>,
    ) -> Result<Response<placement::ScatterResponse>, Status> {
        self.scatter_regions(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn label_store(
        &self,
        request: Request<placement::LabelStoreRequest>,
    ) -> Result<Response<placement::LabelStoreResponse>, Status> {
        self.set_labels(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn change_members(
        &self,
        request: Request<placement::ChangeMembersRequest>,
    ) -> Result<Response<placement::ChangeMembersResponse>, Status> {
        self.steer_members(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn remove_tombstones(
        &self,
        request: Request<placement::RemoveTombstonesRequest>,
    ) -> Result<Response<placement::RemoveTombstonesResponse>, Status> {
        self.forget_stores(request.into_inner())
            .await
            .map(Response::new)
    }
}

/// How many regions have their wanted voters and nobody unfinished.
pub(crate) fn count_complete(view: &ClusterView) -> usize {
    view.regions
        .values()
        .filter(|region| is_complete(view, region))
        .count()
}

/// All wanted voters are there, known to be caught up and answering by a leader heard in this
/// leadership.
fn is_complete(view: &ClusterView, region: &RegionView) -> bool {
    let current = region
        .voters()
        .filter(|peer| region.is_current(peer.id))
        .count();
    region.leader.is_some()
        && !region.is_joint()
        && region.learners().next().is_none()
        && current >= view.replicas_wanted as usize
}

fn settings(state: &State) -> placement::Settings {
    let settings = state.settings();
    placement::Settings {
        replica_count: settings.replica_count,
        replicas_wanted: state.replicas_wanted(),
        store_disconnected_after_ms: settings.disconnected_after_ms,
        store_down_after_ms: settings.down_after_ms,
    }
}

fn list_stores(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
) -> Vec<placement::StoreStatus> {
    let counts = view.counts();
    view.stores
        .iter()
        .map(|(id, store)| {
            let held = counts.get(id).copied().unwrap_or_default();
            let silence = store
                .heard_at
                .map(|heard| millis(now.saturating_sub(heard)));
            placement::StoreStatus {
                store: Some(store_to_proto(&store.record)),
                state: view.store_state(*id, settings, now).to_string(),
                silent_ms: silence,
                regions: held.regions,
                leaders: held.leaders,
                used_bytes: store.stats.used_bytes,
                capacity_bytes: store.stats.capacity_bytes,
                available_bytes: store.stats.available_bytes,
                is_evicted: view.evicted.contains(id),
                slow_score: store.stats.slow_score,
                additions_max: store.allowance.additions_max(settings),
            }
        })
        .collect()
}

fn list_regions(
    state: &State,
    view: &ClusterView,
    request: &placement::OverviewRequest,
    now: Duration,
) -> Vec<placement::RegionStatus> {
    let limit = match request.limit as usize {
        0 => REGIONS_MAX,
        limit => limit.min(REGIONS_MAX),
    };
    let now_known = |region| view.regions.get(region);
    state
        .routes()
        .from(&request.start_key)
        .take(limit)
        .map(|region| {
            let known = now_known(&region.id);
            let flow = known.map(|known| known.flow.at(now)).unwrap_or_default();
            placement::RegionStatus {
                region: region_to_proto(region, Asker::Stored),
                leader: known.and_then(|known| known.leader).map(peer_to_proto),
                down_peers: known.map(down_to_proto).unwrap_or_default(),
                pending_peers: known.map(pending_to_proto).unwrap_or_default(),
                approximate_size: known.map_or(0, |known| known.stats.size_bytes),
                approximate_keys: known.map_or(0, |known| known.stats.keys),
                complete: known.is_some_and(|known| is_complete(view, known)),
                read_bytes_per_s: flow.read.bytes,
                read_keys_per_s: flow.read.keys,
                written_bytes_per_s: flow.written.bytes,
                written_keys_per_s: flow.written.keys,
            }
        })
        .collect()
}

/// How many stores are in each state.
pub(crate) fn count_stores(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    state: StoreState,
) -> usize {
    let states = view
        .stores
        .keys()
        .map(|id| view.store_state(*id, settings, now));
    states.filter(|found| *found == state).count()
}
