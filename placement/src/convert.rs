//! Between the messages on the wire and the values inside. Proto types stop here. Public for whoever
//! puts messages between a coordinator and its stores without the gRPC of the service.

mod handed_out;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_keys::{Asker, Bounds};
use tinykv_proto::{eraftpb, metapb, pdpb};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{Peer, PeerRole, Region, RegionEpoch, StoreId};

use crate::schedule::{Change, Order};
use crate::state::{StoreLife, StoreRecord};
use crate::view::{
    Amount, Counted, RegionReport, RegionStats, RegionView, SplitThresholds, StoreState, StoreStats,
};

pub use handed_out::{split_ids_to_proto, timestamp_to_proto};
pub use wishes::manual_from_proto;

/// A peer as clients and stores are told of it.
pub fn peer_to_proto(peer: Peer) -> metapb::Peer {
    let role = match peer.role {
        PeerRole::Voter => metapb::PeerRole::Voter,
        PeerRole::Learner => metapb::PeerRole::Learner,
        PeerRole::IncomingVoter => metapb::PeerRole::IncomingVoter,
        PeerRole::DemotingVoter | PeerRole::LeavingVoter => metapb::PeerRole::DemotingVoter,
    };
    metapb::Peer {
        id: peer.id.0,
        store_id: peer.store.0,
        role: role.into(),
        is_witness: false,
    }
}

fn peer_from_proto(peer: &metapb::Peer) -> Result<Peer, String> {
    let role = match metapb::PeerRole::try_from(peer.role) {
        Ok(metapb::PeerRole::Voter) => PeerRole::Voter,
        Ok(metapb::PeerRole::Learner) => PeerRole::Learner,
        Ok(metapb::PeerRole::IncomingVoter) => PeerRole::IncomingVoter,
        Ok(metapb::PeerRole::DemotingVoter) => PeerRole::DemotingVoter,
        Err(_) => {
            return Err(format!(
                "peer {} has the unknown role {}",
                peer.id, peer.role
            ));
        }
    };
    Ok(Peer {
        id: PeerId(peer.id),
        store: StoreId(peer.store_id),
        role,
    })
}

/// A region as the asker has to see it; `None` if it is empty in that view.
pub fn region_to_proto(region: &Region, asker: Asker) -> Option<metapb::Region> {
    let seen = Bounds::new(&region.start, &region.end).seen_by(asker)?;
    Some(metapb::Region {
        id: region.id.0,
        start_key: seen.start.into(),
        end_key: seen.end.into(),
        region_epoch: Some(epoch_to_proto(region.epoch)),
        peers: region.peers.iter().copied().map(peer_to_proto).collect(),
    })
}

fn epoch_to_proto(epoch: RegionEpoch) -> metapb::RegionEpoch {
    metapb::RegionEpoch {
        conf_ver: epoch.conf_ver,
        version: epoch.version,
    }
}

/// A region as a store or an operator describes it.
///
/// # Errors
/// One sentence that says what is missing or unknown.
pub fn region_from_proto(region: &metapb::Region) -> Result<Region, String> {
    let epoch = region
        .region_epoch
        .as_ref()
        .ok_or_else(|| format!("region {} has no epoch", region.id))?;
    let mut peers = region
        .peers
        .iter()
        .map(peer_from_proto)
        .collect::<Result<Vec<_>, _>>()?;
    peers.sort_by_key(|peer| peer.id);
    Ok(Region {
        id: GroupId(region.id),
        // Copied: what is kept may not pin the buffer of a whole request.
        start: bytes::Bytes::copy_from_slice(&region.start_key),
        end: bytes::Bytes::copy_from_slice(&region.end_key),
        epoch: RegionEpoch {
            conf_ver: epoch.conf_ver,
            version: epoch.version,
        },
        peers,
    })
}

/// The store a request registers: its description and who its header says it is.
pub(crate) fn store_from_proto(
    store: &metapb::Store,
    header: &pdpb::RequestHeader,
) -> Result<StoreRecord, String> {
    if header.sender_id != store.id {
        return Err(format!(
            "the header names store {}, the request store {}",
            header.sender_id, store.id
        ));
    }
    let labels: BTreeMap<String, String> = store
        .labels
        .iter()
        .map(|label| (label.key.clone(), label.value.clone()))
        .collect();
    Ok(StoreRecord {
        id: StoreId(store.id),
        address: store.address.clone(),
        peer_address: store.peer_address.clone(),
        status_address: store.status_address.clone(),
        version: store.version.clone(),
        labels,
        incarnation: header.sender_incarnation,
        start_number: header.sender_start,
        life: StoreLife::Serving,
    })
}

pub(crate) fn labels_to_proto(store: &StoreRecord) -> Vec<metapb::StoreLabel> {
    let labels = store.labels.iter().map(|(key, value)| metapb::StoreLabel {
        key: key.clone(),
        value: value.clone(),
    });
    labels.collect()
}

pub(crate) fn store_to_proto(store: &StoreRecord) -> metapb::Store {
    let (state, node_state) = match store.life {
        StoreLife::Serving => (metapb::StoreState::Up, metapb::NodeState::Serving),
        StoreLife::Leaving => (metapb::StoreState::Offline, metapb::NodeState::Removing),
        StoreLife::Tombstone => (metapb::StoreState::Tombstone, metapb::NodeState::Removed),
    };
    metapb::Store {
        id: store.id.0,
        address: store.address.clone(),
        state: state.into(),
        labels: labels_to_proto(store),
        version: store.version.clone(),
        peer_address: store.peer_address.clone(),
        status_address: store.status_address.clone(),
        node_state: node_state.into(),
        ..metapb::Store::default()
    }
}

/// What a store says about itself; nothing where it is silent.
pub fn stats_from_proto(heartbeat: &pdpb::StoreHeartbeatRequest) -> StoreStats {
    let silent = pdpb::StoreStats::default();
    let stats = heartbeat.stats.as_ref().unwrap_or(&silent);
    StoreStats {
        capacity_bytes: stats.capacity,
        available_bytes: stats.available,
        used_bytes: stats.used_size,
        is_busy: stats.is_busy,
        is_stopping: stats.is_stopping,
        damaged_regions: stats.damaged_regions_id.clone(),
        slow_score: stats.slow_score,
        splits: SplitThresholds {
            size_bytes: heartbeat.region_split_size,
            requests_per_s: heartbeat.region_split_qps,
            bytes_per_s: heartbeat.region_split_flow,
        },
    }
}

pub(crate) fn stats_to_proto(id: StoreId, stats: &StoreStats) -> pdpb::StoreStats {
    pdpb::StoreStats {
        store_id: id.0,
        capacity: stats.capacity_bytes,
        available: stats.available_bytes,
        used_size: stats.used_bytes,
        is_busy: stats.is_busy,
        is_stopping: stats.is_stopping,
        damaged_regions_id: stats.damaged_regions.clone(),
        slow_score: stats.slow_score,
        ..pdpb::StoreStats::default()
    }
}

/// What a region's leader reports.
///
/// # Errors
/// One sentence that says what is missing or does not fit.
pub fn report_from_proto(request: &pdpb::RegionHeartbeatRequest) -> Result<RegionReport, String> {
    let region = request
        .region
        .as_ref()
        .ok_or("the heartbeat names no region")?;
    let region = region_from_proto(region)?;
    let leader = request
        .leader
        .as_ref()
        .ok_or_else(|| format!("the heartbeat of region {} names no leader", region.id))?;
    let leader = region.peer(PeerId(leader.id)).ok_or_else(|| {
        format!(
            "the leader {} of region {} is none of its peers",
            leader.id, region.id
        )
    })?;
    let pending: BTreeSet<PeerId> = request
        .pending_peers
        .iter()
        .map(|peer| PeerId(peer.id))
        .collect();
    let down = request.down_peers.iter().filter_map(|down| {
        let peer = down.peer.as_ref()?;
        Some((PeerId(peer.id), Duration::from_secs(down.down_seconds)))
    });
    Ok(RegionReport {
        leader,
        term: Term(request.term),
        pending,
        down: down.collect(),
        stats: RegionStats {
            size_bytes: request.approximate_size,
            keys: request.approximate_keys,
            counted: counted(request),
        },
        region,
    })
}

/// What was read and written over the interval of a heartbeat, if it names one.
fn counted(request: &pdpb::RegionHeartbeatRequest) -> Option<Counted> {
    let interval = request.interval?;
    let (start, end) = (interval.start_timestamp, interval.end_timestamp);
    let seconds = end.checked_sub(start).filter(|seconds| *seconds > 0)?;
    Some(Counted {
        read: Amount {
            bytes: request.bytes_read,
            keys: request.keys_read,
        },
        written: Amount {
            bytes: request.bytes_written,
            keys: request.keys_written,
        },
        over: Duration::from_secs(seconds),
    })
}

pub(crate) fn pending_to_proto(region: &RegionView) -> Vec<metapb::Peer> {
    region
        .region
        .peers
        .iter()
        .filter(|peer| region.pending.contains(&peer.id))
        .copied()
        .map(peer_to_proto)
        .collect()
}

pub(crate) fn down_to_proto(region: &RegionView) -> Vec<pdpb::PeerStats> {
    region
        .region
        .peers
        .iter()
        .filter_map(|peer| {
            let silence = region.down.get(&peer.id)?;
            Some(pdpb::PeerStats {
                peer: Some(peer_to_proto(*peer)),
                down_seconds: silence.as_secs(),
            })
        })
        .collect()
}

/// What a leader is told to do, on the stream of its heartbeats.
pub fn order_to_proto(order: &Order) -> pdpb::RegionHeartbeatResponse {
    let mut response = pdpb::RegionHeartbeatResponse {
        region_id: order.region.0,
        region_epoch: Some(epoch_to_proto(order.epoch)),
        target_peer: Some(peer_to_proto(order.leader)),
        ..pdpb::RegionHeartbeatResponse::default()
    };
    let change = |peer: Peer, kind: eraftpb::ConfChangeType| pdpb::ChangePeer {
        peer: Some(peer_to_proto(peer)),
        change_type: kind.into(),
    };
    use eraftpb::ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
    match &order.change {
        Change::AddLearner(peer) => response.change_peer = Some(change(*peer, AddLearnerNode)),
        Change::Promote(peer) => response.change_peer = Some(change(*peer, AddNode)),
        Change::Joint { promote, remove } => {
            let promoted = promote.iter().map(|peer| change(*peer, AddNode));
            let removed = remove.iter().map(|peer| change(*peer, RemoveNode));
            response.change_peer_v2 = Some(pdpb::ChangePeerV2 {
                changes: promoted.chain(removed).collect(),
            });
        }
        Change::Remove(peer) => response.change_peer = Some(change(*peer, RemoveNode)),
        Change::TransferLeader(peer) => {
            response.transfer_leader = Some(pdpb::TransferLeader {
                peer: Some(peer_to_proto(*peer)),
                ..pdpb::TransferLeader::default()
            });
        }
        Change::Split(keys) => {
            let policy = if keys.is_empty() {
                pdpb::CheckPolicy::Approximate
            } else {
                pdpb::CheckPolicy::Usekey
            };
            response.split_region = Some(pdpb::SplitRegion {
                policy: policy.into(),
                keys: keys.clone(),
            });
        }
        Change::Merge(target) => {
            response.merge = Some(pdpb::Merge {
                target: region_to_proto(target, Asker::Stored),
            });
        }
    }
    response
}

pub(crate) fn node_state(state: StoreState) -> metapb::NodeState {
    match state {
        StoreState::Unknown | StoreState::Joined => metapb::NodeState::Preparing,
        StoreState::Up | StoreState::Disconnected | StoreState::Down => metapb::NodeState::Serving,
        StoreState::Offline => metapb::NodeState::Removing,
        StoreState::Tombstone => metapb::NodeState::Removed,
    }
}

#[cfg(test)]
mod tests;
