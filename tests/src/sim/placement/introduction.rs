//! How a member takes part: it registers with whoever leads, at each start, and ends when it finds that
//! it was removed. One that joins knows those it was told of, and, once it has the state, all.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_node::transport::Destination;
use tinykv_placement::state::{Command, Reply as Applied};
use tinykv_proto::placement;
use tinykv_raft::PeerId;
use tinykv_replica::StoreId;

use super::super::happening::{Asker, Context};
use super::super::letter::{destination, incarnation};
use super::desk::Purpose;
use super::member::Member;
use super::{GROUP, Question};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);
/// The same for one that has registered, and waits to be called into life.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);

/// A member's share in its introduction, in this life of it.
#[derive(Debug, Default)]
pub(in crate::sim) struct Introduction {
    is_registered: bool,
    /// When it asked last.
    asked_at: Option<Duration>,
}

impl Member {
    /// The next step, if it is due. Says whether the process ends, because it may not take part.
    pub(super) fn introduce(&mut self, context: &mut Context) {
        let Some(running) = &self.host.running else {
            return;
        };
        let is_here = running.shard.status(GROUP).is_some();
        if self.took_part && !is_here {
            return self.leave(context, "it was removed");
        }
        self.took_part |= self.state.read().cluster_id().is_some();
        let now = self.host.local(context);
        let is_lost = self.is_lost();
        let introduction = &mut self.introduction;
        let is_done = introduction.is_registered && self.took_part && !is_lost;
        let pause = match introduction.is_registered {
            true => REMOVAL_PAUSE,
            false => PAUSE,
        };
        let is_due = |at: Duration| now >= at + pause;
        let may_register = self.took_part || self.is_joining;
        if is_done || !may_register || !introduction.asked_at.is_none_or(is_due) {
            return;
        }
        introduction.asked_at = Some(now);
        if self.leads().is_some() {
            if self.is_leaving() {
                return self.on_registered(context, "");
            }
            let register = Command::RegisterMember(self.record());
            return self.propose(context, Purpose::OwnRegistration, &register, None);
        }
        let candidates = match self.leader() {
            Some(leader) if self.host.destination(leader).is_some() => BTreeSet::from([leader]),
            _ => self.all_ids(),
        };
        let (id, life) = (self.host.id, self.host.life);
        for candidate in candidates {
            let question = Question::Register(self.registration());
            context.ask(Asker::Member { id, life }, candidate, 0, question);
        }
    }

    /// Whether it hears of no leader, or does not know where that is.
    fn is_lost(&self) -> bool {
        let leader = self.leader();
        leader
            .is_none_or(|leader| leader != self.host.id && self.host.destination(leader).is_none())
    }

    /// All other members that it knows, from wherever.
    fn all_ids(&self) -> BTreeSet<StoreId> {
        let state = self.state.read();
        let registered = state.members().values().filter(|it| !it.is_invited());
        let known = self.known.keys().chain(self.told.keys()).copied();
        let ids = known.chain(registered.map(|it| it.id));
        let introduced = self.host.introduced.keys().copied();
        ids.map(|id| StoreId(id.0))
            .chain(introduced)
            .filter(|id| *id != self.host.id)
            .collect()
    }

    /// An answer to its registration.
    pub(in crate::sim) fn on_registration(
        &mut self,
        context: &mut Context,
        response: &placement::RegisterResponse,
    ) {
        let told = response.members.iter();
        self.told
            .extend(told.map(|it| (PeerId(it.member_id), it.incarnation)));
        self.resolve_by_state();
        self.on_registered(context, &response.refusal);
    }

    /// What became of its registration.
    fn on_registered(&mut self, context: &mut Context, refusal: &str) {
        match refusal.is_empty() {
            true => self.introduction.is_registered = true,
            false => self.leave(context, refusal),
        }
    }

    /// The leader has registered itself.
    pub(super) fn on_own_registration(&mut self, context: &mut Context, applied: &Applied) {
        let refusal = match applied {
            Applied::Refused(refusal) if !self.is_leaving() => refusal.to_string(),
            _ => String::new(),
        };
        self.on_registered(context, &refusal);
    }

    /// Whether it was removed, and has a peer still.
    pub(super) fn is_leaving(&self) -> bool {
        self.state.read().has_removed_member(self.own())
    }

    /// The process ends for good.
    fn leave(&mut self, context: &mut Context, why: &str) {
        context.trace(format_args!("member {} leaves: {why}", self.host.id));
        context.report.probe("member_left");
        self.has_left = true;
    }

    fn registration(&self) -> placement::RegisterRequest {
        let record = self.record();
        placement::RegisterRequest {
            group: GROUP.0,
            member_id: record.id.0,
            name: record.name,
            url: record.url,
            incarnation: record.incarnation,
            start_number: record.start_number,
        }
    }

    /// Makes the machine find the other members: those known for good by that, the others by the state or
    /// as they were named.
    pub(super) fn resolve_by_state(&mut self) {
        let (known, told) = (self.known.clone(), self.told.clone());
        let state = self.state.clone();
        self.host.resolve = Box::new(move |store| {
            let id = PeerId(store.0);
            let state = state.read();
            let registered = state.registered_member(id);
            let start_number = registered.map(|record| record.start_number);
            let of_state = registered.map(|record| record.incarnation);
            let told = told.get(&id).copied();
            let incarnation = known.get(&id).copied().or(of_state).or(told)?;
            Some(Destination {
                incarnation: Some(incarnation),
                start_number,
                ..destination(store)
            })
        });
    }

    /// The number of its data directory.
    pub(super) fn own_incarnation(&self) -> u64 {
        incarnation(self.host.id)
    }
}
