//! Operators: the steps of one decision, driven by the heartbeats of its region.
//!
//! An operator never assumes that an order was carried out, or not: only a heartbeat shows it.
//! Whatever it finds that does not fit (a peer that vanished, a store that has another peer) ends
//! it; the next plan begins from what is really there. A split under way does not disturb the
//! others: the region keeps its id, its peers and the left part.

use std::ops::Range;
use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::Peer;

use super::merging::{self, Merge};
use super::order::{Cause, Ending, Order, Progress};
use super::reason::Reason;
use super::step::Step;
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// Ids that nobody has, for one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorIds {
    /// The operator's own.
    pub operator: u64,
    /// The first of those that follow each other, for the peers it adds.
    pub peer: PeerId,
}

/// The same order is not sent again before this has passed.
const SAME_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Peers of a region that may be asked for by hand.
pub(super) const PEERS_MAX: usize = 7;

impl OperatorIds {
    /// How many ids an operator is given.
    pub const COUNT: u32 = 1 + PEERS_MAX as u32;

    /// The ids of a run of [`OperatorIds::COUNT`].
    pub fn of(run: &Range<u64>) -> OperatorIds {
        OperatorIds {
            operator: run.start,
            peer: PeerId(run.start + 1),
        }
    }
}

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
    /// The order sent last, and when.
    pub sent: Option<(Order, Duration)>,
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
    /// The operator of a decision. `None` if the region does not fit the decision any more.
    pub fn new(
        ids: OperatorIds,
        decision: Decision,
        view: &ClusterView,
        settings: &Settings,
        now: Duration,
    ) -> Option<Operator> {
        let region = view.regions.get(&decision.region)?;
        if region.region.epoch != decision.epoch {
            return None;
        }
        Some(Operator {
            id: ids.operator,
            region: decision.region,
            steps: steps(&decision.action, ids.peer, view, region, settings)?,
            action: decision.action,
            reason: decision.reason,
            position: 0,
            began_at: now,
            step_began_at: now,
            advanced_at: now,
            sent: None,
            was_whole: true,
        })
    }

    /// Whether it is at work on the region, as the source or as the target.
    pub fn is_on(&self, region: GroupId) -> bool {
        self.region == region || self.action.target() == Some(region)
    }

    /// The steps not done yet.
    pub fn remaining(&self) -> &[Step] {
        self.steps.get(self.position..).unwrap_or_default()
    }

    /// Looks at the region, passes over the steps that are done, and says what comes next.
    pub fn advance(&mut self, view: &ClusterView, settings: &Settings, now: Duration) -> Progress {
        self.advanced_at = now;
        let Some(region) = view.regions.get(&self.region) else {
            return self.without_region(view, now);
        };
        if let Some(Step::Merge(merge)) = self.steps.last()
            && let Some(cause) = merge.obstacle(view, region)
        {
            return Progress::Ended(Ending::Cancelled(cause));
        }
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
    /// route for a moment; nothing else takes a region away that comes back. A merge takes it away
    /// for good.
    fn without_region(&mut self, view: &ClusterView, now: Duration) -> Progress {
        let waited = now.saturating_sub(self.step_began_at);
        match self.steps.get(self.position) {
            Some(Step::Merge(merge)) if merge.is_done(view) => {
                self.position += 1;
                Progress::Ended(Ending::Success)
            }
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

    /// Whether an order is to be sent now. A leader that refuses one reports at once, and would
    /// otherwise get the same again, as fast as the two can speak.
    pub fn may_send(&mut self, order: &Order, now: Duration) -> bool {
        let sent = self.sent.as_ref().filter(|(sent, _)| sent == order);
        let is_due = sent.is_none_or(|(_, at)| now.saturating_sub(*at) >= SAME_AGAIN_AFTER);
        if is_due {
            self.sent = Some((order.clone(), now));
        }
        is_due
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
    view: &ClusterView,
    region: &RegionView,
    settings: &Settings,
) -> Option<Vec<Step>> {
    let transfer = |to| {
        let peer = region.region.peer_on(to)?.id;
        Some(Step::TransferLeader { to, peer })
    };
    Some(match action {
        Action::AddReplica { to } => add(Peer::voter(new_peer, *to)),
        Action::ReplaceReplica { old, from, to } => {
            let old = Peer::voter(*old, *from);
            replace(old, Peer::voter(new_peer, *to), region, settings)
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
        Action::Merge { target } => {
            let (source, target) = (&region.region, &view.regions.get(target)?.region);
            let moves = merging::moves(view, settings, source, target);
            let ids = (new_peer.0..).map(PeerId);
            let moves = moves.into_iter().zip(ids);
            let steps = moves.flat_map(|((old, to), id)| {
                let new = Peer::voter(id, to);
                replace(old, new, region, settings)
            });
            let merge = Step::Merge(Merge::new(source, target));
            steps.chain([merge]).collect()
        }
    })
}

fn add(new: Peer) -> Vec<Step> {
    let (peer, store) = (new.id, new.store);
    vec![
        Step::AddLearner { peer, store },
        Step::Promote { peer, store },
    ]
}

/// The new peer takes the place of the old one.
fn replace(old: Peer, new: Peer, region: &RegionView, settings: &Settings) -> Vec<Step> {
    let (store, peer) = (new.store, new.id);
    let mut steps = match settings.joint_changes {
        true => vec![
            Step::AddLearner { peer, store },
            Step::Exchange { new, old },
        ],
        false => add(new),
    };
    let leads = region.leader.is_some_and(|leader| leader.id == old.id);
    if leads && !settings.joint_changes {
        steps.push(Step::TransferLeader { to: store, peer });
    }
    // After an exchange it is left for this only if the old peer did not vote, or the new one did
    // already.
    steps.push(Step::Remove {
        peer: old.id,
        store: old.store,
    });
    steps
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
            Action::Merge { .. } => "merge",
        }
    }

    /// The other region it is about.
    pub fn target(&self) -> Option<GroupId> {
        match self {
            Action::Merge { target } => Some(*target),
            _ => None,
        }
    }
}
