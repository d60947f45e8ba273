//! Operators: the steps of one decision, driven by the heartbeats of its region.
//!
//! An operator never assumes that an order was carried out, or not: only a heartbeat shows it.
//! Whatever it finds that does not fit (another range, a peer that vanished, a store that has
//! another peer) ends it; the next plan begins from what is really there.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Peer, PeerRole, RegionEpoch, StoreId};

use super::reason::Reason;
use super::safety::{is_healthy, may_remove};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// A transfer or a change of membership without data takes no longer than this.
const STEP_TIME_MAX: Duration = Duration::from_secs(10);
/// A learner gets this long to catch up, and a second more for every [`LEARNER_BYTES_PER_SECOND`].
const LEARNER_TIME_MAX: Duration = Duration::from_secs(60);
/// What a snapshot makes even on a slow disk.
const LEARNER_BYTES_PER_SECOND: u64 = 1 << 20;

/// A decision under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Unique in this leadership.
    pub id: u64,
    /// Its region.
    pub region: GroupId,
    /// What it does.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// What it consists of; those before `position` are done.
    pub steps: Vec<Step>,
    /// The step under way.
    pub position: usize,
    /// When it began.
    pub began_at: Duration,
    /// When the step under way began.
    pub step_began_at: Duration,
    /// When it was last asked what comes next.
    pub advanced_at: Duration,
    /// The version of the region it was made for; a split or merge ends it.
    version: u64,
}

/// One step. Each is done when the region looks as it should, whoever brought that about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The peer is gone.
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
}

/// What the leader of a region is told to do. The store refuses it if the epoch is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add this learner.
    AddLearner(Peer),
    /// Make this learner a voter.
    Promote(Peer),
    /// Remove this peer.
    Remove(Peer),
    /// Hand leadership to this peer.
    TransferLeader(Peer),
}

/// What comes next for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send this (again).
    Order(Order),
    /// Nothing to send now; a heartbeat will tell.
    Wait,
    /// It is over.
    Ended(Ending),
}

/// How an operator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Success,
    /// A step took too long.
    Timeout,
    /// The region does not fit any more; a new plan is made.
    Cancelled,
}

impl Operator {
    /// The operator of a decision. `new_peer` is an id nobody has, used if the action adds a
    /// peer. `None` if the region does not fit the decision any more.
    pub fn new(
        id: u64,
        decision: Decision,
        new_peer: PeerId,
        region: &RegionView,
        now: Duration,
    ) -> Option<Operator> {
        if region.region.epoch != decision.epoch {
            return None;
        }
        Some(Operator {
            id,
            region: decision.region,
            steps: steps(decision.action, new_peer, region)?,
            action: decision.action,
            reason: decision.reason,
            position: 0,
            began_at: now,
            step_began_at: now,
            advanced_at: now,
            version: decision.epoch.version,
        })
    }

    /// Whether the action takes a new peer id.
    pub fn needs_peer(action: Action) -> bool {
        matches!(
            action,
            Action::AddReplica { .. } | Action::ReplaceReplica { .. }
        )
    }

    /// The steps not done yet.
    pub fn remaining(&self) -> &[Step] {
        self.steps.get(self.position..).unwrap_or_default()
    }

    /// Looks at the region, passes over the steps that are done, and says what comes next.
    pub fn advance(&mut self, view: &ClusterView, settings: &Settings, now: Duration) -> Progress {
        self.advanced_at = now;
        let Some(region) = view.regions.get(&self.region) else {
            return Progress::Ended(Ending::Cancelled);
        };
        if region.region.epoch.version != self.version {
            return Progress::Ended(Ending::Cancelled);
        }
        while let Some(step) = self.remaining().first().copied() {
            if !step.is_done(region) {
                if now.saturating_sub(self.step_began_at) > step.time_max(region) {
                    return Progress::Ended(Ending::Timeout);
                }
                return step.order(view, region, settings, now);
            }
            self.position += 1;
            self.step_began_at = now;
        }
        Progress::Ended(Ending::Success)
    }

    /// When the step under way is given up.
    pub fn time_max(&self, region: &RegionView) -> Duration {
        self.remaining()
            .first()
            .map_or(Duration::ZERO, |step| step.time_max(region))
    }
}

fn steps(action: Action, new_peer: PeerId, region: &RegionView) -> Option<Vec<Step>> {
    let add = |store| {
        [
            Step::AddLearner {
                peer: new_peer,
                store,
            },
            Step::Promote {
                peer: new_peer,
                store,
            },
        ]
    };
    Some(match action {
        Action::AddReplica { to } => add(to).to_vec(),
        Action::ReplaceReplica { old, from, to } => {
            let mut steps: VecDeque<Step> = add(to).into();
            if region.leader.is_some_and(|leader| leader.id == old) {
                steps.push_back(Step::TransferLeader { to, peer: new_peer });
            }
            steps.push_back(Step::Remove {
                peer: old,
                store: from,
            });
            steps.into()
        }
        Action::PromoteLearner { peer, store } => vec![Step::Promote { peer, store }],
        Action::RemovePeer {
            peer,
            from,
            leader_to,
        } => {
            let mut steps = Vec::new();
            if let Some(to) = leader_to {
                let successor = region.region.peer_on(to)?;
                steps.push(Step::TransferLeader {
                    to,
                    peer: successor.id,
                });
            }
            steps.push(Step::Remove { peer, store: from });
            steps
        }
        Action::TransferLeader { to, .. } => {
            let successor = region.region.peer_on(to)?;
            vec![Step::TransferLeader {
                to,
                peer: successor.id,
            }]
        }
    })
}

impl Step {
    fn is_done(self, region: &RegionView) -> bool {
        match self {
            Step::AddLearner { peer, .. } => {
                region.region.peer(peer).is_some() && region.is_current(peer)
            }
            Step::Promote { peer, .. } => region
                .region
                .peer(peer)
                .is_some_and(|known| known.role == PeerRole::Voter),
            Step::Remove { peer, .. } => region.region.peer(peer).is_none(),
            Step::TransferLeader { peer, .. } => {
                region.leader.is_some_and(|leader| leader.id == peer)
            }
        }
    }

    fn time_max(self, region: &RegionView) -> Duration {
        match self {
            Step::AddLearner { .. } | Step::Promote { .. } => {
                let seconds = region.stats.size_bytes / LEARNER_BYTES_PER_SECOND;
                LEARNER_TIME_MAX + Duration::from_secs(seconds)
            }
            Step::Remove { .. } | Step::TransferLeader { .. } => STEP_TIME_MAX,
        }
    }

    /// What to tell the leader so that this step gets done.
    fn order(
        self,
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
            Step::AddLearner { peer, store } => match region.region.peer_on(store) {
                None => Change::AddLearner(Peer::learner(peer, store)),
                Some(there) if there.id == peer => return Progress::Wait,
                Some(_) => return Progress::Ended(Ending::Cancelled),
            },
            Step::Promote { peer, store } => match region.region.peer(peer) {
                None => return Progress::Ended(Ending::Cancelled),
                Some(_) if !region.is_current(peer) => return Progress::Wait,
                Some(_) => Change::Promote(Peer::voter(peer, store)),
            },
            Step::Remove { peer, .. } => {
                let Some(there) = region.region.peer(peer) else {
                    return Progress::Wait;
                };
                // Asked again now, with what is known now (M10). A leader cannot remove itself.
                if leader.id == peer || !may_remove(view, region, peer, settings, now) {
                    return Progress::Ended(Ending::Cancelled);
                }
                Change::Remove(there)
            }
            Step::TransferLeader { peer, .. } => match region.region.peer(peer) {
                Some(there) if is_healthy(view, region, there, settings, now) => {
                    Change::TransferLeader(there)
                }
                _ => return Progress::Ended(Ending::Cancelled),
            },
        };
        Progress::Order(Order {
            region: region.region.id,
            epoch: region.region.epoch,
            leader,
            change,
        })
    }
}

impl Action {
    /// Its name in logs and status.
    pub fn name(self) -> &'static str {
        match self {
            Action::AddReplica { .. } => "add-replica",
            Action::ReplaceReplica { .. } => "replace-replica",
            Action::PromoteLearner { .. } => "promote-learner",
            Action::RemovePeer { .. } => "remove-peer",
            Action::TransferLeader { .. } => "transfer-leader",
        }
    }
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
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Success => "success",
            Ending::Timeout => "timeout",
            Ending::Cancelled => "cancelled",
        })
    }
}
