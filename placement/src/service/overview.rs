//! `tinykv.placement.Placement`: the cluster at one glance, for `tinykv-ctl`.

use std::time::Duration;

use tinykv_keys::Asker;
use tinykv_proto::placement;
use tonic::{Request, Response, Status};

use super::convert::{
    down_to_proto, peer_to_proto, pending_to_proto, region_to_proto, store_to_proto,
};
use super::{Service, success};
use crate::schedule::Operator;
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
        // Operators may ask before they know the cluster's id.
        let header = match request
            .header
            .as_ref()
            .map_or(0, |header| header.cluster_id)
        {
            0 => success(self.cluster_id()?),
            _ => self.header(request.header.as_ref())?,
        };
        let group = self.desk().group();
        let leader_member_id = group.office().leader.map_or(0, |leader| leader.0);
        let now = group.now();
        // Always in this order: state, then view.
        let state = group.state().read();
        let view = leadership.view.read();
        let regions = if request.with_regions {
            list_regions(&state, &view, &request)
        } else {
            Vec::new()
        };
        Ok(Response::new(placement::OverviewResponse {
            header: Some(header),
            settings: Some(settings(&state)),
            members: self.shared.members.clone(),
            leader_member_id,
            stores: list_stores(&view, state.settings(), now),
            regions,
            regions_total: view.regions.len() as u64,
            regions_complete: count_complete(&view) as u64,
            operators: list_operators(&view, now),
        }))
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
            }
        })
        .collect()
}

fn list_regions(
    state: &State,
    view: &ClusterView,
    request: &placement::OverviewRequest,
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
            placement::RegionStatus {
                region: region_to_proto(region, Asker::Stored),
                leader: known.and_then(|known| known.leader).map(peer_to_proto),
                down_peers: known.map(down_to_proto).unwrap_or_default(),
                pending_peers: known.map(pending_to_proto).unwrap_or_default(),
                approximate_size: known.map_or(0, |known| known.stats.size_bytes),
                approximate_keys: known.map_or(0, |known| known.stats.keys),
                complete: known.is_some_and(|known| is_complete(view, known)),
            }
        })
        .collect()
}

fn list_operators(view: &ClusterView, now: Duration) -> Vec<placement::OperatorStatus> {
    let mut operators: Vec<&Operator> = view.operators.values().collect();
    operators.sort_by_key(|operator| operator.id);
    operators
        .into_iter()
        .map(|operator| placement::OperatorStatus {
            id: operator.id,
            region_id: operator.region.0,
            kind: operator.action.name().into(),
            rule: operator.reason.rule.name().into(),
            reason: operator.reason.to_string(),
            steps: operator.steps.iter().map(ToString::to_string).collect(),
            step: u32::try_from(operator.position).unwrap_or(u32::MAX),
            age_ms: millis(now.saturating_sub(operator.began_at)),
            timeout_ms: view
                .regions
                .get(&operator.region)
                .map_or(0, |region| millis(operator.time_max(region))),
            state: "running".into(),
            outcome: String::new(),
        })
        .collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
