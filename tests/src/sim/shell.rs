//! The work of a simulated store: what the threads of a real one do, one event at a time.

use std::time::Duration;

use bytes::Bytes;
use tinykv_engine::EngineError;
use tinykv_env::CrashMode;
use tinykv_lsm::{Ingest, WriteBatch};
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{
    Answer as Granted, Command, Destroy, Effects, Event, LeaseCell, Outcome as Decided, Proposal,
    ReadError, ReadRequest, Refusal, RegionChange, RegionEpoch, RegionState, SnapshotInstall,
    SnapshotSend, StateMachine, WaiterId,
};
use tinykv_store::command::{self, Operation, Reply, Swap, Write};
use tinykv_store::machine::RawMachine;
use tinykv_store::space::Space;
use tinykv_store::value::{PlacementTime, StoredValue};

use crate::checker::{Action, Outcome, Value};

use super::client::{Answer, Call};
use super::machine::{Machine, Running, Trouble, WalWork};
use super::reader::{LsmReader, pairs};
use super::world::{Context, Happening};

/// From an event in the inbox to the run that takes it.
const RUN_DELAY: Duration = Duration::from_micros(20);
/// How long a read from disk takes.
const FETCH_DELAY: Duration = Duration::from_micros(200);

impl Machine {
    /// Puts an event in the inbox; a run will take it.
    pub(super) fn post(&mut self, context: &mut Context, event: Event) {
        let (store, life) = (self.store, self.life);
        let Some(running) = &mut self.running else {
            return;
        };
        running.inbox.push(event);
        if !running.run_scheduled {
            running.run_scheduled = true;
            context
                .schedule
                .after(RUN_DELAY, Happening::Run { store, life });
        }
    }

    /// The shard takes all there is.
    pub(super) fn run(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let now = self.local(context.now());
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.run_scheduled = false;
        let reader = LsmReader::new(running.engine.lsm());
        let effects = running.shard.run_once(&mut running.inbox, now, &reader);
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
        effects: Effects<Reply>,
    ) -> Result<(), Trouble> {
        for group in effects.lease_voids {
            if let Some(running) = &mut self.running {
                running.leases.remove(&group);
            }
            context.invariants.on_lease_void(self.store, group);
        }
        for message in effects.messages {
            context.send_message(message);
        }
        if !effects.apply.is_empty() {
            let result = self.engine(|running| running.engine.write(&effects.apply).map(|_| ()));
            result?;
        }
        for change in &effects.region_changes {
            self.on_region_change(context, change)?;
        }
        for (waiter, outcome) in effects.replies {
            self.on_outcome(context, waiter, outcome);
        }
        for lease in effects.leases {
            self.on_lease(context, lease)?;
        }
        for observed in &effects.observed {
            context
                .invariants
                .on_applied(observed)
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
        let (store, life) = (self.store, self.life);
        for request in effects.entry_fetches {
            context.report.probe("entries_fetched_from_the_log");
            let fetch = request.fetch;
            let log = running.engine.log_reader();
            let entries = match log.entries(request.group, fetch.from, fetch.upto, fetch.bytes_max)
            {
                // Cut meanwhile: the asker sends a snapshot instead.
                Err(tinykv_wal::ReadError::Truncated { .. }) => Ok(Vec::new()),
                other => other.map_err(|error| ReadError(error.to_string())),
            };
            let event = Event::EntriesFetched { request, entries };
            context
                .schedule
                .after(FETCH_DELAY, Happening::Post { store, life, event });
        }
        for fetch in effects.value_fetches {
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
            context
                .schedule
                .after(FETCH_DELAY, Happening::Post { store, life, event });
        }
        for key in effects.prefetches {
            // A hint: an error will be met, and reported, by the read it is for.
            let _ = running.engine.lsm().snapshot().get(&key);
        }
        for send in effects.snapshot_sends {
            self.send_snapshot(context, send)?;
        }
        for install in effects.snapshot_installs {
            self.install(context, install)?;
        }
        for destroy in effects.destroys {
            self.destroy(context, &destroy)?;
        }
        if let Some((group, peer, error)) = effects.damaged.first() {
            return Err(Trouble::Violation(format!(
                "store {}: peer {peer} of group {group} calls itself damaged: {error}",
                self.store
            )));
        }
        self.start_sync(context)
    }

    /// The log's thread writes what waits and begins to sync it.
    fn start_sync(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let (store, life, sync_time) = (self.store, self.life, self.sync_time);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if running.wal_syncing.is_some() || running.wal_queue.is_empty() {
            return Ok(());
        }
        let works = std::mem::take(&mut running.wal_queue);
        let batches: Vec<_> = works.iter().filter(|work| !work.batch.is_empty()).collect();
        let mut result = Ok(());
        for work in batches {
            if result.is_ok() {
                result = running.wal.append(&work.batch).map(|_| ());
            }
        }
        running.wal_syncing = Some(works);
        result.map_err(|error| self.trouble(&error))?;
        context
            .schedule
            .after(sync_time, Happening::Synced { store, life });
        Ok(())
    }

    /// The sync came back: promises leave, the shard hears of it, the next sync begins.
    pub(super) fn on_synced(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let result = running.wal.sync();
        let works = running.wal_syncing.take().unwrap_or_default();
        result.map_err(|error| self.trouble(&error))?;
        let mut newest = None;
        for work in works {
            work.messages
                .into_iter()
                .for_each(|message| context.send_message(message));
            newest = Some(work.token);
        }
        if let Some(token) = newest {
            self.post(context, Event::Persisted(token));
        }
        self.start_sync(context)
    }

    /// Background threads: the log is maintained, the tree flushes and compacts.
    pub(super) fn upkeep(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        // The log belongs to its thread: not while that syncs.
        if running.wal_syncing.is_none() {
            let upkeep = running.engine.maintain(&mut running.wal);
            let upkeep = upkeep.map_err(|error| self.trouble(&error))?;
            if upkeep.recycled > 0 {
                context.report.probe("log_segment_recycled");
            }
            if !upkeep.truncated.is_empty() {
                context.report.probe("log_cut_by_the_engine");
                self.post(
                    context,
                    Event::LogCut(upkeep.truncated.into_iter().collect()),
                );
            }
        }
        for _ in 0..4 {
            let Some(running) = &mut self.running else {
                return Ok(());
            };
            let Some(job) = running.engine.plan() else {
                break;
            };
            context.report.probe(match job.kind() {
                tinykv_lsm::JobKind::Flush => "flush",
                _ => "compaction",
            });
            job.run().map_err(|error| self.trouble(&error))?;
        }
        let Some(running) = &self.running else {
            return Ok(());
        };
        let flushed = running.engine.lsm().flushed();
        let flushed = flushed
            .into_iter()
            .map(|(origin, index)| (GroupId(origin.0), LogIndex(index)))
            .collect();
        self.post(context, Event::Flushed(flushed));
        Ok(())
    }

    fn on_region_change(
        &mut self,
        context: &mut Context,
        change: &RegionChange,
    ) -> Result<(), Trouble> {
        let store = self.store;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        match change {
            RegionChange::Region { peer, state } => {
                context.trace(format_args!("store {store} region {:?}", state.region));
                context
                    .invariants
                    .on_region(store, *peer, &state.region)
                    .map_err(Trouble::Violation)?;
                running
                    .regions
                    .insert(state.region.id, RegionState::clone(state));
            }
            RegionChange::Leader {
                group,
                peer,
                leader,
                term,
                is_here,
            } => {
                context.trace(format_args!(
                    "store {store} group {group} term {term} leader {leader:?}"
                ));
                running.leads.remove(group);
                if *is_here {
                    context.report.probe("leader_elected");
                    running.leads.insert(*group, *term);
                    context
                        .invariants
                        .on_leader(*group, *term, *peer)
                        .map_err(Trouble::Violation)?;
                }
            }
            RegionChange::Gone { group, .. } => {
                context.report.probe("peer_removed");
                running.regions.remove(group);
                running.leads.remove(group);
                running.leases.remove(group);
            }
        }
        Ok(())
    }

    fn on_lease(&mut self, context: &mut Context, lease: LeaseCell) -> Result<(), Trouble> {
        let until = self.true_instant(lease.valid_until);
        context
            .invariants
            .on_lease(context.schedule.now(), self.store, &lease, until)
            .map_err(Trouble::Violation)?;
        if let Some(running) = &mut self.running {
            running.leases.insert(lease.group, lease);
        }
        Ok(())
    }

    fn check_progress(&self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        for group in running.shard.groups() {
            if let Some(status) = running.shard.status(group) {
                let hard_state = status.raft.hard_state;
                context
                    .invariants
                    .on_progress(
                        self.store,
                        group,
                        status.peer.id,
                        hard_state.term,
                        hard_state.commit,
                    )
                    .map_err(Trouble::Violation)?;
            }
        }
        Ok(())
    }

    fn engine(
        &mut self,
        work: impl FnOnce(&mut Running) -> Result<(), EngineError>,
    ) -> Result<(), Trouble> {
        match &mut self.running {
            Some(running) => work(running).map_err(|error| self.trouble(&error)),
            None => Ok(()),
        }
    }

    fn send_snapshot(&mut self, context: &mut Context, send: SnapshotSend) -> Result<(), Trouble> {
        context.report.probe("snapshot_sent");
        let Some(running) = &self.running else {
            return Ok(());
        };
        let snapshot = running.engine.lsm().snapshot();
        let mut data = Vec::new();
        for range in &send.ranges {
            data.extend(pairs(&snapshot, range).map_err(|error| self.trouble(&error))?);
        }
        data.sort();
        context.send_snapshot(self.store, self.life, send, data);
        Ok(())
    }

    fn install(&mut self, context: &mut Context, install: SnapshotInstall) -> Result<(), Trouble> {
        context.report.probe("snapshot_installed");
        let SnapshotInstall {
            group,
            peer,
            snapshot,
            state,
            drop,
            handle,
        } = install;
        let result = self
            .ingest_of(group, snapshot.index, &state, &drop, handle)
            .and_then(|ingest| match &self.running {
                Some(running) => running.engine.install(group, snapshot, &ingest),
                None => Ok(()),
            });
        result.map_err(|error| self.trouble(&error))?;
        let (store, life) = (self.store, self.life);
        let event = Event::SnapshotInstalled {
            group,
            peer: peer.id,
            snapshot,
            result: Ok(()),
        };
        context
            .schedule
            .after(FETCH_DELAY, Happening::Post { store, life, event });
        Ok(())
    }

    fn destroy(&mut self, context: &mut Context, destroy: &Destroy) -> Result<(), Trouble> {
        let mut batch = WriteBatch::new();
        batch.delete(RawMachine::state_key(destroy.group));
        batch.forget(tinykv_lsm::OriginId(destroy.group.0));
        let drop = destroy
            .drop
            .iter()
            .map(|r| (r.start.clone(), r.end.clone()))
            .collect();
        self.engine(|running| {
            running.engine.write(&batch)?;
            let lsm = running.engine.lsm();
            lsm.ingest(&Ingest {
                drop,
                files: Vec::new(),
                applied: None,
            })?;
            lsm.flush()?;
            Ok(())
        })?;
        let (store, life) = (self.store, self.life);
        let event = Event::Destroyed {
            group: destroy.group,
            peer: destroy.peer,
        };
        context
            .schedule
            .after(FETCH_DELAY, Happening::Post { store, life, event });
        Ok(())
    }

    /// A client's request arrives: a read inside the lease is answered here and now.
    pub(super) fn on_call(&mut self, context: &mut Context, call: Call) -> Result<(), Trouble> {
        let now = self.local(context.now());
        let deadline = self.local(call.deadline);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let group = call.group;
        if call.action == Action::Get {
            let in_lease = running
                .leases
                .get(&group)
                .is_some_and(|cell| now < cell.valid_until);
            let holds = running
                .regions
                .get(&group)
                .is_some_and(|state| holds(state, &call.key));
            if in_lease && holds {
                context.report.probe("read_in_lease");
                let found = self.read(&call.key)?;
                context.answer(self.store, &call, Answer::Ok(Outcome::Found(found)));
                return Ok(());
            }
        }
        let waiter = WaiterId(running.next_waiter);
        running.next_waiter += 1;
        let event = match &call.action {
            Action::Get => Event::Read(ReadRequest {
                group,
                peer: None,
                epoch: None,
                deadline,
                waiter,
            }),
            action => Event::Propose(Proposal {
                group,
                peer: None,
                term: None,
                command: command_of(&call.key, action),
                deadline,
                waiter,
            }),
        };
        running.waiters.insert(waiter, call);
        self.post(context, event);
        Ok(())
    }

    fn on_outcome(&mut self, context: &mut Context, waiter: WaiterId, outcome: Decided<Reply>) {
        let Some(running) = &mut self.running else {
            return;
        };
        // Administrative requests of the world have no caller.
        let Some(call) = running.waiters.remove(&waiter) else {
            return;
        };
        let answer = match outcome {
            Decided::Ok(Granted::Applied { reply, .. }) => Answer::Ok(outcome_of(reply)),
            Decided::Ok(Granted::Read(grant)) => {
                context.report.probe("read_index");
                match grant.region.contains(call.key.as_bytes()) {
                    true => match self.read(&call.key) {
                        Ok(found) => Answer::Ok(Outcome::Found(found)),
                        // The machine stops at its next step, and nobody hears of this.
                        Err(_) => return,
                    },
                    false => Answer::Refused { leader: None },
                }
            }
            Decided::Ok(_) => return,
            Decided::DefinitelyNot(Refusal::NotLeader { leader, .. }) => Answer::Refused {
                leader: leader.map(|peer| peer.store),
            },
            Decided::DefinitelyNot(_) => Answer::Refused { leader: None },
            Decided::Undetermined(_) => Answer::Undetermined,
        };
        context.answer(self.store, &call, answer);
    }

    fn read(&self, key: &str) -> Result<Option<Value>, Trouble> {
        let Some(running) = &self.running else {
            return Ok(None);
        };
        let key = Space::Plain.engine_key(key.as_bytes());
        let stored = running.engine.lsm().snapshot().get(&key);
        let stored = stored.map_err(|error| self.trouble(&error))?;
        Ok(stored.map(|stored| {
            let value = StoredValue::decode(&stored).expect("what was written decodes");
            String::from_utf8_lossy(&value.payload).into_owned()
        }))
    }

    /// The tree's content of a region, for the comparison at the end.
    pub(super) fn content(&self, group: GroupId) -> Option<(LogIndex, Vec<(Bytes, Bytes)>)> {
        let running = self.running.as_ref()?;
        let state = running.regions.get(&group)?;
        let snapshot = running.engine.lsm().snapshot();
        let mut content = Vec::new();
        for range in RawMachine::ranges(&state.region) {
            content.extend(pairs(&snapshot, &range).ok()?);
        }
        Some((running.engine.applied(group), content))
    }

    /// Arms a crash in the middle of an I/O.
    pub(super) fn crash_at_io(&mut self, ios: u64, mode: CrashMode) {
        self.crash_mode = mode;
        self.env.crash_at(self.env.io_count() + ios);
    }
}

fn holds(state: &RegionState, key: &str) -> bool {
    state.region.contains(key.as_bytes())
}

fn command_of(key: &str, action: &Action) -> Command {
    let key = Space::Plain.engine_key(key.as_bytes());
    let stored = |value: &Value| StoredValue::encode_plain(value.as_bytes());
    let operation = match action {
        Action::Get => Operation::AdvanceTime,
        Action::Put(value) => Operation::Put(Write {
            key,
            stored: stored(value),
            ttl_ms: 0,
        }),
        Action::Delete => Operation::Delete { key },
        Action::CompareAndSwap { expected, new } => Operation::CompareAndSwap {
            key,
            expected: expected.as_ref().map(|value| Bytes::from(value.clone())),
            swap: Swap::Put {
                stored: stored(new),
                ttl_ms: 0,
            },
        },
    };
    let command = command::Command {
        now: PlacementTime(0),
        operation,
    };
    Command::build(RegionEpoch::FIRST, command.encoded_len(), |out| {
        command.encode_into(out)
    })
}

fn outcome_of(reply: Reply) -> Outcome {
    match reply {
        Reply::Done => Outcome::Done,
        Reply::Swapped {
            succeeded,
            previous,
        } => Outcome::Swapped {
            swapped: succeeded,
            previous: previous.map(|value| String::from_utf8_lossy(&value).into_owned()),
        },
        Reply::Unreadable(error) => panic!("a stored value cannot be read: {error}"),
        other => panic!("the clients here send no command with this reply: {other:?}"),
    }
}
