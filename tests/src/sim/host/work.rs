//! What the shard's thread does: it runs, and its effects are carried out in their order.

use std::time::Duration;

use bytes::Bytes;
use tinykv_engine::EngineError;
use tinykv_raft::{GroupId, MessageBody, PeerId};
use tinykv_replica::{
    Effects, EntryFetch, Event, Heartbeat, Outcome, PeerBody, PeerMessage, ReadError, StateMachine,
    StoreId, ValueFetch, WaiterId,
};

use super::super::happening::Context;
use super::super::letter::{Letter, Opened};
use super::super::placement::GROUP;
use super::reader::LsmReader;
use super::{Content, FETCH_DELAY, Host, Job, RUN_DELAY, Running, Trouble, UPKEEP_INTERVAL};
use super::{WalWork, Work};

/// How long a job of the pool waits for space.
pub(super) const SPACE_WAIT: Duration = Duration::from_millis(200);

impl<S: StateMachine> Host<S> {
    /// Puts an event in the inbox; a run will take it.
    pub(in crate::sim) fn post(&mut self, context: &mut Context, event: Event) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.inbox.push(event);
        if !running.run_scheduled {
            running.run_scheduled = true;
            context.after(RUN_DELAY, self.id, self.life, Work::Run);
        }
    }

    /// Bytes of a peer arrive. While the log waits for space nothing comes in that makes it longer.
    pub(in crate::sim) fn deliver(&mut self, context: &mut Context, letter: &Letter) {
        let Some(running) = &self.running else {
            return;
        };
        let log_keeps_up = !running.log_is_stuck;
        let registered = self.destination(letter.from());
        let opened = letter.open(&running.roster, self.life, registered.as_ref());
        let (messages, restarted, introduced) = match opened {
            Opened::Refused(why) => return context.report.probe(why),
            Opened::Messages {
                messages,
                restarted,
                introduced,
            } => (messages, restarted, introduced),
        };
        if let Some(destination) = introduced {
            context.report.probe("member_introduced_itself");
            self.introduced.insert(letter.from(), destination);
        }
        for message in messages {
            if restarted {
                self.post(context, Event::StoreDead(message.from.store));
            }
            if log_keeps_up || !carries_entries(&message) {
                self.post(context, Event::Message(message));
            }
        }
    }

    /// A message leaves, if it is known where to.
    pub(super) fn send(&self, context: &mut Context, message: &PeerMessage) -> Result<(), Trouble> {
        if self.destination(message.to.store).is_none() {
            context.report.probe("message_to_an_unknown_member");
            return Ok(());
        }
        context.send_message(message).map_err(Trouble::Violation)
    }

    /// A heartbeat of another store arrives.
    pub(in crate::sim) fn hear(&mut self, context: &mut Context, from: StoreId, beat: Heartbeat) {
        let now = self.local(context);
        if let Some(running) = &mut self.running {
            running.neighbours.on_heartbeat(from, beat, now);
            self.poll_neighbours(context);
        }
    }

    /// The connection to a process broke.
    pub(in crate::sim) fn on_unreachable(&mut self, context: &mut Context, gone: StoreId) {
        let now = self.local(context);
        if let Some(running) = &mut self.running {
            running.neighbours.on_unreachable(gone, now);
        }
        self.post(context, Event::StoreUnreachable(gone));
    }

    fn poll_neighbours(&mut self, context: &mut Context) {
        let now = self.local(context);
        let Some(running) = &mut self.running else {
            return;
        };
        let news = running.neighbours.poll(now);
        for (to, heartbeat) in news.heartbeats {
            context.send_heartbeat(self.id, to, heartbeat);
        }
        for lost in news.lost {
            self.post(context, Event::StoreLost(lost));
        }
        for fresh in news.fresh {
            self.post(context, Event::StoreFresh(fresh));
        }
    }

    /// Work of any process; what is a store's or a placement member's alone is theirs to do.
    pub(in crate::sim) fn work(
        &mut self,
        context: &mut Context,
        work: Work,
    ) -> Result<(), Trouble> {
        match work {
            Work::Run => self.run(context),
            Work::Tick => {
                self.post(context, Event::Tick);
                self.poll_neighbours(context);
                let tick = self.clock.true_time(self.config.tick);
                context.after(tick, self.id, self.life, Work::Tick);
                Ok(())
            }
            Work::Upkeep => {
                context.after(UPKEEP_INTERVAL, self.id, self.life, Work::Upkeep);
                self.upkeep(context)
            }
            Work::Synced => self.on_synced(context),
            Work::RetryLog => self.retry_log(context),
            Work::Post(event) => {
                self.post(context, *event);
                Ok(())
            }
            Work::Job(job) => self.flush_for(context, job),
            Work::JobFlushed(Job::Install(install)) => self.install(context, *install),
            Work::JobFlushed(Job::Destroy(destroy)) => self.destroy(context, &destroy),
            Work::Report | Work::Desk => Ok(()),
        }
    }

    /// The shard takes all there is.
    fn run(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let now = self.local(context);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.run_scheduled = false;
        let reader = LsmReader::new(running.engine.lsm());
        let asked = |event: &Event| matches!(event, Event::Propose(_) | Event::Read(_));
        let lost = |event: &Event| matches!(event, Event::StoreLost(_));
        let was_asleep = running.shard.asleep();
        let (is_asked, has_lost) = match was_asleep {
            0 => (false, false),
            _ => (
                running.inbox.iter().any(asked),
                running.inbox.iter().any(lost),
            ),
        };
        let late: Vec<WaiterId> = running
            .inbox
            .iter()
            .filter_map(|it| late(it, now))
            .collect();
        let effects = running.shard.run_once(&mut running.inbox, now, &reader);
        check_refused(&late, &effects.replies)?;
        if !late.is_empty() {
            context.report.probe("proposal_came_too_late");
        }
        let asleep = running.shard.asleep();
        if asleep > was_asleep {
            context.report.probe("group_slept");
        } else if asleep < was_asleep && has_lost {
            context.report.probe("woken_by_a_lost_store");
        } else if asleep < was_asleep && is_asked {
            context.report.probe("woken_by_a_request");
        }
        assert!(
            running.inbox.is_empty(),
            "the shard left events in its inbox"
        );
        self.carry_out(context, effects)?;
        self.check_progress(context)
    }

    /// In the order of the fields, as the driver demands.
    pub(super) fn carry_out(
        &mut self,
        context: &mut Context,
        effects: Effects<S::Reply>,
    ) -> Result<(), Trouble> {
        for group in effects.lease_voids {
            if let Some(running) = &mut self.running {
                running.leases.remove(&group);
            }
            context.invariants.on_lease_void(self.id, group);
        }
        for message in &effects.messages {
            self.send(context, message)?;
        }
        if !effects.apply.is_empty() {
            let written =
                self.engine(|running| running.engine.write(&effects.apply).map(|_| ()))?;
            assert!(written, "what was applied needs no space");
        }
        let before = self.regions_led(&effects.observed);
        for change in &effects.region_changes {
            self.on_region_change(context, change)?;
        }
        self.check_acknowledged(context, &effects.observed, &before)?;
        if let Some(running) = &mut self.running {
            running.outcomes.extend(effects.replies);
        }
        for lease in effects.leases {
            self.on_lease(context, lease)?;
        }
        for observed in &effects.observed {
            let (id, group, entry) = (self.id, observed.group, observed.entry);
            context.detail(format_args!(
                "store {id} group {group} applied {entry:?}: {:?}",
                observed.events
            ));
            context
                .invariants
                .on_applied(self.id, observed)
                .map_err(Trouble::Violation)?;
        }
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if let Some(token) = effects.persist {
            running.wal_queue.push(WalWork {
                batch: effects.wal,
                messages: effects.messages_after_persist,
                token,
            });
        } else {
            assert!(effects.wal.is_empty() && effects.messages_after_persist.is_empty());
        }
        for request in effects.entry_fetches {
            self.fetch_entries(context, request);
        }
        for fetch in effects.value_fetches {
            self.fetch_values(context, fetch);
        }
        self.prefetch(&effects.prefetches);
        let has_jobs = !(effects.snapshot_installs.is_empty() && effects.destroys.is_empty());
        if has_jobs && self.fails_in_jobs && context.random.chance(2) {
            // Whatever is under way then: its promise is durable, or about to be.
            context.report.fault("crash_in_job");
            let ios = context.random.between(1, 20);
            self.env.crash_at(self.env.io_count() + ios);
        }
        for send in effects.snapshot_sends {
            self.send_snapshot(context, send)?;
        }
        for install in effects.snapshot_installs {
            self.job(context, Job::Install(Box::new(install)));
        }
        for destroy in effects.destroys {
            context.invariants.on_buried(destroy.group, destroy.peer);
            self.job(context, Job::Destroy(Box::new(destroy)));
        }
        for message in effects.local {
            self.note_local(context, &message);
            self.post(context, Event::Local(message));
        }
        let now = self.local(context);
        if let (Some(running), Some(stores)) = (&mut self.running, effects.neighbours) {
            running.neighbours.need(0, stores, now);
        }
        if let Some(running) = &mut self.running {
            running.flush_wanted |= !effects.flushes.is_empty();
        }
        self.check_damaged(context, &effects.damaged)?;
        self.start_sync(context)
    }

    /// D6: who takes no part any more has a reason to.
    fn check_damaged(
        &self,
        context: &mut Context,
        damaged: &[(GroupId, PeerId, ReadError)],
    ) -> Result<(), Trouble> {
        // A machine that has stopped reads nothing any more, and nobody hears what it concludes.
        if self.env.is_stopped() && !damaged.is_empty() {
            return Err(Trouble::Crashed);
        }
        for (group, peer, error) in damaged {
            // Nothing is known of it, and the log may have lost it.
            let is_kept = context.invariants.is_kept(self.id, *group, *peer);
            let called = self.config.log_was_damaged && !is_kept;
            let known = called || context.invariants.is_damaged(*group, *peer);
            if self.hurt.is_none() && !known {
                return Err(Trouble::Violation(format!(
                    "D6: store {}: peer {peer} of group {group} calls itself damaged: {error}",
                    self.id
                )));
            }
            context.report.probe(match *group {
                GROUP => "member_damaged",
                _ => "replica_damaged",
            });
            context.trace(format_args!(
                "store {} group {group} peer {peer} damaged: {error}",
                self.id
            ));
            context.invariants.on_damaged(*group, *peer);
        }
        Ok(())
    }

    /// The pool does it when it gets to it.
    fn job(&mut self, context: &mut Context, job: Job) {
        let wait = match context.random.chance(4) {
            true => Duration::from_micros(context.random.between(1_000, 200_000)),
            false => FETCH_DELAY,
        };
        context.after(wait, self.id, self.life, Work::Job(job));
    }

    /// The tree stays a prefix of what was applied: everything is flushed before a range changes.
    fn flush_for(&mut self, context: &mut Context, job: Job) -> Result<(), Trouble> {
        if !self.engine(|running| Ok(running.engine.lsm().flush()?))? {
            context.after(SPACE_WAIT, self.id, self.life, Work::Job(job));
            return Ok(());
        }
        let wait = Duration::from_micros(context.random.below(2_000));
        context.after(wait, self.id, self.life, Work::JobFlushed(job));
        Ok(())
    }

    fn fetch_entries(&mut self, context: &mut Context, request: EntryFetch) {
        let Some(running) = &self.running else {
            return;
        };
        context.report.probe("entries_fetched_from_the_log");
        let fetch = request.fetch;
        let log = running.engine.log_reader();
        let entries = match log.entries(request.group, fetch.from, fetch.upto, fetch.bytes_max) {
            // Cut meanwhile: the asker sends a snapshot instead.
            Err(tinykv_wal::ReadError::Truncated { .. }) => Ok(Vec::new()),
            other => other.map_err(|error| ReadError(error.to_string())),
        };
        let event = Event::EntriesFetched { request, entries };
        context.after(FETCH_DELAY, self.id, self.life, Work::Post(Box::new(event)));
    }

    fn fetch_values(&mut self, context: &mut Context, fetch: ValueFetch) {
        let Some(running) = &self.running else {
            return;
        };
        context.report.probe("apply_parked_for_a_value");
        let snapshot = running.engine.lsm().snapshot();
        let read = |key: &Bytes| snapshot.get(key).map(|value| (key.clone(), value));
        let values: Result<Vec<_>, _> = fetch.keys.iter().map(read).collect();
        let values = values.map_err(|error| ReadError(error.to_string()));
        let event = Event::ValuesFetched {
            group: fetch.group,
            entry: fetch.entry,
            values,
        };
        context.after(FETCH_DELAY, self.id, self.life, Work::Post(Box::new(event)));
    }

    fn prefetch(&self, keys: &[Bytes]) {
        let Some(running) = &self.running else {
            return;
        };
        for key in keys {
            // A hint: an error will be met, and reported, by the read it is for.
            let _ = running.engine.lsm().snapshot().get(key);
        }
    }

    /// Whether it was done; if not, for want of space, it may be tried again.
    pub(super) fn engine(
        &mut self,
        work: impl FnOnce(&mut Running<S>) -> Result<(), EngineError>,
    ) -> Result<bool, Trouble> {
        let done = match &mut self.running {
            Some(running) => work(running),
            None => Ok(()),
        };
        match done {
            Ok(()) => Ok(true),
            Err(error) => self.engine_trouble(&error).map_or(Ok(false), Err),
        }
    }

    /// What the tree holds of a region, for the comparison at the end.
    pub(in crate::sim) fn content(&self, group: GroupId) -> Option<Content> {
        let running = self.running.as_ref()?;
        let state = running.regions.get(&group)?;
        let snapshot = running.engine.lsm().snapshot();
        let mut pairs = Vec::new();
        for range in S::ranges(&state.region) {
            pairs.extend(super::reader::pairs(&snapshot, &range).ok()?);
        }
        Some(Content {
            applied: running.engine.applied(group),
            epoch: state.region.epoch,
            pairs,
        })
    }
}

/// Who waits for what is not to be proposed any more, because its deadline has passed.
fn late(event: &Event, now: Duration) -> Option<WaiterId> {
    match event {
        Event::Propose(proposal) if proposal.deadline <= now => Some(proposal.waiter),
        _ => None,
    }
}

/// K4: what came too late is refused at once.
fn check_refused<R>(late: &[WaiterId], replies: &[(WaiterId, Outcome<R>)]) -> Result<(), Trouble> {
    let is_refused = |waiter: &WaiterId| {
        let reply = |(to, outcome): &(WaiterId, Outcome<R>)| {
            to == waiter && matches!(outcome, Outcome::DefinitelyNot(_))
        };
        replies.iter().any(reply)
    };
    match late.iter().find(|waiter| !is_refused(waiter)) {
        Some(waiter) => Err(Trouble::Violation(format!(
            "K4: {waiter:?} is not refused, though its deadline had passed"
        ))),
        None => Ok(()),
    }
}

fn carries_entries(message: &PeerMessage) -> bool {
    match &message.body {
        PeerBody::Raft(raft) => match &raft.body {
            MessageBody::Append(append) => !append.entries.is_empty(),
            _ => false,
        },
        _ => false,
    }
}
