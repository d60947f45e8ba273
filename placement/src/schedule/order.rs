//! What comes next for an operator: an order to the leader of its region, or its end.

use std::fmt;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Peer, Region, RegionEpoch, StoreId};

/// What the leader of a region is told to do. The store refuses it if the epoch is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The region.
    pub region: GroupId,
    /// The epoch the order was made for.
    pub epoch: RegionEpoch,
    /// Who carries it out.
    pub leader: Peer,
    /// What.
    pub change: Change,
}

/// What a leader can be told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add this learner.
    AddLearner(Peer),
    /// Make this learner a voter.
    Promote(Peer),
    /// In one joint change these learners become voters, and these voters go.
    Joint {
        /// Who votes afterwards, as described then.
        promote: Vec<Peer>,
        /// Who is no part of the region afterwards.
        remove: Vec<Peer>,
    },
    /// Remove this peer.
    Remove(Peer),
    /// Hand leadership to this peer.
    TransferLeader(Peer),
    /// Split at these keys; empty: in the middle.
    Split(Vec<Bytes>),
    /// Become a part of this neighbour, as it is described.
    Merge(Region),
}

/// What comes next for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send this (again).
    Order(Order),
    /// Nothing to send now; a heartbeat will tell.
    Wait,
    /// It is over.
    Ended(Ending),
}

/// How an operator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Success,
    /// A step took too long.
    Timeout,
    /// It was given up. Rules make a new plan; what was asked by hand has to be asked again.
    Cancelled(Cause),
}

/// Why an operator was given up. `Display` is one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Somebody asked for that.
    #[error("it was cancelled by hand")]
    ByHand,
    /// No route leads to the region any more.
    #[error("the region is not there any more")]
    RegionGone,
    /// The store got another peer of the region meanwhile.
    #[error("store {store} has peer {peer} of the region by now")]
    StoreHasPeer {
        /// Where.
        store: StoreId,
        /// Who is there.
        peer: PeerId,
    },
    /// The peer left the region meanwhile.
    #[error("peer {peer} is no part of the region any more")]
    PeerGone {
        /// Which.
        peer: PeerId,
    },
    /// Without the peer too few would be left (M10).
    #[error("without peer {peer} the region would have no majority of healthy voters")]
    PeerNeeded {
        /// Which.
        peer: PeerId,
    },
    /// The peer cannot lead now.
    #[error("peer {peer} cannot lead: it is not a caught-up voter on a store that is heard")]
    PeerUnfit {
        /// Which.
        peer: PeerId,
    },
    /// The peer is damaged: it never catches up, and is replaced before anything else (D6).
    #[error("peer {peer} is damaged, and a damaged peer is replaced under a new id")]
    PeerDamaged {
        /// Which.
        peer: PeerId,
    },
    /// Without its target a merge has no sense.
    #[error("region {target}, which was to take it in, is not there any more")]
    TargetGone {
        /// The target of the merge.
        target: GroupId,
    },
    /// A merge is for two regions as they were when it began.
    #[error("region {region} has changed meanwhile: ask for the merge again if it is still wanted")]
    PartnerChanged {
        /// The source or the target.
        region: GroupId,
    },
    /// The stores did not get all that they needed in time, and went back.
    #[error(
        "the stores took the merge into region {target} back: a peer was too slow, or region \
         {target} changed meanwhile"
    )]
    MergeTakenBack {
        /// The target of the merge.
        target: GroupId,
    },
    /// The region was split, and not there.
    #[error("the region was split elsewhere meanwhile: the key lies inside region {region} now")]
    SplitElsewhere {
        /// Which region the key fell into.
        region: GroupId,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Success => "success",
            Ending::Timeout => "timeout",
            Ending::Cancelled(_) => "cancelled",
        })
    }
}
