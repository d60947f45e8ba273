//! One term at the head of the placement group, and all that lasts only as long.
//!
//! Each part is a small pure core behind a lock of its own, held for work in memory only, never
//! across an await, and never two at once unless said so: the view, the timestamps, the streams
//! of the stores, the operators that ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::StoreId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::schedule::{Decision, Ending, Operator, Order, Progress, plan};
use crate::state::{Settings, State};
use crate::timestamps::Oracle;
use crate::view::{ClusterView, RegionReport, StaleTerm, StoreState, StoreStats};

/// Ended operators that are remembered.
const ENDED_MAX: usize = 100;

/// Orders that wait for one store to take them; further ones are dropped and sent again later.
pub(crate) const ORDERS_PER_STREAM_MAX: usize = 256;

/// An order is repeated after this long if no heartbeat has shown its effect.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// What this member knows and does while it leads.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// The Raft term of it.
    pub(crate) term: Term,
    /// Stores, regions, operators.
    pub(crate) view: RwLock<ClusterView>,
    /// The source of timestamps.
    pub(crate) oracle: Mutex<Oracle>,
    /// Ends with the leadership: streams end, waits end.
    pub(crate) ended: CancellationToken,
    /// Where orders for a store go.
    streams: Mutex<BTreeMap<StoreId, OrderStream>>,
    /// The operators that ended last, newest at the back.
    history: Mutex<VecDeque<Ended>>,
    /// Rises whenever a route or a leader becomes known: look-ups wait for it.
    changes: watch::Sender<u64>,
    /// Something happened that a new plan should look at.
    replan: AtomicBool,
    /// Numbers the streams.
    next_stream: AtomicU64,
}

#[derive(Debug)]
struct OrderStream {
    number: u64,
    orders: mpsc::Sender<Order>,
}

/// An operator that is over.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) operator: Operator,
    pub(crate) ending: Ending,
}

impl Leadership {
    /// A leadership that has heard nobody yet.
    pub(crate) fn new(term: Term, state: &State, oracle: Oracle, now: Duration) -> Leadership {
        Leadership {
            term,
            view: RwLock::new(ClusterView::new(state, now)),
            oracle: Mutex::new(oracle),
            ended: CancellationToken::new(),
            streams: Mutex::new(BTreeMap::new()),
            history: Mutex::new(VecDeque::new()),
            changes: watch::Sender::new(0),
            replan: AtomicBool::new(true),
            next_stream: AtomicU64::new(1),
        }
    }

    /// Changes of routes and leaders from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A route or a leader became known.
    pub(crate) fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.replan.store(true, Ordering::Release);
    }

    /// Whether something happened since this was last asked.
    pub(crate) fn take_replan(&self) -> bool {
        self.replan.swap(false, Ordering::AcqRel)
    }

    /// Takes over what a command changed about stores, settings, or, at bootstrap, regions.
    pub(crate) fn follow(&self, state: &State) {
        let mut view = self.view.write();
        view.follow_stores(state);
        if view.regions.is_empty() {
            for region in state.routes().regions() {
                view.follow_region(region, &[]);
            }
        }
        drop(view);
        self.note_change();
    }

    /// A store's heartbeat. Returns the store's state afterwards.
    pub(crate) fn on_store_heartbeat(
        &self,
        store: StoreId,
        stats: StoreStats,
        settings: &Settings,
        now: Duration,
    ) -> StoreState {
        let mut view = self.view.write();
        let before = view.store_state(store, settings, now);
        view.on_store_heartbeat(store, stats, settings, now);
        let after = view.store_state(store, settings, now);
        drop(view);
        if before != after {
            self.note_change();
        }
        after
    }

    /// A heartbeat of a region whose description is in the routes by now; `removed` are regions
    /// it took the place of. Returns the order the region's operator has for its leader.
    pub(crate) fn on_region_heartbeat(
        &self,
        report: RegionReport,
        removed: &[GroupId],
        settings: &Settings,
        now: Duration,
    ) -> Result<Option<Order>, StaleTerm> {
        let id = report.region.id;
        let mut view = self.view.write();
        let before = view.regions.get(&id).map(|known| {
            (
                known.leader,
                known.region.epoch,
                known.pending.clone(),
                known.down.len(),
            )
        });
        if let Some(known) = view.regions.get(&id) {
            known.check_term(&report)?;
        }
        view.follow_region(&report.region, removed);
        view.on_region_heartbeat(report, now)?;
        let after = view.regions.get(&id).map(|known| {
            (
                known.leader,
                known.region.epoch,
                known.pending.clone(),
                known.down.len(),
            )
        });
        let order = self.advance(&mut view, id, settings, now);
        drop(view);
        if before != after {
            self.note_change();
        }
        Ok(order)
    }

    /// What is to be done now, without what is under way.
    pub(crate) fn plan(&self, settings: &Settings, now: Duration) -> Vec<Decision> {
        plan(&self.view.read(), settings, now)
    }

    /// Makes an operator of a decision, unless the region has changed or is busy by now, and
    /// sends its first order.
    pub(crate) fn admit(
        &self,
        decision: Decision,
        id: u64,
        new_peer: PeerId,
        settings: &Settings,
        now: Duration,
    ) {
        let mut view = self.view.write();
        let region = decision.region;
        if view.operators.contains_key(&region) {
            return;
        }
        let Some(known) = view.regions.get(&region) else {
            return;
        };
        let Some(operator) = Operator::new(id, decision, new_peer, known, now) else {
            return;
        };
        tracing::info!(
            operator = id,
            %region,
            kind = operator.action.name(),
            reason = %operator.reason,
            "operator begins"
        );
        view.operators.insert(region, operator);
        let order = self.advance(&mut view, region, settings, now);
        drop(view);
        if let Some(order) = order {
            self.send(order);
        }
    }

    /// Ends operators that took too long, and repeats orders nobody has shown an effect of.
    pub(crate) fn nudge(&self, settings: &Settings, now: Duration) {
        let mut view = self.view.write();
        let waiting: Vec<GroupId> = view
            .operators
            .values()
            .filter(|operator| now.saturating_sub(operator.advanced_at) >= REPEAT_AFTER)
            .map(|operator| operator.region)
            .collect();
        let orders: Vec<Order> = waiting
            .into_iter()
            .filter_map(|region| self.advance(&mut view, region, settings, now))
            .collect();
        drop(view);
        for order in orders {
            self.send(order);
        }
    }

    /// What the operator of a region wants now, if it has one. An operator that is over leaves.
    fn advance(
        &self,
        view: &mut ClusterView,
        region: GroupId,
        settings: &Settings,
        now: Duration,
    ) -> Option<Order> {
        let mut operator = view.operators.remove(&region)?;
        match operator.advance(view, settings, now) {
            Progress::Order(order) => {
                view.operators.insert(region, operator);
                Some(order)
            }
            Progress::Wait => {
                view.operators.insert(region, operator);
                None
            }
            Progress::Ended(ending) => {
                tracing::info!(
                    operator = operator.id,
                    %region,
                    kind = operator.action.name(),
                    %ending,
                    "operator ends"
                );
                self.replan.store(true, Ordering::Release);
                let mut history = self.history.lock();
                if history.len() == ENDED_MAX {
                    history.pop_front();
                }
                history.push_back(Ended { operator, ending });
                None
            }
        }
    }

    /// The last operator of a region that ended.
    pub(crate) fn last_ended(&self, region: GroupId) -> Option<Ended> {
        let history = self.history.lock();
        history
            .iter()
            .rev()
            .find(|ended| ended.operator.region == region)
            .cloned()
    }

    /// Puts an order on the stream of its leader's store. One that has no room or no stream is
    /// dropped: it is repeated as long as it is wanted.
    fn send(&self, order: Order) {
        let streams = self.streams.lock();
        if let Some(stream) = streams.get(&order.leader.store) {
            // Full or closed: repeated later.
            let _dropped = stream.orders.try_send(order);
        }
    }

    /// A store opened a stream; an older one of it gets no more orders. Returns its number.
    pub(crate) fn open_stream(&self, store: StoreId) -> (u64, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(ORDERS_PER_STREAM_MAX);
        let number = self.next_stream.fetch_add(1, Ordering::Relaxed);
        self.streams
            .lock()
            .insert(store, OrderStream { number, orders });
        (number, receiver)
    }

    /// The stream ended. Unless the store has opened a newer one, its leaders are uncertain.
    pub(crate) fn close_stream(&self, store: StoreId, number: u64) {
        let mut streams = self.streams.lock();
        if streams
            .get(&store)
            .is_none_or(|stream| stream.number != number)
        {
            return;
        }
        streams.remove(&store);
        drop(streams);
        self.view.write().on_stream_ended(store);
        self.note_change();
    }
}
