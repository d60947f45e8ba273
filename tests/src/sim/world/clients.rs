//! Clients begin operations, ask stores and are answered.

use std::time::Duration;

use tinykv_replica::{Region, StoreId};

use crate::checker::Action;

use super::super::client::{Finished, Next};
use super::super::happening::{Happening, client_address};
use super::World;

impl World {
    pub(super) fn begin(&mut self, client: usize) {
        let now = self.context.now();
        if !self.clients[client].is_idle() {
            return;
        }
        let last = self.keys.len();
        let this = &mut self.clients[client];
        let next = match &mut self.healed {
            None => this.begin(now),
            Some(healed) => match (healed.unwritten.pop(), healed.unread.pop()) {
                (Some(key), unread) => {
                    healed.unread.extend(unread);
                    this.begin_put(now, key)
                }
                (None, Some(key)) => this.begin_get(now, key),
                (None, None) if !healed.is_scanned => this.begin_scan(now, 0, last),
                (None, None) => Next::Wait,
            },
        };
        self.next(client, next);
    }

    pub(super) fn next(&mut self, client: usize, next: Next) {
        let context = &mut self.context;
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
                let delays = context.network.send(address, to.0, &mut context.random);
                if let Some(delay) = delays.first() {
                    let call = Happening::Call { to, call };
                    context.schedule.after(pause + *delay, call);
                }
                let reminder = Happening::Remind { client, attempt };
                context.schedule.after(remind, reminder);
            }
            Next::Locate {
                key,
                attempt,
                pause,
                remind,
            } => {
                let locate = Happening::Locate {
                    client,
                    attempt,
                    key,
                };
                context.schedule.after(pause, locate);
                let reminder = Happening::Remind { client, attempt };
                context.schedule.after(remind, reminder);
            }
            Next::Finished(finished) => self.finished(client, finished),
        }
    }

    /// With placement clients ask it. Without they know who holds what; what they know may be
    /// outdated when they use it.
    pub(super) fn locate(&mut self, client: usize, attempt: u64, key: &str) {
        if !self.members.is_empty() {
            return self.ask_to_locate(client, attempt, key);
        }
        let route = self.omniscience(key);
        let next = self.clients[client].on_route(self.context.now(), attempt, route);
        self.next(client, next);
    }

    fn omniscience(&self, key: &str) -> Option<(Region, Option<StoreId>)> {
        let newest = self.newest_regions().into_values();
        let region = newest
            .filter(|region| region.contains(key.as_bytes()))
            .max_by_key(|region| region.epoch.version)?;
        let leader = self.leader(region.id);
        let leader = leader.map(|index| self.stores[index].host.id);
        Some((region, leader))
    }

    fn finished(&mut self, client: usize, finished: Finished) {
        for operation in &finished.operations {
            self.context.trace(format_args!(
                "client {client} {} {:?} -> {:?}",
                operation.key, operation.action, operation.outcome
            ));
        }
        let report = &mut self.context.report;
        report.operations += 1;
        report.succeeded += u64::from(finished.succeeded);
        report.unknown += u64::from(finished.unknown);
        let is_scan = finished.parts > 0;
        if is_scan {
            report.probe("scanned");
        }
        if finished.across_split {
            report.probe("scan_across_split");
        }
        if let Some(healed) = &mut self.healed {
            match (finished.operations.first(), finished.succeeded) {
                (_, true) if is_scan => {
                    healed.is_scanned |= finished.operations.len() == self.keys.len()
                }
                (Some(operation), false) if !is_scan => match operation.action {
                    Action::Get => healed.unread.push(operation.key.clone()),
                    _ => healed.unwritten.push(operation.key.clone()),
                },
                _ => {}
            }
        }
        self.history.extend(finished.operations);
        let think = Duration::from_millis(self.context.random.between(1, 25));
        let begin = Happening::Begin { client };
        self.context.schedule.after(think, begin);
    }
}
