//! Steps of operators: when one is done, and what to tell the leader of the region until it is.
//!
//! A step is done when the region looks as it should, whoever brought that about. What does not
//! fit (a store that has another peer, a voter that is needed) ends the operator with a [`Cause`].
//!
//! Nothing is ordered while a region is in a joint configuration, whoever began that: its leader
//! leaves it by itself as soon as it is in force, and so does the next leader if that one dies
//! (M11). What an operator that ends early leaves, a learner at most, the rules remove.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::PeerId;
use tinykv_replica::{Peer, PeerRole, StoreId};

use super::merging::Merge;
use super::order::{Cause, Change, Ending, Order, Progress};
use super::safety::{first_damaged, is_damaged, is_healthy, may_exchange, may_remove};
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
/// So does a merge: stores take back what is not done within some seconds.
const MERGE_TIME_MAX: Duration = Duration::from_secs(30);

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
    /// In one joint change the learner `new`, caught up, becomes a voter and the voter `old` leaves
    /// (Raft §4.3): the region never needs a larger majority, nor has fewer voters. If `old` leads,
    /// another voter takes over first, if there is one.
    Exchange {
        /// Who takes over.
        new: Peer,
        /// Who goes.
        old: Peer,
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
    /// The region is a part of its neighbour.
    Merge(Merge),
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
            // An old peer that votes still is left to the removal.
            Step::Exchange { new, .. } => {
                let known = region.region.peer(new.id);
                !region.is_joint() && known.is_some_and(|known| known.role == PeerRole::Voter)
            }
            Step::Remove { peer, .. } => region.region.peer(*peer).is_none(),
            Step::TransferLeader { peer, .. } => {
                region.leader.is_some_and(|leader| leader.id == *peer)
            }
            Step::Split { version, keys } => {
                region.region.epoch.version > *version && begin_at(view, keys)
            }
            Step::Merge(merge) => merge.is_done(view),
        }
    }

    pub(super) fn time_max(&self, region: &RegionView) -> Duration {
        match self {
            Step::AddLearner { .. } | Step::Promote { .. } | Step::Exchange { .. } => {
                let seconds = region.stats.size_bytes / LEARNER_BYTES_PER_SECOND;
                LEARNER_TIME_MAX + Duration::from_secs(seconds)
            }
            Step::Remove { .. } | Step::TransferLeader { .. } => STEP_TIME_MAX,
            Step::Split { .. } => SPLIT_TIME_MAX,
            Step::Merge(_) => MERGE_TIME_MAX,
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
        if let Some(peer) = self.waits_for_damaged(view, region) {
            return cancelled(Cause::PeerDamaged { peer });
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
            Step::Exchange { new, old } => {
                match exchange(view, region, *new, *old, settings, now) {
                    Ok(Some(change)) => change,
                    Ok(None) => return Progress::Wait,
                    Err(cause) => return cancelled(cause),
                }
            }
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
                    match successor(view, region, *peer, settings, now) {
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
                // First things first: the rule that replaces it waits for this operator to end.
                if let Some(damaged) = first_damaged(view, region) {
                    return cancelled(Cause::PeerDamaged { peer: damaged.id });
                }
                Change::Split(keys.clone())
            }
            Step::Merge(merge) => match merge.change(view, region, settings, now) {
                Some(change) => change,
                None => return Progress::Wait,
            },
        };
        Progress::Order(Order {
            region: region.region.id,
            epoch: region.region.epoch,
            leader,
            change,
        })
    }

    /// The peer that has to catch up for this step and never will, because it is damaged.
    fn waits_for_damaged(&self, view: &ClusterView, region: &RegionView) -> Option<PeerId> {
        let peer = match self {
            Step::AddLearner { peer, .. } | Step::Promote { peer, .. } => *peer,
            Step::Exchange { new, .. } => new.id,
            Step::Remove { .. }
            | Step::TransferLeader { .. }
            | Step::Split { .. }
            | Step::Merge(_) => return None,
        };
        let there = region.region.peer(peer)?;
        is_damaged(view, region, there).then_some(peer)
    }
}

/// What to order so that `new` votes and `old` is gone; nothing while `new` is not caught up.
fn exchange(
    view: &ClusterView,
    region: &RegionView,
    new: Peer,
    old: Peer,
    settings: &Settings,
    now: Duration,
) -> Result<Option<Change>, Cause> {
    let Some(learner) = region.region.peer(new.id) else {
        return Err(Cause::PeerGone { peer: new.id });
    };
    if !region.is_current(new.id) {
        return Ok(None);
    }
    let there = region.region.peer(old.id);
    if there.is_none_or(|there| there.role != PeerRole::Voter) {
        return Ok(Some(Change::Promote(new)));
    }
    // Asked now, with what is known now (M10).
    if !may_exchange(view, region, learner, old.id, settings, now) {
        return Err(Cause::PeerNeeded { peer: old.id });
    }
    let leads = region.leader.is_some_and(|leader| leader.id == old.id);
    let successor = successor(view, region, old.id, settings, now).filter(|_| leads);
    Ok(Some(match successor {
        Some(successor) => Change::TransferLeader(successor),
        // A leader that is alone hands over to the new voter when it leaves the joint state.
        None => Change::Joint {
            promote: vec![new],
            remove: vec![old],
        },
    }))
}

/// A healthy voter that could lead instead of `peer`.
fn successor(
    view: &ClusterView,
    region: &RegionView,
    peer: PeerId,
    settings: &Settings,
    now: Duration,
) -> Option<Peer> {
    let healthy =
        |other: &Peer| other.id != peer && is_healthy(view, region, *other, settings, now);
    region.voters().find(healthy)
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
            Step::Exchange { new, old } => write!(
                f,
                "exchange {} on store {} for {} on store {}",
                old.id, old.store, new.id, new.store
            ),
            Step::Remove { peer, store } => write!(f, "remove {peer} from store {store}"),
            Step::TransferLeader { to, peer } => {
                write!(f, "transfer leader to {peer} on store {to}")
            }
            Step::Split { keys, .. } => match keys.len() {
                0 => f.write_str("split in the middle"),
                1 => f.write_str("split at 1 key"),
                count => write!(f, "split at {count} keys"),
            },
            Step::Merge(merge) => write!(f, "merge into region {}", merge.target),
        }
    }
}
