//! One member: its process begins and ends, and what its shard answers goes to its desk.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_placement::machine::{Machine, SharedState};
use tinykv_placement::state::{MemberRecord, Reply as Applied};
use tinykv_raft::{PeerId, Term};
use tinykv_replica::{
    Birth, Command as Envelope, Event, Outcome, Peer, Proposal, Region, RegionEpoch, RegionState,
    StoreId, WaiterId,
};

use super::super::happening::{Asked, Context};
use super::super::host::{Host, Trouble, Work};
use super::super::letter::incarnation;
use super::super::process::OnHost;
use super::super::watched::Watched;
use super::desk::{Desk, Purpose, TICK};
use super::introduction::Introduction;
use super::{GROUP, Question, Reply};

/// A proposal is answered by then.
const PROPOSE_TIME_MAX: Duration = Duration::from_secs(3);

/// A process of the placement group.
pub(in crate::sim) struct Member {
    pub(in crate::sim) host: Host<Watched<Machine>>,
    /// The replicated state as applied here.
    pub(in crate::sim) state: SharedState,
    pub(in crate::sim) desk: Desk,
    /// What the shard has yet to answer.
    proposals: BTreeMap<WaiterId, Purpose>,
    /// A change of members that is under way, and until when it is waited for.
    pub(super) step_until: Option<(WaiterId, Duration)>,
    pub(super) introduction: Introduction,
    /// What it was added as, or founded the group as.
    name: String,
    url: String,
    /// Whether it joins, or joined, a group that others founded.
    pub(super) is_joining: bool,
    /// The data directories of other members, known for good: those of the founders, or those that it
    /// was told of when it joined.
    pub(super) known: BTreeMap<PeerId, u64>,
    /// Members that it was told of when it registered, in this life of it.
    pub(super) told: BTreeMap<PeerId, u64>,
    /// Whether an entry of the group was applied here in any life.
    pub(super) took_part: bool,
    /// Whether its process has ended for good.
    pub(in crate::sim) has_left: bool,
}

/// The group's first state and one of its members; all founding members make the same.
pub(in crate::sim) fn birth(members: &[StoreId], own: StoreId) -> Birth {
    let peer = |id: &StoreId| Peer::voter(PeerId(id.0), *id);
    let region = Region {
        id: GROUP,
        epoch: RegionEpoch::FIRST,
        peers: members.iter().map(peer).collect(),
        ..Region::default()
    };
    Birth {
        peer: peer(&own),
        state: RegionState {
            region,
            open: true,
            ..RegionState::default()
        },
    }
}

impl Member {
    /// A member that founds the group with these.
    pub(in crate::sim) fn founder(host: Host<Watched<Machine>>, founders: &[StoreId]) -> Member {
        let others = founders.iter().filter(|id| **id != host.id);
        let known = others.map(|id| (PeerId(id.0), incarnation(*id))).collect();
        let name = format!("member-{}", host.id);
        Member::new(host, name, known)
    }

    /// A member that was added under this name and was told of those.
    pub(in crate::sim) fn joining(
        host: Host<Watched<Machine>>,
        name: String,
        known: BTreeMap<PeerId, u64>,
    ) -> Member {
        Member {
            is_joining: true,
            ..Member::new(host, name, known)
        }
    }

    fn new(host: Host<Watched<Machine>>, name: String, known: BTreeMap<PeerId, u64>) -> Member {
        Member {
            host,
            state: SharedState::default(),
            desk: Desk::default(),
            proposals: BTreeMap::new(),
            step_until: None,
            introduction: Introduction::default(),
            url: url_of(&name),
            name,
            is_joining: false,
            known,
            told: BTreeMap::new(),
            took_part: false,
            has_left: false,
        }
    }

    /// Itself, as others are told.
    pub(super) fn record(&self) -> MemberRecord {
        MemberRecord {
            id: self.own(),
            name: self.name.clone(),
            url: self.url.clone(),
            incarnation: self.own_incarnation(),
            start_number: self.host.life,
        }
    }

    /// Its peer.
    pub(super) fn own(&self) -> PeerId {
        PeerId(self.host.id.0)
    }

    /// Proposes a command; the desk hears what became of it. With a term given it is proposed in
    /// that term or not at all.
    pub(super) fn propose(
        &mut self,
        context: &mut Context,
        purpose: Purpose,
        command: &tinykv_placement::state::Command,
        term: Option<Term>,
    ) {
        let region = self.host.region(GROUP).map(|state| state.region.epoch);
        let (Some(epoch), Some(waiter)) = (region, self.host.waiter()) else {
            return;
        };
        let proposal = Proposal {
            group: GROUP,
            peer: None,
            term,
            command: Envelope::new(epoch, &command.encode()),
            deadline: self.host.local(context) + PROPOSE_TIME_MAX,
            waiter,
        };
        self.proposals.insert(waiter, purpose);
        self.host.post(context, Event::Propose(proposal));
    }

    /// Takes what the shard has answered.
    fn settle(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.host.running else {
            return Ok(());
        };
        for (waiter, outcome) in std::mem::take(&mut running.outcomes) {
            if self.step_until.is_some_and(|(step, _)| step == waiter) {
                self.step_until = None;
            }
            let Some(purpose) = self.proposals.remove(&waiter) else {
                continue;
            };
            let applied = match outcome {
                Outcome::Ok(tinykv_replica::Answer::Applied { reply, .. }) => Some(reply),
                _ => None,
            };
            self.on_applied(context, purpose, applied)
                .map_err(Trouble::Violation)?;
        }
        Ok(())
    }

    fn on_applied(
        &mut self,
        context: &mut Context,
        purpose: Purpose,
        applied: Option<Applied>,
    ) -> Result<(), String> {
        match applied {
            Some(applied) => self.on_reply(context, purpose, applied),
            None => {
                self.on_lost(purpose);
                Ok(())
            }
        }
    }

    /// A question arrives.
    pub(in crate::sim) fn on_question(
        &mut self,
        context: &mut Context,
        asked: Asked,
    ) -> Result<(), Trouble> {
        let Asked {
            from,
            call,
            question,
            ..
        } = asked;
        if self.host.running.is_none() {
            return Ok(());
        }
        match question {
            Question::Members(_) if let Some(members) = self.members() => {
                context.tell(self.host.id, from, call, Reply::Members(members));
                return Ok(());
            }
            Question::Register(request) => {
                self.register(context, from, call, request);
                return Ok(());
            }
            _ => {}
        }
        if !self.serves(context) {
            let refusal = Reply::NotLeader {
                leader: self.leader(),
                was_locating: matches!(question, Question::Locate(_)),
            };
            context.tell(self.host.id, from, call, refusal);
            return Ok(());
        }
        self.answer(context, from, call, question)
            .map_err(Trouble::Violation)
    }

    /// Who leads the group, as far as this member knows.
    pub(super) fn leader(&self) -> Option<StoreId> {
        let status = self.host.running.as_ref()?.shard.status(GROUP)?;
        status.raft.leader.map(|peer| StoreId(peer.0))
    }

    /// The term this member leads in, as far as it knows.
    pub(super) fn leads(&self) -> Option<Term> {
        self.host.running.as_ref()?.leads.get(&GROUP).copied()
    }

    /// Whether this member surely leads in this term at this moment.
    pub(super) fn holds_lease(&self, context: &Context, term: Term) -> bool {
        let now = self.host.local(context);
        let running = self.host.running.as_ref();
        running
            .and_then(|running| running.leases.get(&GROUP))
            .is_some_and(|lease| lease.term == term && now < lease.valid_until)
    }

    pub(super) fn wall_ms(&self, context: &Context) -> u64 {
        self.host.clock.wall_ms(context.now())
    }
}

/// Where a member is reached that has this name.
pub(in crate::sim) fn url_of(name: &str) -> String {
    format!("http://{name}:2379")
}

impl OnHost for Member {
    type Machine = Watched<Machine>;

    fn host(&self) -> &Host<Watched<Machine>> {
        &self.host
    }

    fn host_mut(&mut self) -> &mut Host<Watched<Machine>> {
        &mut self.host
    }

    fn begin(&mut self, context: &mut Context) -> Result<(), Trouble> {
        self.proposals.clear();
        self.step_until = None;
        self.introduction = Introduction::default();
        self.told.clear();
        self.host.introduced.clear();
        self.desk = Desk::default();
        self.state = SharedState::default();
        self.resolve_by_state();
        let state = self.state.clone();
        let factory = Box::new(move |_| Watched(Machine::new(state.clone())));
        self.host.start(context, factory)?;
        context.after(TICK, self.host.id, self.host.life, Work::Desk);
        self.settle(context)
    }

    fn carry_out(&mut self, context: &mut Context, work: Work) -> Result<(), Trouble> {
        if let Work::Desk = work {
            let tick = self.host.clock.true_time(TICK);
            context.after(tick, self.host.id, self.host.life, Work::Desk);
            self.introduce(context);
            return self.tick(context).map_err(Trouble::Violation);
        }
        self.host.work(context, work)?;
        self.settle(context)
    }
}
