//! The cluster, its clients and its bad luck: one seed from beginning to end.

mod clients;
mod founding;
mod luck;
mod members;
mod placement;
mod quiet;
mod size;
mod topology;

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_env::{CrashMode, Prng};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Event, Heartbeat, SnapshotSend, StoreId};

use crate::checker::{self, Operation, Violation};

use super::Outcome;
use super::client::{Client, Packet};
use super::faults::Plan;
use super::happening::{Context, Happening, NOTICE_DELAY};
use super::host::{Host, Trouble, Work};
use super::network::{Network, Weather};
use super::placement::{Contacts, Member};
use super::process::Process;
use super::setup::Setup;
use super::store::{FIRST_STORE, Store, store_id};
use super::workload::{self, Keys, Workload};

use self::founding::{Founding, Ids};
use self::members::Newcomer;
use self::quiet::{Healed, LIVENESS_LIMIT};
use self::size::Size;

/// Fewer operations than that are no proof of anything.
const SUCCEEDED_MIN: u64 = 9;

/// In fair weather a cluster is founded within this time.
const FOUNDING_MAX: Duration = Duration::from_secs(10);

/// Far above what the longest run takes.
const EVENTS_MAX: u64 = 5_000_000;

/// One run.
pub(super) struct World {
    context: Context,
    stores: Vec<Store>,
    /// The placement group; empty in the seeds in which the world itself does its work.
    members: Vec<Member>,
    /// Processes that are to join it.
    newcomers: Vec<Newcomer>,
    /// Members that somebody wanted to leave.
    removals_of_members: Vec<PeerId>,
    /// Whom each client takes for the members of placement, by number.
    contacts: Vec<Contacts>,
    clients: Vec<Client>,
    workload: Box<dyn Workload>,
    plan: Plan,
    /// All keys there are.
    keys: Vec<String>,
    ids: Ids,
    founding: Founding,
    setup: Setup,
    size: Size,
    /// Removals that were asked for, by region, with its membership's version then: while that
    /// stands, a voter may be about to go.
    removals: BTreeMap<GroupId, u64>,
    /// Faults that came so far.
    struck: u64,
    history: Vec<Operation>,
    /// Writes of the liveness phase.
    last_writes: u64,
    safety_until: Duration,
    /// Set when the faults are over: by when the cluster must be whole again.
    healed: Option<Healed>,
}

impl World {
    pub(super) fn new(seed: u64, setup: &Setup, keep_trace: bool) -> World {
        let mut random = Prng::new(seed);
        let size = Size::draw(setup.profile, &mut random);
        let weather = Weather::draw(&mut random).limited(setup);
        let member_ids: Vec<StoreId> = (1..=size.members).map(StoreId).collect();
        let count = size.stores;
        let stores: Vec<Store> = (0..count)
            .map(|index| {
                let mut host = Host::new(store_id(index), &mut random).limited(setup);
                if setup.allows("sleep") {
                    host.config.hibernate_after_ticks = size.hibernate_after;
                }
                let contacts = Contacts::new(member_ids.clone());
                let mut store = Store::new(host, contacts);
                store.asks_one_in = size.asks_one_in;
                store
            })
            .collect();
        let members: Vec<Member> = member_ids
            .iter()
            .map(|id| {
                let host = Host::new(*id, &mut random).limited(setup);
                Member::founder(host, &member_ids)
            })
            .collect();
        let kinds = Keys::draw(size.keys_times, &mut random);
        let keys = kinds.all();
        let (fewest, most) = setup.profile.clients();
        let mut clients: Vec<Client> = (0..random.between(fewest, most) as usize)
            .map(|id| Client::new(id, keys.clone(), random.fork()))
            .collect();
        let most = setup
            .clients
            .map_or(usize::MAX, |most| most.max(1) as usize);
        clients.truncate(most);
        let workload = workload::draw(&kinds, clients.len(), &mut random);
        let plan = Plan::draw(random.fork());
        World {
            context: Context::new(Network::new(Weather::FAIR), random, keep_trace),
            ids: Ids::after(FIRST_STORE + count as u64),
            founding: Founding::new(weather),
            setup: setup.clone(),
            size,
            removals: BTreeMap::new(),
            struck: 0,
            stores,
            members,
            newcomers: Vec::new(),
            removals_of_members: Vec::new(),
            contacts: vec![Contacts::new(member_ids); clients.len()],
            clients,
            workload,
            plan,
            keys,
            history: Vec::new(),
            last_writes: 0,
            safety_until: FOUNDING_MAX,
            healed: None,
        }
    }

    /// Everything from bootstrap to the verdict: what must never happen and did.
    pub(super) fn run(&mut self) -> Option<String> {
        self.live().err().or_else(|| self.judge().err())
    }

    /// What there is to tell of a run.
    pub(super) fn into_outcome(self, violation: Option<String>) -> Outcome {
        let mut report = self.context.report;
        report.simulated = self.context.schedule.now();
        if self.context.network.replayed > 0 {
            report.probe("replayed");
        }
        report.trace_hash = self.context.trace.hash();
        Outcome {
            report,
            violation,
            trace: self.context.trace.text().map(str::to_owned),
            struck: self.struck,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.found()?;
        loop {
            if self.healed.is_none() && self.context.now() >= self.safety_until {
                if !self.founding.is_done() {
                    return Err(format!("not founded within {FOUNDING_MAX:?}"));
                }
                self.heal()?;
            }
            let until = match self.healed {
                None => self.safety_until,
                Some(_) => self.safety_until + LIVENESS_LIMIT + Duration::from_secs(1),
            };
            let Some(happening) = self.context.schedule.next(until) else {
                if self.healed.is_some() {
                    return Err("nothing happens any more".to_owned());
                }
                continue;
            };
            self.context.report.events += 1;
            if self.context.report.events > EVENTS_MAX {
                return Err(format!("more than {EVENTS_MAX} events: it runs in circles"));
            }
            self.happen(happening)?;
            if self.healed.as_ref().is_some_and(Healed::is_whole) {
                return Ok(());
            }
        }
    }

    fn judge(&self) -> Result<(), String> {
        let succeeded = self.context.report.succeeded;
        if succeeded < SUCCEEDED_MIN {
            return Err(format!(
                "it proves little: {succeeded} operations succeeded"
            ));
        }
        let checked = checker::check(&self.history).map(|_| ());
        checked.map_err(|violation| match violation {
            Violation::Torn(_) => format!("C4: {violation}"),
            _ => format!("C1: {violation}"),
        })
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Work { at, life, work } => self.work(at, life, work),
            Happening::Deliver { letter } => {
                let (process, context) = self.process_and_context(letter.to);
                process.deliver(context, &letter);
                Ok(())
            }
            Happening::Hear {
                to,
                from,
                heartbeat,
            } => {
                self.hear(to, from, heartbeat);
                Ok(())
            }
            Happening::Snapshot {
                from,
                life,
                send,
                data,
            } => self.on_snapshot(from, life, *send, &data),
            Happening::Call { to, packet } => self.on_call(to, packet),
            Happening::Answer { packet } => {
                self.on_answer(&packet);
                Ok(())
            }
            Happening::Broken {
                client,
                attempt,
                sent,
            } => {
                let next = self.clients[client].on_broken(self.context.now(), attempt, sent);
                self.next(client, next);
                Ok(())
            }
            Happening::Locate {
                client,
                attempt,
                key,
            } => {
                self.locate(client, attempt, &key);
                Ok(())
            }
            Happening::Remind { client, attempt } => {
                let next = self.clients[client].on_reminder(self.context.now(), attempt);
                self.next(client, next);
                Ok(())
            }
            Happening::Begin { client } => {
                self.begin(client);
                Ok(())
            }
            Happening::Fault(fault) => {
                self.on_fault(fault);
                Ok(())
            }
            Happening::Restart { at, life } => {
                let process = self.process(at);
                if process.life() == life && !process.is_running() {
                    self.context.trace(format_args!("store {at} starts"));
                    return self.start(at);
                }
                Ok(())
            }
            Happening::FreeDisk { at } => {
                self.process(at).free_disk();
                Ok(())
            }
            Happening::Willing { at } => {
                self.become_willing(at);
                Ok(())
            }
            Happening::Unreachable { at, store } => {
                self.on_unreachable(at, store);
                Ok(())
            }
            Happening::Ask(asked) => self.on_question(asked),
            Happening::Told(told) => self.on_told(told),
            Happening::Knock { newcomer } => {
                self.knock(newcomer);
                Ok(())
            }
            Happening::Draw { client } => {
                self.draw(client);
                Ok(())
            }
            Happening::Found => {
                self.go_on_founding();
                Ok(())
            }
            Happening::Look => self.look(),
        }
    }

    /// The data of a snapshot arrives; its sender hears of it.
    fn on_snapshot(
        &mut self,
        from: StoreId,
        life: u64,
        send: SnapshotSend,
        data: &[(bytes::Bytes, bytes::Bytes)],
    ) -> Result<(), String> {
        let (group, to) = (send.message.group, send.message.to);
        let (process, context) = self.process_and_context(to.store);
        let received = process.receive_snapshot(context, send, data);
        let delivered = matches!(received, Ok(true));
        context.snapshot_sent(from, life, group, to.id, delivered);
        self.settle(to.store, received.map(|_| ()))
    }

    /// Work of one process in one of its lives; a paused one does it later.
    fn work(&mut self, at: StoreId, life: u64, work: Work) -> Result<(), String> {
        let now = self.context.now();
        let process = self.process(at);
        if process.life() != life || !process.is_running() {
            return Ok(());
        }
        let paused_until = process.paused_until();
        if paused_until > now {
            self.context.after(paused_until - now, at, life, work);
            return Ok(());
        }
        let (process, context) = self.process_and_context(at);
        let outcome = process.work(context, work);
        self.settle(at, outcome)
    }

    /// A heartbeat between stores; a paused one hears it later.
    fn hear(&mut self, to: StoreId, from: StoreId, heartbeat: Heartbeat) {
        let now = self.context.now();
        let (process, context) = self.process_and_context(to);
        let paused_until = process.paused_until();
        if paused_until > now {
            let hear = Happening::Hear {
                to,
                from,
                heartbeat,
            };
            context.schedule.after(paused_until - now, hear);
        } else {
            process.hear(context, from, heartbeat);
        }
    }

    fn on_call(&mut self, to: StoreId, packet: Packet) -> Result<(), String> {
        let now = self.context.now();
        let store = &mut self.stores[index_of(to)];
        let paused_until = store.host.paused_until;
        if paused_until > now {
            let call = Happening::Call { to, packet };
            self.context.schedule.after(paused_until - now, call);
            return Ok(());
        }
        if store.host.running.is_none() {
            self.refuse_connection(to, packet.mark);
            return Ok(());
        }
        let outcome = store.on_call(&mut self.context, packet);
        self.settle(to, outcome)
    }

    fn post(&mut self, to: StoreId, event: Event) {
        let (process, context) = self.process_and_context(to);
        process.post(context, event);
    }

    fn start(&mut self, at: StoreId) -> Result<(), String> {
        let (process, context) = self.process_and_context(at);
        let outcome = process.start(context);
        self.settle(at, outcome)
    }

    /// A machine that reached its crash point is down; it comes back later.
    fn settle(&mut self, at: StoreId, outcome: Result<(), Trouble>) -> Result<(), String> {
        match outcome {
            Ok(()) if self.process(at).ignores_failed_sync() => Err(format!(
                "D4: a sync of store {at} failed, and the process goes on"
            )),
            Ok(()) => {
                self.let_members_leave(at);
                Ok(())
            }
            Err(Trouble::Violation(what)) => Err(what),
            Err(Trouble::Crashed) => {
                self.context.report.probe("crashed_inside_an_io");
                let mode = self.process(at).crash_mode();
                self.crash(at, mode);
                Ok(())
            }
            Err(Trouble::SyncFailed) => {
                self.context.report.probe("ended_after_a_failed_sync");
                self.process(at).note_failed_sync();
                self.crash(at, CrashMode::KeepAll);
                Ok(())
            }
            Err(Trouble::NoSpace) => {
                self.context.report.probe("start_without_space");
                self.crash(at, CrashMode::KeepAll);
                Ok(())
            }
        }
    }

    fn crash(&mut self, at: StoreId, mode: CrashMode) {
        self.context
            .trace(format_args!("store {at} crashes, {mode:?}"));
        self.stop(at, mode);
        let life = self.process(at).life();
        let downtime = self.plan.downtime();
        let restart = Happening::Restart { at, life };
        self.context.schedule.after(downtime, restart);
    }

    /// A process is gone, and others notice that.
    fn stop(&mut self, at: StoreId, mode: CrashMode) {
        self.process(at).crash(mode);
        for other in self.addresses() {
            let notice = Happening::Unreachable {
                at: other,
                store: at,
            };
            self.context.schedule.after(NOTICE_DELAY, notice);
        }
        self.break_connections(at);
    }

    /// All processes that run or will again.
    fn addresses(&self) -> Vec<StoreId> {
        let members = self.living_members().map(|member| member.host.id);
        members.chain(self.store_ids()).collect()
    }

    /// All stores.
    fn store_ids(&self) -> impl Iterator<Item = StoreId> {
        self.stores.iter().map(|store| store.host.id)
    }

    fn process(&mut self, at: StoreId) -> &mut dyn Process {
        self.process_and_context(at).0
    }

    fn process_and_context(&mut self, at: StoreId) -> (&mut dyn Process, &mut Context) {
        let process: &mut dyn Process = match self.member_index(at) {
            Some(index) => &mut self.members[index],
            None => &mut self.stores[index_of(at)],
        };
        (process, &mut self.context)
    }
}

fn index_of(store: StoreId) -> usize {
    (store.0 - FIRST_STORE) as usize
}
