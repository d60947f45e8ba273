//! The placement group as this member takes part in it: propose, who leads, the clock.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tinykv_env::Env;
use tinykv_node::handle::{NodeHandle, Target};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{
    AdminAction, Answer, Command as Envelope, GroupStatus, Outcome, Refusal, Region,
};

use crate::machine::{Machine, SharedState};
use crate::membership::Step;
use crate::state::{Command, Reply};

/// The one group of a placement process.
pub(crate) const GROUP: GroupId = GroupId(1);

/// A proposal is answered by then.
const PROPOSE_TIME_MAX: Duration = Duration::from_secs(3);

/// A step of a change of members is taken by then; the leader has other things to do.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ProposeError {
    /// It was not proposed: another member leads, or none.
    #[error("this member does not lead the placement group")]
    NotLeader,
    /// It was not proposed for another reason.
    #[error("the placement group cannot take commands now: {0}")]
    Refused(String),
    /// It may be applied or not. Every command of ours may be repeated.
    #[error("whether the command was applied is not known: {0}")]
    Undetermined(String),
}

/// This member's share in the group.
#[derive(Clone)]
pub(crate) struct Group {
    node: NodeHandle<Machine>,
    state: SharedState,
    env: Arc<dyn Env>,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Office {
    /// The latest term this member knows.
    pub(crate) term: Term,
    /// Its leader.
    pub(crate) leader: Option<PeerId>,
    /// Whether that is this member.
    pub(crate) leads: bool,
}

impl Group {
    pub(crate) fn new(node: NodeHandle<Machine>, state: SharedState, env: Arc<dyn Env>) -> Group {
        Group { node, state, env }
    }

    /// The replicated state as applied here.
    pub(crate) fn state(&self) -> &SharedState {
        &self.state
    }

    /// The node below, for figures.
    pub(crate) fn node(&self) -> &NodeHandle<Machine> {
        &self.node
    }

    /// The monotonic clock.
    pub(crate) fn now(&self) -> Duration {
        self.env.now()
    }

    /// The wall clock in milliseconds since the Unix epoch: a hint for timestamps, nothing more.
    pub(crate) fn wall_clock_ms(&self) -> u64 {
        u64::try_from(self.env.wall_clock().as_millis()).unwrap_or(0)
    }

    /// A number nobody can guess, not 0.
    pub(crate) fn random(&self) -> u64 {
        self.env.random_u64().max(1)
    }

    /// Who leads.
    pub(crate) fn office(&self) -> Office {
        match self.node.directory().group(GROUP) {
            None => Office::default(),
            Some(entry) => {
                let view = entry.view();
                Office {
                    term: view.term,
                    leader: view.leader,
                    leads: view.leads,
                }
            }
        }
    }

    /// The group as a region, as applied here: who its members are to Raft.
    pub(crate) fn region(&self) -> Option<Region> {
        let entry = self.node.directory().group(GROUP)?;
        Some(entry.view().state.as_ref()?.region.clone())
    }

    /// The group as its shard sees it.
    pub(crate) async fn status(&self) -> Option<GroupStatus> {
        self.node.status(GROUP).await
    }

    /// Takes one step of a change of members.
    ///
    /// # Errors
    /// Why it was not taken, as a clause; it may be taken again.
    pub(crate) async fn change_members(&self, step: Step, term: Term) -> Result<(), String> {
        let region = self.region().ok_or("there is no group yet")?;
        if self.office().term != term {
            return Err("another term has begun".to_owned());
        }
        let action = match step {
            Step::HandOver => AdminAction::TransferLeader { to: None },
            Step::Change(change) => AdminAction::ChangePeers {
                epoch: region.epoch,
                changes: vec![change],
            },
        };
        let deadline = self.now() + CHANGE_TIME_MAX;
        match self.node.admin(GROUP, action, deadline).await {
            Outcome::Ok(_) => Ok(()),
            Outcome::DefinitelyNot(refusal) => Err(format!("{refusal:?}")),
            Outcome::Undetermined(doubt) => Err(format!("{doubt:?}")),
        }
    }

    /// Whether this member surely leads in this term at this moment: its lease holds, and the
    /// entry that began the term is applied.
    pub(crate) fn holds_lease(&self, term: Term) -> bool {
        let lease = self
            .node
            .directory()
            .group(GROUP)
            .and_then(|entry| entry.lease().load());
        // The clock is read after the cell.
        lease.is_some_and(|lease| lease.term == term && self.now() < lease.valid_until)
    }

    /// Proposes a command and waits until it is applied here. With a term given it is proposed in
    /// that term or not at all.
    pub(crate) async fn propose(
        &self,
        command: &Command,
        term: Option<Term>,
    ) -> Result<Reply, ProposeError> {
        let entry = self.node.directory().group(GROUP);
        let state = entry.and_then(|entry| entry.view().state.clone());
        let epoch = state.ok_or(ProposeError::NotLeader)?.region.epoch;
        let target = Target {
            group: GROUP,
            peer: None,
            term,
            deadline: self.now() + PROPOSE_TIME_MAX,
        };
        let envelope = Envelope::new(epoch, &command.encode());
        match self.node.propose(target, envelope).await {
            Outcome::Ok(Answer::Applied { reply, .. }) => Ok(reply),
            Outcome::Ok(other) => unreachable!("a command is applied, not {other:?}"),
            Outcome::DefinitelyNot(Refusal::NotLeader { .. }) => Err(ProposeError::NotLeader),
            Outcome::DefinitelyNot(refusal) => Err(ProposeError::Refused(format!("{refusal:?}"))),
            Outcome::Undetermined(doubt) => Err(ProposeError::Undetermined(format!("{doubt:?}"))),
        }
    }
}
