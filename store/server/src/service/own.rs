//! `tinykv.store.Store`: what TiKV's protocol cannot say.

use std::time::Duration;

use tinykv_node::server::DECODE_BYTES_MAX;
use tinykv_proto::kvrpcpb::Context;
use tinykv_proto::store as pb;
use tinykv_proto::store::store_server::{Store, StoreServer};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::answer::told;
use super::read::First;
use super::tikv::open;
use super::{Calls, Failed, Told, convert, load};
use crate::command::{Conflict, Expiry};
use crate::limits;
use crate::raw::ranges::Range;
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
        let asked = Range {
            lower: start.clone(),
            upper: end.clone(),
        };
        self.read(
            &convert::target(context),
            deadline,
            First::Disk,
            |_| Ok(()),
            move |view| view.count(space, &start, &end),
            |counted, traffic| load::on_sum(traffic, space, &[asked], counted.count, 0),
        )
        .await
    }
}

/// Carries a call out. It is answered by what came of it or by why it was not carried out.
async fn answer<Q, A: From<Told>>(
    calls: &Calls,
    request: Request<Q>,
    context: fn(&Q) -> Option<&Context>,
    carry_out: impl AsyncFnOnce(&Q, Duration) -> Result<A, Failed>,
) -> Result<Response<A>, Status> {
    let (request, deadline) = open(calls, request, context);
    let answer = match carry_out(&request, deadline).await {
        Ok(answer) => answer,
        Err(failed) => A::from(told(failed, context(&request))?),
    };
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl Store for Calls {
    async fn raw_count(
        &self,
        request: Request<pb::RawCountRequest>,
    ) -> Result<Response<pb::RawCountResponse>, Status> {
        let carry_out = async |request: &pb::RawCountRequest, deadline| {
            let counted = self.raw_count_in_region(request, deadline).await?;
            Ok(pb::RawCountResponse {
                count: counted.count,
                resume_key: counted.resume.unwrap_or_default(),
                ..pb::RawCountResponse::default()
            })
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }

    async fn raw_increment(
        &self,
        request: Request<pb::RawIncrementRequest>,
    ) -> Result<Response<pb::RawIncrementResponse>, Status> {
        let carry_out = async |request: &pb::RawIncrementRequest, deadline| {
            let mut response = pb::RawIncrementResponse::default();
            match self.increment(request, deadline).await? {
                Ok(sum) => response.value = sum,
                Err(conflict) => {
                    response.error = conflict.to_string();
                    response.set_conflict(named(conflict));
                }
            }
            Ok(response)
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }

    async fn raw_append(
        &self,
        request: Request<pb::RawAppendRequest>,
    ) -> Result<Response<pb::RawAppendResponse>, Status> {
        let carry_out = async |request: &pb::RawAppendRequest, deadline| {
            let mut response = pb::RawAppendResponse::default();
            match self.append(request, deadline).await? {
                Ok(length) => response.length = length,
                Err(conflict) => {
                    response.error = conflict.to_string();
                    response.set_conflict(named(conflict));
                }
            }
            Ok(response)
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }

    async fn raw_put_if(
        &self,
        request: Request<pb::RawPutIfRequest>,
    ) -> Result<Response<pb::RawPutIfResponse>, Status> {
        let carry_out = async |request: &pb::RawPutIfRequest, deadline| {
            Ok(pb::RawPutIfResponse {
                succeed: self.put_if(request, deadline).await?,
                ..pb::RawPutIfResponse::default()
            })
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }

    async fn raw_remove(
        &self,
        request: Request<pb::RawRemoveRequest>,
    ) -> Result<Response<pb::RawRemoveResponse>, Status> {
        let carry_out = async |request: &pb::RawRemoveRequest, deadline| {
            Ok(pb::RawRemoveResponse {
                removed: self.remove(request, deadline).await?,
                ..pb::RawRemoveResponse::default()
            })
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }

    async fn raw_expire(
        &self,
        request: Request<pb::RawExpireRequest>,
    ) -> Result<Response<pb::RawExpireResponse>, Status> {
        let carry_out = async |request: &pb::RawExpireRequest, deadline| {
            let mut response = pb::RawExpireResponse::default();
            match self.expire(request, deadline).await? {
                Expiry::NotFound => response.not_found = true,
                Expiry::Changed { had_expiry } => response.had_expiry = had_expiry,
            }
            Ok(response)
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }

    async fn raw_get_expiry(
        &self,
        request: Request<pb::RawGetExpiryRequest>,
    ) -> Result<Response<pb::RawGetExpiryResponse>, Status> {
        let carry_out = async |request: &pb::RawGetExpiryRequest, deadline| {
            let (context, key) = (request.context.as_ref(), request.key.clone());
            let mut response = pb::RawGetExpiryResponse::default();
            match self
                .time_to_live(context, &request.cf, key, deadline)
                .await?
            {
                Some(left) => response.ttl_ms = left,
                None => response.not_found = true,
            }
            Ok(response)
        };
        answer(self, request, |r| r.context.as_ref(), carry_out).await
    }
}

fn named(conflict: Conflict) -> pb::Conflict {
    match conflict {
        Conflict::NotAnInteger => pb::Conflict::NotAnInteger,
        Conflict::Overflow => pb::Conflict::Overflow,
        Conflict::TooLong(_) => pb::Conflict::TooLong,
    }
}

/// Responses have no type in common, but the two fields that tell why a call was not carried out.
macro_rules! tell_refusals {
    ($($response:ident),* $(,)?) => {
        $(impl From<Told> for pb::$response {
            fn from(Told { region_error, text }: Told) -> Self {
                pb::$response { region_error, error: text, ..Default::default() }
            }
        })*
    };
}

tell_refusals!(
    RawCountResponse,
    RawIncrementResponse,
    RawAppendResponse,
    RawPutIfResponse,
    RawRemoveResponse,
    RawExpireResponse,
    RawGetExpiryResponse,
);
