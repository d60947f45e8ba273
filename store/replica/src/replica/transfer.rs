//! Handing leadership over: stop proposing, void the lease, apply and answer what is in flight,
//! and only then let go. So a transfer under load leaves nobody with an unknown outcome.

use std::time::Duration;

use tinykv_raft::{PeerId, Role, Term, Willingness};

use super::Replica;
use crate::machine::StateMachine;
use crate::outcome::{Answer, BusyReason, Doubt, MembershipRefusal, Outcome, Refusal, WaiterId};
use crate::region::PeerRole;
use crate::run::{Run, busy};

/// A transfer under way. As long as there is one, nothing is proposed and no lease is published.
#[derive(Debug)]
pub(super) struct Transfer {
    to: PeerId,
    /// The term that is to end.
    term: Term,
    deadline: Duration,
    waiter: Option<WaiterId>,
    /// Whether the core was told: everything of the own term is applied and answered.
    is_handed: bool,
}

impl<S: StateMachine> Replica<S> {
    /// Hands over to the best voter, if this peer leads and there is one.
    pub(crate) fn evict(&mut self, deadline: Duration, run: &mut Run<'_, S::Reply>) {
        if self.is_leader() && self.transfer.is_none() && !self.is_leaving {
            self.begin_transfer(None, deadline, None, run);
        }
    }

    /// The store wants to lead, or does not.
    pub(crate) fn set_willingness(&mut self, willingness: Willingness, run: &Run<'_, S::Reply>) {
        if self.damaged {
            return;
        }
        self.raft.set_willingness(willingness);
        if self.is_leader() && willingness == Willingness::Reluctant {
            // Asleep it would hand over to nobody.
            self.raft.wake(run.now);
        }
    }

    pub(super) fn begin_transfer(
        &mut self,
        to: Option<PeerId>,
        deadline: Duration,
        waiter: Option<WaiterId>,
        run: &mut Run<'_, S::Reply>,
    ) {
        if self.transfer.is_some() {
            return run.refuse(waiter, busy(run.config, BusyReason::Transferring));
        }
        let to = match to {
            Some(id) if id == self.peer.id => {
                return run.reply(waiter, Outcome::Ok(Answer::Transferred(id)));
            }
            Some(id) => match self.region.peer(id) {
                Some(peer) if will_vote(peer.role) => id,
                _ => {
                    let unknown = Refusal::Membership(MembershipRefusal::PeerUnknown(id));
                    return run.refuse(waiter, unknown);
                }
            },
            None => match self.best_successor() {
                Some(id) => id,
                None => return run.refuse(waiter, Refusal::TransferFailed),
            },
        };
        self.transfer = Some(Transfer {
            to,
            term: self.raft.term(),
            deadline,
            waiter,
            is_handed: false,
        });
    }

    /// Lets go once everything that was proposed is applied and answered.
    pub(super) fn hand_over_when_drained(&mut self, run: &mut Run<'_, S::Reply>) {
        let drained = self.applied.index == self.raft.last().index;
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        if transfer.is_handed || !drained || self.raft.role() != Role::Leader {
            return;
        }
        transfer.is_handed = true;
        if self.raft.transfer_leader(transfer.to, run.now).is_err() {
            self.end_transfer(Outcome::DefinitelyNot(Refusal::TransferFailed), run);
        }
    }

    /// Notices how a transfer ended.
    pub(super) fn watch_transfer(&mut self, run: &mut Run<'_, S::Reply>) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let leads = self.raft.role() == Role::Leader && self.raft.term() == transfer.term;
        if !leads {
            if let Some(leader) = self.raft.leader() {
                return self.end_transfer(Outcome::Ok(Answer::Transferred(leader)), run);
            }
            if transfer.deadline <= run.now {
                let doubt = Outcome::Undetermined(Doubt::DeadlineExceeded);
                return self.end_transfer(doubt, run);
            }
            return;
        }
        let given_up = transfer.is_handed && self.raft.transferring().is_none();
        let too_late = !transfer.is_handed && transfer.deadline <= run.now;
        if given_up || too_late {
            self.end_transfer(Outcome::DefinitelyNot(Refusal::TransferFailed), run);
        }
    }

    pub(super) fn end_transfer(&mut self, outcome: Outcome<S::Reply>, run: &mut Run<'_, S::Reply>) {
        if let Some(transfer) = self.transfer.take() {
            run.reply(transfer.waiter, outcome);
        }
    }

    /// The voter with the longest log among those that answer.
    fn best_successor(&self) -> Option<PeerId> {
        let status = self.raft.status();
        let voters = self
            .region
            .peers
            .iter()
            .filter(|peer| will_vote(peer.role) && peer.id != self.peer.id);
        voters
            .filter_map(|peer| {
                status
                    .peers
                    .get(&peer.id)
                    .map(|progress| (peer.id, progress))
            })
            .filter(|(_, progress)| progress.active)
            .max_by_key(|(id, progress)| (progress.matched, std::cmp::Reverse(*id)))
            .map(|(id, _)| id)
    }
}

/// Whether it votes now and, if the region is joint, afterwards.
fn will_vote(role: PeerRole) -> bool {
    matches!(role, PeerRole::Voter | PeerRole::IncomingVoter)
}
