//! `tinykv.store.Store`: what TiKV's protocol cannot say.

use std::time::Duration;

use tinykv_node::server::DECODE_BYTES_MAX;
use tinykv_proto::store as pb;
use tinykv_proto::store::store_server::{Store, StoreServer};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::answer::told;
use super::read::First;
use super::tikv::open;
use super::{Calls, Failed, Told, convert};
use crate::command::{Conflict, Expiry};
use crate::limits;
use crate::raw::read::Counted;

pub(super) fn server(calls: Calls) -> StoreServer<Calls> {
    StoreServer::new(calls)
        .max_decoding_message_size(DECODE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
}

impl Calls {
    async fn raw_count_in_region(
        &self,
        request: &pb::RawCountRequest,
        deadline: Duration,
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
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let mut response = pb::RawCountResponse::default();
        match self.raw_count_in_region(&request, deadline).await {
            Ok(counted) => {
                response.count = counted.count;
                response.resume_key = counted.resume.unwrap_or_default();
            }
            Err(failed) => {
                let Told { region_error, text } = told(failed, request.context.as_ref())?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }

    async fn raw_increment(
        &self,
        request: Request<pb::RawIncrementRequest>,
    ) -> Result<Response<pb::RawIncrementResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let mut response = pb::RawIncrementResponse::default();
        match self.increment(&request, deadline).await {
            Ok(Ok(sum)) => response.value = sum,
            Ok(Err(conflict)) => {
                response.error = conflict.to_string();
                response.set_conflict(named(conflict));
            }
            Err(failed) => {
                let Told { region_error, text } = told(failed, request.context.as_ref())?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }

    async fn raw_append(
        &self,
        request: Request<pb::RawAppendRequest>,
    ) -> Result<Response<pb::RawAppendResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let mut response = pb::RawAppendResponse::default();
        match self.append(&request, deadline).await {
            Ok(Ok(length)) => response.length = length,
            Ok(Err(conflict)) => {
                response.error = conflict.to_string();
                response.set_conflict(named(conflict));
            }
            Err(failed) => {
                let Told { region_error, text } = told(failed, request.context.as_ref())?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }

    async fn raw_put_if(
        &self,
        request: Request<pb::RawPutIfRequest>,
    ) -> Result<Response<pb::RawPutIfResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let mut response = pb::RawPutIfResponse::default();
        match self.put_if(&request, deadline).await {
            Ok(stored) => response.succeed = stored,
            Err(failed) => {
                let Told { region_error, text } = told(failed, request.context.as_ref())?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }

    async fn raw_remove(
        &self,
        request: Request<pb::RawRemoveRequest>,
    ) -> Result<Response<pb::RawRemoveResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let mut response = pb::RawRemoveResponse::default();
        match self.remove(&request, deadline).await {
            Ok(removed) => response.removed = removed,
            Err(failed) => {
                let Told { region_error, text } = told(failed, request.context.as_ref())?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }

    async fn raw_expire(
        &self,
        request: Request<pb::RawExpireRequest>,
    ) -> Result<Response<pb::RawExpireResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let mut response = pb::RawExpireResponse::default();
        match self.expire(&request, deadline).await {
            Ok(Expiry::NotFound) => response.not_found = true,
            Ok(Expiry::Changed { had_expiry }) => response.had_expiry = had_expiry,
            Err(failed) => {
                let Told { region_error, text } = told(failed, request.context.as_ref())?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }

    async fn raw_get_expiry(
        &self,
        request: Request<pb::RawGetExpiryRequest>,
    ) -> Result<Response<pb::RawGetExpiryResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let mut response = pb::RawGetExpiryResponse::default();
        let left = self
            .time_to_live(context, &request.cf, request.key, deadline)
            .await;
        match left {
            Ok(Some(left)) => response.ttl_ms = left,
            Ok(None) => response.not_found = true,
            Err(failed) => {
                let Told { region_error, text } = told(failed, context)?;
                (response.region_error, response.error) = (region_error, text);
            }
        }
        Ok(Response::new(response))
    }
}

fn named(conflict: Conflict) -> pb::Conflict {
    match conflict {
        Conflict::NotAnInteger => pb::Conflict::NotAnInteger,
        Conflict::Overflow => pb::Conflict::Overflow,
        Conflict::TooLong(_) => pb::Conflict::TooLong,
    }
}
