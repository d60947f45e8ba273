//! Everybody's talk with placement passes through the world.

use std::time::Duration;

use tinykv_placement::schedule::Manual;
use tinykv_raft::GroupId;
use tinykv_replica::{Region, StoreId};

use super::super::happening::{Asker, Happening};
use super::super::placement::{Question, Reply};
use super::super::store::FIRST_STORE;
use super::{World, index_of, member_index};

impl World {
    /// A member that leads placement, as it believes itself with good reason.
    pub(super) fn serving_member(&self) -> Option<StoreId> {
        let mut members = self.members.iter();
        let serving = members.find(|member| member.routes(&self.context).is_some());
        serving.map(|member| member.host.id)
    }

    pub(super) fn on_question(
        &mut self,
        to: StoreId,
        from: Asker,
        question: Question,
    ) -> Result<(), String> {
        let now = self.context.now();
        let member = &mut self.members[member_index(to)];
        let paused_until = member.host.paused_until;
        if paused_until > now {
            let again = Happening::Ask { to, from, question };
            self.context.schedule.after(paused_until - now, again);
            return Ok(());
        }
        let outcome = member.on_question(&mut self.context, from, question);
        self.settle(to, outcome)
    }

    pub(super) fn on_told(&mut self, to: Asker, by: StoreId, reply: Reply) -> Result<(), String> {
        match to {
            Asker::Store { id, life } => {
                let store = &mut self.stores[index_of(id)];
                if store.host.life == life && store.host.running.is_some() {
                    let now = self.context.now();
                    let paused_until = store.host.paused_until;
                    if paused_until > now {
                        let again = Happening::Told { to, by, reply };
                        self.context.schedule.after(paused_until - now, again);
                        return Ok(());
                    }
                    store.on_told(&mut self.context, by, reply);
                }
                Ok(())
            }
            Asker::Client(client) => self.on_told_client(client, by, reply),
            Asker::Operator => match reply {
                Reply::Command(applied) if !self.founding.is_done() => {
                    self.on_founding_reply(&applied)
                }
                _ => Ok(()),
            },
        }
    }

    fn on_told_client(&mut self, client: usize, by: StoreId, reply: Reply) -> Result<(), String> {
        let now = self.context.now();
        match reply {
            Reply::Located { attempt, found } => {
                if found.is_some() {
                    self.context.report.probe("route_from_placement");
                }
                let next = self.clients[client].on_route(now, attempt, found);
                self.next(client, next);
            }
            Reply::NotLeader { leader, attempt } => {
                if member_index(by) == self.believed[client] {
                    self.believed[client] = match leader {
                        Some(leader) => member_index(leader),
                        None => (self.believed[client] + 1) % self.members.len(),
                    };
                }
                if let Some(attempt) = attempt {
                    let next = self.clients[client].on_route(now, attempt, None);
                    self.next(client, next);
                }
            }
            Reply::Timestamps { last, count, asked } => {
                self.context.report.probe("timestamps_drawn");
                return self.context.invariants.on_received(asked, now, last, count);
            }
            _ => {}
        }
        Ok(())
    }

    /// A client asks placement who holds a key. It does not know whether it will be answered.
    pub(super) fn ask_to_locate(&mut self, client: usize, attempt: u64, key: &str) {
        let key = key.to_owned();
        self.ask_for(client, Question::Locate { key, attempt });
    }

    /// A client asks for timestamps, now and then.
    pub(super) fn draw(&mut self, client: usize) {
        let count = self.context.random.between(1, 50) as u32;
        let asked = self.context.now().as_nanos() as u64;
        self.ask_for(client, Question::Timestamps { count, asked });
        let wait = Duration::from_millis(self.context.random.between(20, 300));
        let draw = Happening::Draw { client };
        self.context.schedule.after(wait, draw);
    }

    fn ask_for(&mut self, client: usize, question: Question) {
        // One that does not answer is not asked for ever.
        if self.context.random.chance(8) {
            self.believed[client] = (self.believed[client] + 1) % self.members.len();
        }
        let member = self.members[self.believed[client]].host.id;
        self.context.ask(Asker::Client(client), member, question);
    }

    /// Somebody at a terminal wants something done to a region.
    pub(super) fn wish(&mut self, region: GroupId, wish: Manual) -> bool {
        let Some(member) = self.serving_member() else {
            return false;
        };
        self.context
            .trace(format_args!("wish for group {region}: {wish:?}"));
        let question = Question::Operate { region, wish };
        self.context.ask(Asker::Operator, member, question);
        true
    }

    /// A connection broke.
    pub(super) fn on_unreachable(&mut self, at: StoreId, gone: StoreId) {
        let (process, context) = self.process_and_context(at);
        process.on_unreachable(context, gone);
        let is_member = |id: StoreId| id.0 < FIRST_STORE;
        match (is_member(at), is_member(gone)) {
            (true, false) => self.members[member_index(at)].on_stream_ended(gone),
            (false, true) => {
                self.stores[index_of(at)].on_member_gone(&mut self.context, gone);
            }
            _ => {}
        }
    }

    /// What is not as it should be at placement at a quiet point.
    pub(super) fn problem_of_placement(&self, regions: &[Region]) -> Option<String> {
        let mut members = self.members.iter();
        let Some(routes) = members.find_map(|member| member.routes(&self.context)) else {
            return Some("nobody leads placement".to_owned());
        };
        (routes != regions).then(|| {
            format!("M1: placement knows the regions {routes:?}, but they are {regions:?}")
        })
    }
}
