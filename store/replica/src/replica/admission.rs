//! Requests before they are in the log: who may propose and read.

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{PeerId, ProposeError, ReadError, Role, Term};

use super::Replica;
use super::requests::{Proposed, Reading};
use crate::command::{AdminCommand, Command};
use crate::event::{AdminAction, AdminRequest, Proposal, ReadRequest};
use crate::machine::StateMachine;
use crate::outcome::{BusyReason, Refusal, WaiterId};
use crate::region::RegionEpoch;
use crate::run::{Run, busy};

impl<S: StateMachine> Replica<S> {
    pub(crate) fn on_propose(&mut self, proposal: Proposal, run: &mut Run<'_, S::Reply>) {
        self.on_use(run);
        if let Err(refusal) = self.admit_proposal(&proposal, run) {
            return run.refuse(Some(proposal.waiter), refusal);
        }
        let wanted = S::wanted(&proposal.command.body());
        let proposed = Proposed {
            waiter: proposal.waiter,
            deadline: proposal.deadline,
        };
        match self.raft.propose(proposal.command.into_encoded()) {
            Ok(entry) => {
                run.effects.prefetches.extend(wanted);
                self.requests.add_proposed(entry, proposed);
            }
            Err(error) => run.refuse(Some(proposal.waiter), self.refusal_of(&error, run)),
        }
    }

    pub(crate) fn on_read(&mut self, request: &ReadRequest, run: &mut Run<'_, S::Reply>) {
        self.on_use(run);
        let admitted = self
            .admit(request.peer, None, request.deadline, run)
            .and_then(|()| self.admit_unfrozen(run))
            .and_then(|()| self.check_version(request.epoch));
        match admitted {
            Ok(()) => self.requests.add_read(Reading {
                waiter: request.waiter,
                epoch: request.epoch,
                deadline: request.deadline,
            }),
            Err(refusal) => run.refuse(Some(request.waiter), refusal),
        }
    }

    pub(crate) fn on_admin(&mut self, request: AdminRequest, run: &mut Run<'_, S::Reply>) {
        self.on_use(run);
        if let Err(refusal) = self.admit(None, None, request.deadline, run) {
            return run.refuse(request.waiter, refusal);
        }
        let AdminRequest {
            action,
            deadline,
            waiter,
            ..
        } = request;
        match action {
            AdminAction::TransferLeader { to } => self.begin_transfer(to, deadline, waiter, run),
            _ if self.is_frozen() => run.refuse(waiter, self.merging_refusal(run)),
            AdminAction::Merge { epoch, target } => {
                let proposed = self.propose_merge(epoch, &target, run);
                self.await_admin(proposed, deadline, waiter, run);
            }
            AdminAction::ChangePeers { epoch, changes } => {
                let proposed = self.propose_changes(epoch, changes, run);
                self.await_admin(proposed, deadline, waiter, run);
            }
            AdminAction::Split { epoch, keys, ids }
            | AdminAction::Command {
                epoch,
                command: AdminCommand::Split { keys, ids },
            } => {
                let proposed = self.propose_split(epoch, keys, ids, run);
                self.await_admin(proposed, deadline, waiter, run);
            }
            AdminAction::Command {
                epoch,
                command: AdminCommand::PrepareMerge { target },
            } => {
                let proposed = self.propose_merge(epoch, &target, run);
                self.await_admin(proposed, deadline, waiter, run);
            }
            AdminAction::Command { epoch, command } => {
                let proposed = self.propose_admin(epoch, &command, run);
                self.await_admin(proposed, deadline, waiter, run);
            }
        }
    }

    /// Asks the quorum once for all reads of this run.
    pub(super) fn ask_reads(&mut self, run: &mut Run<'_, S::Reply>) {
        let Some((id, reads)) = self.requests.take_new_reads() else {
            return;
        };
        let refusal = match self.raft.read_index(id, run.now) {
            Ok(()) => return self.requests.reads_asked(id, reads),
            Err(ReadError::NotLeader { .. }) => self.not_leader(),
            Err(ReadError::Transferring) => busy(run.config, BusyReason::Transferring),
            Err(ReadError::Busy) => busy(run.config, BusyReason::Waiters),
        };
        for read in reads {
            run.refuse(Some(read.waiter), refusal.clone());
        }
    }

    pub(super) fn not_leader(&self) -> Refusal {
        let leader = self.leader().filter(|leader| leader.id != self.peer.id);
        Refusal::NotLeader {
            leader,
            term: self.raft.term(),
        }
    }

    pub(super) fn check_version(&self, epoch: Option<RegionEpoch>) -> Result<(), Refusal> {
        if epoch.is_none_or(|epoch| epoch.version == self.region.epoch.version) {
            Ok(())
        } else {
            Err(self.epoch_not_match())
        }
    }

    pub(super) fn refusal_of(&self, error: &ProposeError, run: &Run<'_, S::Reply>) -> Refusal {
        match error {
            ProposeError::NotLeader { .. } => self.not_leader(),
            ProposeError::Transferring => busy(run.config, BusyReason::Transferring),
            ProposeError::Busy => busy(run.config, BusyReason::Uncommitted),
            ProposeError::MembershipPending => busy(run.config, BusyReason::MembershipPending),
            ProposeError::TermNotCommitted => busy(run.config, BusyReason::LeaderNotReady),
            ProposeError::InvalidChange(problem) => Refusal::Malformed { problem },
        }
    }

    fn admit_proposal(&self, proposal: &Proposal, run: &Run<'_, S::Reply>) -> Result<(), Refusal> {
        self.admit(proposal.peer, proposal.term, proposal.deadline, run)?;
        self.admit_unfrozen(run)?;
        if self.transfer.is_some() {
            return Err(busy(run.config, BusyReason::Transferring));
        }
        if self.committed_bytes > run.config.apply_backlog_bytes_max {
            return Err(busy(run.config, BusyReason::Uncommitted));
        }
        self.check_version(Some(proposal.command.epoch()))?;
        if !self.state.as_ref().is_some_and(|state| state.open) {
            return Err(Refusal::NotOpen);
        }
        S::check(&self.region, &proposal.command.body())
    }

    /// What every request of a leader has to pass.
    fn admit(
        &self,
        peer: Option<PeerId>,
        term: Option<Term>,
        deadline: std::time::Duration,
        run: &Run<'_, S::Reply>,
    ) -> Result<(), Refusal> {
        if self.damaged {
            return Err(Refusal::Damaged);
        }
        if peer.is_some_and(|peer| peer != self.peer.id) {
            return Err(Refusal::PeerMismatch { here: self.peer.id });
        }
        if deadline <= run.now && !planted(Mutant::ProposedAfterDeadline) {
            return Err(Refusal::DeadlineExceeded);
        }
        let is_out = self.is_leaving || self.is_stopped();
        if is_out || self.installing.is_some() || self.awaits_parent {
            return Err(busy(run.config, BusyReason::NotInService));
        }
        if self.raft.role() != Role::Leader || term.is_some_and(|term| term != self.raft.term()) {
            return Err(self.not_leader());
        }
        if self.requests.len() >= run.config.waiters_max {
            return Err(busy(run.config, BusyReason::Waiters));
        }
        Ok(())
    }

    fn admit_unfrozen(&self, run: &Run<'_, S::Reply>) -> Result<(), Refusal> {
        match self.is_frozen() {
            true => Err(self.merging_refusal(run)),
            false => Ok(()),
        }
    }

    fn propose_admin(
        &mut self,
        epoch: RegionEpoch,
        command: &AdminCommand,
        run: &Run<'_, S::Reply>,
    ) -> Result<tinykv_raft::EntryId, Refusal> {
        if self.transfer.is_some() {
            return Err(busy(run.config, BusyReason::Transferring));
        }
        if !matches!(command, AdminCommand::Open | AdminCommand::Check { .. }) {
            let problem = "what decides a merge is proposed by the regions themselves";
            return Err(Refusal::Malformed { problem });
        }
        self.check_version(Some(epoch))?;
        self.propose_command(epoch, command, run)
    }

    /// Puts a command of the driver into the log, as its leader.
    pub(super) fn propose_command(
        &mut self,
        epoch: RegionEpoch,
        command: &AdminCommand,
        run: &Run<'_, S::Reply>,
    ) -> Result<tinykv_raft::EntryId, Refusal> {
        let encoded = Command::admin(epoch, command).into_encoded();
        self.raft
            .propose(encoded)
            .map_err(|error| self.refusal_of(&error, run))
    }

    fn await_admin(
        &mut self,
        proposed: Result<tinykv_raft::EntryId, Refusal>,
        deadline: std::time::Duration,
        waiter: Option<WaiterId>,
        run: &mut Run<'_, S::Reply>,
    ) {
        match proposed {
            Ok(entry) => {
                if let Some(waiter) = waiter {
                    self.requests
                        .add_proposed(entry, Proposed { waiter, deadline });
                }
            }
            Err(refusal) => run.refuse(waiter, refusal),
        }
    }
}
