//! Steps of operators: when one is done, and what to tell the leader of the region until it is.
//!
//! A step is done when the region looks as it should, whoever brought that about. What does not
//! fit (a store that has another peer, a voter that is needed) ends the operator with a [`Cause`].

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Peer, PeerRole, RegionEpoch, StoreId};

use super::safety::{is_healthy, may_remove};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// A transfer or a change of membership without data takes no longer than this.
const STEP_TIME_MAX: Duration = Duration::from_secs(10);
/// A learner gets this long to catch up, and a second more for every [`LEARNER_BYTES_PER_SECOND`].
const LEARNER_TIME_MAX: Duration = Duration::from_secs(60);
/// What a snapshot makes even on a slow disk.
const LEARNER_BYTES_PER_SECOND: u64 = 1 << 20;
/// A split gets this long: its leader looks for keys, asks for ids, and applies it.
const SPLIT_TIME_MAX: Duration = Duration::from_secs(30);

/// One step. Each is done when the region looks as it should, whoever brought that about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The peer is a learner (or more) on the store and caught up.
    AddLearner {
        /// The new peer.
        peer: PeerId,
        /// Where.
        store: StoreId,
    },
    /// The learner is caught up and votes.
    Promote {
        /// Which.
        peer: PeerId,
        /// Where it is.
        store: StoreId,
    },
    /// The peer is gone. If it leads, another voter takes over first.
    Remove {
        /// Which.
        peer: PeerId,
        /// Where it is.
        store: StoreId,
    },
    /// A peer on this store leads.
    TransferLeader {
        /// Where.
        to: StoreId,
        /// The peer there.
        peer: PeerId,
    },
    /// The version of the region has risen, and a region begins at each of the keys.
    Split {
        /// The version it had.
        version: u64,
        /// Strictly inside, ascending; empty: in the middle, as the leader finds.
        keys: Vec<Bytes>,
    },
}

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
    /// Remove this peer.
    Remove(Peer),
    /// Hand leadership to this peer.
    TransferLeader(Peer),
    /// Split at these keys; empty: in the middle.
    Split(Vec<Bytes>),
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
    /// The region was split, and not there.
    #[error("the region was split elsewhere meanwhile: the key lies inside region {region} now")]
    SplitElsewhere {
        /// Which region the key fell into.
        region: GroupId,
    },
}

impl Step {
    pub(super) fn is_done(&self, view: &ClusterView, region: &RegionView) -> bool {
        match self {
            Step::AddLearner { peer, .. } => {
                region.region.peer(*peer).is_some() && region.is_current(*peer)
            }
            Step::Promote { peer, .. } => region
                .region
                .peer(*peer)
                .is_some_and(|known| known.role == PeerRole::Voter),
            Step::Remove { peer, .. } => region.region.peer(*peer).is_none(),
            Step::TransferLeader { peer, .. } => {
                region.leader.is_some_and(|leader| leader.id == *peer)
            }
            Step::Split { version, keys } => {
                region.region.epoch.version > *version && begin_at(view, keys)
            }
        }
    }

    pub(super) fn time_max(&self, region: &RegionView) -> Duration {
        match self {
            Step::AddLearner { .. } | Step::Promote { .. } => {
                let seconds = region.stats.size_bytes / LEARNER_BYTES_PER_SECOND;
                LEARNER_TIME_MAX + Duration::from_secs(seconds)
            }
            Step::Remove { .. } | Step::TransferLeader { .. } => STEP_TIME_MAX,
            Step::Split { .. } => SPLIT_TIME_MAX,
        }
    }

    /// What to tell the leader so that this step gets done.
    pub(super) fn order(
        &self,
        view: &ClusterView,
        region: &RegionView,
        settings: &Settings,
        now: Duration,
    ) -> Progress {
        let Some(leader) = region.leader else {
            return Progress::Wait;
        };
        if region.is_joint() {
            return Progress::Wait;
        }
        let change = match self {
            Step::AddLearner { peer, store } => match region.region.peer_on(*store) {
                None => Change::AddLearner(Peer::learner(*peer, *store)),
                Some(there) if there.id == *peer => return Progress::Wait,
                Some(there) => {
                    return cancelled(Cause::StoreHasPeer {
                        store: *store,
                        peer: there.id,
                    });
                }
            },
            Step::Promote { peer, store } => match region.region.peer(*peer) {
                None => return cancelled(Cause::PeerGone { peer: *peer }),
                Some(_) if !region.is_current(*peer) => return Progress::Wait,
                Some(_) => Change::Promote(Peer::voter(*peer, *store)),
            },
            Step::Remove { peer, .. } => {
                let Some(there) = region.region.peer(*peer) else {
                    return Progress::Wait;
                };
                // Asked again now, with what is known now (M10).
                if !may_remove(view, region, *peer, settings, now) {
                    return cancelled(Cause::PeerNeeded { peer: *peer });
                }
                // A leader cannot remove itself: whoever can takes over first.
                if leader.id == *peer {
                    let healthy = |other: &Peer| {
                        other.id != *peer && is_healthy(view, region, *other, settings, now)
                    };
                    match region.voters().find(healthy) {
                        Some(successor) => Change::TransferLeader(successor),
                        None => return cancelled(Cause::PeerNeeded { peer: *peer }),
                    }
                } else {
                    Change::Remove(there)
                }
            }
            Step::TransferLeader { peer, .. } => match region.region.peer(*peer) {
                Some(there) if is_healthy(view, region, there, settings, now) => {
                    Change::TransferLeader(there)
                }
                _ => return cancelled(Cause::PeerUnfit { peer: *peer }),
            },
            Step::Split { version, keys } => {
                if region.region.epoch.version > *version {
                    return after_split(view, *version, keys);
                }
                Change::Split(keys.clone())
            }
        };
        Progress::Order(Order {
            region: region.region.id,
            epoch: region.region.epoch,
            leader,
            change,
        })
    }
}

/// Whether a region begins at each of the keys.
fn begin_at(view: &ClusterView, keys: &[Bytes]) -> bool {
    let found = view
        .regions
        .values()
        .filter(|known| keys.contains(&known.region.start))
        .count();
    found >= keys.len()
}

/// The region was split and not all parts are known: whoever holds a key now either has not been
/// heard since, or was made by another split.
fn after_split(view: &ClusterView, version: u64, keys: &[Bytes]) -> Progress {
    let elsewhere = view.regions.values().find(|known| {
        let inside = |key: &Bytes| known.region.start != *key && known.region.contains(key);
        known.region.epoch.version > version && keys.iter().any(inside)
    });
    match elsewhere {
        Some(known) => cancelled(Cause::SplitElsewhere {
            region: known.region.id,
        }),
        None => Progress::Wait,
    }
}

fn cancelled(cause: Cause) -> Progress {
    Progress::Ended(Ending::Cancelled(cause))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::AddLearner { peer, store } => write!(f, "add learner {peer} on store {store}"),
            Step::Promote { peer, store } => write!(f, "promote {peer} on store {store}"),
            Step::Remove { peer, store } => write!(f, "remove {peer} from store {store}"),
            Step::TransferLeader { to, peer } => {
                write!(f, "transfer leader to {peer} on store {to}")
            }
            Step::Split { keys, .. } => match keys.len() {
                0 => f.write_str("split in the middle"),
                1 => f.write_str("split at 1 key"),
                count => write!(f, "split at {count} keys"),
            },
        }
    }
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
