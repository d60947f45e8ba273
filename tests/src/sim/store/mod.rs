//! A simulated store: a [`Host`] of regions that answers clients, by the rules of `store/server`.

mod command;
mod reporting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tinykv_client::retry::Access;
use tinykv_raft::GroupId;
use tinykv_replica::{
    Answer as Granted, BusyReason, Event, Outcome as Decided, Proposal, ReadRequest, Refusal,
    Region, StoreId, WaiterId,
};
use tinykv_store::checks::{Here, RegionError, Target, check_leader, without_dead_leader};
use tinykv_store::command::Reply;
use tinykv_store::machine::RawMachine;
use tinykv_store::outcome;
use tinykv_store::service::convert;

use super::client::{Asked, Mark, Method, Packet, Told};
use super::happening::Context;
use super::host::{Host, Trouble, Work};
use super::invariants::Asked as AskedAt;
use super::placement::Contacts;
use super::process::OnHost;
use super::watched::Watched;

use self::command::{SPACE, applied, command_of, plan};
use self::reporting::{LOOK_INTERVAL, Link};

/// One store of the cluster.
pub(super) struct Store {
    pub(super) host: Host<Watched<RawMachine>>,
    /// Calls of clients that the shard has yet to answer.
    calls: BTreeMap<WaiterId, Call>,
    /// The connection to placement, if there is any.
    link: Link,
    /// One read in so many asks the shard although there may be a lease; 0: none.
    pub(super) asks_one_in: u64,
}

impl Store {
    /// A store that reports to these members of placement.
    pub(super) fn new(host: Host<Watched<RawMachine>>, members: Contacts) -> Store {
        Store {
            host,
            calls: BTreeMap::new(),
            link: Link::new(members),
            asks_one_in: 0,
        }
    }

    /// Takes what the shard has answered.
    fn settle(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &mut self.host.running else {
            return Ok(());
        };
        for (waiter, outcome) in std::mem::take(&mut running.outcomes) {
            self.on_outcome(context, waiter, outcome)?;
        }
        Ok(())
    }

    /// A client's request arrives: a read inside the lease is answered here and now.
    pub(super) fn on_call(&mut self, context: &mut Context, packet: Packet) -> Result<(), Trouble> {
        let call = Call::new(&packet, context, &self.host);
        match self.begin_call(context, &call)? {
            Begun::Answered(answer) => self.answer(context, &call, *answer),
            Begun::Asked(waiter, event) => {
                self.calls.insert(waiter, call);
                self.host.post(context, *event);
            }
            Begun::Nowhere => {}
        }
        Ok(())
    }

    fn begin_call(&mut self, context: &mut Context, call: &Call) -> Result<Begun, Trouble> {
        let now = self.host.local(context);
        let Target { region, epoch, .. } = call.target;
        let here = self.here(region);
        if let Err(error) = check_leader(&call.target, self.host.id, here.as_ref()) {
            let from = self.host.id.0;
            let reaches = |store: StoreId| !context.network.is_cut(from, store.0);
            return Ok(Begun::answered(Err(without_dead_leader(error, reaches))));
        }
        let (Some(running), Some(here)) = (&self.host.running, here) else {
            return Ok(Begun::Nowhere);
        };
        let deadline = now + call.patience();
        let (group, peer) = (region, Some(call.target.peer));
        if call.method.access() == Access::Write {
            if self.host.is_out_of_space() {
                context.report.probe("write_refused_for_want_of_space");
                let busy = Refusal::Busy {
                    reason: BusyReason::DiskFull,
                    wait: Duration::from_millis(50),
                };
                return Ok(Begun::answered(Err(outcome::refused(busy, &call.target))));
            }
            let operation = match plan(&call.asked) {
                Ok(operation) => operation,
                Err(refused) => {
                    let told = call.method.failed(None, refused.to_string());
                    return Ok(Begun::answered(Ok(told)));
                }
            };
            context
                .fates
                .on_proposed(call.mark)
                .map_err(Trouble::Violation)?;
            let waiter = self.host.waiter().expect("it runs");
            let proposal = Proposal {
                group,
                peer,
                term: None,
                command: command_of(epoch, operation),
                deadline,
                waiter,
            };
            return Ok(Begun::Asked(waiter, Box::new(Event::Propose(proposal))));
        }
        let lease = running.leases.get(&group);
        let in_lease = lease
            .is_some_and(|lease| now < lease.valid_until && lease.epoch.version == epoch.version);
        if in_lease && !context.random.chance(self.asks_one_in) {
            context.report.probe("read_in_lease");
            if let Some(running) = &mut self.host.running {
                running.read_in_lease.insert(group);
            }
            let region = Arc::new(here.state.region.clone());
            return Ok(Begun::answered(self.read(&region, &call.asked)?));
        }
        let waiter = self.host.waiter().expect("it runs");
        let request = ReadRequest {
            group,
            peer,
            epoch: Some(epoch),
            deadline,
            waiter,
        };
        Ok(Begun::Asked(waiter, Box::new(Event::Read(request))))
    }

    /// What the store knows of a region.
    fn here(&self, group: GroupId) -> Option<Here> {
        let running = self.host.running.as_ref()?;
        let state = self.host.region(group)?;
        let status = running.shard.status(group)?;
        Some(Here {
            state: Arc::clone(state),
            peer: status.peer.id,
            leader: status.raft.leader,
            term: status.raft.hard_state.term,
        })
    }

    fn published(&self, group: GroupId) -> Option<&Region> {
        self.host.region(group).map(|state| &state.region)
    }

    /// The message that the real store makes of it.
    fn answer(&self, context: &mut Context, call: &Call, answer: Result<Told, RegionError>) {
        let told = answer.unwrap_or_else(|error| {
            let told = convert::error_to_proto(&error, SPACE.asker());
            call.method.failed(Some(told), convert::text(&error))
        });
        let (mark, method) = (call.mark, call.method);
        let bytes = told.encode();
        let packet = Packet {
            mark,
            method,
            bytes,
        };
        context.answer(self.host.id, packet);
    }

    fn on_outcome(
        &mut self,
        context: &mut Context,
        waiter: WaiterId,
        outcome: Decided<Reply>,
    ) -> Result<(), Trouble> {
        if self.on_order_done(context, waiter, &outcome) {
            return Ok(());
        }
        let Some(call) = self.calls.remove(&waiter) else {
            return Ok(());
        };
        let answer = match outcome {
            Decided::Ok(Granted::Applied { reply, .. }) => Ok(applied(&call.asked, reply)),
            Decided::Ok(Granted::Read(grant)) => {
                context.report.probe("read_index");
                let group = call.target.region;
                self.host.check_read(context, group, &grant, &call.begun)?;
                self.read_granted(&call)?
            }
            Decided::Ok(_) => return Ok(()),
            Decided::DefinitelyNot(refusal) => {
                context.fates.on_refused(call.mark);
                Err(outcome::refused(refusal, &call.target))
            }
            // Nothing is unknown about a read that was not served.
            Decided::Undetermined(_) if call.method.access() == Access::Read => {
                let region = call.target.region;
                let leader = None;
                Err(RegionError::NotLeader { region, leader })
            }
            Decided::Undetermined(doubt) => Err(outcome::undetermined(doubt)),
        };
        self.answer(context, &call, answer);
        Ok(())
    }

    /// The region as published after the snapshot was taken: had a split changed the data in it,
    /// it would show here.
    fn read_granted(&self, call: &Call) -> Result<Result<Told, RegionError>, Trouble> {
        let group = call.target.region;
        let region = match self.here(group) {
            Some(here) if here.peer == call.target.peer => Arc::new(here.state.region.clone()),
            _ => return Ok(Err(RegionError::RegionNotFound { region: group })),
        };
        if region.epoch.version != call.target.epoch.version {
            let regions = vec![region];
            return Ok(Err(RegionError::EpochNotMatch { regions }));
        }
        self.read(&region, &call.asked)
    }
}

/// A call of a client.
struct Call {
    mark: Mark,
    method: Method,
    asked: Asked,
    target: Target,
    begun: AskedAt,
}

/// How a call begins.
enum Begun {
    /// It is over.
    Answered(Box<Result<Told, RegionError>>),
    /// The shard has to decide it.
    Asked(WaiterId, Box<Event>),
    /// The store is down.
    Nowhere,
}

impl Begun {
    fn answered(answer: Result<Told, RegionError>) -> Begun {
        Begun::Answered(Box::new(answer))
    }
}

impl Call {
    fn new(packet: &Packet, context: &Context, host: &Host<Watched<RawMachine>>) -> Call {
        let asked = packet.method.request(&packet.bytes);
        let target = convert::target(asked.context());
        let state = host.region(target.region);
        let counted = state.map(|state| state.region.configuration());
        Call {
            mark: packet.mark,
            method: packet.method,
            begun: context
                .invariants
                .asked(context.now(), target.region, counted),
            target,
            asked,
        }
    }

    /// How long the asker waits; a little less, so that it is told of its doubt in time.
    fn patience(&self) -> Duration {
        let execution_ms = self.asked.context().map(|it| it.max_execution_duration_ms);
        let time = Duration::from_millis(execution_ms.unwrap_or(0));
        time - (time / 10).min(Duration::from_millis(25))
    }
}

impl OnHost for Store {
    type Machine = Watched<RawMachine>;

    fn host(&self) -> &Host<Watched<RawMachine>> {
        &self.host
    }

    fn host_mut(&mut self) -> &mut Host<Watched<RawMachine>> {
        &mut self.host
    }

    fn begin(&mut self, context: &mut Context) -> Result<(), Trouble> {
        self.calls.clear();
        self.link.restart(self.host.local(context));
        self.host
            .start(context, Box::new(|_| Watched(RawMachine)))?;
        context.after(LOOK_INTERVAL, self.host.id, self.host.life, Work::Report);
        self.settle(context)
    }

    fn carry_out(&mut self, context: &mut Context, work: Work) -> Result<(), Trouble> {
        if let Work::Report = work {
            self.report(context);
            return Ok(());
        }
        self.host.work(context, work)?;
        self.settle(context)
    }
}

/// The ids of stores, from which theirs addresses follow.
pub(super) fn store_id(index: usize) -> StoreId {
    StoreId(FIRST_STORE + index as u64)
}

/// As placement hands them out.
pub(super) const FIRST_STORE: u64 = 1_000;
