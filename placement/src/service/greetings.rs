//! `tinykv.placement.Members`: what members ask each other outside Raft.

use tinykv_proto::placement;
use tinykv_raft::PeerId;
use tonic::{Request, Response, Status};

use super::members::acquaintances;
use super::{Leader, Service, unavailable};
use crate::membership::{Objection, check_registration};
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
        match self.find_leader().await {
            Some(Leader::Here(leadership)) => {
                let answer = self.register_here(record).await?;
                // Who has registered may be let in.
                leadership.wake_desk();
                Ok(Response::new(answer))
            }
            Some(Leader::There(leader)) => {
                let answer = self.shared.neighbours.register(leader, &record).await;
                answer.map(Response::new)
            }
            None => Err(Status::unavailable("the placement group has no leader now")),
        }
    }
}

impl Service {
    async fn register_here(
        &self,
        record: MemberRecord,
    ) -> Result<placement::RegisterResponse, Status> {
        let refused = |refusal: String| placement::RegisterResponse {
            refusal,
            members: Vec::new(),
        };
        if let Some(refusal) = self.object(&record)? {
            return Ok(refused(refusal));
        }
        let command = Command::RegisterMember(record.clone());
        let reply = self.desk().group().propose(&command, None).await;
        match reply.map_err(|error| unavailable(&error))? {
            Reply::Refused(refusal) => {
                // It may have been removed meanwhile.
                self.object(&record)?;
                tracing::warn!("refused: {refusal}");
                Ok(refused(refusal.to_string()))
            }
            _ => Ok(placement::RegisterResponse {
                refusal: String::new(),
                members: acquaintances(&self.desk().group().state().read()),
            }),
        }
    }

    /// A sentence for a member that may not take part.
    fn object(&self, record: &MemberRecord) -> Result<Option<String>, Status> {
        let known = self.shared.acquaintance.incarnation(record.id);
        let group = self.desk().group();
        let region = group.region().unwrap_or_default();
        let checked = check_registration(&group.state().read(), &region, known, record);
        match checked {
            Ok(()) => Ok(None),
            Err(Objection::Later(why)) => Err(Status::unavailable(why)),
            Err(Objection::Foreign(refusal)) => Ok(Some(refusal)),
        }
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
