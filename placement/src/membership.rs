//! The members of the group come and go while it works.
//!
//! What is wanted stands in the replicated state: [`Command::InviteMember`](crate::state::Command)
//! and [`Command::RemoveMember`](crate::state::Command), each decided by one entry. Whoever leads
//! brings the membership of Raft there, one step at a time, and so does the next leader if this one
//! dies in between; no step is remembered.
//!
//! * *In*: added by name and address, it gets an id that nobody had. Its process, started with `--join`,
//!   asks any member whom it joins, makes its data directory theirs, and registers the number of that
//!   directory. Only then it becomes a learner: the group is not touched by a process that never comes,
//!   and nobody speaks to one whose directory is not known (D9). Called into life by the leader it gets a
//!   snapshot; caught up, it votes.
//! * *Out*: its record is gone, its id is refused for ever. A leader hands over first. Its process ends
//!   when the others tell it, or when it tries to register.
//!
//! A member that joined knows the others by what they told it (in its file `MEMBERS`), and, once it has
//! the state, by that.

use tinykv_raft::PeerId;
use tinykv_replica::{Peer, PeerChange, PeerRole, Region, StoreId};

use crate::state::State;

/// What the leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Changes the membership.
    Change(PeerChange),
    /// Lets another one lead, for it is to leave.
    HandOver,
}

/// What brings the membership nearer to what the state wants, if it is not there. `region` is the
/// group's as applied, `own` the member that leads.
pub(crate) fn next_step(
    state: &State,
    region: &Region,
    own: PeerId,
    is_caught_up: impl Fn(PeerId) -> bool,
) -> Option<Step> {
    if region.is_joint() {
        return None;
    }
    let leaves = |peer: &&Peer| state.has_removed_member(peer.id);
    let mut leaving = region.peers.iter().filter(leaves);
    if let Some(peer) = leaving.find(|peer| peer.id != own) {
        return Some(Step::Change(PeerChange::Remove(peer.id)));
    }
    let registered = state.members().values().filter(|it| !it.is_invited());
    let mut registered = registered.map(|member| (member.id, region.peer(member.id)));
    let joining = registered.find_map(|(id, peer)| match peer.map(|peer| peer.role) {
        None => {
            let learner = Peer::learner(id, StoreId(id.0));
            Some(PeerChange::AddLearner(learner))
        }
        Some(PeerRole::Learner) if is_caught_up(id) => Some(PeerChange::Promote(id)),
        Some(_) => None,
    });
    // Who leads goes last: there may be nobody to hand over to before those who join vote.
    let hands_over = state.has_removed_member(own).then_some(Step::HandOver);
    joining.map(Step::Change).or(hands_over)
}

#[cfg(test)]
mod tests;
