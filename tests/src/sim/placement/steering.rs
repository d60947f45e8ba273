//! The members of the group come and go: what whoever leads makes of wishes for that, of processes
//! that join, and of what the state says.

use std::time::Duration;

use tinykv_placement::membership::{
    Objection, Step, check_registration, invited, next_step, why_needed,
};
use tinykv_placement::state::{Command, MemberRecord, Reply as Applied, State};
use tinykv_proto::placement::change_members_request::Change;
use tinykv_proto::{pdpb, placement};
use tinykv_raft::{PeerId, Term};
use tinykv_replica::{AdminAction, AdminRequest, Event};

use super::super::happening::{Asker, Context};
use super::desk::Purpose;
use super::handing_out::Taker;
use super::member::Member;
use super::{GROUP, Question, Reply};

/// A step of a change of members is taken by then.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(1);

impl Member {
    /// Brings the membership of the group one step nearer to what is wanted, if no step is under way.
    pub(super) fn settle_members(&mut self, context: &mut Context) {
        let now = self.host.local(context);
        if self.step_until.is_some_and(|(_, until)| now < until) {
            return;
        }
        let (Some(step), Some(region)) = (self.next_member_step(), self.host.region(GROUP)) else {
            return;
        };
        let action = match step {
            Step::HandOver => AdminAction::TransferLeader { to: None },
            Step::Change(change) => AdminAction::ChangePeers {
                epoch: region.region.epoch,
                changes: vec![change],
            },
        };
        let Some(waiter) = self.host.waiter() else {
            return;
        };
        context.trace(format_args!("member {}: {step:?}", self.host.id));
        context.report.probe(match step {
            Step::HandOver => "member_hands_over_to_leave",
            Step::Change(_) => "member_step",
        });
        let deadline = now + CHANGE_TIME_MAX;
        self.step_until = Some((waiter, deadline));
        let request = AdminRequest {
            group: GROUP,
            action,
            deadline,
            waiter: Some(waiter),
        };
        self.host.post(context, Event::Admin(request));
    }

    fn next_member_step(&self) -> Option<Step> {
        let region = &self.host.region(GROUP)?.region;
        let status = self.host.running.as_ref()?.shard.status(GROUP)?;
        let is_caught_up = |id| !status.pending_peers.contains(&id);
        next_step(&self.state.read(), region, self.own(), is_caught_up)
    }

    /// Somebody at a terminal adds or removes a member.
    pub(super) fn change_members(
        &mut self,
        context: &mut Context,
        term: Term,
        from: Asker,
        call: u64,
        request: placement::ChangeMembersRequest,
    ) -> Result<(), String> {
        match request.change {
            None => {}
            Some(Change::Add(new)) => {
                let new = Box::new(new);
                self.take_ids(context, Taker::Member { from, call, new })?;
            }
            Some(Change::Remove(id)) => {
                let member = PeerId(id);
                if let Some(sentence) = self.why_needed(member) {
                    context.report.probe("member_needed");
                    let reply = Reply::MembersChanged(answer(Some(sentence)));
                    context.tell(self.host.id, from, call, reply);
                    return Ok(());
                }
                let remove = Command::RemoveMember { member };
                let purpose = Purpose::Members { from, call };
                self.propose(context, purpose, &remove, Some(term));
            }
        }
        Ok(())
    }

    fn why_needed(&self, member: PeerId) -> Option<String> {
        let region = &self.host.region(GROUP)?.region;
        let status = self.host.running.as_ref()?.shard.status(GROUP)?;
        why_needed(region, member, &status.silent)
    }

    /// A member is invited under an id that nobody had.
    pub(super) fn invite(
        &mut self,
        context: &mut Context,
        (from, call): (Asker, u64),
        new: placement::NewMember,
        id: PeerId,
    ) {
        let Some(term) = self.desk.serving.as_ref().map(|serving| serving.term) else {
            return;
        };
        let invite = Command::InviteMember(MemberRecord {
            id,
            name: new.name,
            url: new.url,
            incarnation: 0,
            start_number: 0,
        });
        let purpose = Purpose::Members { from, call };
        self.propose(context, purpose, &invite, Some(term));
    }

    /// Members were added or removed, or that was refused.
    pub(super) fn on_members_changed(
        &mut self,
        context: &mut Context,
        (from, call): (Asker, u64),
        applied: &Applied,
    ) {
        let refusal = match applied {
            Applied::Refused(refusal) => {
                context.report.probe("change_of_members_refused");
                Some(refusal.to_string())
            }
            _ => None,
        };
        let reply = Reply::MembersChanged(answer(refusal));
        context.tell(self.host.id, from, call, reply);
    }

    /// Whom a process joins that was added under this name and address.
    pub(super) fn admit(&self, request: &placement::JoinRequest) -> placement::JoinResponse {
        let state = self.state.read();
        match invited(&state, &request.name, &request.url) {
            Err(refusal) => placement::JoinResponse {
                refusal,
                ..placement::JoinResponse::default()
            },
            Ok(member) => placement::JoinResponse {
                refusal: String::new(),
                group: GROUP.0,
                member_id: member.id.0,
                members: acquaintances(&state),
            },
        }
    }

    /// A member says who it is, for this start of it.
    pub(super) fn register(
        &mut self,
        context: &mut Context,
        from: Asker,
        call: u64,
        request: placement::RegisterRequest,
    ) {
        if self.leads().is_none() {
            // The leader answers whoever asked.
            let leader = self.leader().filter(|it| *it != self.host.id);
            if let Some(leader) = leader {
                context.ask(from, leader, call, Question::Register(request));
            }
            return;
        }
        let record = MemberRecord {
            id: PeerId(request.member_id),
            name: request.name,
            url: request.url,
            incarnation: request.incarnation,
            start_number: request.start_number,
        };
        match self.object(&record) {
            Ok(()) => {
                let register = Command::RegisterMember(record.clone());
                let record = Box::new(record);
                let purpose = Purpose::Registration { from, call, record };
                self.propose(context, purpose, &register, None);
            }
            Err(Objection::Later(_)) => {}
            Err(Objection::Foreign(refusal)) => {
                self.answer_registration(context, (from, call), refusal);
            }
        }
    }

    /// What there is against the registration of a member.
    fn object(&self, record: &MemberRecord) -> Result<(), Objection> {
        let region = self.host.region(GROUP).map(|state| &state.region);
        let region = region.ok_or(Objection::Later("the group is not here yet"))?;
        let known = self.known.get(&record.id).copied();
        check_registration(&self.state.read(), region, known, record)
    }

    /// The registration of a member is applied.
    pub(super) fn on_registration_applied(
        &mut self,
        context: &mut Context,
        to: (Asker, u64),
        record: &MemberRecord,
        applied: Applied,
    ) {
        match applied {
            Applied::Refused(refusal) => {
                // It may have been removed meanwhile.
                if self.object(record).is_ok() {
                    self.answer_registration(context, to, refusal.to_string());
                }
            }
            _ => self.answer_registration(context, to, String::new()),
        }
    }

    /// A member is registered, or refused.
    fn answer_registration(
        &mut self,
        context: &mut Context,
        (from, call): (Asker, u64),
        refusal: String,
    ) {
        let reply = Reply::Registered(placement::RegisterResponse {
            members: acquaintances(&self.state.read()),
            refusal,
        });
        context.tell(self.host.id, from, call, reply);
    }

    /// Who the members are, as this one knows; nothing while it knows of no leader.
    pub(super) fn members(&self) -> Option<pdpb::GetMembersResponse> {
        let shown = |id: PeerId, name: &str| pdpb::Member {
            name: name.to_owned(),
            member_id: id.0,
            ..pdpb::Member::default()
        };
        let leader = self.leader()?;
        let state = self.state.read();
        let came = state.members().values().filter(|it| !it.is_invited());
        Some(pdpb::GetMembersResponse {
            members: came.map(|it| shown(it.id, &it.name)).collect(),
            leader: Some(shown(PeerId(leader.0), "")),
            ..pdpb::GetMembersResponse::default()
        })
    }
}

/// All that have registered.
fn acquaintances(state: &State) -> Vec<placement::Acquaintance> {
    let came = state.members().values().filter(|it| !it.is_invited());
    let known = came.map(|it| placement::Acquaintance {
        member_id: it.id.0,
        name: it.name.clone(),
        url: it.url.clone(),
        incarnation: it.incarnation,
    });
    known.collect()
}

fn answer(refusal: Option<String>) -> placement::ChangeMembersResponse {
    let error = refusal.map(|message| pdpb::Error {
        message,
        ..pdpb::Error::default()
    });
    let header = pdpb::ResponseHeader {
        error,
        ..pdpb::ResponseHeader::default()
    };
    placement::ChangeMembersResponse {
        header: Some(header),
        members: Vec::new(),
    }
}
