//! `tinykv.placement.Members`: what members ask each other outside Raft.

use tinykv_proto::placement;
use tinykv_raft::PeerId;
use tonic::{Request, Response, Status};

use super::{Leader, Service, unavailable};
use crate::state::{Command, MemberRecord, Reply};

#[tonic::async_trait]
impl placement::members_server::Members for Service {
    async fn greet(
        &self,
        request: Request<placement::GreetRequest>,
    ) -> Result<Response<placement::GreetResponse>, Status> {
        let request = request.into_inner();
        self.check_group(request.group)?;
        let desk = self.desk();
        if request.to != desk.member().id.0 {
            return Err(Status::failed_precondition(format!(
                "this is member {}, not member {}",
                desk.member().id,
                request.to
            )));
        }
        let known = self.shared.acquaintance.incarnation(PeerId(request.from));
        Ok(Response::new(placement::GreetResponse {
            incarnation: desk.member().incarnation,
            asker_incarnation: known.unwrap_or(0),
            leads: desk.leadership().is_some(),
        }))
    }

    async fn join(
        &self,
        request: Request<placement::JoinRequest>,
    ) -> Result<Response<placement::JoinResponse>, Status> {
        let request = request.into_inner();
        match self.find_leader().await {
            Some(Leader::Here(_)) => Ok(Response::new(self.admit(&request))),
            Some(Leader::There(leader)) => {
                let answer = self.shared.neighbours.join(leader, request).await;
                answer.map(Response::new)
            }
            None => Err(Status::unavailable("the placement group has no leader now")),
        }
    }

    async fn register(
        &self,
        request: Request<placement::RegisterRequest>,
    ) -> Result<Response<placement::RegisterResponse>, Status> {
        let request = request.into_inner();
        self.check_group(request.group)?;
        let record = MemberRecord {
            id: PeerId(request.member_id),
            name: request.name,
            url: request.url,
            incarnation: request.incarnation,
            start_number: request.start_number,
        };
        let known = self.shared.acquaintance.incarnation(record.id);
        if known.is_none() && !self.is_listed(record.id) {
            let sentence = "this member has not met all the others yet";
            return Err(Status::unavailable(sentence));
        }
        if known.is_some_and(|known| known != record.incarnation) {
            return Ok(Response::new(placement::RegisterResponse {
                refusal: format!(
                    "member {} is not the one that founded the placement group: its data \
                     directory is another one",
                    record.name
                ),
            }));
        }
        let command = Command::RegisterMember(record);
        let reply = self.desk().group().propose(&command, None).await;
        let refusal = match reply.map_err(|error| unavailable(&error))? {
            Reply::Refused(refusal) => {
                tracing::warn!("refused: {refusal}");
                refusal.to_string()
            }
            _ => String::new(),
        };
        // Who has registered may be let in.
        if let Some(leadership) = self.desk().leadership() {
            leadership.wake_desk();
        }
        Ok(Response::new(placement::RegisterResponse { refusal }))
    }
}

impl Service {
    /// Whether the state says what to think of a member that was not there from the start.
    fn is_listed(&self, member: PeerId) -> bool {
        let state = self.desk().group().state().read();
        state.members().contains_key(&member) || state.has_removed_member(member)
    }

    fn check_group(&self, group: u64) -> Result<(), Status> {
        if group == self.shared.neighbours.group() {
            return Ok(());
        }
        Err(Status::failed_precondition(
            "this member belongs to another placement group, or was started with another --initial-cluster",
        ))
    }
}
