//! `tinykv.check.Check`.

use std::time::Duration;

use tinykv_node::checksum::Sum;
use tinykv_proto::check as pb;
use tinykv_proto::check::check_server::{Check, CheckServer};
use tinykv_raft::GroupId;
use tonic::{Request, Response, Status};

use super::deadline::patience;
use crate::check::{Checker, NotChecked};

/// The service of a checker.
pub(crate) fn server(checker: Checker) -> CheckServer<Checker> {
    CheckServer::new(checker)
}

#[tonic::async_trait]
impl Check for Checker {
    async fn check_region(
        &self,
        request: Request<pb::CheckRegionRequest>,
    ) -> Result<Response<pb::CheckRegionResponse>, Status> {
        let time = patience(request.metadata(), 0);
        let group = GroupId(request.into_inner().region_id);
        let (region, compared) = match self.check(group, time).await {
            Ok(checked) => checked,
            Err(refused) => return Ok(Response::new(told(&refused))),
        };
        let index = compared.index();
        let replicas = compared.replicas.into_iter().map(|(told, is_odd)| {
            let (sum, error) = parts(told.sum);
            pb::Replica {
                peer_id: told.peer.id.0,
                store_id: told.peer.store.0,
                sum,
                error,
                is_odd,
            }
        });
        Ok(Response::new(pb::CheckRegionResponse {
            index,
            replicas: replicas.collect(),
            end_key: region.end.clone(),
            ..pb::CheckRegionResponse::default()
        }))
    }

    async fn replica_sum(
        &self,
        request: Request<pb::ReplicaSumRequest>,
    ) -> Result<Response<pb::ReplicaSumResponse>, Status> {
        let time: Duration = patience(request.metadata(), 0);
        let request = request.into_inner();
        let sum = self.sum_here(GroupId(request.region_id), request.check_id);
        let late = |_| Err("it has not got that far".to_owned());
        let sum = tokio::time::timeout(time, sum).await.unwrap_or_else(late);
        let (sum, error) = parts(sum);
        Ok(Response::new(pb::ReplicaSumResponse { sum, error }))
    }
}

fn parts(sum: Result<Sum, String>) -> (Option<pb::Sum>, String) {
    match sum {
        Err(error) => (None, error),
        Ok(sum) => {
            let sum = pb::Sum {
                index: sum.entry.index.0,
                term: sum.entry.term.0,
                crc32c: sum.crc32c,
                pairs: sum.pairs,
                bytes: sum.bytes,
            };
            (Some(sum), String::new())
        }
    }
}

fn told(refused: &NotChecked) -> pb::CheckRegionResponse {
    let refusal = match refused {
        NotChecked::NotLeader(_) => pb::Refusal::NotLeader,
        NotChecked::UnderWay(_) | NotChecked::Busy => pb::Refusal::Busy,
        NotChecked::UnknownRegion(_) => pb::Refusal::UnknownRegion,
        NotChecked::NotTaken { .. } => pb::Refusal::NotTaken,
    };
    pb::CheckRegionResponse {
        refusal: refusal.into(),
        error: refused.to_string(),
        ..pb::CheckRegionResponse::default()
    }
}
