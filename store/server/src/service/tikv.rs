//! `tikvpb.Tikv`: TiKV's raw calls.

use std::time::Duration;

use bytes::Bytes;
use tinykv_node::server::DECODE_BYTES_MAX;
use tinykv_proto::kvrpcpb as pb;
use tinykv_proto::tikvpb::tikv_server::{Tikv, TikvServer};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::{Calls, Failed, Told, convert, deadline};
use crate::command::Reply;
use crate::limits;
use crate::raw::plan::{self, Pair};
use crate::space::Space;

pub(super) fn server(calls: Calls) -> TikvServer<Calls> {
    TikvServer::new(calls)
        .max_decoding_message_size(DECODE_BYTES_MAX)
        .max_encoding_message_size(limits::ANSWER_BYTES_MAX * 2)
        .accept_compressed(CompressionEncoding::Gzip)
}

/// Takes the message out and notes until when it is waited for.
pub(super) fn open<T>(
    calls: &Calls,
    request: Request<T>,
    context: fn(&T) -> Option<&pb::Context>,
) -> (T, Duration) {
    let execution_ms =
        context(request.get_ref()).map_or(0, |context| context.max_execution_duration_ms);
    let patience = deadline::patience(request.metadata(), execution_ms);
    (request.into_inner(), calls.deadline(patience))
}

/// How an asker of this request sees bounds, also when the request is refused.
pub(super) fn told(failed: Failed, context: Option<&pb::Context>) -> Result<Told, Status> {
    failed.tell(convert::space(context).unwrap_or(Space::Plain).asker())
}

/// One pair that carries a refusal, for responses without a text.
fn refusal_pairs(text: String) -> Vec<pb::KvPair> {
    if text.is_empty() {
        return Vec::new();
    }
    vec![pb::KvPair {
        error: Some(pb::KeyError {
            abort: text,
            ..pb::KeyError::default()
        }),
        ..pb::KvPair::default()
    }]
}

fn pairs(found: Vec<(Bytes, Bytes)>) -> Vec<pb::KvPair> {
    let pair = |(key, value)| pb::KvPair {
        error: None,
        key,
        value,
    };
    found.into_iter().map(pair).collect()
}

#[tonic::async_trait]
impl Tikv for Calls {
    async fn raw_get(
        &self,
        request: Request<pb::RawGetRequest>,
    ) -> Result<Response<pb::RawGetResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let response = match self.get(context, &request.cf, request.key, deadline).await {
            Ok(Some((value, _))) => pb::RawGetResponse {
                value: value.payload,
                ..pb::RawGetResponse::default()
            },
            Ok(None) => pb::RawGetResponse {
                not_found: true,
                ..pb::RawGetResponse::default()
            },
            Err(failed) => {
                let told = told(failed, context)?;
                pb::RawGetResponse {
                    region_error: told.region_error,
                    error: told.text,
                    ..pb::RawGetResponse::default()
                }
            }
        };
        Ok(Response::new(response))
    }

    async fn raw_batch_get(
        &self,
        request: Request<pb::RawBatchGetRequest>,
    ) -> Result<Response<pb::RawBatchGetResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let response = match self.batch_get(&request, deadline).await {
            Ok(found) => pb::RawBatchGetResponse {
                region_error: None,
                pairs: pairs(found),
            },
            Err(failed) => {
                let told = told(failed, request.context.as_ref())?;
                pb::RawBatchGetResponse {
                    region_error: told.region_error,
                    pairs: refusal_pairs(told.text),
                }
            }
        };
        Ok(Response::new(response))
    }

    async fn raw_scan(
        &self,
        request: Request<pb::RawScanRequest>,
    ) -> Result<Response<pb::RawScanResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let response = match self.scan(&request, deadline).await {
            Ok(scanned) => pb::RawScanResponse {
                region_error: None,
                kvs: pairs(scanned.pairs),
                resume_key: scanned.resume.unwrap_or_default(),
            },
            Err(failed) => {
                let told = told(failed, request.context.as_ref())?;
                pb::RawScanResponse {
                    region_error: told.region_error,
                    kvs: refusal_pairs(told.text),
                    resume_key: Bytes::new(),
                }
            }
        };
        Ok(Response::new(response))
    }

    async fn raw_get_key_ttl(
        &self,
        request: Request<pb::RawGetKeyTtlRequest>,
    ) -> Result<Response<pb::RawGetKeyTtlResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let left = self
            .time_to_live(context, &request.cf, request.key, deadline)
            .await;
        let response = match left {
            Ok(Some(left)) => pb::RawGetKeyTtlResponse {
                ttl: left.unwrap_or(0).div_ceil(1000),
                ..pb::RawGetKeyTtlResponse::default()
            },
            Ok(None) => pb::RawGetKeyTtlResponse {
                not_found: true,
                ..pb::RawGetKeyTtlResponse::default()
            },
            Err(failed) => {
                let told = told(failed, context)?;
                pb::RawGetKeyTtlResponse {
                    region_error: told.region_error,
                    error: told.text,
                    ..pb::RawGetKeyTtlResponse::default()
                }
            }
        };
        Ok(Response::new(response))
    }

    async fn raw_put(
        &self,
        request: Request<pb::RawPutRequest>,
    ) -> Result<Response<pb::RawPutResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let plan = |space| {
            let pair = Pair {
                key: &request.key,
                value: &request.value,
                ttl_ms: limits::ttl_ms(request.ttl)?,
            };
            plan::put(space, pair)
        };
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(Response::new(pb::RawPutResponse {
            region_error,
            error: text,
        }))
    }

    async fn raw_batch_put(
        &self,
        request: Request<pb::RawBatchPutRequest>,
    ) -> Result<Response<pb::RawBatchPutResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let plan = |space| {
            let count = request.pairs.len();
            let ttls = limits::batch_ttls_ms(&request.ttls, request.ttl, count)?;
            let pairs = request.pairs.iter().zip(ttls).map(|(pair, ttl_ms)| Pair {
                key: &pair.key,
                value: &pair.value,
                ttl_ms,
            });
            plan::batch_put(space, pairs)
        };
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(Response::new(pb::RawBatchPutResponse {
            region_error,
            error: text,
        }))
    }

    async fn raw_delete(
        &self,
        request: Request<pb::RawDeleteRequest>,
    ) -> Result<Response<pb::RawDeleteResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let plan = |space| plan::delete(space, &request.key);
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(Response::new(pb::RawDeleteResponse {
            region_error,
            error: text,
        }))
    }

    async fn raw_batch_delete(
        &self,
        request: Request<pb::RawBatchDeleteRequest>,
    ) -> Result<Response<pb::RawBatchDeleteResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let plan = |space| plan::batch_delete(space, request.keys.iter().map(AsRef::as_ref));
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(Response::new(pb::RawBatchDeleteResponse {
            region_error,
            error: text,
        }))
    }

    async fn raw_delete_range(
        &self,
        request: Request<pb::RawDeleteRangeRequest>,
    ) -> Result<Response<pb::RawDeleteRangeResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let context = request.context.as_ref();
        let plan = |space| plan::delete_range(space, &request.start_key, &request.end_key);
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(Response::new(pb::RawDeleteRangeResponse {
            region_error,
            error: text,
        }))
    }

    async fn raw_compare_and_swap(
        &self,
        request: Request<pb::RawCasRequest>,
    ) -> Result<Response<pb::RawCasResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        let response = match self.compare_and_swap(&request, deadline).await {
            Ok((succeed, previous)) => pb::RawCasResponse {
                succeed,
                previous_not_exist: previous.is_none(),
                previous_value: previous.unwrap_or_default(),
                ..pb::RawCasResponse::default()
            },
            Err(failed) => {
                let told = told(failed, request.context.as_ref())?;
                pb::RawCasResponse {
                    region_error: told.region_error,
                    error: told.text,
                    ..pb::RawCasResponse::default()
                }
            }
        };
        Ok(Response::new(response))
    }
}

/// The two fields that tell of a write which has nothing else to tell.
fn done_or_told(
    done: Result<Reply, Failed>,
    context: Option<&pb::Context>,
) -> Result<Told, Status> {
    match done {
        Ok(_) => Ok(Told {
            region_error: None,
            text: String::new(),
        }),
        Err(failed) => told(failed, context),
    }
}
