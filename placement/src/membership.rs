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
//! * *Out*: its record is gone, its id is refused for ever. A leader hands over first. As long as it has a
//!   peer its process goes on, for it takes part in what takes it out, and may even be elected once more.
//!   It ends when its peer is gone, or when it tries to register after that.
//!
//! A member that joined knows the others by what they told it (in its file `MEMBERS`), and, once it has
//! the state, by that.

use std::time::Duration;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::PeerId;
use tinykv_replica::{Peer, PeerChange, PeerRole, Region, StoreId};

use crate::state::{MemberRecord, State};

/// A voter silent for longer counts as away when another one is to leave.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What the leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Changes the membership.
    Change(PeerChange),
    /// Lets another one lead, for it is to leave.
    HandOver,
}

/// What brings the membership nearer to what the state wants, if it is not there. `region` is the
/// group's as applied, `own` the member that leads.
pub fn next_step(
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
    let joining = joining.map(Step::Change);
    match planted(Mutant::LeftWithoutHeir) {
        true => hands_over.or(joining),
        false => joining.or(hands_over),
    }
}

/// Why the group could not work without a voter, if so: a sentence for whoever wants to remove it.
/// `silent` are members that do not answer whoever leads, and for how long.
pub fn why_needed(
    region: &Region,
    member: PeerId,
    silent: &[(PeerId, Duration)],
) -> Option<String> {
    region.peer(member)?;
    let voters = region.peers.iter().filter(|it| it.role == PeerRole::Voter);
    let staying: Vec<PeerId> = voters.map(|it| it.id).filter(|it| *it != member).collect();
    let away = silent.iter().filter(|it| it.1 > SILENCE_MAX);
    let away = away.filter(|it| staying.contains(&it.0)).count();
    let is_enough = staying.len() - away > staying.len() / 2;
    (!is_enough && !staying.is_empty()).then(|| {
        format!(
            "of the {} members that would stay {away} do not answer, and the group would stand \
             still: bring them back, or add others first",
            staying.len()
        )
    })
}

/// The member that was added under this name and this URL, and has yet to come.
///
/// # Errors
/// A sentence for whoever started a process that was not added so.
pub fn invited<'s>(state: &'s State, name: &str, url: &str) -> Result<&'s MemberRecord, String> {
    let mut members = state.members().values();
    match members.find(|it| it.name == name) {
        None => Err(format!(
            "no member {name} was added to the placement group: `tinykv-ctl member add {name} {}` \
             does that",
            url.trim_start_matches("http://")
        )),
        Some(member) if !member.is_invited() => Err(format!(
            "member {name} has joined already, with another data directory: bring that back, or \
             remove the member and add it anew"
        )),
        Some(member) if member.url != url => Err(format!(
            "member {name} was added with the address {}, but is reached at {url} \
             (--advertise-addr)",
            member.url
        )),
        Some(member) => Ok(member),
    }
}

/// Why a member that wants to register is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It is asked again later: a sentence that says why.
    Later(&'static str),
    /// It is not who it says: a sentence for it. It may not take part.
    Foreign(String),
}

/// Whether a member may be proposed to register, as far as the one that it asks can tell. `known` is
/// the incarnation under which that one met it, `state` the replicated state, `region` the group's.
///
/// One that was removed is not refused while it still has a peer: its vote may be needed for the very
/// step that takes it out, and whoever is refused ends.
///
/// # Errors
/// See [`Objection`].
pub fn check_registration(
    state: &State,
    region: &Region,
    known: Option<u64>,
    record: &MemberRecord,
) -> Result<(), Objection> {
    let is_removed = state.has_removed_member(record.id);
    let is_listed = state.members().contains_key(&record.id) || is_removed;
    match known {
        None if !is_listed => Err(Objection::Later(
            "this member has not met all the others yet",
        )),
        Some(known) if known != record.incarnation => Err(Objection::Foreign(format!(
            "member {} is not the one that founded the placement group: its data directory is \
             another one",
            record.name
        ))),
        _ if is_removed
            && region.peer(record.id).is_some()
            && !planted(Mutant::LeavingMemberRefused) =>
        {
            Err(Objection::Later(
                "it is being removed from the placement group",
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
