//! The coordinator: what the leader of placement makes of heartbeats, pure.
//!
//! It holds the view, the operators under way and those that ended lately, and turns what comes
//! in (heartbeats, splits, wishes, time) into [`Order`]s for the leaders of regions. It has no
//! clock and sends nothing: whoever owns it (the desk of a process, a simulator) passes `now` and
//! the replicated [`State`], proposes the commands, and carries the orders to the stores. An
//! order that is lost costs nothing: it comes again until a heartbeat shows its effect.
//!
//! A region's heartbeat takes three steps: [`State::route_update`] says whether a command has to
//! be replicated first, or refuses the report; once that is applied,
//! [`Coordinator::on_region_heartbeat`] takes the report over and returns orders. Planning is
//! likewise: [`Coordinator::plan_if_due`] returns decisions, the owner gets ids for each, and
//! [`Coordinator::admit`] begins its operator. [`Coordinator::nudge`] is for the passing of time.
//!
//! All of this is volatile: it ends with the leadership. So do operators asked for by hand; what
//! they had done stays, and [`Coordinator::find`] knows nothing of them afterwards.

mod drains;
mod history;
mod scatters;

use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Region, StoreId};

use crate::schedule::{
    Action, Cause, Decision, Ended, Ending, Manual, ManualRefusal, Operator, OperatorIds, Order,
    Progress, Remaining, Rule, Step, decide, plan, remaining,
};
use crate::state::{Settings, State};
use crate::view::{ClusterView, RegionReport, StaleTerm, StoreState, StoreStats};

pub use drains::Pace;
pub use history::{CancelRefusal, Found, Which};
pub use scatters::Scattering;

use drains::Drains;
use history::History;

/// An order is repeated after this long if no heartbeat has shown its effect.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// A plan is made this often even if nothing is known to have happened: time itself matters.
const PLAN_INTERVAL: Duration = Duration::from_secs(1);

/// Stores, regions, operators; see the module.
#[derive(Clone, Debug)]
pub struct Coordinator {
    view: ClusterView,
    history: History,
    drains: Drains,
    /// Something happened that a new plan should look at.
    replan: bool,
    /// When the last plan was made.
    planned_at: Duration,
}

/// What a heartbeat or a split came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What to tell leaders of regions.
    pub orders: Vec<Order>,
    /// Whether a route, a leader or the state of a store changed: whoever waits may look again.
    pub changed: bool,
}

impl Coordinator {
    /// One that has heard nobody yet.
    pub fn new(state: &State, now: Duration) -> Coordinator {
        Coordinator {
            view: ClusterView::new(state, now),
            history: History::default(),
            drains: Drains::default(),
            replan: true,
            planned_at: now,
        }
    }

    /// Stores, regions and running operators.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// Takes over what a command changed about stores, settings, or, at bootstrap, regions.
    pub fn follow(&mut self, state: &State) {
        self.view.follow_stores(state);
        if self.view.regions.is_empty() {
            for region in state.routes().regions() {
                self.view.follow_region(region, &[], self.planned_at);
            }
        }
        self.replan = true;
    }

    /// A store's heartbeat; says whether that changed the state of the store, and to what.
    pub fn on_store_heartbeat(
        &mut self,
        store: StoreId,
        stats: StoreStats,
        settings: &Settings,
        now: Duration,
    ) -> (StoreState, bool) {
        let before = self.view.store_state(store, settings, now);
        self.view.on_store_heartbeat(store, stats, settings, now);
        let after = self.view.store_state(store, settings, now);
        self.replan |= before != after;
        (after, before != after)
    }

    /// The stream of a store's heartbeats broke.
    pub fn on_stream_ended(&mut self, store: StoreId) {
        self.view.on_stream_ended(store);
        self.replan = true;
    }

    /// A heartbeat of a region whose description is in the routes of `state` by now; `removed` are
    /// regions it took the place of. One that a newer route overtook on its way is dropped.
    pub fn on_region_heartbeat(
        &mut self,
        report: RegionReport,
        removed: &[GroupId],
        state: &State,
        now: Duration,
    ) -> Result<Heard, StaleTerm> {
        let id = report.region.id;
        self.forget(removed, state);
        let Some(route) = state.routes().region(id) else {
            return Ok(self.settle(&[], removed, state.settings(), now));
        };
        if let Some(known) = self.view.regions.get(&id) {
            known.check_term(&report)?;
        }
        let before = self.visible(id);
        self.view.follow_region(route, &[], now);
        self.view.on_region_heartbeat(report, now)?;
        let changed = before != self.visible(id);
        self.replan |= changed;
        let mut heard = self.settle(&[id], removed, state.settings(), now);
        heard.changed |= changed;
        Ok(heard)
    }

    /// All parts of a split, which are in the routes of `state` by now.
    pub fn on_split(
        &mut self,
        parts: &[Region],
        removed: &[GroupId],
        state: &State,
        now: Duration,
    ) -> Heard {
        self.forget(removed, state);
        let mut ids = Vec::new();
        for part in parts {
            if let Some(route) = state.routes().region(part.id) {
                self.view.follow_region(route, &[], now);
                ids.push(part.id);
            }
        }
        self.replan = true;
        let mut heard = self.settle(&ids, removed, state.settings(), now);
        heard.changed = true;
        heard
    }

    /// Regions that newer ones took the place of; one that has come back since stays.
    fn forget(&mut self, removed: &[GroupId], state: &State) {
        for id in removed {
            if state.routes().region(*id).is_none() {
                self.view.regions.remove(id);
            }
        }
    }

    /// What others can see change: leader, epoch, who is behind or away.
    fn visible(&self, id: GroupId) -> Option<impl PartialEq + use<>> {
        let known = self.view.regions.get(&id)?;
        let pending = known.pending.clone();
        Some((known.leader, known.region.epoch, pending, known.down.len()))
    }

    /// Asks the operators of these regions what comes next, and those that wait for new regions.
    fn settle(
        &mut self,
        ids: &[GroupId],
        removed: &[GroupId],
        settings: &Settings,
        now: Duration,
    ) -> Heard {
        let splits = self.view.operators.values().filter(|operator| {
            let split = matches!(operator.remaining().first(), Some(Step::Split { .. }));
            // Only those whose region was split are waiting; the others would repeat an order.
            split
                && self
                    .view
                    .regions
                    .get(&operator.region)
                    .is_none_or(|region| is_past(operator, region.region.epoch.version))
        });
        let mut asked: Vec<GroupId> = splits.map(|operator| operator.region).collect();
        asked.extend(ids.iter().chain(removed));
        asked.sort_unstable();
        asked.dedup();
        let orders = asked
            .into_iter()
            .filter_map(|id| self.advance(id, settings, now));
        Heard {
            orders: orders.collect(),
            changed: !removed.is_empty(),
        }
    }

    /// Whether something happened that a plan should look at.
    pub fn wants_plan(&self) -> bool {
        self.replan
    }

    /// What is to be done now, without what is under way, if it is time to think about it.
    pub fn plan_if_due(&mut self, settings: &Settings, now: Duration) -> Vec<Decision> {
        let due = now.saturating_sub(self.planned_at) >= PLAN_INTERVAL;
        if !self.replan && !due {
            return Vec::new();
        }
        self.replan = false;
        self.planned_at = now;
        let planned = plan(&self.view, settings, now);
        self.end_scattering(&planned, settings, now);
        planned
    }

    /// Makes an operator of a decision, unless the region has changed or is busy by now, and
    /// returns its first order.
    pub fn admit(
        &mut self,
        decision: Decision,
        ids: OperatorIds,
        settings: &Settings,
        now: Duration,
    ) -> Option<Order> {
        let region = decision.region;
        let mut about = [Some(region), decision.action.target()]
            .into_iter()
            .flatten();
        if about.any(|region| self.view.operators.contains_key(&region)) {
            return None;
        }
        let known = self.view.regions.get(&region)?;
        let was_whole = known.voters().count() >= self.view.replicas_wanted as usize;
        let mut operator = Operator::new(ids, decision, &self.view, settings, now)?;
        operator.was_whole = was_whole;
        tracing::info!(
            operator = operator.id,
            %region,
            kind = operator.action.name(),
            reason = %operator.reason,
            "operator begins"
        );
        self.view.operators.begin(operator);
        self.advance(region, settings, now)
    }

    /// Begins what was asked for by hand; returns its first order. The operator is found by its
    /// id afterwards, whether it is under way or over already.
    pub fn admit_manual(
        &mut self,
        region: GroupId,
        wish: &Manual,
        ids: OperatorIds,
        settings: &Settings,
        now: Duration,
    ) -> Result<Option<Order>, ManualRefusal> {
        let decision = decide(&self.view, settings, region, wish, now)?;
        Ok(self.admit(decision, ids, settings, now))
    }

    /// Ends an operator. What it has done so far stays; no further order comes.
    pub fn cancel(&mut self, which: Which, now: Duration) -> Result<Ended, CancelRefusal> {
        let running = self.view.operators.values().find(|operator| match which {
            Which::Operator(id) => operator.id == id,
            Which::Region(region) => operator.is_on(region),
        });
        let Some(region) = running.map(|operator| operator.region) else {
            return Err(self.history.refuse(which));
        };
        let operator = self.view.operators.take(region).expect("it was found");
        let ended = self.end(operator, Ending::Cancelled(Cause::ByHand), now);
        self.view.leave_lacking(region, now);
        Ok(ended)
    }

    /// Ends operators that took too long, and repeats orders nobody has shown an effect of.
    pub fn nudge(&mut self, settings: &Settings, now: Duration) -> Vec<Order> {
        let waiting: Vec<GroupId> = self
            .view
            .operators
            .values()
            .filter(|operator| now.saturating_sub(operator.advanced_at) >= REPEAT_AFTER)
            .map(|operator| operator.region)
            .collect();
        waiting
            .into_iter()
            .filter_map(|region| self.advance(region, settings, now))
            .collect()
    }

    /// What the operator of a region wants now, if it has one. An operator that is over leaves.
    fn advance(&mut self, region: GroupId, settings: &Settings, now: Duration) -> Option<Order> {
        let mut operator = self.view.operators.take(region)?;
        match operator.advance(&self.view, settings, now) {
            Progress::Order(order) => {
                let is_due = operator.may_send(&order, now);
                self.view.operators.begin(operator);
                is_due.then_some(order)
            }
            Progress::Wait => {
                self.view.operators.begin(operator);
                None
            }
            Progress::Ended(ending) => {
                self.end(operator, ending, now);
                None
            }
        }
    }

    fn end(&mut self, operator: Operator, ending: Ending, now: Duration) -> Ended {
        if operator.reason.rule == Rule::Manual {
            match operator.action {
                // No rule could undo it.
                Action::Split { .. } | Action::Merge { .. } => {}
                // A region that was not whole lacks what nobody took, and may take no writes yet.
                Action::RemovePeer { .. } if operator.was_whole => {
                    self.view.leave_lacking(operator.region, now);
                }
                _ => self.view.leave_alone(operator.region, now),
            }
        }
        self.note_scattered(&operator);
        let ended = Ended {
            operator,
            ending,
            ended_at: now,
        };
        tracing::info!(
            operator = ended.operator.id,
            region = %ended.operator.region,
            kind = ended.operator.action.name(),
            ending = %ended.ending,
            outcome = ended.outcome(),
            "operator ends"
        );
        self.replan = true;
        self.history.push(ended.clone());
        ended
    }

    /// Looks at the stores that leave; returns those with nothing left on them for long enough,
    /// which may become tombstones.
    pub fn look_at_drains(&mut self, state: &State, now: Duration) -> Vec<StoreId> {
        self.drains.look(state, &self.view, now)
    }

    /// What is left on a store, and how fast it becomes less.
    pub fn drain(&self, store: StoreId, settings: &Settings, now: Duration) -> (Remaining, Pace) {
        let left = remaining(&self.view, settings, store, now);
        let pace = self.drains.pace(store, left.regions, now);
        (left, pace)
    }

    /// Operators that ended, oldest first.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Ended> {
        self.history.iter()
    }

    /// An operator under way, or one that ended and is remembered.
    pub fn find(&self, id: u64) -> Option<Found<'_>> {
        let mut running = self.view.operators.values();
        match running.find(|operator| operator.id == id) {
            Some(operator) => Some(Found::Running(operator)),
            None => self.history.find(id).map(Found::Ended),
        }
    }
}

/// Whether the region of a split operator has been split since.
fn is_past(operator: &Operator, version: u64) -> bool {
    operator
        .remaining()
        .iter()
        .any(|step| matches!(step, Step::Split { version: before, .. } if version > *before))
}

#[cfg(test)]
mod tests;
