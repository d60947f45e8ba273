//! What is asked for by hand.

use tinykv_proto::placement::add_operator_request as wished;
use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use crate::schedule::Manual;

/// A wish as it was sent.
pub fn manual_from_proto(action: wished::Action) -> Manual {
    match action {
        wished::Action::Split(split) => Manual::Split {
            // Copied: what is kept may not pin the buffer of a whole request.
            keys: split
                .keys
                .iter()
                .map(|key| bytes::Bytes::copy_from_slice(key))
                .collect(),
        },
        wished::Action::TransferLeader(transfer) => Manual::TransferLeader {
            to: StoreId(transfer.store_id),
        },
        wished::Action::AddPeer(add) => Manual::AddPeer {
            to: StoreId(add.store_id),
        },
        wished::Action::RemovePeer(remove) => Manual::RemovePeer {
            from: StoreId(remove.store_id),
        },
        wished::Action::MovePeer(moved) => Manual::MovePeer {
            from: StoreId(moved.from_store_id),
            to: StoreId(moved.to_store_id),
        },
        wished::Action::Merge(merge) => Manual::Merge {
            target: GroupId(merge.target_region_id),
        },
    }
}
