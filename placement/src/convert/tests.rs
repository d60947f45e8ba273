//! Orders as messages.

use super::*;
use tinykv_proto::eraftpb::ConfChangeType;

#[test]
fn a_joint_change_is_one_order_of_several_changes() {
    let order = Order {
        region: GroupId(7),
        epoch: RegionEpoch {
            conf_ver: 4,
            version: 2,
        },
        leader: Peer::voter(PeerId(1), StoreId(10)),
        change: Change::Joint {
            promote: vec![Peer::voter(PeerId(3), StoreId(30))],
            remove: vec![Peer::voter(PeerId(2), StoreId(20))],
        },
    };
    let response = order_to_proto(&order);
    assert!(response.change_peer.is_none());
    let changes = response.change_peer_v2.expect("several at once").changes;
    let told: Vec<_> = changes
        .iter()
        .map(|change| {
            let peer = change.peer.expect("who");
            (peer.id, peer.store_id, peer.role(), change.change_type())
        })
        .collect();
    assert_eq!(
        told,
        [
            (3, 30, metapb::PeerRole::Voter, ConfChangeType::AddNode),
            (2, 20, metapb::PeerRole::Voter, ConfChangeType::RemoveNode),
        ]
    );
}
