//! The cluster, its clients and its bad luck: one seed from beginning to end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tinykv_env::{CrashMode, Prng};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{
    AdminAction, AdminRequest, Birth, Event, Peer, PeerChange, PeerMessage, PeerRole,
    ReceivedSnapshot, Region, RegionEpoch, RegionState, SnapshotHandle, SnapshotSend, StoreId,
};

use crate::checker::{self, Operation};

use super::client::{Answer, Call, Client, Next};
use super::faults::{Fault, Plan};
use super::invariants::Invariants;
use super::machine::{Machine, Trouble};
use super::network::{Network, Weather};
use super::report::Report;
use super::schedule::Schedule;
use super::trace::Trace;
use super::{Outcome, Profile};

/// How often the background threads of a store look for work.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(20);
/// From a broken connection to the other side's notice.
const NOTICE_DELAY: Duration = Duration::from_millis(5);
/// A healed cluster accepts writes in every region and all replicas agree within this time.
const LIVENESS_LIMIT: Duration = Duration::from_secs(15);
/// How long the world waits before it looks at the healed cluster again.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    Run {
        store: StoreId,
        life: u64,
    },
    Tick {
        store: StoreId,
        life: u64,
    },
    Upkeep {
        store: StoreId,
        life: u64,
    },
    Synced {
        store: StoreId,
        life: u64,
    },
    Post {
        store: StoreId,
        life: u64,
        event: Event,
    },
    Deliver {
        message: PeerMessage,
    },
    Snapshot {
        from: StoreId,
        life: u64,
        send: Box<SnapshotSend>,
        data: Vec<(Bytes, Bytes)>,
    },
    Call {
        to: StoreId,
        call: Call,
    },
    Answer {
        client: usize,
        attempt: u64,
        answer: Answer,
    },
    Remind {
        client: usize,
        attempt: u64,
    },
    Begin {
        client: usize,
    },
    Fault(Fault),
    Restart {
        store: StoreId,
        life: u64,
    },
    Unreachable {
        at: StoreId,
        store: StoreId,
    },
    Look,
}

/// What the stores share: time, network, luck, and what is written down.
pub(super) struct Context {
    pub(super) schedule: Schedule<Happening>,
    pub(super) network: Network,
    pub(super) random: Prng,
    pub(super) report: Report,
    pub(super) invariants: Invariants,
    trace: Trace,
}

impl Context {
    pub(super) fn now(&self) -> Duration {
        self.schedule.now()
    }

    pub(super) fn trace(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.schedule.now(), what);
    }

    pub(super) fn send_message(&mut self, message: PeerMessage) {
        for delay in self
            .network
            .send(message.from.store.0, message.to.store.0, &mut self.random)
        {
            self.schedule.after(
                delay,
                Happening::Deliver {
                    message: message.clone(),
                },
            );
        }
    }

    pub(super) fn send_snapshot(
        &mut self,
        from: StoreId,
        life: u64,
        send: SnapshotSend,
        data: Vec<(Bytes, Bytes)>,
    ) {
        let (group, to) = (send.message.group, send.message.to);
        let delays = self.network.send(from.0, to.store.0, &mut self.random);
        match delays.first() {
            Some(delay) => {
                let send = Box::new(send);
                let happening = Happening::Snapshot {
                    from,
                    life,
                    send,
                    data,
                };
                self.schedule.after(*delay * 5, happening);
            }
            None => {
                let event = Event::SnapshotSent {
                    group,
                    to: to.id,
                    delivered: false,
                };
                self.schedule.after(
                    NOTICE_DELAY,
                    Happening::Post {
                        store: from,
                        life,
                        event,
                    },
                );
            }
        }
    }

    /// A store answers a client; the answer may get lost on its way.
    pub(super) fn answer(&mut self, from: StoreId, call: &Call, answer: Answer) {
        let address = client_address(call.client);
        if let Some(delay) = self.network.send(from.0, address, &mut self.random).first() {
            let (client, attempt) = (call.client, call.attempt);
            self.schedule.after(
                *delay,
                Happening::Answer {
                    client,
                    attempt,
                    answer,
                },
            );
        }
    }
}

/// One run.
pub(super) struct World {
    context: Context,
    machines: Vec<Machine>,
    clients: Vec<Client>,
    plan: Plan,
    keys: Vec<(GroupId, String)>,
    groups: Vec<GroupId>,
    history: Vec<Operation>,
    safety_until: Duration,
    /// Set when the faults are over: by when the cluster must be whole again.
    healed: Option<Healed>,
    next_peer: u64,
    next_waiter: u64,
}

/// The liveness phase.
struct Healed {
    until: Duration,
    /// Groups that have accepted a write since.
    written: BTreeMap<GroupId, bool>,
    /// Keys that are still to be read a last time.
    unread: Vec<(GroupId, String)>,
    done: bool,
}

impl World {
    pub(super) fn new(seed: u64, profile: Profile, keep_trace: bool) -> World {
        let mut random = Prng::new(seed);
        let stores = random.between(3, 4);
        let weather = Weather::draw(&mut random);
        let machines: Vec<Machine> = (1..=stores)
            .map(|id| Machine::new(StoreId(id), &mut random))
            .collect();
        let groups: Vec<GroupId> = (1..=random.between(1, 3)).map(GroupId).collect();
        let keys = keys(&groups);
        let ids: Vec<StoreId> = machines.iter().map(|machine| machine.store).collect();
        let clients = (0..random.between(2, profile.clients()) as usize)
            .map(|id| Client::new(id, ids.clone(), random.fork()))
            .collect();
        let plan = Plan::draw(random.fork(), machines.len());
        World {
            context: Context {
                schedule: Schedule::new(),
                network: Network::new(weather),
                random,
                report: Report {
                    seeds: 1,
                    ..Report::default()
                },
                invariants: Invariants::default(),
                trace: Trace::new(keep_trace),
            },
            machines,
            clients,
            plan,
            keys,
            groups,
            history: Vec::new(),
            safety_until: profile.safety_phase(),
            healed: None,
            next_peer: 1_000,
            next_waiter: 0,
        }
    }

    /// Everything from bootstrap to the verdict.
    pub(super) fn run(mut self) -> Outcome {
        let violation = self.live().err().or_else(|| self.judge().err());
        let mut report = self.context.report;
        report.simulated = self.context.schedule.now();
        report.operations = self.history.len() as u64;
        report.succeeded = self.history.iter().filter(|op| op.succeeded()).count() as u64;
        report.unknown = self
            .history
            .iter()
            .filter(|op| op.outcome == checker::Outcome::Unknown)
            .count() as u64;
        report.trace_hash = self.context.trace.hash();
        Outcome {
            report,
            violation,
            trace: self.context.trace.text().map(str::to_owned),
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.bootstrap()?;
        let end = self.safety_until + LIVENESS_LIMIT + Duration::from_secs(1);
        loop {
            if self.healed.is_none() && self.context.now() >= self.safety_until {
                self.heal()?;
            }
            let until = if self.healed.is_none() {
                self.safety_until
            } else {
                end
            };
            let Some(happening) = self.context.schedule.next(until) else {
                if self.healed.is_some() {
                    return Err("nothing happens any more".to_owned());
                }
                continue;
            };
            self.context.report.events += 1;
            self.happen(happening)?;
            if self.healed.as_ref().is_some_and(|healed| healed.done) {
                return Ok(());
            }
        }
    }

    fn bootstrap(&mut self) -> Result<(), String> {
        for index in 0..self.machines.len() {
            self.start(index)?;
        }
        for group in self.groups.clone() {
            let state = RegionState {
                region: region(group, &self.groups),
                open: true,
                machine: Bytes::new(),
            };
            for peer in state.region.peers.clone() {
                let birth = Birth {
                    peer,
                    state: state.clone(),
                };
                let machine = &mut self.machines[peer.store.0 as usize - 1];
                machine.post(&mut self.context, Event::Create(birth));
            }
        }
        for client in 0..self.clients.len() {
            let delay = Duration::from_millis(self.context.random.below(300));
            self.context
                .schedule
                .after(delay, Happening::Begin { client });
        }
        self.next_fault();
        Ok(())
    }

    fn next_fault(&mut self) {
        let (wait, fault) = self.plan.next();
        self.context.schedule.after(wait, Happening::Fault(fault));
    }

    fn start(&mut self, index: usize) -> Result<(), String> {
        let machine = &mut self.machines[index];
        self.context.invariants.on_restart(machine.store);
        let started = machine.start(self.context.schedule.now());
        let outcome = started.and_then(|effects| machine.carry_out(&mut self.context, effects));
        if machine.running.is_some() {
            let (store, life) = (machine.store, machine.life);
            let first = Duration::from_millis(self.context.random.below(50));
            self.context
                .schedule
                .after(first, Happening::Tick { store, life });
            self.context
                .schedule
                .after(first, Happening::Upkeep { store, life });
        }
        self.settle(index, outcome)
    }

    /// A machine that reached its crash point is down; it comes back later.
    fn settle(&mut self, index: usize, outcome: Result<(), Trouble>) -> Result<(), String> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Trouble::Violation(what)) => Err(what),
            Err(Trouble::Crashed) => {
                self.context.report.probe("crashed_inside_an_io");
                let mode = self.machines[index].crash_mode;
                self.crash(index, mode);
                Ok(())
            }
        }
    }

    fn crash(&mut self, index: usize, mode: CrashMode) {
        let machine = &mut self.machines[index];
        let store = machine.store;
        self.context
            .trace(format_args!("store {store} crashes, {mode:?}"));
        machine.crash(mode);
        let life = machine.life;
        let downtime = self.plan.downtime();
        self.context
            .schedule
            .after(downtime, Happening::Restart { store, life });
        for other in &self.machines {
            let at = other.store;
            self.context
                .schedule
                .after(NOTICE_DELAY, Happening::Unreachable { at, store });
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Run { store, life } => self.with(store, life, happening),
            Happening::Tick { store, life } => self.with(store, life, happening),
            Happening::Upkeep { store, life } => self.with(store, life, happening),
            Happening::Synced { store, life } => self.with(store, life, happening),
            Happening::Post { store, life, .. } => self.with(store, life, happening),
            Happening::Deliver { message } => {
                let machine = &mut self.machines[message.to.store.0 as usize - 1];
                machine.post(&mut self.context, Event::Message(message));
                Ok(())
            }
            Happening::Snapshot {
                from,
                life,
                send,
                data,
            } => self.on_snapshot(from, life, *send, data),
            Happening::Call { to, call } => {
                let index = to.0 as usize - 1;
                let machine = &mut self.machines[index];
                if machine.paused_until > self.context.now() {
                    let delay = machine.paused_until - self.context.now();
                    self.context
                        .schedule
                        .after(delay, Happening::Call { to, call });
                    return Ok(());
                }
                let outcome = machine.on_call(&mut self.context, call);
                self.settle(index, outcome)
            }
            Happening::Answer {
                client,
                attempt,
                answer,
            } => {
                let next =
                    self.clients[client].on_answer(self.context.schedule.now(), attempt, answer);
                self.next(client, next);
                Ok(())
            }
            Happening::Remind { client, attempt } => {
                let next = self.clients[client].on_reminder(self.context.schedule.now(), attempt);
                self.next(client, next);
                Ok(())
            }
            Happening::Begin { client } => {
                self.begin(client);
                Ok(())
            }
            Happening::Fault(fault) => self.on_fault(fault),
            Happening::Restart { store, life } => {
                let index = store.0 as usize - 1;
                let machine = &self.machines[index];
                if machine.life == life && machine.running.is_none() {
                    self.context.trace(format_args!("store {store} starts"));
                    return self.start(index);
                }
                Ok(())
            }
            Happening::Unreachable { at, store } => {
                let machine = &mut self.machines[at.0 as usize - 1];
                machine.post(&mut self.context, Event::StoreUnreachable(store));
                Ok(())
            }
            Happening::Look => self.look(),
        }
    }

    /// Work of one store in one of its lives; a paused one does it later.
    fn with(&mut self, store: StoreId, life: u64, happening: Happening) -> Result<(), String> {
        let index = store.0 as usize - 1;
        let machine = &mut self.machines[index];
        if machine.life != life || machine.running.is_none() {
            return Ok(());
        }
        if machine.paused_until > self.context.now() {
            let delay = machine.paused_until - self.context.now();
            self.context.schedule.after(delay, happening);
            return Ok(());
        }
        let outcome = match happening {
            Happening::Run { .. } => machine.run(&mut self.context),
            Happening::Tick { .. } => {
                machine.post(&mut self.context, Event::Tick);
                let tick = machine.true_time(machine.config.tick);
                self.context
                    .schedule
                    .after(tick, Happening::Tick { store, life });
                Ok(())
            }
            Happening::Upkeep { .. } => {
                self.context
                    .schedule
                    .after(UPKEEP_INTERVAL, Happening::Upkeep { store, life });
                machine.upkeep(&mut self.context)
            }
            Happening::Synced { .. } => machine.on_synced(&mut self.context),
            Happening::Post { event, .. } => {
                machine.post(&mut self.context, event);
                Ok(())
            }
            _ => Ok(()),
        };
        self.settle(index, outcome)
    }

    fn on_snapshot(
        &mut self,
        from: StoreId,
        life: u64,
        send: SnapshotSend,
        data: Vec<(Bytes, Bytes)>,
    ) -> Result<(), String> {
        let index = send.message.to.store.0 as usize - 1;
        let (group, to) = (send.message.group, send.message.to.id);
        let machine = &mut self.machines[index];
        let mut outcome = Ok(());
        let mut delivered = false;
        if let Some(running) = &mut machine.running {
            let handle = SnapshotHandle(running.next_snapshot);
            running.next_snapshot += 1;
            match machine.keep_snapshot(handle, &data) {
                Ok(()) => {
                    delivered = true;
                    let state = RegionState::clone(&send.state);
                    let received = ReceivedSnapshot {
                        message: send.message,
                        state,
                        handle,
                    };
                    machine.post(&mut self.context, Event::SnapshotReceived(received));
                }
                Err(error) => outcome = Err(machine.trouble(&error)),
            }
        }
        let event = Event::SnapshotSent {
            group,
            to,
            delivered,
        };
        self.context.schedule.after(
            NOTICE_DELAY,
            Happening::Post {
                store: from,
                life,
                event,
            },
        );
        self.settle(index, outcome)
    }

    fn begin(&mut self, client: usize) {
        let now = self.context.now();
        if !self.clients[client].is_idle() {
            return;
        }
        let next = match &mut self.healed {
            None => self.clients[client].begin(now, &self.keys),
            Some(healed) => {
                let unwritten = healed.written.iter().find(|(_, written)| !**written);
                match (unwritten, healed.unread.pop()) {
                    (Some((group, _)), last) => {
                        let group = *group;
                        healed.unread.extend(last);
                        let key = key_of(group, &self.keys);
                        self.clients[client].begin_put(now, group, key)
                    }
                    (None, Some((group, key))) => self.clients[client].begin_get(now, group, key),
                    (None, None) => Next::Wait,
                }
            }
        };
        self.next(client, next);
    }

    fn next(&mut self, client: usize, next: Next) {
        match next {
            Next::Wait => {}
            Next::Send {
                to,
                call,
                pause,
                remind,
            } => {
                let attempt = call.attempt;
                let address = client_address(client);
                let context = &mut self.context;
                let delays = context.network.send(address, to.0, &mut context.random);
                if let Some(delay) = delays.first() {
                    context
                        .schedule
                        .after(pause + *delay, Happening::Call { to, call });
                }
                context
                    .schedule
                    .after(remind, Happening::Remind { client, attempt });
            }
            Next::Finished(operation) => {
                self.context.trace(format_args!(
                    "client {client} {} {:?} -> {:?}",
                    operation.key, operation.action, operation.outcome
                ));
                if let Some(healed) = &mut self.healed
                    && let Some(group) = group_of(&operation.key, &self.keys)
                {
                    match (&operation.action, operation.succeeded()) {
                        (checker::Action::Get, false) => {
                            healed.unread.push((group, operation.key.clone()));
                        }
                        (checker::Action::Get, true) => {}
                        (_, true) => {
                            healed.written.insert(group, true);
                        }
                        (_, false) => {}
                    }
                }
                self.history.push(operation);
                let think = Duration::from_millis(self.context.random.between(1, 40));
                self.context
                    .schedule
                    .after(think, Happening::Begin { client });
            }
        }
    }

    fn on_fault(&mut self, fault: Fault) -> Result<(), String> {
        if self.healed.is_some() {
            return Ok(());
        }
        self.context.trace(format_args!("fault {fault:?}"));
        self.next_fault();
        let fired = match fault {
            Fault::Partition => {
                let mut addresses: Vec<u64> = self.machines.iter().map(|m| m.store.0).collect();
                addresses.extend((0..self.clients.len()).map(client_address));
                let kind = self
                    .context
                    .network
                    .partition(&addresses, &mut self.context.random);
                self.context.report.probe(kind);
                true
            }
            Fault::Heal => {
                let weather = Weather::draw(&mut self.context.random);
                self.context.network.heal(Some(weather));
                true
            }
            Fault::Crash { store, mode } => {
                let runs = self.machines[store].running.is_some();
                if runs {
                    self.crash(store, mode);
                }
                runs
            }
            Fault::CrashAtIo { store, ios, mode } => {
                let runs = self.machines[store].running.is_some();
                if runs {
                    self.machines[store].crash_at_io(ios, mode);
                }
                runs
            }
            Fault::Pause { store, for_ } => {
                let until = self.context.now() + for_;
                let machine = &mut self.machines[store];
                machine.paused_until = machine.paused_until.max(until);
                machine.running.is_some()
            }
            Fault::SlowDisk { store, sync } => {
                self.machines[store].sync_time = sync;
                true
            }
            Fault::PowerLoss { mode } => {
                for index in 0..self.machines.len() {
                    if self.machines[index].running.is_some() {
                        self.crash(index, mode);
                    }
                }
                true
            }
            Fault::Transfer => self.transfer(),
            Fault::Move => self.move_a_peer(),
        };
        if fired {
            self.context.report.fault(fault.name());
        }
        Ok(())
    }

    fn transfer(&mut self) -> bool {
        let Some(group) = self.context.random.pick(&self.groups).copied() else {
            return false;
        };
        let action = AdminAction::TransferLeader { to: None };
        self.leader(group)
            .is_some_and(|index| self.admin(index, group, action))
    }

    /// The next sensible step of moving a peer: promote a learner, remove one voter too many, or
    /// add a learner where there is no peer.
    fn move_a_peer(&mut self) -> bool {
        let Some(group) = self.context.random.pick(&self.groups).copied() else {
            return false;
        };
        let Some(index) = self.leader(group) else {
            return false;
        };
        let Some(state) = self.machines[index]
            .running
            .as_ref()
            .and_then(|running| running.regions.get(&group))
        else {
            return false;
        };
        let region = state.region.clone();
        let leader = self.machines[index].store;
        let voters: Vec<Peer> = region
            .peers
            .iter()
            .copied()
            .filter(|p| p.role == PeerRole::Voter)
            .collect();
        let learner = region
            .peers
            .iter()
            .find(|peer| peer.role == PeerRole::Learner);
        let free: Vec<StoreId> = self
            .machines
            .iter()
            .map(|machine| machine.store)
            .filter(|store| region.peer_on(*store).is_none())
            .collect();
        let removable: Vec<Peer> = voters
            .iter()
            .copied()
            .filter(|peer| peer.store != leader)
            .collect();
        let change = if let Some(learner) = learner {
            PeerChange::Promote(learner.id)
        } else if voters.len() > 3 || (self.healed.is_none() && self.context.random.chance(6)) {
            match self.context.random.pick(&removable) {
                Some(peer) if voters.len() > 2 => PeerChange::Remove(peer.id),
                _ => return false,
            }
        } else {
            match self.context.random.pick(&free) {
                Some(store) => {
                    self.next_peer += 1;
                    PeerChange::AddLearner(Peer::learner(PeerId(self.next_peer), *store))
                }
                None => return false,
            }
        };
        self.context.trace(format_args!("group {group} {change:?}"));
        self.admin(
            index,
            group,
            AdminAction::ChangePeer {
                epoch: region.epoch,
                change,
            },
        )
    }

    fn admin(&mut self, index: usize, group: GroupId, action: AdminAction) -> bool {
        self.next_waiter += 1;
        let machine = &mut self.machines[index];
        let deadline = machine.local(self.context.now()) + Duration::from_secs(2);
        let request = AdminRequest {
            group,
            action,
            deadline,
            waiter: None,
        };
        machine.post(&mut self.context, Event::Admin(request));
        true
    }

    /// The machine that leads a group in the newest term, as far as it knows.
    fn leader(&self, group: GroupId) -> Option<usize> {
        let term = |machine: &Machine| -> Option<Term> {
            machine.running.as_ref()?.leads.get(&group).copied()
        };
        (0..self.machines.len())
            .filter(|index| term(&self.machines[*index]).is_some())
            .max_by_key(|index| term(&self.machines[*index]))
    }

    /// The faults are over: everything is mended, and the cluster has to become whole again.
    fn heal(&mut self) -> Result<(), String> {
        self.context.trace(format_args!("healed"));
        self.context.network.heal(Some(Weather::FAIR));
        let now = self.context.now();
        for machine in &mut self.machines {
            machine.paused_until = now;
            machine.sync_time = Duration::from_millis(1);
            machine.env.crash_at(u64::MAX);
        }
        self.healed = Some(Healed {
            until: now + LIVENESS_LIMIT,
            written: self.groups.iter().map(|group| (*group, false)).collect(),
            unread: self.keys.clone(),
            done: false,
        });
        for index in 0..self.machines.len() {
            if self.machines[index].running.is_none() {
                self.start(index)?;
            }
        }
        for client in 0..self.clients.len() {
            self.context
                .schedule
                .after(Duration::ZERO, Happening::Begin { client });
        }
        self.context.schedule.after(LOOK_INTERVAL, Happening::Look);
        Ok(())
    }

    /// Is the cluster whole? If not, and time is not up, look again later.
    fn look(&mut self) -> Result<(), String> {
        let now = self.context.now();
        let Some(healed) = &self.healed else {
            return Ok(());
        };
        let problem = match healed.written.iter().find(|(_, written)| !**written) {
            Some((group, _)) => Some(format!("group {group} accepts no write")),
            None if !healed.unread.is_empty() => Some("a key cannot be read".to_owned()),
            None if self.clients.iter().any(|client| !client.is_idle()) => {
                Some("an operation has no end".to_owned())
            }
            None => self.groups.iter().find_map(|group| self.difference(*group)),
        };
        let is_late = now >= healed.until;
        match problem {
            None => {
                if let Some(healed) = &mut self.healed {
                    healed.done = true;
                }
                Ok(())
            }
            Some(problem) if is_late => Err(format!(
                "liveness: {LIVENESS_LIMIT:?} after everything was mended {problem}"
            )),
            Some(_) => {
                // Moves that were under way are brought to their end.
                let unfinished = self.groups.iter().any(|group| self.is_unfinished(*group));
                if unfinished && self.context.random.chance(3) {
                    self.move_a_peer();
                }
                for client in 0..self.clients.len() {
                    self.begin(client);
                }
                self.context.schedule.after(LOOK_INTERVAL, Happening::Look);
                Ok(())
            }
        }
    }

    fn is_unfinished(&self, group: GroupId) -> bool {
        self.leader(group)
            .and_then(|index| self.machines[index].running.as_ref()?.regions.get(&group))
            .is_some_and(|state| {
                state
                    .region
                    .peers
                    .iter()
                    .any(|p| p.role == PeerRole::Learner)
            })
    }

    /// What the replicas of a group do not agree on.
    fn difference(&self, group: GroupId) -> Option<String> {
        let leader = self.leader(group)?;
        let running = self.machines[leader].running.as_ref()?;
        let region = &running.regions.get(&group)?.region;
        let wanted = self.machines[leader].content(group)?;
        for peer in &region.peers {
            let machine = &self.machines[peer.store.0 as usize - 1];
            match machine.content(group) {
                Some(content) if content == wanted => {}
                Some((applied, _)) if applied == wanted.0 => {
                    return Some(format!(
                        "R4: group {group} has other data on store {} than on store {} at index \
                         {applied}",
                        peer.store, self.machines[leader].store
                    ));
                }
                other => {
                    return Some(format!(
                        "group {group} is at {:?} on store {} and at {} on store {}",
                        other.map(|(applied, _)| applied.0),
                        peer.store,
                        wanted.0,
                        self.machines[leader].store
                    ));
                }
            }
        }
        None
    }

    fn judge(&self) -> Result<(), String> {
        checker::check(&self.history)
            .map(|_| ())
            .map_err(|violation| format!("C1: {violation}"))
    }
}

/// Clients live beyond the stores in the network.
fn client_address(client: usize) -> u64 {
    1_000 + client as u64
}

/// Two keys a group: `1a`, `1b`, `2a`, …
fn keys(groups: &[GroupId]) -> Vec<(GroupId, String)> {
    groups
        .iter()
        .flat_map(|group| ["a", "b"].map(|name| (*group, format!("{group}{name}"))))
        .collect()
}

fn key_of(group: GroupId, keys: &[(GroupId, String)]) -> String {
    keys.iter()
        .find(|(of, _)| *of == group)
        .map_or_else(String::new, |(_, key)| key.clone())
}

fn group_of(key: &str, keys: &[(GroupId, String)]) -> Option<GroupId> {
    keys.iter()
        .find(|(_, name)| name == key)
        .map(|(group, _)| *group)
}

/// Region `n` of the groups: keys that begin with its number; three voters on the first stores.
fn region(group: GroupId, groups: &[GroupId]) -> Region {
    let bound = |group: u64| Bytes::from(group.to_string());
    let is_last = groups.last() == Some(&group);
    Region {
        id: group,
        start: if group.0 == 1 {
            Bytes::new()
        } else {
            bound(group.0)
        },
        end: if is_last {
            Bytes::new()
        } else {
            bound(group.0 + 1)
        },
        epoch: RegionEpoch::FIRST,
        peers: (1..=3)
            .map(|n| Peer::voter(PeerId(group.0 * 10 + n), StoreId(n)))
            .collect(),
    }
}
