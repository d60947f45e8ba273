//! Look-ups of regions: routes from the replicated state, leaders from the view.

use tinykv_keys::{Asker, Bounds};
use tinykv_proto::{metapb, pdpb};
use tinykv_raft::GroupId;
use tinykv_replica::{Peer, Region};
use tokio::time::{Duration, Instant};
use tonic::{Request, Response, Status};

use super::{PATIENCE, Service, failure};
use crate::convert::{down_to_proto, peer_to_proto, pending_to_proto, region_to_proto};
use crate::leadership::Leadership;
use crate::state::{Routes, State};
use crate::view::{RegionView, StoreState};

/// How long a look-up waits for the leader of its region to become known. With a store that died
/// that is an election away, and whoever asks can do nothing better meanwhile.
const LEADER_PATIENCE: Duration = Duration::from_secs(1);

/// Longest key that is looked up. Clients ask for the last region with a key above all keys.
const KEY_BYTES_MAX: usize = 128 << 10;

/// Most regions of one answer, so that it stays well under 4 MiB.
const SCAN_MAX: usize = 10_000;

/// A region and what its leader said.
struct Located {
    region: Region,
    /// Only one whose store is heard.
    leader: Option<Peer>,
    view: Option<RegionView>,
}

/// The region that contains a key in the asker's view.
fn containing<'a>(routes: &'a Routes, key: &[u8], asker: Asker) -> Option<&'a Region> {
    let contains =
        |region: &&Region| Bounds::new(&region.start, &region.end).contains_as(asker, key);
    let candidate = routes.at(key);
    // A raw key that equals a bound which is an encoding lies before that bound.
    candidate
        .filter(contains)
        .or_else(|| routes.before(key).filter(contains))
}

/// The last region before the one that contains a key, empty ones in the asker's view left out.
fn preceding<'a>(routes: &'a Routes, key: &[u8], asker: Asker) -> Option<&'a Region> {
    let mut region = routes.before(&containing(routes, key, asker)?.start)?;
    while Bounds::new(&region.start, &region.end)
        .seen_by(asker)
        .is_none()
    {
        region = routes.before(&region.start)?;
    }
    Some(region)
}

impl Service {
    pub(super) async fn find_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
        direction: Direction,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let message = request.get_ref();
        let asker =
            self.shared
                .askers
                .of(&request, message.header.as_ref(), Some(&message.region_key));
        let message = request.into_inner();
        let key = message.region_key;
        if key.len() > KEY_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "a key of {} bytes is longer than {KEY_BYTES_MAX}",
                key.len()
            )));
        }
        let find = |state: &State| {
            let found = match direction {
                Direction::Here => containing(state.routes(), &key, asker),
                Direction::Before => preceding(state.routes(), &key, asker),
            };
            found.cloned()
        };
        // Before the first region there is none, and none will come.
        let must_exist = direction == Direction::Here;
        self.locate(message.header.as_ref(), asker, find, must_exist)
            .await
    }

    pub(super) async fn region_by_id(
        &self,
        request: Request<pdpb::GetRegionByIdRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let asker = self
            .shared
            .askers
            .of(&request, request.get_ref().header.as_ref(), None);
        let message = request.into_inner();
        let id = GroupId(message.region_id);
        let find = |state: &State| state.routes().region(id).cloned();
        self.locate(message.header.as_ref(), asker, find, false)
            .await
    }

    /// Waits out an election of placement, then (for a shorter time) one of the region.
    async fn locate(
        &self,
        header: Option<&pdpb::RequestHeader>,
        asker: Asker,
        find: impl Fn(&State) -> Option<Region> + Send + Sync,
        must_exist: bool,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        // A deadline of a timer; nothing else goes by this clock.
        let asked_at = Instant::now();
        let leadership = self.lead().await?;
        let header = self.header(header)?;
        if !self.desk().group().state().read().is_bootstrapped() {
            return Ok(Response::new(pdpb::GetRegionResponse {
                header: Some(not_bootstrapped(header)),
                ..pdpb::GetRegionResponse::default()
            }));
        }
        let deadline = (asked_at + PATIENCE).min(Instant::now() + LEADER_PATIENCE);
        let mut changes = leadership.watch();
        let located = loop {
            changes.mark_unchanged();
            let located = self.look(&leadership, &find);
            let known = match &located {
                Some(located) => located.leader.is_some(),
                None => !must_exist,
            };
            if known {
                break located;
            }
            tokio::select! {
                // The view lives as long as the leadership that is held here.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline) => break located,
                () = leadership.ended.cancelled() => {
                    return Err(Status::unavailable("the placement group elects a new leader"));
                }
            }
        };
        Ok(Response::new(self.answer(header, located, asker)))
    }

    fn answer(
        &self,
        header: pdpb::ResponseHeader,
        located: Option<Located>,
        asker: Asker,
    ) -> pdpb::GetRegionResponse {
        let mut response = pdpb::GetRegionResponse {
            header: Some(header),
            ..pdpb::GetRegionResponse::default()
        };
        if let Some(located) = located
            && let Some(region) = region_to_proto(&located.region, asker)
        {
            response.region = Some(region);
            response.leader = located.leader.map(peer_to_proto);
            if let Some(view) = &located.view {
                response.down_peers = down_to_proto(view);
                response.pending_peers = pending_to_proto(view);
            }
        }
        response
    }

    fn look(
        &self,
        leadership: &Leadership,
        find: impl Fn(&State) -> Option<Region>,
    ) -> Option<Located> {
        let region = find(&self.desk().group().state().read())?;
        Some(self.complete(leadership, region))
    }

    /// Adds what the view knows about a region of the routes.
    fn complete(&self, leadership: &Leadership, region: Region) -> Located {
        let group = self.desk().group();
        let settings = *group.state().read().settings();
        let now = group.now();
        let coordinator = leadership.coordinator();
        let view = coordinator.view();
        let known = view.regions.get(&region.id).cloned();
        let leader = known
            .as_ref()
            .and_then(|known| known.leader)
            .filter(|leader| {
                let state = view.store_state(leader.store, &settings, now);
                matches!(
                    state,
                    StoreState::Up | StoreState::Offline | StoreState::Joined
                )
            });
        Located {
            region,
            leader,
            view: known,
        }
    }

    pub(super) async fn scan_regions(
        &self,
        request: Request<pdpb::ScanRegionsRequest>,
    ) -> Result<Response<pdpb::ScanRegionsResponse>, Status> {
        let message = request.get_ref();
        let asker =
            self.shared
                .askers
                .of(&request, message.header.as_ref(), Some(&message.start_key));
        let message = request.into_inner();
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let limit = usize::try_from(message.limit)
            .ok()
            .filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(SCAN_MAX).min(SCAN_MAX);
        let found: Vec<(Region, metapb::Region)> = {
            let state = self.desk().group().state().read();
            if !state.is_bootstrapped() {
                return Ok(Response::new(pdpb::ScanRegionsResponse {
                    header: Some(not_bootstrapped(header)),
                    ..pdpb::ScanRegionsResponse::default()
                }));
            }
            let first = containing(state.routes(), &message.start_key, asker);
            let start = first.map_or(&message.start_key, |region| &region.start);
            state
                .routes()
                .from(start)
                .filter_map(|region| Some((region.clone(), region_to_proto(region, asker)?)))
                .take_while(|(_, seen)| {
                    message.end_key.is_empty() || seen.start_key < message.end_key
                })
                .take(limit)
                .collect()
        };
        let mut response = pdpb::ScanRegionsResponse {
            header: Some(header),
            ..pdpb::ScanRegionsResponse::default()
        };
        for (region, seen) in found {
            let located = self.complete(&leadership, region);
            let leader = located.leader.map(peer_to_proto);
            response.region_metas.push(seen.clone());
            response.leaders.push(leader.unwrap_or_default());
            response.regions.push(pdpb::Region {
                region: Some(seen),
                leader,
                down_peers: located.view.as_ref().map(down_to_proto).unwrap_or_default(),
                pending_peers: located
                    .view
                    .as_ref()
                    .map(pending_to_proto)
                    .unwrap_or_default(),
            });
        }
        Ok(Response::new(response))
    }
}

/// Which region is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The one that contains the key.
    Here,
    /// The one before that.
    Before,
}

fn not_bootstrapped(header: pdpb::ResponseHeader) -> pdpb::ResponseHeader {
    failure(
        header,
        pdpb::ErrorType::NotBootstrapped,
        "the cluster is not bootstrapped yet",
    )
}

#[cfg(test)]
mod tests;
