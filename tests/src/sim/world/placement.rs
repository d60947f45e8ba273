//! Everybody's talk with placement passes through the world.

use std::time::Duration;

use bytes::Bytes;
use tinykv_placement::schedule::Manual;
use tinykv_placement::timestamps::Timestamp;
use tinykv_proto::pdpb;
use tinykv_raft::GroupId;
use tinykv_replica::{Region, StoreId};

use super::super::happening::{Asked, Asker, Happening, Told};
use super::super::placement::{Question, Reply, wish};
use super::{World, index_of};

impl World {
    /// A member that leads placement, as it believes itself with good reason.
    pub(super) fn serving_member(&self) -> Option<StoreId> {
        let mut members = self.living_members();
        let serving = members.find(|member| member.routes(&self.context).is_some());
        serving.map(|member| member.host.id)
    }

    pub(super) fn on_question(&mut self, asked: Asked) -> Result<(), String> {
        let now = self.context.now();
        let to = asked.to;
        let Some(index) = self.member_index(to) else {
            return Ok(());
        };
        let member = &mut self.members[index];
        let paused_until = member.host.paused_until;
        if paused_until > now {
            let again = Happening::Ask(asked);
            self.context.schedule.after(paused_until - now, again);
            return Ok(());
        }
        let outcome = member.on_question(&mut self.context, asked);
        self.settle(to, outcome)
    }

    pub(super) fn on_told(&mut self, told: Told) -> Result<(), String> {
        let Told {
            to,
            by,
            call,
            reply,
        } = told;
        match to {
            Asker::Store { id, life } => {
                let store = &mut self.stores[index_of(id)];
                if store.host.life == life && store.host.running.is_some() {
                    let now = self.context.now();
                    let paused_until = store.host.paused_until;
                    if paused_until > now {
                        let again = Happening::Told(Told {
                            to,
                            by,
                            call,
                            reply,
                        });
                        self.context.schedule.after(paused_until - now, again);
                        return Ok(());
                    }
                    store.on_told(&mut self.context, by, call, reply);
                }
                Ok(())
            }
            Asker::Client(client) => self.on_told_client(client, by, call, reply),
            Asker::Member { id, life } => {
                let index = self.member_index(id);
                let running = index.map(|index| &mut self.members[index]);
                if let Some(member) = running.filter(|it| it.host.life == life)
                    && let Reply::Registered(response) = reply
                {
                    member.on_registration(&mut self.context, &response);
                    self.let_members_leave(id);
                }
                Ok(())
            }
            Asker::Newcomer(newcomer) => match reply {
                Reply::Joined(response) => self.on_joined(newcomer, response),
                _ => Ok(()),
            },
            Asker::Operator => match reply {
                Reply::MembersChanged(response) => {
                    self.on_members_changed(call, response);
                    Ok(())
                }
                Reply::Command(applied) if !self.founding.is_done() => {
                    self.on_founding_reply(&applied)
                }
                _ => Ok(()),
            },
        }
    }

    fn on_told_client(
        &mut self,
        client: usize,
        by: StoreId,
        call: u64,
        reply: Reply,
    ) -> Result<(), String> {
        let now = self.context.now();
        match reply {
            Reply::Region(response) => {
                if response.region.is_some() {
                    self.context.report.probe("route_from_placement");
                }
                let next = self.clients[client].on_route(now, call, response);
                self.next(client, next);
            }
            Reply::NotLeader {
                leader,
                was_locating,
            } => {
                if self.contacts[client].believed() == Some(by) {
                    self.contacts[client].turn_to(leader);
                }
                if was_locating {
                    let nobody = pdpb::GetRegionResponse::default();
                    let next = self.clients[client].on_route(now, call, nobody);
                    self.next(client, next);
                }
            }
            Reply::Timestamps(response) => {
                self.context.report.probe("timestamps_drawn");
                let last = response.timestamp.unwrap_or_default();
                let last = Timestamp {
                    physical_ms: last.physical as u64,
                    logical: last.logical as u32,
                };
                let invariants = &mut self.context.invariants;
                return invariants.on_received(call, now, last, response.count);
            }
            Reply::Members(response) => self.contacts[client].hear(&response),
            _ => {}
        }
        Ok(())
    }

    /// A client asks placement who holds a key. It does not know whether it will be answered.
    pub(super) fn ask_to_locate(&mut self, client: usize, attempt: u64, key: &str) {
        let request = pdpb::GetRegionRequest {
            region_key: Bytes::copy_from_slice(key.as_bytes()),
            ..pdpb::GetRegionRequest::default()
        };
        self.ask_for(client, attempt, Question::Locate(request));
    }

    /// A client asks for timestamps, now and then.
    pub(super) fn draw(&mut self, client: usize) {
        let count = self.context.random.between(1, 50) as u32;
        let asked = self.context.now().as_nanos() as u64;
        let request = pdpb::TsoRequest {
            count,
            ..pdpb::TsoRequest::default()
        };
        self.ask_for(client, asked, Question::Timestamps(request));
        let wait = Duration::from_millis(self.context.random.between(20, 300));
        let draw = Happening::Draw { client };
        self.context.schedule.after(wait, draw);
    }

    fn ask_for(&mut self, client: usize, call: u64, question: Question) {
        // One that does not answer is not asked for ever.
        if self.context.random.chance(8) {
            self.contacts[client].turn_to(None);
        }
        let asker = Asker::Client(client);
        if let Some(member) = self.contacts[client].believed() {
            if self.context.random.chance(8) {
                let who = Question::Members(pdpb::GetMembersRequest::default());
                self.context.ask(asker, member, call, who);
            }
            self.context.ask(asker, member, call, question);
        }
    }

    /// Somebody at a terminal wants something done to a region.
    pub(super) fn wish(&mut self, region: GroupId, wanted: Manual) -> bool {
        let Some(member) = self.serving_member() else {
            return false;
        };
        self.context
            .trace(format_args!("wish for group {region}: {wanted:?}"));
        let question = Question::Operate(wish(region, wanted));
        self.context.ask(Asker::Operator, member, 0, question);
        true
    }

    /// A connection broke.
    pub(super) fn on_unreachable(&mut self, at: StoreId, gone: StoreId) {
        let (process, context) = self.process_and_context(at);
        process.on_unreachable(context, gone);
        match (self.member_index(at), self.member_index(gone)) {
            (Some(index), None) => self.members[index].on_stream_ended(gone),
            (None, Some(_)) => {
                self.stores[index_of(at)].on_member_gone(&mut self.context, gone);
            }
            _ => {}
        }
    }

    /// What is not as it should be at placement at a quiet point.
    pub(super) fn problem_of_placement(&self, regions: &[Region]) -> Option<String> {
        let mut members = self.living_members();
        let Some(routes) = members.find_map(|member| member.routes(&self.context)) else {
            return Some("nobody leads placement".to_owned());
        };
        let is_outdated = routes != regions;
        let outdated = is_outdated.then(|| {
            format!("M1: placement knows the regions {routes:?}, but they are {regions:?}")
        });
        outdated.or_else(|| self.problem_of_members())
    }
}
