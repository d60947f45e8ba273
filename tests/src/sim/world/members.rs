//! Members of placement come and go while everything else happens: somebody at a terminal adds one and
//! starts its process, or removes one, whose process then ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_env::CrashMode;
use tinykv_placement::state::State;
use tinykv_proto::placement::change_members_request::Change;
use tinykv_proto::placement::{self, ChangeMembersRequest, JoinRequest};
use tinykv_raft::PeerId;
use tinykv_replica::{PeerRole, Region, StoreId};

use super::super::happening::{Asker, Happening};
use super::super::host::Host;
use super::super::placement::{GROUP, Member, Question, url_of};
use super::World;

/// More would make every entry slower and nothing rarer.
const MEMBERS_MAX: usize = 5;
/// How often a process that is to join asks, and whoever added it makes sure that it was added.
const KNOCK_INTERVAL: Duration = Duration::from_millis(300);

/// A process that was started to join, and has no id yet.
#[derive(Debug)]
pub(super) struct Newcomer {
    name: String,
    /// Whether whoever adds it was told that it is added.
    is_invited: bool,
    /// Whether it became a member, or was told for good that it cannot.
    is_done: bool,
}

impl World {
    /// Members whose processes have not ended for good.
    pub(super) fn living_members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.has_left)
    }

    pub(super) fn member_index(&self, id: StoreId) -> Option<usize> {
        self.members.iter().position(|it| it.host.id == id)
    }

    /// Everybody is told by their settings who the members are: they came and went, and somebody may
    /// have slept through all of it.
    pub(super) fn tell_contacts(&mut self) {
        let members: Vec<StoreId> = self.living_members().map(|it| it.host.id).collect();
        for store in &mut self.stores {
            store.set_contacts(members.clone());
        }
        for contacts in &mut self.contacts {
            contacts.learn(members.clone());
        }
    }

    /// Another member is added, unless one is being added or there are enough.
    pub(super) fn add_member(&mut self) -> bool {
        let is_busy = self.newcomers.iter().any(|it| !it.is_done);
        if self.members.is_empty() || is_busy || self.living_members().count() >= MEMBERS_MAX {
            return false;
        }
        let newcomer = self.newcomers.len();
        self.newcomers.push(Newcomer {
            name: format!("newcomer-{newcomer}"),
            is_invited: false,
            is_done: false,
        });
        let knock = Happening::Knock { newcomer };
        self.context.schedule.after(Duration::ZERO, knock);
        true
    }

    /// A process that is to join asks whom it joins. Whoever added it adds it again, as long as nobody
    /// says that this was done.
    pub(super) fn knock(&mut self, newcomer: usize) {
        let known = &self.newcomers[newcomer];
        if known.is_done {
            return;
        }
        let (name, url) = (known.name.clone(), url_of(&known.name));
        let again = Happening::Knock { newcomer };
        self.context.schedule.after(KNOCK_INTERVAL, again);
        if !known.is_invited
            && let Some(member) = self.serving_member()
        {
            let (name, url) = (name.clone(), url.clone());
            let add = Change::Add(placement::NewMember { name, url });
            let call = newcomer as u64 + 1;
            self.context.ask(Asker::Operator, member, call, wish(add));
        }
        let members: Vec<StoreId> = self.living_members().map(|it| it.host.id).collect();
        if let Some(member) = self.context.random.pick(&members).copied() {
            let question = Question::Join(JoinRequest { name, url });
            let asker = Asker::Newcomer(newcomer);
            self.context.ask(asker, member, 0, question);
        }
    }

    /// Whoever added a member is told what came of it.
    pub(super) fn on_members_changed(
        &mut self,
        call: u64,
        response: placement::ChangeMembersResponse,
    ) {
        let header = response.header.unwrap_or_default();
        if call > 0 && header.error.is_none() {
            self.newcomers[call as usize - 1].is_invited = true;
        }
    }

    /// A process that is to join is told whom it joins: from now on it is a member.
    pub(super) fn on_joined(
        &mut self,
        newcomer: usize,
        response: placement::JoinResponse,
    ) -> Result<(), String> {
        let known = &mut self.newcomers[newcomer];
        if known.is_done {
            return Ok(());
        }
        if !response.refusal.is_empty() {
            // Removed before it came, if it had been added.
            known.is_done = known.is_invited;
            return Ok(());
        }
        known.is_done = true;
        let id = StoreId(response.member_id);
        self.context
            .trace(format_args!("{} joins as member {id}", known.name));
        self.context.report.probe("member_joins");
        let told = response.members.iter();
        let told: BTreeMap<PeerId, u64> = told
            .map(|it| (PeerId(it.member_id), it.incarnation))
            .collect();
        let host = Host::new(id, &mut self.context.random).limited(&self.setup);
        let name = known.name.clone();
        self.members.push(Member::joining(host, name, told));
        self.start(id)
    }

    /// A member is to leave: one whose disk broke its word if there is one, for nobody else can be
    /// spared then.
    pub(super) fn remove_member(&mut self) -> bool {
        let Some(leader) = self.serving_member() else {
            return false;
        };
        let living: Vec<StoreId> = self.living_members().map(|it| it.host.id).collect();
        let broken = self.living_members().find(|it| it.host.broke_its_word());
        let leaves = match (broken.map(|it| it.host.id), self.context.random.below(3)) {
            (Some(broken), _) => broken,
            (None, 0) => leader,
            (None, _) => *self.context.random.pick(&living).unwrap_or(&leader),
        };
        self.removals_of_members.push(PeerId(leaves.0));
        self.context
            .trace(format_args!("member {leaves} is to leave"));
        let remove = wish(Change::Remove(leaves.0));
        self.context.ask(Asker::Operator, leader, 0, remove);
        true
    }

    /// A process that found that it may not take part is gone.
    pub(super) fn let_members_leave(&mut self, at: StoreId) {
        let Some(index) = self.member_index(at) else {
            return;
        };
        let member = &self.members[index];
        if member.has_left && member.host.running.is_some() {
            self.stop(at, CrashMode::KeepAll);
        }
    }

    /// Whether the group has all the members that it is to have, and no other.
    fn is_settled(&self, state: &State, region: &Region) -> bool {
        let voters = region.peers.iter();
        let votes = |peer: &tinykv_replica::Peer| peer.role == PeerRole::Voter;
        let are_in = voters
            .clone()
            .all(|it| votes(it) && !state.has_removed_member(it.id));
        let registered = state.members().values().filter(|it| !it.is_invited());
        let mut registered = registered.map(|it| region.peer(it.id));
        are_in && registered.all(|peer| peer.is_some_and(|peer| votes(&peer)))
    }

    /// Whether the disk of a member may break its word: the others have to be able to do without it, and
    /// nobody else may be about to leave them.
    pub(super) fn may_hurt_member(&self, at: StoreId) -> bool {
        let serving = self
            .members
            .iter()
            .find(|it| it.routes(&self.context).is_some());
        let Some(serving) = serving else {
            return false;
        };
        let Some(region) = serving.host.region(GROUP).map(|state| &state.region) else {
            return false;
        };
        let state = serving.state.read();
        let is_gone = |id: &PeerId| state.has_removed_member(*id) && region.peer(*id).is_none();
        let is_voter = region.peer_on(at).is_some();
        let is_busy = self.newcomers.iter().any(|it| !it.is_done);
        is_voter
            && region.peers.len() > 2
            && !is_busy
            && self.is_settled(&state, region)
            && self.removals_of_members.iter().all(is_gone)
            && !self.living_members().any(|it| it.host.is_hurt())
    }

    /// What is not as it should be with the members at a quiet point.
    pub(super) fn problem_of_members(&self) -> Option<String> {
        let serving = self
            .members
            .iter()
            .find(|it| it.routes(&self.context).is_some())?;
        let region = &serving.host.region(GROUP)?.region;
        let state = serving.state.read();
        if !self.is_settled(&state, region) {
            let members = state.members();
            return Some(format!(
                "placement consists of {:?}, but its members are {members:?}",
                region.peers
            ));
        }
        if let Some(newcomer) = self.newcomers.iter().find(|it| !it.is_done) {
            return Some(format!("{} has not joined placement", newcomer.name));
        }
        self.members.iter().find_map(|member| {
            let id = PeerId(member.host.id.0);
            let is_removed = state.has_removed_member(id);
            (member.has_left != is_removed).then(|| match is_removed {
                true => format!("member {id} was removed, and its process goes on"),
                false => format!("D9: member {id} was not removed, and its process has ended"),
            })
        })
    }
}

fn wish(change: Change) -> Question {
    Question::ChangeMembers(ChangeMembersRequest {
        change: Some(change),
        ..ChangeMembersRequest::default()
    })
}
