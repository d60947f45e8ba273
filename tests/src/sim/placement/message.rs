//! What travels between placement and everybody: the messages of its services, which both ends make
//! and read by the production conversions.
//!
//! Each is encoded and decoded on its way. Which call an answer belongs to is known to whoever
//! called, so a number goes along. That a member does not lead is the status of a call. Whoever founds
//! the cluster sends commands as they stand in the log.

use tinykv_keys::Asker;
use tinykv_placement::convert::{peer_to_proto, region_to_proto};
use tinykv_placement::schedule::Manual;
use tinykv_placement::state::{self, Command};
use tinykv_proto::pdpb;
use tinykv_proto::placement::{self, add_operator_request as wished};
use tinykv_raft::GroupId;
use tinykv_replica::{Peer, Region, StoreId};

use super::super::letter::travelled;

/// What somebody asks of placement, or tells it.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Question {
    /// A store lives.
    StoreHeartbeat(pdpb::StoreHeartbeatRequest),
    /// A region's leader reports.
    RegionHeartbeat(pdpb::RegionHeartbeatRequest),
    /// A leader wants ids for the children of a split.
    SplitIds(pdpb::AskBatchSplitRequest),
    /// A store whose log was damaged wants an id: those of new peers are above.
    FreshId(pdpb::AllocIdRequest),
    /// A leader has split its region: all parts of it.
    Split(pdpb::ReportBatchSplitRequest),
    /// Who holds a key?
    Locate(pdpb::GetRegionRequest),
    /// What is a region by now? Asked by a peer that hears of no leader.
    Region(pdpb::GetRegionByIdRequest),
    /// Some timestamps, please.
    Timestamps(pdpb::TsoRequest),
    /// A wish of whoever sits at the terminal.
    Operate(placement::AddOperatorRequest),
    /// A command of whoever founds the cluster.
    Command(Command),
    /// Who are the members? Anyone of them answers.
    Members(pdpb::GetMembersRequest),
    /// Somebody at the terminal adds or removes a member.
    ChangeMembers(placement::ChangeMembersRequest),
    /// A process that was added wants to know whom it joins.
    Join(placement::JoinRequest),
    /// A member says who it is.
    Register(placement::RegisterRequest),
}

/// What placement says.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Reply {
    /// Ask somebody else: the leader, if it is known.
    NotLeader {
        leader: Option<StoreId>,
        /// Whether the call was to locate a key.
        was_locating: bool,
    },
    /// A store was heard.
    StoreHeartbeat(pdpb::StoreHeartbeatResponse),
    /// The leader of a region is told to do something.
    Order(pdpb::RegionHeartbeatResponse),
    /// Ids for the children of a split.
    SplitIds(pdpb::AskBatchSplitResponse),
    /// An id that nobody had before.
    FreshId(pdpb::AllocIdResponse),
    /// Who holds the key, or what the region is by now.
    Region(pdpb::GetRegionResponse),
    /// Timestamps up to this one.
    Timestamps(pdpb::TsoResponse),
    /// What became of a command.
    Command(state::Reply),
    /// Who the members are.
    Members(pdpb::GetMembersResponse),
    /// What became of the wish to add or remove a member.
    MembersChanged(placement::ChangeMembersResponse),
    /// Whom a process joins.
    Joined(placement::JoinResponse),
    /// Whether a member may take part.
    Registered(placement::RegisterResponse),
}

impl Question {
    /// As it arrives.
    pub(in crate::sim) fn over_the_wire(self) -> Question {
        match self {
            Question::StoreHeartbeat(it) => Question::StoreHeartbeat(travelled(&it)),
            Question::RegionHeartbeat(it) => Question::RegionHeartbeat(travelled(&it)),
            Question::SplitIds(it) => Question::SplitIds(travelled(&it)),
            Question::FreshId(it) => Question::FreshId(travelled(&it)),
            Question::Split(it) => Question::Split(travelled(&it)),
            Question::Locate(it) => Question::Locate(travelled(&it)),
            Question::Region(it) => Question::Region(travelled(&it)),
            Question::Timestamps(it) => Question::Timestamps(travelled(&it)),
            Question::Operate(it) => Question::Operate(travelled(&it)),
            Question::Members(it) => Question::Members(travelled(&it)),
            Question::ChangeMembers(it) => Question::ChangeMembers(travelled(&it)),
            Question::Join(it) => Question::Join(travelled(&it)),
            Question::Register(it) => Question::Register(travelled(&it)),
            Question::Command(it) => {
                let decoded = Command::decode(&it.encode());
                Question::Command(decoded.expect("what was encoded can be decoded"))
            }
        }
    }
}

impl Reply {
    /// As it arrives.
    pub(in crate::sim) fn over_the_wire(self) -> Reply {
        match self {
            Reply::StoreHeartbeat(it) => Reply::StoreHeartbeat(travelled(&it)),
            Reply::Order(it) => Reply::Order(travelled(&it)),
            Reply::SplitIds(it) => Reply::SplitIds(travelled(&it)),
            Reply::FreshId(it) => Reply::FreshId(travelled(&it)),
            Reply::Region(it) => Reply::Region(travelled(&it)),
            Reply::Timestamps(it) => Reply::Timestamps(travelled(&it)),
            Reply::Members(it) => Reply::Members(travelled(&it)),
            Reply::MembersChanged(it) => Reply::MembersChanged(travelled(&it)),
            Reply::Joined(it) => Reply::Joined(travelled(&it)),
            Reply::Registered(it) => Reply::Registered(travelled(&it)),
            status @ (Reply::NotLeader { .. } | Reply::Command(_)) => status,
        }
    }
}

/// A wish as the command line sends it.
pub(in crate::sim) fn wish(region: GroupId, wish: Manual) -> placement::AddOperatorRequest {
    let action = match wish {
        Manual::Split { keys } => wished::Action::Split(placement::SplitAtKeys { keys }),
        Manual::TransferLeader { to } => {
            let store_id = to.0;
            wished::Action::TransferLeader(placement::TransferLeaderTo { store_id })
        }
        Manual::AddPeer { to } => {
            let store_id = to.0;
            wished::Action::AddPeer(placement::AddPeerOn { store_id })
        }
        Manual::RemovePeer { from } => {
            let store_id = from.0;
            wished::Action::RemovePeer(placement::RemovePeerFrom { store_id })
        }
        Manual::MovePeer { from, to } => wished::Action::MovePeer(placement::MovePeer {
            from_store_id: from.0,
            to_store_id: to.0,
        }),
        Manual::Merge { target } => wished::Action::Merge(placement::MergeInto {
            target_region_id: target.0,
        }),
    };
    placement::AddOperatorRequest {
        region_id: region.0,
        action: Some(action),
        ..placement::AddOperatorRequest::default()
    }
}

/// A region as the asker has to see it; nothing if there is none.
pub(in crate::sim) fn located(
    found: Option<(Region, Option<Peer>)>,
    asker: Asker,
) -> pdpb::GetRegionResponse {
    let Some((region, leader)) = found else {
        return pdpb::GetRegionResponse::default();
    };
    pdpb::GetRegionResponse {
        region: region_to_proto(&region, asker),
        leader: leader.map(peer_to_proto),
        ..pdpb::GetRegionResponse::default()
    }
}
