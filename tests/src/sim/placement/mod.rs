//! The placement group of a simulated cluster: production state machine, coordinator and oracle
//! of each member on a [`Host`](super::host::Host), with a small shell of events in the place of
//! the asynchronous one of the process. What travels between the members, stores and clients are
//! the values below instead of protobuf.

mod desk;
mod handing_out;
mod member;
mod serving;

use bytes::Bytes;
use tinykv_placement::schedule::{Manual, Order};
use tinykv_placement::state::{self, Command};
use tinykv_placement::timestamps::Timestamp;
use tinykv_placement::view::{RegionReport, StoreStats};
use tinykv_raft::GroupId;
use tinykv_replica::{Region, StoreId};

pub(super) use member::{Member, birth};

/// The one group of the members.
pub(super) const GROUP: GroupId = GroupId(1);

/// What somebody asks of placement, or tells it.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// A store lives.
    StoreHeartbeat { stats: StoreStats },
    /// A region's leader reports.
    RegionHeartbeat { report: Box<RegionReport> },
    /// A leader wants ids for the children of a split.
    SplitIds { region: Region, keys: Vec<Bytes> },
    /// A store whose log was damaged wants an id: those of new peers are above.
    FreshId,
    /// A leader has split its region: all parts of it.
    Split { parts: Vec<Region> },
    /// Who holds a key?
    Locate { key: String, attempt: u64 },
    /// What is a region by now? Asked by a peer that hears of no leader.
    Region { group: GroupId },
    /// Some timestamps, please.
    Timestamps { count: u32, asked: u64 },
    /// A command of whoever founds the cluster.
    Command(Command),
    /// A wish of whoever sits at the terminal.
    Operate { region: GroupId, wish: Manual },
}

/// What placement says.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Ask somebody else: the leader, if it is known.
    NotLeader {
        leader: Option<StoreId>,
        /// If it was a client that asked to locate: its attempt.
        attempt: Option<u64>,
    },
    /// A store was heard; so many voters a region should have.
    Heard { wanted_replicas: u32 },
    /// The leader of a region is told to do something.
    Order(Order),
    /// Ids for the children of a split.
    SplitIds {
        region: Region,
        keys: Vec<Bytes>,
        /// For each key: the child, and its peers.
        ids: Vec<u64>,
    },
    /// An id that nobody had before.
    FreshId(u64),
    /// Who holds the key; `None`: nobody known.
    Located {
        attempt: u64,
        found: Option<(Region, Option<StoreId>)>,
    },
    /// What the region is by now.
    Region(Option<Region>),
    /// Timestamps up to this one.
    Timestamps {
        last: Timestamp,
        count: u32,
        asked: u64,
    },
    /// What became of a command.
    Command(state::Reply),
}
