//! `tinykv.store.Store`: what TiKV's protocol cannot say.

use tinykv_proto::store as pb;
use tinykv_proto::store::store_server::{Store, StoreServer};
use tonic::{Request, Response, Status};

use super::read::First;
use super::{Calls, Failed, convert, deadline};
use crate::limits;
use crate::raw::read::Counted;
use crate::space::Space;

pub(super) fn server(calls: Calls) -> StoreServer<Calls> {
    StoreServer::new(calls)
}

impl Calls {
    async fn raw_count_in_region(
        &self,
        request: &pb::RawCountRequest,
        deadline: std::time::Duration,
    ) -> Result<Counted, Failed> {
        limits::check_column_family(&request.cf)?;
        let context = request.context.as_ref();
        let space = convert::space(context)?;
        space.check_bound(&request.start_key)?;
        space.check_bound(&request.end_key)?;
        let (start, end) = (request.start_key.clone(), request.end_key.clone());
        self.read(
            &convert::target(context),
            deadline,
            First::Disk,
            |_| Ok(()),
            move |view| view.count(space, &start, &end),
        )
        .await
    }
}

#[tonic::async_trait]
impl Store for Calls {
    async fn raw_count(
        &self,
        request: Request<pb::RawCountRequest>,
    ) -> Result<Response<pb::RawCountResponse>, Status> {
        let patience = deadline::patience(request.metadata(), 0);
        let deadline = self.deadline(patience);
        let request = request.into_inner();
        let response = match self.raw_count_in_region(&request, deadline).await {
            Ok(counted) => pb::RawCountResponse {
                count: counted.count,
                resume_key: counted.resume.unwrap_or_default(),
                ..pb::RawCountResponse::default()
            },
            Err(failed) => {
                let space = convert::space(request.context.as_ref());
                let told = failed.tell(space.unwrap_or(Space::Plain).asker())?;
                pb::RawCountResponse {
                    region_error: told.region_error,
                    error: told.text,
                    ..pb::RawCountResponse::default()
                }
            }
        };
        Ok(Response::new(response))
    }
}
