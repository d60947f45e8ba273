//! Between the messages on the wire and the values of the store. Pure: the simulated store answers
//! by it, too.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_keys::Asker;
use tinykv_proto::{errorpb, kvrpcpb, metapb};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{Peer, PeerRole, Region, RegionEpoch, StoreId};

use crate::checks::{RegionError, Target};
use crate::limits::Refused;
use crate::space::{self, Space};

/// Where a request is meant to go. What the asker leaves out stays 0 and fits nothing.
pub fn target(context: Option<&kvrpcpb::Context>) -> Target {
    let Some(context) = context else {
        return Target::default();
    };
    let peer = context.peer.unwrap_or_default();
    Target {
        region: GroupId(context.region_id),
        epoch: epoch(context.region_epoch),
        peer: PeerId(peer.id),
        store: StoreId(peer.store_id),
        term: Term(context.term),
    }
}

/// Which key space a request is about.
pub fn space(context: Option<&kvrpcpb::Context>) -> Result<Space, Refused> {
    const V1: i32 = kvrpcpb::ApiVersion::V1 as i32;
    const V1_TTL: i32 = kvrpcpb::ApiVersion::V1ttl as i32;
    const V2: i32 = kvrpcpb::ApiVersion::V2 as i32;
    match context.map_or(V1, |context| context.api_version) {
        V1 | V1_TTL => Ok(Space::Plain),
        V2 => Ok(Space::Keyspace),
        other => Err(Refused::ApiVersion(other)),
    }
}

pub(crate) fn epoch(epoch: Option<metapb::RegionEpoch>) -> RegionEpoch {
    let epoch = epoch.unwrap_or_default();
    RegionEpoch {
        conf_ver: epoch.conf_ver,
        version: epoch.version,
    }
}

pub(crate) fn epoch_to_proto(epoch: RegionEpoch) -> metapb::RegionEpoch {
    metapb::RegionEpoch {
        conf_ver: epoch.conf_ver,
        version: epoch.version,
    }
}

/// A peer as an asker has to see it.
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

/// A region as an asker has to see it; `None` if it is empty in that view.
pub fn region_to_proto(region: &Region, asker: Asker) -> Option<metapb::Region> {
    let bounds = space::bounds(region).seen_by(asker)?;
    Some(metapb::Region {
        id: region.id.0,
        start_key: Bytes::from(bounds.start),
        end_key: Bytes::from(bounds.end),
        region_epoch: Some(epoch_to_proto(region.epoch)),
        peers: region.peers.iter().copied().map(peer_to_proto).collect(),
    })
}

/// The message that tells a client what is wrong and what it needs to go on.
pub fn error_to_proto(error: &RegionError, asker: Asker) -> errorpb::Error {
    let mut out = errorpb::Error::default();
    match error {
        RegionError::StoreNotMatch { asked, here } => {
            out.message = format!("this is store {here}, not store {asked}");
            out.store_not_match = Some(errorpb::StoreNotMatch {
                request_store_id: asked.0,
                actual_store_id: here.0,
            });
        }
        RegionError::RegionNotFound { region } => {
            out.message = format!("region {region} has no peer on this store");
            out.region_not_found = Some(errorpb::RegionNotFound {
                region_id: region.0,
            });
        }
        RegionError::PeerMismatch { asked, here } => {
            out.message = format!("peer {here} lives on this store, not peer {asked}");
            out.mismatch_peer_id = Some(errorpb::MismatchPeerId {
                request_peer_id: asked.0,
                store_peer_id: here.0,
            });
        }
        RegionError::StaleCommand => {
            "the term of the request is over".clone_into(&mut out.message);
            out.stale_command = Some(errorpb::StaleCommand {});
        }
        RegionError::NotLeader { region, leader } => {
            out.message = match leader {
                Some(leader) => format!("region {region} is led from store {}", leader.store),
                None => format!("nobody is known here to lead region {region}"),
            };
            out.not_leader = Some(errorpb::NotLeader {
                region_id: region.0,
                leader: leader.map(peer_to_proto),
            });
        }
        RegionError::EpochNotMatch { regions } => {
            "the region has changed since".clone_into(&mut out.message);
            let seen = |region: &Arc<Region>| region_to_proto(region, asker);
            out.epoch_not_match = Some(errorpb::EpochNotMatch {
                current_regions: regions.iter().filter_map(seen).collect(),
            });
        }
        RegionError::KeyNotInRegion { key, region } => {
            out.message = format!("the key is not in region {}", region.id);
            let seen = region_to_proto(region, asker).unwrap_or_default();
            out.key_not_in_region = Some(errorpb::KeyNotInRegion {
                key: key.clone(),
                region_id: region.id.0,
                start_key: seen.start_key,
                end_key: seen.end_key,
            });
        }
        RegionError::NotOpen { region } => {
            out.message = format!(
                "region {region} has not yet reached its replica count and confirms no writes"
            );
            out.region_not_initialized = Some(errorpb::RegionNotInitialized {
                region_id: region.0,
            });
        }
        RegionError::Busy { reason, wait } => {
            (*reason).clone_into(&mut out.message);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            out.server_is_busy = Some(errorpb::ServerIsBusy {
                reason: (*reason).to_owned(),
                backoff_ms: wait_ms,
                estimated_wait_ms: u32::try_from(wait_ms).unwrap_or(u32::MAX),
                applied_index: 0,
            });
        }
        RegionError::DiskFull { store } => {
            out.message = format!("the disk of store {store} is full");
            out.disk_full = Some(errorpb::DiskFull {
                store_id: vec![store.0],
                reason: out.message.clone(),
            });
        }
        RegionError::Refused { reason } => (*reason).clone_into(&mut out.message),
        RegionError::Undetermined { reason } => {
            out.message = undetermined_text(reason);
            out.undetermined_result = Some(errorpb::UndeterminedResult {
                message: out.message.clone(),
            });
        }
    }
    out
}

/// The text beside the region error, where a response has one: what users of a client must see that
/// does not know the error's field.
pub fn text(error: &RegionError) -> String {
    match error {
        RegionError::Undetermined { reason } => undetermined_text(reason),
        RegionError::Refused { reason } => (*reason).to_owned(),
        _ => String::new(),
    }
}

/// A refusal that no field stands for: for people alone.
pub(crate) fn refusal_to_proto(sentence: String) -> errorpb::Error {
    errorpb::Error {
        message: sentence,
        ..errorpb::Error::default()
    }
}

/// What users of a client that does not know `undetermined_result` read.
pub(crate) fn undetermined_text(reason: &str) -> String {
    format!("undetermined, the write may or may not take effect: {reason}")
}

#[cfg(test)]
mod tests;
