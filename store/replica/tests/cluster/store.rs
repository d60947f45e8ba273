//! One store: the shard with a shell around it that does what the effects say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, LogIndex, PeerId};
use tinykv_replica::{
    BirthRecord, Check, Destroy, Effects, EntryFetch, Event, Heartbeat, KeyRange, LeaseCell,
    LocalBody, LocalMessage, NeighbourConfig, Neighbours, Outcome, PeerMessage, PersistToken,
    ReceivedSnapshot, RecoveredReplica, RegionChange, RegionState, Shard, ShardConfig,
    SnapshotHandle, SnapshotInstall, StateMachine, StoreId, ValueFetch, WaiterId,
};

use crate::disk::{Lsm, Pending, View, Wal, recover};
use crate::lists::Lists;
use crate::random::Random;

/// Keys with values.
pub(crate) type Pairs = Vec<(Bytes, Bytes)>;

/// What leaves a store in one step.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<PeerMessage>,
    /// Snapshots with their data.
    pub(crate) snapshots: Vec<(PeerMessage, RegionState, Pairs)>,
    pub(crate) replies: Vec<(WaiterId, Outcome<Vec<u32>>)>,
    pub(crate) heartbeats: Vec<(StoreId, Heartbeat)>,
}

/// How a store's machine behaves under this seed.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) sync_ms_max: u64,
    pub(crate) job_ms_max: u64,
    /// How long after a sync the shard hears of it, at most.
    pub(crate) notice_ms_max: u64,
    pub(crate) miss_one_in: u64,
    pub(crate) tail_max: usize,
    pub(crate) flush_one_in: u64,
    pub(crate) log_bytes_max: u64,
    /// Local microseconds per simulated millisecond: 800 to 1200 is within the drift allowed.
    pub(crate) clock_rate: u64,
    /// Ticks until an idle group sleeps.
    pub(crate) hibernate_after: Option<u32>,
}

/// A background job: what it changes, it changes when it ends.
enum Job {
    Answer(Box<Event>),
    Install(SnapshotInstall),
    Destroy(Destroy),
}

pub(crate) struct Store {
    pub(crate) id: StoreId,
    pub(crate) habits: Habits,
    random: Random,
    pub(crate) shard: Option<Shard<Lists>>,
    pub(crate) wal: Wal,
    pub(crate) lsm: Lsm,
    files: BTreeMap<u64, Vec<(Bytes, Bytes)>>,
    next_file: u64,
    pub(crate) inbox: Vec<Event>,
    /// Background jobs, by the time they end.
    jobs: Vec<(u64, Job)>,
    /// Peers whose tombstones are durable: they never come back (M7).
    pub(crate) dead: BTreeSet<(GroupId, PeerId)>,
    pub(crate) leases: BTreeMap<GroupId, LeaseCell>,
    pub(crate) regions: BTreeMap<GroupId, (PeerId, Arc<RegionState>)>,
    /// Until then the process stands still (SIGSTOP), clocks run on.
    pub(crate) paused_until: u64,
    pub(crate) next_tick: u64,
    starts: u64,
    flush_wanted: bool,
    /// Durable batches of which the shard has yet to hear, and when it does.
    notices: VecDeque<(u64, PersistToken)>,
    neighbours: Neighbours,
    /// Groups that fell asleep here, and how many do.
    pub(crate) slept: usize,
    asleep: usize,
    /// Children that a restart found before their parent had applied the split again.
    pub(crate) children_waited: usize,
    /// Peers that died beside the installation of a snapshot.
    pub(crate) overtaken: usize,
    /// What each check found.
    pub(crate) checks: Vec<Checked>,
}

/// What a replica held when it applied a check.
pub(crate) struct Checked {
    pub(crate) check: Check,
    pub(crate) data: Vec<(Bytes, Bytes)>,
}

impl Store {
    pub(crate) fn new(id: StoreId, habits: Habits, seed: u64) -> Store {
        let mut store = Store {
            id,
            habits,
            random: Random::new(seed ^ (id.0 << 40)),
            shard: None,
            wal: Wal::default(),
            lsm: Lsm::default(),
            files: BTreeMap::new(),
            next_file: 0,
            inbox: Vec::new(),
            jobs: Vec::new(),
            dead: BTreeSet::new(),
            leases: BTreeMap::new(),
            regions: BTreeMap::new(),
            paused_until: 0,
            next_tick: 0,
            starts: 0,
            flush_wanted: false,
            notices: VecDeque::new(),
            neighbours: Neighbours::new(0, NeighbourConfig::default()),
            slept: 0,
            asleep: 0,
            children_waited: 0,
            overtaken: 0,
            checks: Vec::new(),
        };
        store.start(0, &mut Outbox::default());
        store
    }

    /// The local monotonic clock. It does not begin at 0, and it does not tick as others do.
    pub(crate) fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(1_000 * self.id.0)
            + Duration::from_micros(now * self.habits.clock_rate)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.shard.is_some()
    }

    pub(crate) fn start(&mut self, now: u64, out: &mut Outbox) {
        self.starts += 1;
        let mut config = ShardConfig::new(self.id, self.random.next());
        config.observe = true;
        config.hibernate_after_ticks = self.habits.hibernate_after;
        self.neighbours = Neighbours::new(self.starts, NeighbourConfig::default());
        config.log_bytes_max = self.habits.log_bytes_max;
        config.log_bytes_silent_max = self.habits.log_bytes_max / 4;
        config.memory_bytes_max = 4 << 10;
        config.append_bytes_max = 1 << 10;
        let found = recover(
            &mut self.wal,
            &mut self.lsm,
            &self.files,
            self.habits.tail_max,
        );
        let waits = |found: &&RecoveredReplica| {
            let birth = BirthRecord::decode(&found.log.birth).expect("written by the shard");
            birth.parent.is_some() && found.applied == LogIndex(0)
        };
        self.children_waited += found.0.iter().filter(waits).count();
        let view = View {
            image: &self.lsm.current,
            random: RefCell::new(Random::new(1)),
            miss_one_in: 0,
        };
        let factory = Box::new(|_| Lists::default());
        let clock = self.clock(now);
        let (shard, effects) = Shard::recover(config, factory, found.0, found.1, &view, clock)
            .expect("what was written can be read");
        self.shard = Some(shard);
        self.next_tick = now + 50;
        self.execute(effects, now, out, &mut |_, _| {});
    }

    pub(crate) fn crash(&mut self) {
        self.shard = None;
        self.wal.crash(&mut self.random);
        self.lsm.crash();
        self.inbox.clear();
        self.jobs.clear();
        self.flush_wanted = false;
        self.notices.clear();
        self.leases.clear();
        self.regions.clear();
    }

    /// One turn of all threads of the store. `probe` looks at the store between any two effects,
    /// as concurrent readers do.
    pub(crate) fn turn(
        &mut self,
        now: u64,
        out: &mut Outbox,
        probe: &mut dyn FnMut(&Store, Duration),
    ) {
        if !self.is_up() || self.paused_until > now {
            return;
        }
        while let Some(pending) = self.wal.synced(now) {
            out.messages.extend(pending.messages);
            // What others answer to that may be here first.
            let earliest = self.notices.back().map_or(now, |(at, _)| *at);
            let delay = self.random.between(0, self.habits.notice_ms_max);
            self.notices
                .push_back((earliest.max(now + delay), pending.token));
        }
        while let Some((_, token)) = self.notices.pop_front_if(|(at, _)| *at <= now) {
            self.inbox.push(Event::Persisted(token));
        }
        let (due, later) = std::mem::take(&mut self.jobs)
            .into_iter()
            .partition(|job| job.0 <= now);
        self.jobs = later;
        let due: Vec<(u64, Job)> = due;
        for (_, job) in due {
            self.finish_job(job);
        }
        if std::mem::take(&mut self.flush_wanted) || self.random.chance(self.habits.flush_one_in) {
            let flushed = self.lsm.flush(&self.wal);
            if self.random.chance(4) {
                let cuts = flushed.iter().filter_map(|(group, index)| {
                    self.wal.cut(*group, *index).map(|upto| (*group, upto))
                });
                let cuts = Event::LogCut(cuts.collect());
                self.later(now, Job::Answer(Box::new(cuts)));
            }
            self.later(now, Job::Answer(Box::new(Event::Flushed(flushed))));
        }
        if self.next_tick <= now {
            self.next_tick = now + 50;
            self.inbox.push(Event::Tick);
        }
        self.ask_neighbours(now, out);
        if self.inbox.is_empty() {
            return;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let view = View {
            image: &self.lsm.current,
            random: RefCell::new(Random::new(self.random.next())),
            miss_one_in: self.habits.miss_one_in,
        };
        let clock = self.clock(now);
        let shard = self.shard.as_mut().expect("it is up");
        let effects = shard.run_once(&mut inbox, clock, &view);
        assert!(inbox.is_empty(), "all events are taken");
        self.slept += shard.asleep().saturating_sub(self.asleep);
        self.asleep = shard.asleep();
        self.execute(effects, now, out, probe);
    }

    fn ask_neighbours(&mut self, now: u64, out: &mut Outbox) {
        let news = self.neighbours.poll(self.clock(now));
        out.heartbeats.extend(news.heartbeats);
        self.inbox
            .extend(news.lost.into_iter().map(Event::StoreLost));
        let fresh = news.fresh.into_iter().map(Event::StoreFresh);
        self.inbox.extend(fresh);
    }

    pub(crate) fn hear(&mut self, from: StoreId, heartbeat: Heartbeat, now: u64) {
        let clock = self.clock(now);
        self.neighbours.on_heartbeat(from, heartbeat, clock);
    }

    /// The transport lost its connection.
    pub(crate) fn lose_connection(&mut self, to: StoreId, now: u64) {
        let clock = self.clock(now);
        self.neighbours.on_unreachable(to, clock);
    }

    /// A received snapshot: its files are durable before the shard hears of it.
    pub(crate) fn receive_snapshot(
        &mut self,
        message: PeerMessage,
        state: RegionState,
        data: Vec<(Bytes, Bytes)>,
    ) {
        self.next_file += 1;
        self.files.insert(self.next_file, data);
        let handle = SnapshotHandle(self.next_file);
        let received = ReceivedSnapshot {
            message,
            state,
            handle,
        };
        let event = Event::SnapshotReceived(Box::new(received));
        self.inbox.push(event);
    }

    fn execute(
        &mut self,
        effects: Effects<Vec<u32>>,
        now: u64,
        out: &mut Outbox,
        probe: &mut dyn FnMut(&Store, Duration),
    ) {
        let clock = self.clock(now);
        if let Some(stores) = effects.neighbours {
            self.neighbours.need(0, stores, clock);
        }
        for group in &effects.lease_voids {
            self.leases.remove(group);
        }
        probe(self, clock);
        out.messages.extend(effects.messages);
        self.lsm.write(&effects.apply);
        probe(self, clock);
        for change in effects.region_changes {
            match change {
                RegionChange::Region { peer, state } => {
                    self.regions.insert(state.region.id, (peer, state));
                }
                RegionChange::Leader { .. } => {}
                RegionChange::Gone { group, .. } => {
                    self.regions.remove(&group);
                }
            }
        }
        out.replies.extend(effects.replies);
        probe(self, clock);
        for cell in effects.leases {
            assert_eq!(
                cell.epoch, self.regions[&cell.group].1.region.epoch,
                "published before"
            );
            self.leases.insert(cell.group, cell);
        }
        probe(self, clock);
        assert!(
            effects.damaged.is_empty(),
            "store {}: {:?}",
            self.id,
            effects.damaged
        );
        if let Some(token) = effects.persist {
            let sync = self.random.between(1, self.habits.sync_ms_max);
            let earliest = self
                .wal
                .pending
                .back()
                .map_or(0, |pending| pending.durable_at);
            self.wal.append(Pending {
                batch: effects.wal,
                messages: effects.messages_after_persist,
                token,
                durable_at: earliest.max(now + sync),
            });
        } else {
            assert!(effects.wal.is_empty() && effects.messages_after_persist.is_empty());
        }
        self.read_for(effects.entry_fetches, effects.value_fetches, now);
        for check in effects.checks {
            let applied = self.lsm.current.applied[&check.group];
            assert_eq!(
                applied, check.entry.index,
                "nothing after it is applied yet"
            );
            let data = self.lsm.current.copy(&check.ranges);
            self.checks.push(Checked { check, data });
        }
        for send in effects.snapshot_sends {
            let group = send.message.group;
            assert_eq!(self.lsm.current.applied[&group], send.metadata.last.index);
            let data = self.lsm.current.copy(&send.ranges);
            out.snapshots
                .push((send.message, RegionState::clone(&send.state), data));
        }
        for install in effects.snapshot_installs {
            self.later(now, Job::Install(install));
        }
        if !effects.flushes.is_empty() {
            self.flush_wanted = true;
        }
        for handle in effects.snapshot_discards {
            self.files.remove(&handle.0);
        }
        let dies =
            |message: &&LocalMessage| matches!(message.body, LocalBody::Die { recorded: Some(_) });
        self.overtaken += effects.local.iter().filter(dies).count();
        let local = effects.local.into_iter().map(Event::Local);
        self.inbox.extend(local);
        for destroy in effects.destroys {
            self.dead.insert((destroy.group, destroy.peer));
            self.later(now, Job::Destroy(destroy));
        }
    }

    /// What the shard asked for from log and engine.
    fn read_for(&mut self, entries: Vec<EntryFetch>, values: Vec<ValueFetch>, now: u64) {
        for request in entries {
            let fetch = request.fetch;
            let read = self
                .wal
                .read(request.group, fetch.from, fetch.upto, fetch.bytes_max);
            self.later(
                now,
                Job::Answer(Box::new(Event::EntriesFetched {
                    request,
                    entries: Ok(read),
                })),
            );
        }
        for fetch in values {
            let value = |key: Bytes| {
                let value = self.lsm.current.data.get(&key).cloned();
                (key, value)
            };
            let found = Ok(fetch.keys.into_iter().map(value).collect());
            let event = Event::ValuesFetched {
                group: fetch.group,
                entry: fetch.entry,
                values: found,
            };
            self.later(now, Job::Answer(Box::new(event)));
        }
    }

    fn later(&mut self, now: u64, job: Job) {
        let at = now + self.random.between(0, self.habits.job_ms_max);
        self.jobs.push((at, job));
    }

    /// All that is under way in the background ends with the next turn.
    pub(crate) fn hurry_jobs(&mut self) {
        for job in &mut self.jobs {
            job.0 = 0;
        }
    }

    fn finish_job(&mut self, job: Job) {
        let event = match job {
            Job::Answer(event) => *event,
            Job::Install(install) => {
                let mut pairs = self.files[&install.handle.0].clone();
                pairs.push((Lists::state_key(install.group), install.state.encode()));
                let applied = Some(install.snapshot.index);
                self.lsm
                    .ingest(&self.wal, &install.drop, &pairs, install.group, applied);
                Event::SnapshotInstalled {
                    group: install.group,
                    peer: install.peer.id,
                    snapshot: install.snapshot,
                    result: Ok(()),
                }
            }
            Job::Destroy(destroy) => {
                let start = Lists::state_key(destroy.group);
                let mut end = start.to_vec();
                end.push(0);
                let mut drop = destroy.drop;
                drop.push(KeyRange {
                    start,
                    end: end.into(),
                });
                self.lsm.ingest(&self.wal, &drop, &[], destroy.group, None);
                Event::Destroyed {
                    group: destroy.group,
                    peer: destroy.peer,
                }
            }
        };
        self.inbox.push(event);
    }

    /// The list under a key as of the engine now.
    pub(crate) fn list(&self, key: &[u8]) -> Vec<u32> {
        let value = self.lsm.current.data.get(&crate::lists::data_key(key));
        value
            .map(|value| crate::lists::decode_list(value))
            .unwrap_or_default()
    }

    pub(crate) fn applied(&self, group: GroupId) -> LogIndex {
        self.lsm
            .current
            .applied
            .get(&group)
            .copied()
            .unwrap_or_default()
    }
}
