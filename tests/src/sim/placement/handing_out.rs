//! Ids and timestamps: handed out from what is reserved in the replicated state.

use std::ops::Range;

use tinykv_placement::convert::{split_ids_to_proto, timestamp_to_proto};
use tinykv_placement::ids;
use tinykv_placement::schedule::{Decision, OperatorIds};
use tinykv_placement::state::{Command, Reply as Applied};
use tinykv_placement::timestamps::Draw;
use tinykv_proto::{pdpb, placement};
use tinykv_raft::{PeerId, Term};

use super::super::happening::{Asker, Context};
use super::Reply;
use super::desk::{Purpose, Wish};
use super::member::Member;

/// Somebody who needs ids.
#[derive(Debug)]
pub(super) enum Taker {
    /// A decision becomes an operator.
    Decision(Box<Decision>),
    /// So does a wish.
    Wish(Box<Wish>),
    /// The children of a split.
    Split {
        from: Asker,
        call: u64,
        children: u32,
        peers: usize,
    },
    /// A store that has to know which peers are new.
    Store(Asker),
    /// A member that is added.
    Member {
        from: Asker,
        call: u64,
        new: Box<placement::NewMember>,
    },
}

impl Taker {
    fn count(&self) -> u32 {
        match self {
            Taker::Decision(_) | Taker::Wish(_) => OperatorIds::COUNT,
            Taker::Store(_) | Taker::Member { .. } => 1,
            Taker::Split {
                children, peers, ..
            } => children * (1 + *peers as u32),
        }
    }
}

/// Somebody who waits for timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawing {
    pub(super) from: Asker,
    pub(super) count: u32,
    pub(super) call: u64,
}

impl Member {
    /// Hands out ids now, or once a new run of them is reserved.
    pub(super) fn take_ids(&mut self, context: &mut Context, taker: Taker) -> Result<(), String> {
        let Some(serving) = &mut self.desk.serving else {
            return Ok(());
        };
        serving.takers.push_back(taker);
        self.serve_takers(context)
    }

    fn serve_takers(&mut self, context: &mut Context) -> Result<(), String> {
        while let Some(serving) = &mut self.desk.serving
            && let Some(taker) = serving.takers.front()
        {
            let (term, count) = (serving.term, taker.count());
            let Some(taken) = serving.ids.take(count) else {
                if !serving.reserving {
                    serving.reserving = true;
                    let count = count.max(ids::RUN);
                    let reserve = Command::ReserveIds { count };
                    let purpose = Purpose::ReserveIds { term };
                    self.propose(context, purpose, &reserve, Some(term));
                }
                return Ok(());
            };
            let Some(taker) = serving.takers.pop_front() else {
                return Ok(());
            };
            // As with timestamps the lease is checked after they were taken.
            if !self.holds_lease(context, term) {
                return Ok(());
            }
            context.invariants.on_ids(taken.clone())?;
            self.give(context, taker, taken)?;
        }
        Ok(())
    }

    fn give(&mut self, context: &mut Context, taker: Taker, ids: Range<u64>) -> Result<(), String> {
        let now = self.host.local(context);
        let settings = *self.state.read().settings();
        let operator_ids = || OperatorIds::of(&ids);
        let order = match taker {
            Taker::Split {
                from,
                call,
                children,
                peers,
            } => {
                let reply = Reply::SplitIds(pdpb::AskBatchSplitResponse {
                    ids: split_ids_to_proto(ids, children, peers),
                    ..pdpb::AskBatchSplitResponse::default()
                });
                context.tell(self.host.id, from, call, reply);
                return Ok(());
            }
            Taker::Store(from) => {
                let reply = Reply::FreshId(pdpb::AllocIdResponse {
                    id: ids.start,
                    count: 1,
                    ..pdpb::AllocIdResponse::default()
                });
                context.tell(self.host.id, from, 0, reply);
                return Ok(());
            }
            Taker::Member { from, call, new } => {
                self.invite(context, (from, call), *new, PeerId(ids.start));
                return Ok(());
            }
            Taker::Decision(decision) => self.desk.serving.as_mut().and_then(|serving| {
                let coordinator = &mut serving.coordinator;
                coordinator.admit(*decision, operator_ids(), &settings, now)
            }),
            Taker::Wish(wish) => self.desk.serving.as_mut().and_then(|serving| {
                let Wish { region, wish } = *wish;
                let coordinator = &mut serving.coordinator;
                let admitted =
                    coordinator.admit_manual(region, &wish, operator_ids(), &settings, now);
                admitted.ok().flatten()
            }),
        };
        self.order(context, order.into_iter().collect())
    }

    /// A run of ids is reserved.
    pub(super) fn on_ids(
        &mut self,
        context: &mut Context,
        term: Term,
        applied: &Applied,
    ) -> Result<(), String> {
        let Applied::Ids { first, count } = *applied else {
            return Err(format!("ids were asked for and {applied:?} was answered"));
        };
        let Some(leadership) = self.in_term(term) else {
            return Ok(());
        };
        leadership.reserving = false;
        leadership.ids.refill(first..first + u64::from(count));
        self.serve_takers(context)
    }

    /// Draws timestamps, and answers if they are certain to lie above all served before.
    pub(super) fn draw(&mut self, context: &mut Context, drawing: Drawing) -> Result<(), String> {
        let now_ms = self.wall_ms(context);
        let Some(serving) = &mut self.desk.serving else {
            return Ok(());
        };
        let term = serving.term;
        let drawn = serving.oracle.draw(drawing.count, now_ms);
        match drawn {
            Draw::Drawn { last, .. } if self.holds_lease(context, term) => {
                let Drawing { from, count, call } = drawing;
                if context.invariants.on_drawn(term, last, count)? {
                    context.report.probe("timestamp_after_failover");
                }
                let reply = Reply::Timestamps(pdpb::TsoResponse {
                    count,
                    timestamp: timestamp_to_proto(last),
                    ..pdpb::TsoResponse::default()
                });
                context.tell(self.host.id, from, call, reply);
            }
            Draw::Drawn { .. } | Draw::NotServing => {}
            Draw::BoundReached => {
                if let Some(serving) = &mut self.desk.serving {
                    serving.drawers.push_back(drawing);
                }
                self.raise_bound(context);
            }
        }
        Ok(())
    }

    /// Persists a higher bound if one is wanted.
    pub(super) fn raise_bound(&mut self, context: &mut Context) {
        let now_ms = self.wall_ms(context);
        let Some(serving) = &mut self.desk.serving else {
            return;
        };
        if serving.raising {
            return;
        }
        if let Some((number, bound_ms)) = serving.oracle.wanted_bound(now_ms) {
            serving.raising = true;
            let term = Term(number);
            let raise = Command::RaiseTimestampBound { bound_ms };
            let purpose = Purpose::RaiseBound { term, bound_ms };
            self.propose(context, purpose, &raise, Some(term));
        }
    }

    /// A higher bound is applied: whoever waited for it draws again.
    pub(super) fn on_bound(
        &mut self,
        context: &mut Context,
        term: Term,
        bound_ms: u64,
    ) -> Result<(), String> {
        let Some(leadership) = self.in_term(term) else {
            return Ok(());
        };
        leadership.raising = false;
        leadership.oracle.raise_bound(term.0, bound_ms);
        for drawing in std::mem::take(&mut leadership.drawers) {
            self.draw(context, drawing)?;
        }
        Ok(())
    }
}
