//! Who belongs to the placement group: invited, registered, removed.
//!
//! Raft decides who votes; what stands here is what that membership is brought to (see
//! `crate::membership`) and who the members are. A member is invited by name and address first; its
//! process then registers with the number of its data directory, and keeps that for good (D9).

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::PeerId;

use super::records::MemberRecord;
use super::rows::RowChange;
use super::{Refusal, Reply, State};

/// Members there may be, removed ones not counted. More make every entry slower and nothing safer.
pub const MEMBERS_MAX: usize = 9;

impl State {
    /// Whether the member was removed for good.
    pub fn has_removed_member(&self, member: PeerId) -> bool {
        self.removed_members.contains_key(&member)
    }

    /// Members that were removed. Some may have to learn it yet.
    pub fn removed_members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.removed_members.values()
    }

    /// A member that has registered, be it that it was removed since.
    pub fn registered_member(&self, member: PeerId) -> Option<&MemberRecord> {
        let known = self.members.get(&member);
        let known = match planted(Mutant::RemovedMemberForgotten) {
            true => known,
            false => known.or_else(|| self.removed_members.get(&member)),
        };
        known.filter(|record| !record.is_invited())
    }

    pub(super) fn invite_member(
        &mut self,
        member: MemberRecord,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        let is_same = |it: &MemberRecord| {
            it.is_invited() && (&it.name, &it.url) == (&member.name, &member.url)
        };
        if self.members.values().any(is_same) {
            return Ok(Reply::Done);
        }
        let problem = if self.members.values().any(|it| it.name == member.name) {
            "a member of this name is there already: choose another name"
        } else if self.members.values().any(|it| it.url == member.url) {
            "another member has this address: choose another one"
        } else if self.members.len() >= MEMBERS_MAX {
            "there are as many members as there may be: remove one first"
        } else {
            ""
        };
        if !problem.is_empty() {
            return Err(bad(member, problem));
        }
        changes.push(RowChange::put_member(&member));
        self.members.insert(member.id, member);
        Ok(Reply::Done)
    }

    pub(super) fn register_member(
        &mut self,
        member: MemberRecord,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        if self.has_removed_member(member.id) {
            return Err(bad(
                member,
                "it was removed from the placement group; to come back it must be added anew, with \
                 an empty data directory",
            ));
        }
        if let Some(known) = self.members.get(&member.id) {
            let problem = if known.is_invited() {
                ""
            } else if known.incarnation != member.incarnation {
                "its data directory is another one than it registered with"
            } else if member.start_number < known.start_number {
                "its data directory is an older copy of the one it registered with"
            } else {
                ""
            };
            if !problem.is_empty() {
                return Err(bad(member, problem));
            }
        }
        if self.members.get(&member.id) != Some(&member) {
            changes.push(RowChange::put_member(&member));
            self.members.insert(member.id, member);
        }
        Ok(Reply::Done)
    }

    pub(super) fn remove_member(
        &mut self,
        member: PeerId,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        if self.has_removed_member(member) {
            return Ok(Reply::Done);
        }
        let Some(known) = self.members.get(&member) else {
            return Err(Refusal::UnknownMember { member });
        };
        let others = self.members.values().filter(|it| it.id != member);
        if others.filter(|it| !it.is_invited()).count() == 0 {
            return Err(Refusal::LastMember {
                name: known.name.clone(),
            });
        }
        if let Some(record) = self.members.remove(&member) {
            changes.push(RowChange::delete_member(member));
            changes.push(RowChange::put_removed_member(&record));
            self.removed_members.insert(member, record);
        }
        Ok(Reply::Done)
    }
}

fn bad(member: MemberRecord, what: &str) -> Refusal {
    Refusal::BadMember {
        name: member.name,
        what: what.into(),
    }
}
