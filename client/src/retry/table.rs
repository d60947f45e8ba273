//! What follows from each failure.
//!
//! | failure | then |
//! | --- | --- |
//! | not leader, leader told | ask the leader at once |
//! | not leader, no leader told | wait, ask placement, pass over this peer |
//! | epoch, current regions told | take them, ask again at once |
//! | epoch, nothing told | forget the region, ask placement |
//! | region not ready | wait, ask placement, pass over this peer |
//! | otherwise misrouted | wait, forget the region (and the store's address), ask placement |
//! | busy | wait as long as told, ask the same peer |
//! | disk full, refused, conflict with what is stored | fail |
//! | no connection | wait, ask placement, pass over this peer, forget the store's address |
//! | lost, timed out, not now, undetermined: a read | wait, ask placement, pass over this peer |
//! | the same: a write | fail: undetermined |

use std::time::Duration;

use tinykv_mutants::{Mutant, planted};

use super::call::Access;
use super::failure::{Failure, Misrouted};
use crate::routing::{Peer, Route};

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Ask this peer, at once.
    SwitchLeader(Peer),
    /// Take these routes and ask again, at once.
    TakeRoutes(Vec<Route>),
    /// Wait, and ask placement about the region.
    Refresh {
        /// What to forget before.
        forget: Forget,
    },
    /// Wait at least so long, and ask the same peer again.
    RetryHere {
        /// Asked for by the store.
        wait: Duration,
    },
    /// Definitely not applied, and no use to try again.
    Fail,
    /// Perhaps applied.
    GiveUpUndetermined,
}

/// What is not to be relied on any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forget {
    /// That this peer can help; the route stays.
    Peer,
    /// The same, and where its store is.
    PeerAndAddress,
    /// The route.
    Route,
    /// The route, and where the store is.
    RouteAndAddress,
}

/// The table.
pub(super) fn decide(failure: &Failure, access: Access) -> Decision {
    if access == Access::Write && !failure.proves_not_applied() && !planted(Mutant::ResentInDoubt) {
        return Decision::GiveUpUndetermined;
    }
    let refresh = |forget| Decision::Refresh { forget };
    match failure {
        Failure::NotLeader {
            leader: Some(leader),
        } => Decision::SwitchLeader(*leader),
        Failure::NotLeader { leader: None } => refresh(Forget::Peer),
        Failure::EpochNotMatch { current } if current.is_empty() => refresh(Forget::Route),
        Failure::EpochNotMatch { current } => Decision::TakeRoutes(current.clone()),
        Failure::Misrouted { how, .. } => refresh(match how {
            Misrouted::StoreMismatch => Forget::RouteAndAddress,
            Misrouted::RegionNotInitialized => Forget::Peer,
            Misrouted::RegionNotFound | Misrouted::KeyNotInRegion | Misrouted::PeerMismatch => {
                Forget::Route
            }
        }),
        Failure::Busy { wait, .. } => Decision::RetryHere { wait: *wait },
        Failure::DiskFull { .. } | Failure::Refused { .. } | Failure::Conflict(_) => Decision::Fail,
        Failure::NotSent { .. } => refresh(Forget::PeerAndAddress),
        Failure::NotNow { .. }
        | Failure::Undetermined { .. }
        | Failure::Lost { .. }
        | Failure::TimedOut { .. } => refresh(Forget::Peer),
    }
}
