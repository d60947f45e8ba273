//! Orders of placement, as things a leader can do.

use tinykv_proto::eraftpb::ConfChangeType;
use tinykv_proto::{metapb, pdpb};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{AdminAction, Peer, PeerChange, PeerRole, Region, RegionEpoch, StoreId};

use crate::service::epoch;
use crate::splitting::Places;

/// An order for one region.
#[derive(Clone, Debug)]
pub struct Order {
    /// The region.
    pub group: GroupId,
    /// What its leader is to do.
    pub task: Task,
}

/// What a leader is to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// Something it does by itself.
    Admin(AdminAction),
    /// Split the region, for which placement gives ids first.
    Split {
        /// For which epoch, as a whole.
        epoch: RegionEpoch,
        /// Where.
        places: Places,
    },
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCarriedOut {
    /// Placement did not accept the region's heartbeat.
    #[error("the heartbeat was refused: {0}")]
    HeartbeatRefused(String),
    /// The order lacks what it needs.
    #[error("the order names no peer")]
    NoPeer,
    /// The target of a merge is not here, or has changed since.
    #[error("region {0}, the target of a merge, is not here as the order has it")]
    NoTarget(GroupId),
}

/// What a response on the heartbeat stream asks for; `None` if nothing. `region` is what the store
/// knows of the region, `neighbour` what it knows of others.
pub fn order(
    response: &pdpb::RegionHeartbeatResponse,
    region: Option<&Region>,
    neighbour: impl Fn(GroupId) -> Option<Region>,
) -> Result<Option<Order>, NotCarriedOut> {
    if let Some(error) = response
        .header
        .as_ref()
        .and_then(|header| header.error.as_ref())
    {
        return Err(NotCarriedOut::HeartbeatRefused(error.message.clone()));
    }
    let changes = match (&response.change_peer, &response.change_peer_v2) {
        (Some(one), _) => std::slice::from_ref(one),
        (None, Some(several)) => several.changes.as_slice(),
        (None, None) => &[],
    };
    let task = if !changes.is_empty() {
        Task::Admin(change_peers(changes, response.region_epoch, region)?)
    } else if let Some(transfer) = &response.transfer_leader {
        Task::Admin(transfer_leader(transfer)?)
    } else if let Some(split) = &response.split_region {
        split_region(split, response.region_epoch)
    } else if let Some(merge) = &response.merge {
        Task::Admin(merge_into(merge, response.region_epoch, neighbour)?)
    } else {
        return Ok(None);
    };
    Ok(Some(Order {
        group: GroupId(response.region_id),
        task,
    }))
}

/// Several changes are one joint change, or none of them is made.
fn change_peers(
    changes: &[pdpb::ChangePeer],
    for_epoch: Option<metapb::RegionEpoch>,
    region: Option<&Region>,
) -> Result<AdminAction, NotCarriedOut> {
    let changes = changes.iter().map(|change| change_peer(change, region));
    Ok(AdminAction::ChangePeers {
        epoch: epoch(for_epoch),
        changes: changes.collect::<Result<_, _>>()?,
    })
}

fn change_peer(
    change: &pdpb::ChangePeer,
    region: Option<&Region>,
) -> Result<PeerChange, NotCarriedOut> {
    let peer = change.peer.as_ref().ok_or(NotCarriedOut::NoPeer)?;
    let id = PeerId(peer.id);
    let known = region.and_then(|region| region.peer(id));
    let role = known.map(|peer| peer.role);
    Ok(match change.change_type() {
        ConfChangeType::AddNode if role == Some(PeerRole::Learner) => PeerChange::Promote(id),
        ConfChangeType::AddLearnerNode if role == Some(PeerRole::Voter) => PeerChange::Demote(id),
        // A new voter starts as a learner: it must not count before it has the data. Placement
        // asks again once it sees the learner.
        ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
            PeerChange::AddLearner(Peer::learner(id, StoreId(peer.store_id)))
        }
        ConfChangeType::RemoveNode => PeerChange::Remove(id),
    })
}

fn transfer_leader(transfer: &pdpb::TransferLeader) -> Result<AdminAction, NotCarriedOut> {
    let to = transfer.peer.as_ref().or(transfer.peers.first());
    let to = to.ok_or(NotCarriedOut::NoPeer)?;
    Ok(AdminAction::TransferLeader {
        to: Some(PeerId(to.id)),
    })
}

/// A target whose peers are where the region's are has one on this store, which knows it.
fn merge_into(
    merge: &pdpb::Merge,
    for_epoch: Option<metapb::RegionEpoch>,
    neighbour: impl Fn(GroupId) -> Option<Region>,
) -> Result<AdminAction, NotCarriedOut> {
    let ordered = merge.target.as_ref();
    let id = GroupId(ordered.map_or(0, |target| target.id));
    let ordered = ordered.map(|target| epoch(target.region_epoch));
    let target = neighbour(id).filter(|here| Some(here.epoch) == ordered);
    Ok(AdminAction::Merge {
        epoch: epoch(for_epoch),
        target: target.ok_or(NotCarriedOut::NoTarget(id))?,
    })
}

/// With keys they count, whatever the policy says; without, the middle is found here.
fn split_region(split: &pdpb::SplitRegion, for_epoch: Option<metapb::RegionEpoch>) -> Task {
    let places = match split.keys.as_slice() {
        [] if split.policy() != pdpb::CheckPolicy::Usekey => Places::Middle,
        keys => Places::At(keys.to_vec()),
    };
    Task::Split {
        epoch: epoch(for_epoch),
        places,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn region() -> Region {
        Region {
            id: GroupId(7),
            peers: vec![
                Peer::voter(PeerId(1), StoreId(1)),
                Peer::learner(PeerId(2), StoreId(2)),
            ],
            ..Region::default()
        }
    }

    fn nobody(_: GroupId) -> Option<Region> {
        None
    }

    fn change(id: u64, kind: ConfChangeType) -> pdpb::RegionHeartbeatResponse {
        pdpb::RegionHeartbeatResponse {
            region_id: 7,
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: 3,
                version: 1,
            }),
            change_peer: Some(pdpb::ChangePeer {
                peer: Some(metapb::Peer {
                    id,
                    store_id: id,
                    ..metapb::Peer::default()
                }),
                change_type: kind.into(),
            }),
            ..pdpb::RegionHeartbeatResponse::default()
        }
    }

    fn ordered(response: &pdpb::RegionHeartbeatResponse) -> PeerChange {
        let order = order(response, Some(&region()), nobody)
            .expect("an order")
            .expect("an order");
        assert_eq!(order.group, GroupId(7));
        match order.task {
            Task::Admin(AdminAction::ChangePeers { epoch, changes }) => {
                let expected = RegionEpoch {
                    conf_ver: 3,
                    version: 1,
                };
                assert_eq!((epoch, changes.len()), (expected, 1));
                changes[0]
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn peers_are_added_as_learners_promoted_and_removed() {
        let learner = PeerChange::AddLearner(Peer::learner(PeerId(3), StoreId(3)));
        assert_eq!(ordered(&change(3, ConfChangeType::AddLearnerNode)), learner);
        assert_eq!(ordered(&change(3, ConfChangeType::AddNode)), learner);
        assert_eq!(
            ordered(&change(2, ConfChangeType::AddNode)),
            PeerChange::Promote(PeerId(2))
        );
        assert_eq!(
            ordered(&change(1, ConfChangeType::RemoveNode)),
            PeerChange::Remove(PeerId(1))
        );
    }

    #[test]
    fn several_changes_are_one_action() {
        let change = |id: u64, kind: ConfChangeType| pdpb::ChangePeer {
            peer: Some(metapb::Peer {
                id,
                store_id: id,
                ..metapb::Peer::default()
            }),
            change_type: kind.into(),
        };
        let ordered = |changes: &[pdpb::ChangePeer]| {
            let response = pdpb::RegionHeartbeatResponse {
                region_id: 7,
                change_peer_v2: Some(pdpb::ChangePeerV2 {
                    changes: changes.to_vec(),
                }),
                ..pdpb::RegionHeartbeatResponse::default()
            };
            order(&response, Some(&region()), nobody).map(|order| {
                match order.map(|order| order.task) {
                    Some(Task::Admin(AdminAction::ChangePeers { changes, .. })) => changes,
                    other => panic!("{other:?}"),
                }
            })
        };
        let promote = change(2, ConfChangeType::AddNode);
        assert_eq!(
            ordered(&[promote, change(1, ConfChangeType::RemoveNode)]),
            Ok(vec![
                PeerChange::Promote(PeerId(2)),
                PeerChange::Remove(PeerId(1))
            ])
        );
        assert_eq!(
            ordered(&[promote, change(1, ConfChangeType::AddLearnerNode)]),
            Ok(vec![
                PeerChange::Promote(PeerId(2)),
                PeerChange::Demote(PeerId(1))
            ])
        );
        let no_peer = pdpb::ChangePeer::default();
        let refused = ordered(&[promote, no_peer]);
        assert_eq!(refused, Err(NotCarriedOut::NoPeer), "all or nothing");
    }

    #[test]
    fn splits_name_keys_or_leave_them_to_the_store() {
        let places = |policy: pdpb::CheckPolicy, keys: &[&'static [u8]]| {
            let mut split = pdpb::SplitRegion {
                keys: keys.iter().map(|key| Bytes::from_static(key)).collect(),
                ..pdpb::SplitRegion::default()
            };
            split.set_policy(policy);
            let response = pdpb::RegionHeartbeatResponse {
                region_id: 7,
                region_epoch: Some(metapb::RegionEpoch {
                    conf_ver: 3,
                    version: 1,
                }),
                split_region: Some(split),
                ..pdpb::RegionHeartbeatResponse::default()
            };
            let order = order(&response, Some(&region()), nobody)
                .expect("an order")
                .expect("an order");
            match order.task {
                Task::Split { epoch, places } => {
                    assert_eq!((epoch.conf_ver, epoch.version), (3, 1));
                    places
                }
                other => panic!("{other:?}"),
            }
        };
        let keys = Places::At(vec![Bytes::from_static(b"k")]);
        assert_eq!(places(pdpb::CheckPolicy::Usekey, &[b"k"]), keys);
        assert_eq!(places(pdpb::CheckPolicy::Approximate, &[]), Places::Middle);
        assert_eq!(places(pdpb::CheckPolicy::Scan, &[]), Places::Middle);
        // Refused by the splitter with a sentence.
        assert_eq!(
            places(pdpb::CheckPolicy::Usekey, &[]),
            Places::At(Vec::new())
        );
    }

    #[test]
    fn no_order_no_action_and_errors_are_told() {
        let silent = pdpb::RegionHeartbeatResponse::default();
        assert!(order(&silent, None, nobody).expect("fine").is_none());
        let refused = pdpb::RegionHeartbeatResponse {
            header: Some(pdpb::ResponseHeader {
                cluster_id: 1,
                error: Some(pdpb::Error {
                    message: "stale term".to_owned(),
                    ..pdpb::Error::default()
                }),
            }),
            ..pdpb::RegionHeartbeatResponse::default()
        };
        assert_eq!(
            order(&refused, None, nobody).expect_err("refused"),
            NotCarriedOut::HeartbeatRefused("stale term".to_owned())
        );
        let to_nobody = pdpb::RegionHeartbeatResponse {
            transfer_leader: Some(pdpb::TransferLeader::default()),
            ..pdpb::RegionHeartbeatResponse::default()
        };
        assert_eq!(
            order(&to_nobody, None, nobody).expect_err("nobody"),
            NotCarriedOut::NoPeer
        );
    }

    #[test]
    fn a_merge_is_for_the_target_as_it_is_here() {
        let merge_into = |version| {
            let epoch = |version| {
                Some(metapb::RegionEpoch {
                    conf_ver: 3,
                    version,
                })
            };
            let target = metapb::Region {
                id: 8,
                region_epoch: epoch(version),
                ..metapb::Region::default()
            };
            pdpb::RegionHeartbeatResponse {
                region_id: 7,
                region_epoch: epoch(1),
                merge: Some(pdpb::Merge {
                    target: Some(target),
                }),
                ..pdpb::RegionHeartbeatResponse::default()
            }
        };
        let here = Region {
            id: GroupId(8),
            start: Bytes::from_static(b"m"),
            epoch: RegionEpoch {
                conf_ver: 3,
                version: 5,
            },
            ..Region::default()
        };
        let neighbour = |group| (group == here.id).then(|| here.clone());
        let order_for = |version| order(&merge_into(version), Some(&region()), neighbour);
        match order_for(5).expect("an order").expect("an order").task {
            Task::Admin(AdminAction::Merge { epoch, target }) => {
                assert_eq!((epoch.conf_ver, epoch.version), (3, 1));
                assert_eq!(target, here);
            }
            other => panic!("{other:?}"),
        }
        let moved = Err(NotCarriedOut::NoTarget(GroupId(8)));
        assert_eq!(order_for(4).map(|order| order.is_some()), moved);
        let gone = order(&merge_into(5), Some(&region()), nobody);
        assert_eq!(gone.map(|order| order.is_some()), moved);
    }
}
