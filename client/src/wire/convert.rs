//! Between the messages of the wire and the types of the core.

use std::time::Duration;

use tinykv_proto::{errorpb, kvrpcpb, metapb};

use crate::retry::{Failure, Misrouted, Target};
use crate::routing::{Epoch, Peer, PeerId, RegionId, Route, StoreId};

/// What every request to a store begins with.
pub fn context(target: &Target, cluster_id: u64) -> kvrpcpb::Context {
    let Epoch { conf_ver, version } = target.route.epoch;
    kvrpcpb::Context {
        region_id: target.route.region.0,
        region_epoch: Some(metapb::RegionEpoch { conf_ver, version }),
        peer: Some(metapb::Peer {
            id: target.peer.id.0,
            store_id: target.peer.store.0,
            role: metapb::PeerRole::Voter as i32,
            is_witness: false,
        }),
        api_version: kvrpcpb::ApiVersion::V1 as i32,
        is_retry_request: target.is_retry,
        max_execution_duration_ms: target.timeout.as_millis() as u64,
        cluster_id,
        ..kvrpcpb::Context::default()
    }
}

/// A region as a route, with its leader if that is one of its peers. `None` if the message lacks
/// what a route needs.
pub fn route(region: metapb::Region, leader: Option<&metapb::Peer>) -> Option<Route> {
    let epoch = region.region_epoch?;
    let peers: Vec<Peer> = region.peers.iter().map(peer).collect();
    let leader = leader.map(|leader| PeerId(leader.id));
    let route = Route {
        region: RegionId(region.id),
        epoch: Epoch {
            conf_ver: epoch.conf_ver,
            version: epoch.version,
        },
        start: region.start_key,
        end: region.end_key,
        leader: leader.filter(|id| peers.iter().any(|peer| peer.id == *id)),
        peers,
    };
    (region.id != 0 && !route.bounds().is_empty()).then_some(route)
}

fn peer(peer: &metapb::Peer) -> Peer {
    Peer {
        id: PeerId(peer.id),
        store: StoreId(peer.store_id),
        votes: peer.role != metapb::PeerRole::Learner as i32,
    }
}

/// Why a store did not serve a request.
pub fn failure(error: errorpb::Error) -> Failure {
    let named = [
        (error.region_not_found.is_some(), Misrouted::RegionNotFound),
        (
            error.region_not_initialized.is_some(),
            Misrouted::RegionNotInitialized,
        ),
        (error.key_not_in_region.is_some(), Misrouted::KeyNotInRegion),
        (error.mismatch_peer_id.is_some(), Misrouted::PeerMismatch),
        (error.store_not_match.is_some(), Misrouted::StoreMismatch),
    ];
    if let Some(not_leader) = error.not_leader {
        let leader = not_leader.leader.filter(|leader| leader.id != 0);
        return Failure::NotLeader {
            leader: leader.as_ref().map(peer),
        };
    }
    if let Some((_, misrouted)) = named.iter().find(|(is_set, _)| *is_set) {
        return Failure::Misrouted {
            how: *misrouted,
            message: error.message,
        };
    }
    if let Some(changed) = error.epoch_not_match {
        let current = changed.current_regions.into_iter();
        return Failure::EpochNotMatch {
            current: current.filter_map(|it| route(it, None)).collect(),
        };
    }
    if let Some(busy) = error.server_is_busy {
        let wait = busy.backoff_ms.max(u64::from(busy.estimated_wait_ms));
        return Failure::Busy {
            reason: busy.reason,
            wait: Duration::from_millis(wait),
        };
    }
    if let Some(full) = error.disk_full {
        let stores = full.store_id;
        return Failure::DiskFull {
            reason: format!("{} on stores {stores:?}", full.reason),
        };
    }
    if let Some(too_large) = error.raft_entry_too_large {
        let message = format!("{} bytes are too many for one entry", too_large.entry_size);
        return Failure::Refused { message };
    }
    if let Some(undetermined) = error.undetermined_result {
        return Failure::Undetermined {
            message: undetermined.message,
        };
    }
    let what = if error.message.is_empty() {
        format!("{error:?}")
    } else {
        error.message
    };
    Failure::NotNow { what }
}
