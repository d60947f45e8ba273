//! Operators: the steps of one decision, driven by the heartbeats of its region.
//!
//! An operator never assumes that an order was carried out, or not: only a heartbeat shows it.
//! Whatever it finds that does not fit (a peer that vanished, a store that has another peer) ends
//! it; the next plan begins from what is really there. A split under way does not disturb the
//! others: the region keeps its id, its peers and the left part.

use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::Peer;

use super::order::{Cause, Ending, Progress};
use super::reason::Reason;
use super::step::Step;
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// A decision under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Unique in the cluster, never reused.
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
    /// Whether the region had all voters wanted when it began.
    pub was_whole: bool,
}

/// An operator that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// As it was at its end.
    pub operator: Operator,
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub ended_at: Duration,
}

impl Operator {
    /// The operator of a decision. `new_peer` is an id nobody has, used if the action adds a
    /// peer. `None` if the region does not fit the decision any more.
    pub fn new(
        id: u64,
        decision: Decision,
        new_peer: PeerId,
        region: &RegionView,
        settings: &Settings,
        now: Duration,
    ) -> Option<Operator> {
        if region.region.epoch != decision.epoch {
            return None;
        }
        Some(Operator {
            id,
            region: decision.region,
            steps: steps(&decision.action, new_peer, region, settings)?,
            action: decision.action,
            reason: decision.reason,
            position: 0,
            began_at: now,
            step_began_at: now,
            advanced_at: now,
            was_whole: true,
        })
    }

    /// The steps not done yet.
    pub fn remaining(&self) -> &[Step] {
        self.steps.get(self.position..).unwrap_or_default()
    }

    /// Looks at the region, passes over the steps that are done, and says what comes next.
    pub fn advance(&mut self, view: &ClusterView, settings: &Settings, now: Duration) -> Progress {
        self.advanced_at = now;
        let Some(region) = view.regions.get(&self.region) else {
            return self.without_region(now);
        };
        while let Some(step) = self.steps.get(self.position) {
            if !step.is_done(view, region) {
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

    /// Right after a split its right part may be known before its left part, which then has no
    /// route for a moment; nothing else takes a region away that comes back.
    fn without_region(&self, now: Duration) -> Progress {
        let waited = now.saturating_sub(self.step_began_at);
        match self.steps.get(self.position) {
            Some(step @ Step::Split { .. }) => {
                let unheard = RegionView::unheard(tinykv_replica::Region::default());
                if waited > step.time_max(&unheard) {
                    Progress::Ended(Ending::Timeout)
                } else {
                    Progress::Wait
                }
            }
            _ => Progress::Ended(Ending::Cancelled(Cause::RegionGone)),
        }
    }

    /// How long the step under way may take.
    pub fn time_max(&self, region: &RegionView) -> Duration {
        self.remaining()
            .first()
            .map_or(Duration::ZERO, |step| step.time_max(region))
    }
}

impl Ended {
    /// Of one that did not succeed: why, one sentence.
    pub fn outcome(&self) -> String {
        match (&self.ending, self.operator.remaining().first()) {
            (Ending::Success, _) => String::new(),
            (Ending::Cancelled(cause), _) => cause.to_string(),
            (Ending::Timeout, Some(Step::Split { keys, .. })) if keys.is_empty() => {
                "the leader of the region did not split it: it may be too small to have a middle"
                    .into()
            }
            (Ending::Timeout, Some(step)) => {
                let spent = self.ended_at.saturating_sub(self.operator.step_began_at);
                format!(
                    "the step `{step}` was not done within {} s",
                    spent.as_secs()
                )
            }
            (Ending::Timeout, None) => "it took too long".into(),
        }
    }
}

fn steps(
    action: &Action,
    new_peer: PeerId,
    region: &RegionView,
    settings: &Settings,
) -> Option<Vec<Step>> {
    let learn = |store| Step::AddLearner {
        peer: new_peer,
        store,
    };
    let add = |store| {
        let promote = Step::Promote {
            peer: new_peer,
            store,
        };
        vec![learn(store), promote]
    };
    let transfer = |to| {
        let peer = region.region.peer_on(to)?.id;
        Some(Step::TransferLeader { to, peer })
    };
    Some(match action {
        Action::AddReplica { to } => add(*to),
        Action::ReplaceReplica { old, from, to } if settings.joint_changes => vec![
            learn(*to),
            Step::Exchange {
                new: Peer::voter(new_peer, *to),
                old: Peer::voter(*old, *from),
            },
            // Left for it only if the old peer did not vote, or the new one did already.
            Step::Remove {
                peer: *old,
                store: *from,
            },
        ],
        Action::ReplaceReplica { old, from, to } => {
            let mut steps = add(*to);
            if region.leader.is_some_and(|leader| leader.id == *old) {
                steps.push(Step::TransferLeader {
                    to: *to,
                    peer: new_peer,
                });
            }
            steps.push(Step::Remove {
                peer: *old,
                store: *from,
            });
            steps
        }
        Action::PromoteLearner { peer, store } => vec![Step::Promote {
            peer: *peer,
            store: *store,
        }],
        Action::RemovePeer {
            peer,
            from,
            leader_to,
        } => {
            let mut steps = Vec::new();
            if let Some(to) = leader_to {
                steps.push(transfer(*to)?);
            }
            steps.push(Step::Remove {
                peer: *peer,
                store: *from,
            });
            steps
        }
        Action::TransferLeader { to, .. } => vec![transfer(*to)?],
        Action::Split { keys } => vec![Step::Split {
            version: region.region.epoch.version,
            keys: keys.clone(),
        }],
    })
}

impl Action {
    /// Its name in logs and status.
    pub fn name(&self) -> &'static str {
        match self {
            Action::AddReplica { .. } => "add-replica",
            Action::ReplaceReplica { .. } => "replace-replica",
            Action::PromoteLearner { .. } => "promote-learner",
            Action::RemovePeer { .. } => "remove-peer",
            Action::TransferLeader { .. } => "transfer-leader",
            Action::Split { .. } => "split",
        }
    }
}
