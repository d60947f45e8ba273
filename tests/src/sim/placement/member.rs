//! One member: its process begins and ends, and what its shard answers goes to its desk.

use std::collections::BTreeMap;

use tinykv_placement::machine::{Machine, SharedState};
use tinykv_placement::state::Reply as Applied;
use tinykv_raft::{PeerId, Term};
use tinykv_replica::{
    Birth, Command as Envelope, Event, Outcome, Peer, Proposal, Region, RegionEpoch, RegionState,
    StoreId, WaiterId,
};

use super::super::happening::{Asked, Context};
use super::super::host::{Host, Trouble, Work};
use super::super::process::OnHost;
use super::super::watched::Watched;
use super::desk::{Desk, Purpose, TICK};
use super::{GROUP, Question, Reply};

/// A proposal is answered by then.
const PROPOSE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// A process of the placement group.
pub(in crate::sim) struct Member {
    pub(in crate::sim) host: Host<Watched<Machine>>,
    /// The replicated state as applied here.
    pub(in crate::sim) state: SharedState,
    pub(in crate::sim) desk: Desk,
    /// What the shard has yet to answer.
    proposals: BTreeMap<WaiterId, Purpose>,
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
    pub(in crate::sim) fn new(host: Host<Watched<Machine>>) -> Member {
        Member {
            host,
            state: SharedState::default(),
            desk: Desk::default(),
            proposals: BTreeMap::new(),
        }
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
    fn leader(&self) -> Option<StoreId> {
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
        self.desk = Desk::default();
        self.state = SharedState::default();
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
            return self.tick(context).map_err(Trouble::Violation);
        }
        self.host.work(context, work)?;
        self.settle(context)
    }
}
