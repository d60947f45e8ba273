//! What should be done, as a pure function of what is known.
//!
//! [`plan`] looks at the view and returns decisions, each with the rule that fired, its inputs and
//! the candidates that lost, so that a decision can be explained and a plan be simulated. The
//! desk turns a decision into an [`Operator`], whose steps are driven by the heartbeats of its
//! region: a step's order is repeated until a heartbeat shows its effect, every order carries the
//! epoch it was made for, and each step is idempotent (M10).
//!
//! Safety does not rest on the plan alone. Whether a peer may be removed is asked again when the
//! order is sent ([`Step`]), with what is known then.

mod balance_leaders;
mod balance_regions;
mod drain;
mod evict;
mod heat;
mod hot_regions;
mod isolation;
mod locations;
mod manual;
mod merge_small;
mod merging;
mod operator;
mod order;
mod reason;
mod replicas;
mod safety;
mod scales;
mod scatter;
mod step;
#[cfg(test)]
mod tests;
mod under_way;

use std::time::Duration;

use bytes::Bytes;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{RegionEpoch, StoreId};

use crate::state::Settings;
use crate::view::ClusterView;

pub use drain::{Remaining, remaining};
pub use evict::eviction_blocked;
pub use manual::{HANDS_OFF, Manual, ManualRefusal, SPLIT_KEYS_MAX, check_free, decide};
pub use merging::Merge;
pub use operator::{Ended, Operator, OperatorIds};
pub use order::{Cause, Change, Ending, Order, Progress};
pub use reason::{Fact, Loser, Neighbour, Reason, Rule, Why};
pub use scatter::SCATTERS_MAX;
pub use step::Step;
pub use under_way::Operators;

pub(crate) use safety::{all_healthy, first_damaged, is_settled};

/// Operators running at once in the whole cluster.
const OPERATORS_MAX: usize = 64;

/// One thing to do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which region it is about.
    pub region: GroupId,
    /// The epoch it was made for.
    pub epoch: RegionEpoch,
    /// What to do.
    pub action: Action,
    /// Why this and nothing else.
    pub reason: Reason,
}

/// What can be done to a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A learner is added on the store, catches up, and is promoted.
    AddReplica {
        /// Where.
        to: StoreId,
    },
    /// As [`Action::AddReplica`]; then the old peer is removed.
    ReplaceReplica {
        /// Which goes.
        old: PeerId,
        /// Where it is.
        from: StoreId,
        /// Where its successor will be.
        to: StoreId,
    },
    /// A learner that is already there catches up and is promoted.
    PromoteLearner {
        /// Which.
        peer: PeerId,
        /// Where it is.
        store: StoreId,
    },
    /// A peer is removed; if it leads, another one does first.
    RemovePeer {
        /// Which.
        peer: PeerId,
        /// Where it is.
        from: StoreId,
        /// The store whose peer takes over, if `peer` leads.
        leader_to: Option<StoreId>,
    },
    /// Another voter takes over.
    TransferLeader {
        /// Who leads now.
        from: StoreId,
        /// Who should.
        to: StoreId,
    },
    /// The region becomes several.
    Split {
        /// Where, ascending; empty: in the middle, as the leader finds.
        keys: Vec<Bytes>,
    },
    /// The region becomes a part of its neighbour. Its peers come to the neighbour's stores first.
    Merge {
        /// The neighbour.
        target: GroupId,
    },
}

/// Decides what to do next. Pure: equal arguments, equal answer, in order of importance.
///
/// A region gets at most one decision, and none while an operator is under way for it, while its
/// leader is not known, while it is in a joint configuration, or while it is left alone after
/// something was done by hand. The work is linear in the regions, times the few moves planned.
pub fn plan(view: &ClusterView, settings: &Settings, now: Duration) -> Vec<Decision> {
    let room = OPERATORS_MAX.saturating_sub(view.operators.len());
    let mut decisions = replicas::check(view, settings, now, room);
    let left = room - decisions.len();
    let evictions = evict::check(view, settings, now, &decisions, left);
    decisions.extend(evictions);
    let left = room - decisions.len();
    let apart = isolation::mend(view, settings, now, &decisions, left);
    decisions.extend(apart);
    let left = room - decisions.len();
    let scattered = scatter::scatter(view, settings, now, &decisions, left);
    decisions.extend(scattered);
    let left = room - decisions.len();
    let hot = hot_regions::spread(view, settings, now, &decisions, left);
    decisions.extend(hot);
    let moves = balance_regions::balance(view, settings, now, &decisions, room - decisions.len());
    decisions.extend(moves);
    let left = room - decisions.len();
    let transfers = balance_leaders::balance(view, settings, now, &decisions, left);
    decisions.extend(transfers);
    let left = room - decisions.len();
    let merges = merge_small::check(view, settings, now, &decisions, left);
    decisions.extend(merges);
    decisions
}
