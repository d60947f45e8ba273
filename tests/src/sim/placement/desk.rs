//! The desk of a member, event by event in the order of the production desk: a leadership begins
//! once the cluster has its id, the member is registered and the timestamp bound is raised, all
//! applied in its term; it ends when the member no longer leads in that term.

use std::collections::VecDeque;
use std::time::Duration;

use tinykv_placement::convert::order_to_proto;
use tinykv_placement::coordinator::Coordinator;
use tinykv_placement::ids::IdRun;
use tinykv_placement::schedule::{Manual, Order};
use tinykv_placement::state::{Command, MemberRecord, Reply as Applied};
use tinykv_placement::timestamps::Oracle;
use tinykv_placement::view::RegionReport;
use tinykv_raft::{GroupId, Term};
use tinykv_replica::Region;

use super::super::happening::{Asker, Context};
use super::Reply;
use super::handing_out::{Drawing, Taker};
use super::member::Member;

/// How often the desk looks after itself.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// What a member does besides replicating.
#[derive(Debug, Default)]
pub(in crate::sim) struct Desk {
    /// The term whose leadership is being begun.
    pub(super) beginning: Option<Term>,
    pub(super) serving: Option<Leadership>,
}

/// All that lasts as long as a leadership.
#[derive(Debug)]
pub(in crate::sim) struct Leadership {
    pub(super) term: Term,
    pub(super) coordinator: Coordinator,
    pub(super) oracle: Oracle,
    pub(super) drawers: VecDeque<Drawing>,
    pub(super) raising: bool,
    /// A leadership begins with an empty run: ids rise in the order in which they are handed out.
    pub(super) ids: IdRun,
    pub(super) takers: VecDeque<Taker>,
    pub(super) reserving: bool,
    /// Operators that have ended when it was last looked.
    pub(super) ended: usize,
}

/// Why something was proposed.
#[derive(Debug)]
pub(super) enum Purpose {
    Found {
        term: Term,
    },
    Register {
        term: Term,
    },
    FirstBound {
        term: Term,
        found_ms: u64,
        now_ms: u64,
        bound_ms: u64,
    },
    RaiseBound {
        term: Term,
        bound_ms: u64,
    },
    ReserveIds {
        term: Term,
    },
    Route {
        term: Term,
        report: Box<RegionReport>,
    },
    Split {
        term: Term,
        parts: Vec<Region>,
    },
    Command {
        term: Term,
        from: Asker,
    },
    /// Somebody at a terminal adds or removes a member.
    Members {
        from: Asker,
        call: u64,
    },
    /// Another member says who it is.
    Registration {
        from: Asker,
        call: u64,
        record: Box<MemberRecord>,
    },
    /// This one does, for this start of it.
    OwnRegistration,
}

impl Member {
    /// Whether it surely leads at this moment.
    pub(super) fn serves(&self, context: &Context) -> bool {
        let serving = self.desk.serving.as_ref();
        serving.is_some_and(|leadership| self.holds_lease(context, leadership.term))
    }

    /// What it leads in its term, if it is the one that asked.
    pub(super) fn in_term(&mut self, term: Term) -> Option<&mut Leadership> {
        let serving = self.desk.serving.as_mut();
        serving.filter(|leadership| leadership.term == term)
    }

    /// Begins and ends leaderships, and looks after the one there is.
    pub(super) fn tick(&mut self, context: &mut Context) -> Result<(), String> {
        let leads = self.leads();
        let serving = self.desk.serving.as_ref().map(|serving| serving.term);
        match (serving, leads) {
            (Some(term), Some(now)) if term == now => self.look_after(context),
            (Some(term), _) => {
                let id = self.host.id;
                context.trace(format_args!("member {id} leads no more in term {term}"));
                self.desk.serving = None;
                Ok(())
            }
            (None, Some(term)) if self.desk.beginning != Some(term) => {
                self.desk.beginning = Some(term);
                let cluster_id = context.random.next_u64().max(1);
                let found = Command::Found { cluster_id };
                self.propose(context, Purpose::Found { term }, &found, Some(term));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn look_after(&mut self, context: &mut Context) -> Result<(), String> {
        self.raise_bound(context);
        self.settle_members(context);
        let now = self.host.local(context);
        let settings = *self.state.read().settings();
        let Some(serving) = &mut self.desk.serving else {
            return Ok(());
        };
        let orders = serving.coordinator.nudge(&settings, now);
        let decisions = serving.coordinator.plan_if_due(&settings, now);
        self.order(context, orders)?;
        for decision in decisions {
            self.take_ids(context, Taker::Decision(Box::new(decision)))?;
        }
        self.count_ended(context);
        context
            .invariants
            .on_routes(&self.state.read(), self.host.id)
    }

    /// Operators that have come to their end since it was last looked.
    pub(super) fn count_ended(&mut self, context: &mut Context) {
        if let Some(serving) = &mut self.desk.serving {
            let ended = serving.coordinator.ended();
            let newest: Vec<String> = ended
                .skip(serving.ended)
                .map(|ended| format!("{} {}", ended.operator.action.name(), ended.ending))
                .collect();
            serving.ended += newest.len();
            for ended in newest {
                context.trace(format_args!("operator ended: {ended}"));
                if ended.ends_with("success") {
                    context.report.probe("operator_finished");
                    if ended.starts_with("replace-replica") {
                        context.report.probe("peer_moved");
                    }
                }
            }
        }
    }

    /// What was proposed is applied.
    pub(super) fn on_reply(
        &mut self,
        context: &mut Context,
        purpose: Purpose,
        applied: Applied,
    ) -> Result<(), String> {
        match purpose {
            Purpose::Found { term } if self.is_leaving() => self.raise_first_bound(context, term),
            Purpose::Found { term } => {
                let register = Command::RegisterMember(self.record());
                self.propose(context, Purpose::Register { term }, &register, Some(term));
            }
            Purpose::Register { term } => match applied {
                Applied::Refused(refusal) if !self.is_leaving() => {
                    return Err(format!("D9: a member is refused: {refusal}"));
                }
                _ => self.raise_first_bound(context, term),
            },
            Purpose::FirstBound {
                term,
                found_ms,
                now_ms,
                bound_ms,
            } => {
                let mut oracle = Oracle::default();
                oracle.begin(term.0, found_ms, now_ms, bound_ms);
                self.begin_leadership(context, term, oracle);
            }
            Purpose::RaiseBound { term, bound_ms } => self.on_bound(context, term, bound_ms)?,
            Purpose::ReserveIds { term } => self.on_ids(context, term, &applied)?,
            Purpose::Route { term, report } => {
                if let Applied::Routed { removed } = applied {
                    self.on_report(context, term, *report, &removed)?;
                }
            }
            Purpose::Split { term, parts } => {
                if let Applied::Routed { removed } = applied {
                    self.on_split(context, term, &parts, &removed)?;
                }
            }
            Purpose::Command { term, from } => {
                let state = self.state.clone();
                if let Some(leadership) = self.in_term(term) {
                    leadership.coordinator.follow(&state.read());
                }
                context.tell(self.host.id, from, 0, Reply::Command(applied));
            }
            Purpose::Members { from, call } => {
                self.on_members_changed(context, (from, call), &applied);
            }
            Purpose::Registration { from, call, record } => {
                self.on_registration_applied(context, (from, call), &record, applied);
            }
            Purpose::OwnRegistration => self.on_own_registration(context, &applied),
        }
        Ok(())
    }

    fn raise_first_bound(&mut self, context: &mut Context, term: Term) {
        let found_ms = self.state.read().timestamp_bound_ms();
        let now_ms = self.wall_ms(context);
        let bound_ms = Oracle::first_bound(found_ms, now_ms);
        let raise = Command::RaiseTimestampBound { bound_ms };
        let purpose = Purpose::FirstBound {
            term,
            found_ms,
            now_ms,
            bound_ms,
        };
        self.propose(context, purpose, &raise, Some(term));
    }

    /// Whether what was proposed is applied is not known, or it is not: whoever waits asks again.
    pub(super) fn on_lost(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Found { .. } | Purpose::Register { .. } | Purpose::FirstBound { .. } => {
                self.desk.beginning = None;
            }
            Purpose::RaiseBound { term, .. } => {
                if let Some(leadership) = self.in_term(term) {
                    leadership.raising = false;
                }
            }
            Purpose::ReserveIds { term } => {
                if let Some(leadership) = self.in_term(term) {
                    leadership.reserving = false;
                    leadership.takers.clear();
                }
            }
            Purpose::Route { .. }
            | Purpose::Split { .. }
            | Purpose::Command { .. }
            | Purpose::Members { .. }
            | Purpose::Registration { .. }
            | Purpose::OwnRegistration => {}
        }
    }

    fn begin_leadership(&mut self, context: &mut Context, term: Term, oracle: Oracle) {
        if self.leads() != Some(term) {
            return;
        }
        let id = self.host.id;
        context.trace(format_args!("member {id} leads placement in term {term}"));
        if context.invariants.on_placement_leader() {
            context.report.probe("placement_failover");
        }
        let now = self.host.local(context);
        let coordinator = Coordinator::new(&self.state.read(), now);
        self.desk.beginning = None;
        self.desk.serving = Some(Leadership {
            term,
            coordinator,
            oracle,
            drawers: VecDeque::new(),
            raising: false,
            ids: IdRun::default(),
            takers: VecDeque::new(),
            reserving: false,
            ended: 0,
        });
    }

    /// Orders go to the stores of the leaders; they may get lost.
    pub(super) fn order(
        &mut self,
        context: &mut Context,
        orders: Vec<Order>,
    ) -> Result<(), String> {
        for order in orders {
            context.trace(format_args!("{order:?}"));
            context.invariants.on_order(&self.state.read(), &order)?;
            let store = context.store_life(order.leader.store);
            let order = Reply::Order(order_to_proto(&order));
            context.tell(self.host.id, store, 0, order);
        }
        Ok(())
    }

    /// The stream of a store's heartbeats broke.
    pub(in crate::sim) fn on_stream_ended(&mut self, store: tinykv_replica::StoreId) {
        if let Some(serving) = &mut self.desk.serving {
            serving.coordinator.on_stream_ended(store);
        }
    }

    /// The routes as this member has them, if it leads.
    pub(in crate::sim) fn routes(&self, context: &Context) -> Option<Vec<Region>> {
        let serves = self.serves(context);
        serves.then(|| self.state.read().routes().regions().cloned().collect())
    }
}

/// A wish is granted once there are ids for it.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) region: GroupId,
    pub(super) wish: Manual,
}
