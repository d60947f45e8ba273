//! One term at the head of the placement group, and all that lasts only as long.
//!
//! Each part is a small pure core behind a lock of its own, held for work in memory only, never
//! across an await, and never two at once unless said so: the coordinator, the timestamps, the ids,
//! the streams of the stores. The replicated state is locked before the coordinator, never after.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tinykv_raft::{GroupId, Term};
use tinykv_replica::{Region, StoreId};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{CancelRefusal, Coordinator, Heard, Which};
use crate::ids::IdRun;
use crate::schedule::{Decision, Ended, Manual, ManualRefusal, OperatorIds, Order};
use crate::state::{Settings, State, StoreLife, StoreRecord};
use crate::timestamps::Oracle;
use crate::view::{RegionReport, StaleTerm, StoreState, StoreStats};

/// Orders that wait for one store to take them; further ones are dropped and sent again later.
pub(crate) const ORDERS_PER_STREAM_MAX: usize = 256;

/// What this member knows and does while it leads.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// The Raft term of it.
    pub(crate) term: Term,
    /// The source of timestamps.
    pub(crate) oracle: Mutex<Oracle>,
    /// Ids at hand. They end with the leadership: a later one begins above all handed out before.
    pub(crate) ids: Mutex<IdRun>,
    /// Ends with the leadership: streams end, waits end.
    pub(crate) ended: CancellationToken,
    /// Stores, regions, operators.
    coordinator: RwLock<Coordinator>,
    /// Where orders for a store go.
    streams: Mutex<BTreeMap<StoreId, OrderStream>>,
    /// Rises whenever a route or a leader becomes known: look-ups wait for it.
    changes: watch::Sender<u64>,
    /// Wakes the desk.
    desk_wanted: Notify,
    /// Numbers the streams.
    next_stream: AtomicU64,
}

#[derive(Debug)]
struct OrderStream {
    number: u64,
    orders: mpsc::Sender<Order>,
}

impl Leadership {
    /// A leadership that has heard nobody yet.
    pub(crate) fn new(term: Term, state: &State, oracle: Oracle, now: Duration) -> Leadership {
        Leadership {
            term,
            oracle: Mutex::new(oracle),
            ids: Mutex::new(IdRun::default()),
            ended: CancellationToken::new(),
            coordinator: RwLock::new(Coordinator::new(state, now)),
            streams: Mutex::new(BTreeMap::new()),
            changes: watch::Sender::new(0),
            desk_wanted: Notify::new(),
            next_stream: AtomicU64::new(1),
        }
    }

    /// Looks at stores, regions and operators. Hold it briefly, and never across an await.
    pub(crate) fn coordinator(&self) -> RwLockReadGuard<'_, Coordinator> {
        self.coordinator.read()
    }

    /// Changes of routes and leaders from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A route or a leader became known.
    fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Resolves once something happened that the desk should look at. For the desk alone.
    pub(crate) async fn desk_wanted(&self) {
        self.desk_wanted.notified().await;
    }

    /// Something happened that the desk should look at.
    pub(crate) fn wake_desk(&self) {
        self.desk_wanted.notify_one();
    }

    /// Ends a change that others than the desk made.
    fn finish(&self, coordinator: RwLockWriteGuard<'_, Coordinator>) {
        let wants_plan = coordinator.wants_plan();
        drop(coordinator);
        if wants_plan {
            self.wake_desk();
        }
    }

    /// Whether operators or drains are under way, which are looked after as time passes.
    pub(crate) fn is_at_work(&self, state: &State) -> bool {
        let leaves = |store: &StoreRecord| store.life == StoreLife::Leaving;
        let operates = self
            .coordinator
            .read()
            .view()
            .operators
            .values()
            .next()
            .is_some();
        operates || state.stores().values().any(leaves)
    }

    /// See [`Coordinator::follow`].
    pub(crate) fn follow(&self, state: &State) {
        let mut coordinator = self.coordinator.write();
        coordinator.follow(state);
        self.finish(coordinator);
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
        let mut coordinator = self.coordinator.write();
        let (state, changed) = coordinator.on_store_heartbeat(store, stats, settings, now);
        self.finish(coordinator);
        if changed {
            self.note_change();
        }
        state
    }

    /// See [`Coordinator::on_region_heartbeat`]; sends the orders.
    pub(crate) fn on_region_heartbeat(
        &self,
        report: RegionReport,
        removed: &[GroupId],
        state: &State,
        now: Duration,
    ) -> Result<(), StaleTerm> {
        let mut coordinator = self.coordinator.write();
        let heard = coordinator.on_region_heartbeat(report, removed, state, now);
        self.finish(coordinator);
        self.pass_on(heard?);
        Ok(())
    }

    /// See [`Coordinator::on_split`]; sends the orders.
    pub(crate) fn on_split(
        &self,
        parts: &[Region],
        removed: &[GroupId],
        state: &State,
        now: Duration,
    ) {
        let mut coordinator = self.coordinator.write();
        let heard = coordinator.on_split(parts, removed, state, now);
        self.finish(coordinator);
        self.pass_on(heard);
    }

    fn pass_on(&self, heard: Heard) {
        self.send(heard.orders);
        if heard.changed {
            self.note_change();
        }
    }

    /// See [`Coordinator::plan_if_due`].
    pub(crate) fn plan_if_due(&self, settings: &Settings, now: Duration) -> Vec<Decision> {
        self.coordinator.write().plan_if_due(settings, now)
    }

    /// See [`Coordinator::admit`]; sends the order.
    pub(crate) fn admit(
        &self,
        decision: Decision,
        ids: OperatorIds,
        settings: &Settings,
        now: Duration,
    ) {
        let mut coordinator = self.coordinator.write();
        let order = coordinator.admit(decision, ids, settings, now);
        drop(coordinator);
        self.send(order);
    }

    /// See [`Coordinator::admit_manual`]; sends the order.
    pub(crate) fn admit_manual(
        &self,
        region: GroupId,
        wish: &Manual,
        ids: OperatorIds,
        settings: &Settings,
        now: Duration,
    ) -> Result<(), ManualRefusal> {
        let mut coordinator = self.coordinator.write();
        let order = coordinator.admit_manual(region, wish, ids, settings, now);
        self.finish(coordinator);
        self.send(order?);
        Ok(())
    }

    /// See [`Coordinator::scatter`].
    pub(crate) fn scatter(&self, ids: Option<&[GroupId]>) -> Result<(), ManualRefusal> {
        let mut coordinator = self.coordinator.write();
        let begun = coordinator.scatter(ids);
        self.finish(coordinator);
        begun
    }

    /// See [`Coordinator::cancel`].
    pub(crate) fn cancel(&self, which: Which, now: Duration) -> Result<Ended, CancelRefusal> {
        let mut coordinator = self.coordinator.write();
        let ended = coordinator.cancel(which, now);
        self.finish(coordinator);
        ended
    }

    /// See [`Coordinator::look_at_drains`].
    pub(crate) fn look_at_drains(&self, state: &State, now: Duration) -> Vec<StoreId> {
        self.coordinator.write().look_at_drains(state, now)
    }

    /// See [`Coordinator::nudge`]; sends the orders.
    pub(crate) fn nudge(&self, settings: &Settings, now: Duration) {
        let orders = self.coordinator.write().nudge(settings, now);
        self.send(orders);
    }

    /// Puts orders on the streams of their leaders' stores. One that has no room or no stream is
    /// dropped: it is repeated as long as it is wanted.
    fn send(&self, orders: impl IntoIterator<Item = Order>) {
        let streams = self.streams.lock();
        for order in orders {
            if let Some(stream) = streams.get(&order.leader.store) {
                // Full or closed: repeated later.
                let _dropped = stream.orders.try_send(order);
            }
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
        let mut coordinator = self.coordinator.write();
        coordinator.on_stream_ended(store);
        self.finish(coordinator);
        self.note_change();
    }
}
