//! Clients begin operations, ask stores and are answered.

use std::time::Duration;

use tinykv_keys::Asker;
use tinykv_replica::{Peer, Region, StoreId};

use crate::checker::Action;

use super::super::client::{Finished, Mark, Next, Packet};
use super::super::happening::{Happening, NOTICE_DELAY, client_address};
use super::super::placement::located;
use super::super::workload::{self, Wanted};
use super::World;

impl World {
    pub(super) fn begin(&mut self, client: usize) {
        let now = self.context.now();
        if !self.clients[client].is_idle() {
            return;
        }
        let wanted = match &mut self.healed {
            None => self.workload.next(client, now),
            Some(healed) => match (healed.unwritten.pop(), healed.unread.pop()) {
                (Some(key), unread) => {
                    healed.unread.extend(unread);
                    self.last_writes += 1;
                    workload::write_to(&key, format!("last-{}", self.last_writes))
                }
                (None, Some(key)) => Wanted::get(&key),
                (None, None) if !healed.is_scanned => Wanted::scan_all(),
                (None, None) => return,
            },
        };
        let next = self.clients[client].begin(now, wanted);
        self.next(client, next);
    }

    pub(super) fn next(&mut self, client: usize, next: Next) {
        let context = &mut self.context;
        match next {
            Next::Nothing => {}
            Next::Send { to, packet, remind } => {
                let attempt = packet.mark.attempt;
                let address = client_address(client);
                let delays = context.network.send(address, to.0, &mut context.random);
                if let Some(delay) = delays.first() {
                    let call = Happening::Call { to, packet };
                    context.schedule.after(*delay, call);
                }
                let reminder = Happening::Remind { client, attempt };
                context.schedule.after(remind, reminder);
            }
            Next::Locate {
                key,
                attempt,
                remind,
            } => {
                let locate = Happening::Locate {
                    client,
                    attempt,
                    key,
                };
                context.schedule.after(Duration::ZERO, locate);
                let reminder = Happening::Remind { client, attempt };
                context.schedule.after(remind, reminder);
            }
            Next::Wait { attempt, remind } => {
                let reminder = Happening::Remind { client, attempt };
                context.schedule.after(remind, reminder);
            }
            Next::Finished(finished) => self.finished(client, finished),
        }
    }

    /// A store's answer arrives.
    pub(super) fn on_answer(&mut self, packet: &Packet) {
        let Mark {
            client, attempt, ..
        } = packet.mark;
        let now = self.context.now();
        let next = self.clients[client].on_answer(now, attempt, &packet.bytes);
        self.next(client, next);
    }

    /// Nothing listens where a request arrives. A machine that is down may not even say so.
    pub(super) fn refuse_connection(&mut self, at: StoreId, mark: Mark) {
        let Mark {
            client, attempt, ..
        } = mark;
        let context = &mut self.context;
        let address = client_address(client);
        let delays = context.network.send(at.0, address, &mut context.random);
        if let Some(delay) = delays.first().filter(|_| !context.random.chance(4)) {
            let broken = Happening::Broken {
                client,
                attempt,
                sent: context.random.chance(2),
            };
            context.report.probe("connection_refused");
            context.schedule.after(*delay, broken);
        }
    }

    /// A process is gone, and with it the connections of clients that wait for its answers.
    pub(super) fn break_connections(&mut self, at: StoreId) {
        for client in 0..self.clients.len() {
            let is_cut = self.context.network.is_cut(at.0, client_address(client));
            if let Some(attempt) = self.clients[client].waits_for(at)
                && !is_cut
            {
                let broken = Happening::Broken {
                    client,
                    attempt,
                    sent: true,
                };
                self.context.report.probe("connection_broke");
                self.context.schedule.after(NOTICE_DELAY, broken);
            }
        }
    }

    /// With placement clients ask it. Without they know who holds what; what they know may be
    /// outdated when they use it.
    pub(super) fn locate(&mut self, client: usize, attempt: u64, key: &str) {
        if !self.members.is_empty() {
            return self.ask_to_locate(client, attempt, key);
        }
        let route = located(self.omniscience(key), Asker::Raw);
        let next = self.clients[client].on_route(self.context.now(), attempt, route);
        self.next(client, next);
    }

    fn omniscience(&self, key: &str) -> Option<(Region, Option<Peer>)> {
        let newest = self.newest_regions().into_values();
        let region = newest
            .filter(|region| region.contains(key.as_bytes()))
            .max_by_key(|region| region.epoch.version)?;
        let leader = self.leader(region.id);
        let leader = leader.and_then(|index| region.peer_on(self.stores[index].host.id));
        Some((region, leader))
    }

    fn finished(&mut self, client: usize, finished: Finished) {
        for operation in &finished.operations {
            self.context.trace(format_args!(
                "client {client} {} {:?} -> {:?}",
                operation.key, operation.action, operation.outcome
            ));
        }
        let Finished {
            operations,
            is_scan,
            succeeded,
            unknown,
            across_split,
        } = finished;
        let now = self.context.now();
        let report = &mut self.context.report;
        report.operations += 1;
        report.succeeded += u64::from(succeeded);
        report.unknown += u64::from(unknown);
        if is_scan && succeeded {
            report.probe("scanned");
            if across_split {
                report.probe("scan_across_split");
            }
        }
        if let Some(healed) = &mut self.healed {
            healed.is_scanned |= is_scan && succeeded && operations.len() == self.keys.len();
            if let ([operation], false) = (&operations[..], succeeded) {
                match operation.action {
                    Action::Get => healed.unread.push(operation.key.clone()),
                    _ => healed.unwritten.push(operation.key.clone()),
                }
            }
        } else {
            self.workload.on_finished(client, &operations, report);
        }
        self.history.extend(operations);
        let pause = match self.healed {
            None => self.workload.pause(client, now),
            Some(_) => Duration::from_millis(self.context.random.between(1, 25)),
        };
        let begin = Happening::Begin { client };
        self.context.schedule.after(pause, begin);
    }
}
