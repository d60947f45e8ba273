//! The desk: where questions reach the leader, and what the leader does of its own accord.
//!
//! A leadership begins in this order: the cluster has an id; the timestamp bound is raised and
//! applied, so that nothing served before lies above it; the view is made from the routes. Only
//! then is it published. It ends when this member no longer leads in its term. Between, the desk
//! keeps the bound ahead, plans, and repeats orders.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tinykv_node::process::Stop;
use tinykv_raft::PeerId;
use tokio::sync::watch;

use crate::group::{Group, ProposeError};
use crate::ids;
use crate::leadership::Leadership;
use crate::membership::{Step, next_step};
use crate::schedule::OperatorIds;
use crate::state::{Command, IDS_PER_COMMAND_MAX, MemberRecord, Reply, StoreLife};
use crate::timestamps::{Draw, Oracle, Timestamp};

/// How often the desk looks after itself while something is under way.
const TICK: Duration = Duration::from_millis(50);
/// The same when nothing is: whatever begins wakes it, so this is for what time alone brings. Well
/// below the time in which the bound of the timestamps has to be raised.
const TICK_AT_REST: Duration = Duration::from_millis(250);

/// How soon the desk looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    /// When it is woken, or some time later.
    AtRest,
    /// Soon: something is to be repeated, or to be seen through.
    UnderWay,
}

/// What the membership of the group needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStep {
    /// It is what is wanted.
    None,
    /// A member has to catch up first, or a change to end.
    Awaited,
    /// This.
    Now(Step),
}

/// The one place that hands out what the leader has.
pub(crate) struct Desk {
    group: Group,
    /// This member, registered at the beginning of each leadership.
    member: MemberRecord,
    current: ArcSwapOption<Leadership>,
    /// One proposal for ids at a time.
    reserving: tokio::sync::Mutex<()>,
    /// One proposal for a bound at a time.
    raising: tokio::sync::Mutex<()>,
    /// Rises when a leadership begins or ends here, or another member is known to lead.
    turns: watch::Sender<u64>,
}

impl Desk {
    pub(crate) fn new(group: Group, member: MemberRecord) -> Desk {
        Desk {
            group,
            member,
            current: ArcSwapOption::empty(),
            reserving: tokio::sync::Mutex::new(()),
            raising: tokio::sync::Mutex::new(()),
            turns: watch::Sender::new(0),
        }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// This member.
    pub(crate) fn member(&self) -> &MemberRecord {
        &self.member
    }

    /// The leadership of this member, if it surely leads at this moment.
    pub(crate) fn leadership(&self) -> Option<Arc<Leadership>> {
        let current = self.current.load_full()?;
        self.group.holds_lease(current.term).then_some(current)
    }

    /// The leadership of this member, waiting out an election for `patience` at most. Ends at once
    /// when another member is known to lead.
    pub(crate) async fn await_leadership(&self, patience: Duration) -> Option<Arc<Leadership>> {
        let mut turns = self.turns.subscribe();
        let waited = tokio::time::timeout(patience, async {
            loop {
                turns.mark_unchanged();
                if let Some(leadership) = self.leadership() {
                    return Some(leadership);
                }
                let office = self.group.office();
                if office.leader.is_some() && !office.leads {
                    return None;
                }
                // The lease may come back without a turn; look again soon.
                let _elapsed_or_turned = tokio::time::timeout(TICK, turns.changed()).await;
            }
        });
        waited.await.ok().flatten()
    }

    /// A run of ids that nobody has, above all that were handed out before.
    pub(crate) async fn take_ids(
        &self,
        leadership: &Leadership,
        count: u32,
    ) -> Result<Range<u64>, ProposeError> {
        loop {
            if let Some(taken) = self.take_reserved(leadership, count) {
                return taken;
            }
            let _one_at_a_time = self.reserving.lock().await;
            // Somebody may have refilled the run while this one waited.
            if let Some(taken) = self.take_reserved(leadership, count) {
                return taken;
            }
            let count = count.clamp(ids::RUN, IDS_PER_COMMAND_MAX);
            let command = Command::ReserveIds { count };
            match self.group.propose(&command, Some(leadership.term)).await? {
                Reply::Ids { first, count } => {
                    let run = first..first + u64::from(count);
                    leadership.ids.lock().refill(run);
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Ids of the run at hand, if it is long enough. As with timestamps the lease is checked after
    /// they were taken: a later leader can only have handed out its own after this lease had ended.
    fn take_reserved(
        &self,
        leadership: &Leadership,
        count: u32,
    ) -> Option<Result<Range<u64>, ProposeError>> {
        let taken = leadership.ids.lock().take(count)?;
        Some(match self.group.holds_lease(leadership.term) {
            true => Ok(taken),
            false => Err(ProposeError::NotLeader),
        })
    }

    /// Draws timestamps that are certain to lie above all served before, by anybody; returns the
    /// largest of the run.
    pub(crate) async fn draw_timestamps(
        &self,
        leadership: &Leadership,
        count: u32,
    ) -> Result<Timestamp, ProposeError> {
        loop {
            let drawn = leadership
                .oracle
                .lock()
                .draw(count, self.group.wall_clock_ms());
            match drawn {
                // The lease is checked after the draw: a new leader can only have begun to serve
                // after this one's lease had run out.
                Draw::Drawn { last, .. } if self.group.holds_lease(leadership.term) => {
                    return Ok(last);
                }
                Draw::Drawn { .. } | Draw::NotServing => return Err(ProposeError::NotLeader),
                Draw::BoundReached => self.raise_bound(leadership).await?,
            }
        }
    }

    /// Persists a higher bound if one is wanted.
    async fn raise_bound(&self, leadership: &Leadership) -> Result<(), ProposeError> {
        let _one_at_a_time = self.raising.lock().await;
        let wanted = leadership
            .oracle
            .lock()
            .wanted_bound(self.group.wall_clock_ms());
        let Some((term, bound_ms)) = wanted else {
            return Ok(());
        };
        let command = Command::RaiseTimestampBound { bound_ms };
        match self.group.propose(&command, Some(leadership.term)).await? {
            Reply::TimestampBound { .. } => {
                leadership.oracle.lock().raise_bound(term, bound_ms);
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Works until asked to stop.
    pub(crate) async fn run(&self, stop: Stop) {
        // Subscribed to before the first look, so that no change is missed.
        let mut changes = self.group.node().directory().changes();
        let mut office = self.group.office();
        let mut pace = Pace::UnderWay;
        while !stop.is_requested() {
            tokio::select! {
                () = self.pause(pace, &mut changes) => {}
                () = stop.requested() => break,
            }
            let before = std::mem::replace(&mut office, self.group.office());
            if before != office {
                self.note_turn();
            }
            let current = self.current.load_full();
            pace = match current {
                Some(leadership) if office.leads && office.term == leadership.term => {
                    self.look_after(&leadership).await
                }
                Some(leadership) => {
                    self.end(&leadership);
                    Pace::UnderWay
                }
                None if office.leads => {
                    if let Err(error) = self.begin(office.term).await {
                        tracing::debug!("leadership has not begun yet: {error}");
                    }
                    Pace::UnderWay
                }
                None => Pace::AtRest,
            }
        }
        if let Some(leadership) = self.current.load_full() {
            self.end(&leadership);
        }
    }

    /// Until there may be something to do; a tick at least, so that what happens within one is looked
    /// at together.
    async fn pause(&self, pace: Pace, changes: &mut watch::Receiver<()>) {
        let earliest = tokio::time::Instant::now() + TICK;
        if pace == Pace::AtRest {
            let leadership = self.current.load_full();
            let wanted = async {
                match &leadership {
                    Some(leadership) => leadership.desk_wanted().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(TICK_AT_REST) => {}
                () = wanted => {}
                // The directory lives as long as the desk.
                _ = changes.changed() => {}
            }
        }
        tokio::time::sleep_until(earliest).await;
    }

    async fn begin(&self, term: tinykv_raft::Term) -> Result<(), ProposeError> {
        let found = Command::Found {
            cluster_id: self.group.random(),
        };
        // Applied in this term, so everything of earlier terms is applied, too.
        let Reply::Cluster { id } = self.group.propose(&found, Some(term)).await? else {
            return Err(ProposeError::Refused("the cluster has no id".into()));
        };
        self.register(term).await?;
        let found_ms = self.group.state().read().timestamp_bound_ms();
        let now_ms = self.group.wall_clock_ms();
        let bound_ms = Oracle::first_bound(found_ms, now_ms);
        let raise = Command::RaiseTimestampBound { bound_ms };
        let Reply::TimestampBound { .. } = self.group.propose(&raise, Some(term)).await? else {
            return Err(ProposeError::Refused("no timestamp bound".into()));
        };
        let mut oracle = Oracle::default();
        oracle.begin(term.0, found_ms, now_ms, bound_ms);
        let leadership = {
            let state = self.group.state().read();
            Leadership::new(term, &state, oracle, self.group.now())
        };
        tracing::info!(%term, cluster = id, "this member leads the placement group");
        self.current.store(Some(Arc::new(leadership)));
        self.note_turn();
        Ok(())
    }

    /// Says who leads, for this start of it. A member that was removed leads once more if it is elected
    /// before its peer is gone, for nobody else can see to that.
    async fn register(&self, term: tinykv_raft::Term) -> Result<(), ProposeError> {
        if self.is_leaving() {
            return Ok(());
        }
        let register = Command::RegisterMember(self.member.clone());
        match self.group.propose(&register, Some(term)).await? {
            Reply::Refused(refusal) if !self.is_leaving() => {
                tracing::error!("{refusal}");
                Err(ProposeError::Refused(refusal.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn is_leaving(&self) -> bool {
        self.group.state().read().has_removed_member(self.member.id)
    }

    fn end(&self, leadership: &Leadership) {
        tracing::info!(term = %leadership.term, "this member does not lead any more");
        self.current.store(None);
        leadership.oracle.lock().end();
        leadership.ended.cancel();
        self.note_turn();
    }

    fn note_turn(&self) {
        self.turns.send_modify(|turns| *turns += 1);
    }

    async fn look_after(&self, leadership: &Leadership) -> Pace {
        let mut pace = Pace::AtRest;
        if let Err(error) = self.raise_bound(leadership).await {
            tracing::debug!("the timestamp bound was not raised: {error}");
            pace = Pace::UnderWay;
        }
        pace = pace.max(self.settle_members(leadership).await);
        let settings = *self.group.state().read().settings();
        let now = self.group.now();
        leadership.nudge(&settings, now);
        self.bury_drained(leadership, now).await;
        for decision in leadership.plan_if_due(&settings, now) {
            let ids = match self.operator_ids(leadership).await {
                Ok(ids) => ids,
                Err(error) => {
                    tracing::debug!("an operator was not begun: {error}");
                    return Pace::UnderWay;
                }
            };
            leadership.admit(decision, ids, &settings, self.group.now());
        }
        match leadership.is_at_work(&self.group.state().read()) {
            true => Pace::UnderWay,
            false => pace,
        }
    }

    /// Brings the membership of the group nearer to what is wanted.
    async fn settle_members(&self, leadership: &Leadership) -> Pace {
        let step = match self.next_member_step().await {
            NextStep::None => return Pace::AtRest,
            NextStep::Awaited => return Pace::UnderWay,
            NextStep::Now(step) => step,
        };
        match self.group.change_members(step, leadership.term).await {
            Ok(()) => tracing::info!("the placement group has changed: {step:?}"),
            Err(why) => tracing::debug!("the placement group does not change yet: {why}"),
        }
        Pace::UnderWay
    }

    async fn next_member_step(&self) -> NextStep {
        let Some(region) = self.group.region() else {
            return NextStep::None;
        };
        let own = self.member.id;
        let step = |is_caught_up: &dyn Fn(PeerId) -> bool| {
            next_step(&self.group.state().read(), &region, own, is_caught_up)
        };
        // Mostly there is none, whoever is caught up; only otherwise the shard is asked.
        if region.is_joint() {
            return NextStep::Awaited;
        }
        if step(&|_| true).is_none() {
            return NextStep::None;
        }
        let status = self.group.status().await;
        let step = status.and_then(|status| step(&|id| !status.pending_peers.contains(&id)));
        step.map_or(NextStep::Awaited, NextStep::Now)
    }

    /// Stores that were drained become tombstones.
    async fn bury_drained(&self, leadership: &Leadership, now: Duration) {
        // Always in this order: state, then coordinator.
        let drained = leadership.look_at_drains(&self.group.state().read(), now);
        for store in drained {
            let life = StoreLife::Tombstone;
            let command = Command::SetStoreLife { store, life };
            match self.group.propose(&command, Some(leadership.term)).await {
                Ok(Reply::Done) => tracing::info!(%store, "the store has left the cluster"),
                Ok(other) => tracing::debug!(%store, "the store cannot leave yet: {other:?}"),
                Err(error) => tracing::debug!(%store, "the store has not left yet: {error}"),
            }
            leadership.follow(&self.group.state().read());
        }
    }

    /// Ids for one operator.
    pub(crate) async fn operator_ids(
        &self,
        leadership: &Leadership,
    ) -> Result<OperatorIds, ProposeError> {
        let ids = self.take_ids(leadership, OperatorIds::COUNT).await?;
        Ok(OperatorIds::of(&ids))
    }
}

fn unexpected(reply: &Reply) -> ProposeError {
    match reply {
        Reply::Refused(refusal) => ProposeError::Refused(refusal.to_string()),
        other => ProposeError::Refused(format!("unexpected reply {other:?}")),
    }
}
