//! A simulated store: a [`Host`] of regions that answers clients, by the rules of `store/server`.

mod command;
mod reporting;

use std::collections::BTreeMap;

use tinykv_raft::GroupId;
use tinykv_replica::{
    Answer as Granted, Event, Outcome as Decided, Proposal, ReadRequest, Refusal, Region, StoreId,
    WaiterId,
};
use tinykv_store::command::Reply;
use tinykv_store::machine::RawMachine;

use crate::checker::Action;

use super::client::{Answer, Call, Request};
use super::happening::Context;
use super::host::{Host, Trouble, Work};
use super::process::OnHost;
use super::watched::Watched;

use self::command::{command_of, outcome_of};
use self::reporting::{LOOK_INTERVAL, Link};

/// One store of the cluster.
pub(super) struct Store {
    pub(super) host: Host<Watched<RawMachine>>,
    /// Calls of clients that the shard has yet to answer.
    calls: BTreeMap<WaiterId, Call>,
    /// The connection to placement, if there is any.
    link: Link,
}

impl Store {
    /// A store that reports to these members of placement.
    pub(super) fn new(host: Host<Watched<RawMachine>>, members: Vec<StoreId>) -> Store {
        Store {
            host,
            calls: BTreeMap::new(),
            link: Link::new(members),
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
    pub(super) fn on_call(&mut self, context: &mut Context, call: Call) -> Result<(), Trouble> {
        let now = self.host.local(context);
        let deadline = self.host.clock.local(call.deadline);
        let Some(running) = &self.host.running else {
            return Ok(());
        };
        let id = self.host.id;
        let Some(region) = self.published(call.group) else {
            context.answer(id, &call, Answer::NotHere);
            return Ok(());
        };
        if region.epoch.version != call.epoch.version {
            let regions = vec![region.clone()];
            context.answer(id, &call, Answer::Outdated { regions });
            return Ok(());
        }
        let event = match &call.request {
            Request::One { key, action } if *action != Action::Get => {
                let command = command_of(call.epoch, key, action);
                let waiter = self.wait(call);
                Event::Propose(Proposal {
                    group: self.calls[&waiter].group,
                    peer: None,
                    term: None,
                    command,
                    deadline,
                    waiter,
                })
            }
            _ => {
                let lease = running.leases.get(&call.group);
                let in_lease = lease.is_some_and(|lease| {
                    now < lease.valid_until && lease.epoch.version == call.epoch.version
                });
                if in_lease && region.contains(call.request.key().as_bytes()) {
                    context.report.probe("read_in_lease");
                    let answer = self.read(&region.clone(), &call.request)?;
                    context.answer(id, &call, answer);
                    return Ok(());
                }
                let (group, epoch) = (call.group, Some(call.epoch));
                let waiter = self.wait(call);
                Event::Read(ReadRequest {
                    group,
                    peer: None,
                    epoch,
                    deadline,
                    waiter,
                })
            }
        };
        self.host.post(context, event);
        Ok(())
    }

    fn wait(&mut self, call: Call) -> WaiterId {
        let waiter = self.host.waiter().expect("it runs");
        self.calls.insert(waiter, call);
        waiter
    }

    fn published(&self, group: GroupId) -> Option<&Region> {
        self.host.region(group).map(|state| &state.region)
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
            Decided::Ok(Granted::Applied { reply, .. }) => Answer::Ok(outcome_of(reply)),
            Decided::Ok(Granted::Read(_)) => {
                context.report.probe("read_index");
                // The region as published after the snapshot was taken: had a split changed the
                // data in it, it would show here.
                match self.published(call.group).cloned() {
                    None => Answer::NotHere,
                    Some(region) if region.epoch.version != call.epoch.version => {
                        let regions = vec![region];
                        Answer::Outdated { regions }
                    }
                    Some(region) => self.read(&region, &call.request)?,
                }
            }
            Decided::Ok(_) => return Ok(()),
            Decided::DefinitelyNot(refusal) => refused(refusal),
            Decided::Undetermined(_) => Answer::Undetermined,
        };
        context.answer(self.host.id, &call, answer);
        Ok(())
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

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::NotLeader { leader, .. } => Answer::Refused {
            leader: leader.map(|peer| peer.store),
        },
        Refusal::EpochNotMatch { regions } => Answer::Outdated {
            regions: regions.iter().map(|region| Region::clone(region)).collect(),
        },
        Refusal::KeyNotInRegion { region, .. } => Answer::Outdated {
            regions: vec![Region::clone(&region)],
        },
        Refusal::RegionNotFound | Refusal::PeerMismatch { .. } => Answer::NotHere,
        _ => Answer::Refused { leader: None },
    }
}

/// The ids of stores, from which theirs addresses follow.
pub(super) fn store_id(index: usize) -> StoreId {
    StoreId(FIRST_STORE + index as u64)
}

/// As placement hands them out.
pub(super) const FIRST_STORE: u64 = 1_000;
