//! `tinykv.placement.Members`: what members ask each other outside Raft.

use tinykv_proto::placement;
use tinykv_raft::PeerId;
use tonic::{Request, Response, Status};

use super::{Service, unavailable};
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
        let Some(known) = self.shared.acquaintance.incarnation(record.id) else {
            let sentence = "this member has not met all the others yet";
            return Err(Status::unavailable(sentence));
        };
        if known != record.incarnation {
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
        Ok(Response::new(placement::RegisterResponse { refusal }))
    }
}

impl Service {
    fn check_group(&self, group: u64) -> Result<(), Status> {
        if group == self.shared.neighbours.group() {
            return Ok(());
        }
        Err(Status::failed_precondition(
            "this member was started with another --initial-cluster",
        ))
    }
}
