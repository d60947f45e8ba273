//! Operators as they are found again: those under way and, for a while, those that ended.

use std::collections::VecDeque;

use thiserror::Error;
use tinykv_raft::GroupId;

use crate::schedule::{Ended, Operator, Rule};

/// Ended operators that are remembered. Of too many the oldest goes, rather one that nobody asked
/// for by hand.
pub(super) const ENDED_MAX: usize = 200;

/// Which operator is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Operator(u64),
    /// The one at work on this region.
    Region(GroupId),
}

/// Why there is nothing to cancel. `Display` is one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CancelRefusal {
    /// It is over.
    #[error("operator {id} has ended already: list the operators to see how")]
    Ended {
        /// Its id.
        id: u64,
    },
    /// There is none with this id.
    #[error(
        "operator {id} is not known: operators are forgotten some time after they ended, and when \
         another member begins to lead placement"
    )]
    UnknownOperator {
        /// The id asked for.
        id: u64,
    },
    /// Nothing is under way there.
    #[error("no operator is at work on region {region}")]
    Idle {
        /// The region asked for.
        region: GroupId,
    },
}

/// An operator that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Under way.
    Running(&'a Operator),
    /// Over.
    Ended(&'a Ended),
}

/// The operators that ended last, newest at the back; bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    ended: VecDeque<Ended>,
}

impl History {
    pub(super) fn push(&mut self, ended: Ended) {
        if self.ended.len() == ENDED_MAX {
            let by_rule = |ended: &Ended| ended.operator.reason.rule != Rule::Manual;
            let oldest = self.ended.iter().position(by_rule).unwrap_or(0);
            self.ended.remove(oldest);
        }
        self.ended.push_back(ended);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Ended> {
        self.ended.iter()
    }

    pub(super) fn find(&self, id: u64) -> Option<&Ended> {
        self.ended.iter().find(|ended| ended.operator.id == id)
    }

    /// Why an operator that is not under way cannot be cancelled.
    pub(super) fn refuse(&self, which: Which) -> CancelRefusal {
        match which {
            Which::Region(region) => CancelRefusal::Idle { region },
            Which::Operator(id) if self.find(id).is_some() => CancelRefusal::Ended { id },
            Which::Operator(id) => CancelRefusal::UnknownOperator { id },
        }
    }
}
