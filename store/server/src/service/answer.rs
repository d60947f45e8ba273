//! From a message of TiKV's to the message that answers it.

use std::time::Duration;

use bytes::Bytes;
use tinykv_proto::kvrpcpb as pb;
use tonic::Status;

use super::{Calls, Failed, Told, convert};
use crate::command::Reply;
use crate::limits;
use crate::raw::plan::{self, Pair};
use crate::space::Space;

impl Calls {
    pub(super) async fn answer_raw_get(
        &self,
        request: pb::RawGetRequest,
        deadline: Duration,
    ) -> Result<pb::RawGetResponse, Status> {
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
        Ok(response)
    }

    pub(super) async fn answer_raw_batch_get(
        &self,
        request: pb::RawBatchGetRequest,
        deadline: Duration,
    ) -> Result<pb::RawBatchGetResponse, Status> {
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
        Ok(response)
    }

    pub(super) async fn answer_raw_scan(
        &self,
        request: pb::RawScanRequest,
        deadline: Duration,
    ) -> Result<pb::RawScanResponse, Status> {
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
        Ok(response)
    }

    pub(super) async fn answer_raw_get_key_ttl(
        &self,
        request: pb::RawGetKeyTtlRequest,
        deadline: Duration,
    ) -> Result<pb::RawGetKeyTtlResponse, Status> {
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
        Ok(response)
    }

    pub(super) async fn answer_raw_put(
        &self,
        request: pb::RawPutRequest,
        deadline: Duration,
    ) -> Result<pb::RawPutResponse, Status> {
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
        Ok(pb::RawPutResponse {
            region_error,
            error: text,
        })
    }

    pub(super) async fn answer_raw_batch_put(
        &self,
        request: pb::RawBatchPutRequest,
        deadline: Duration,
    ) -> Result<pb::RawBatchPutResponse, Status> {
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
        Ok(pb::RawBatchPutResponse {
            region_error,
            error: text,
        })
    }

    pub(super) async fn answer_raw_delete(
        &self,
        request: pb::RawDeleteRequest,
        deadline: Duration,
    ) -> Result<pb::RawDeleteResponse, Status> {
        let context = request.context.as_ref();
        let plan = |space| plan::delete(space, &request.key);
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(pb::RawDeleteResponse {
            region_error,
            error: text,
        })
    }

    pub(super) async fn answer_raw_batch_delete(
        &self,
        request: pb::RawBatchDeleteRequest,
        deadline: Duration,
    ) -> Result<pb::RawBatchDeleteResponse, Status> {
        let context = request.context.as_ref();
        let plan = |space| plan::batch_delete(space, request.keys.iter().map(AsRef::as_ref));
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(pb::RawBatchDeleteResponse {
            region_error,
            error: text,
        })
    }

    pub(super) async fn answer_raw_delete_range(
        &self,
        request: pb::RawDeleteRangeRequest,
        deadline: Duration,
    ) -> Result<pb::RawDeleteRangeResponse, Status> {
        let context = request.context.as_ref();
        let plan = |space| plan::delete_range(space, &request.start_key, &request.end_key);
        let done = self.change(context, &request.cf, deadline, plan).await;
        let Told { region_error, text } = done_or_told(done, context)?;
        Ok(pb::RawDeleteRangeResponse {
            region_error,
            error: text,
        })
    }

    pub(super) async fn answer_raw_compare_and_swap(
        &self,
        request: pb::RawCasRequest,
        deadline: Duration,
    ) -> Result<pb::RawCasResponse, Status> {
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
        Ok(response)
    }

    pub(super) async fn answer_raw_batch_scan(
        &self,
        request: pb::RawBatchScanRequest,
        deadline: Duration,
    ) -> Result<pb::RawBatchScanResponse, Status> {
        let response = match self.batch_scan(&request, deadline).await {
            Ok(found) => pb::RawBatchScanResponse {
                region_error: None,
                kvs: pairs(found),
            },
            Err(failed) => {
                let told = told(failed, request.context.as_ref())?;
                pb::RawBatchScanResponse {
                    region_error: told.region_error,
                    kvs: refusal_pairs(told.text),
                }
            }
        };
        Ok(response)
    }

    pub(super) async fn answer_raw_checksum(
        &self,
        request: pb::RawChecksumRequest,
        deadline: Duration,
    ) -> Result<pb::RawChecksumResponse, Status> {
        let response = match self.checksum(&request, deadline).await {
            Ok(sum) => pb::RawChecksumResponse {
                checksum: sum.checksum,
                total_kvs: sum.pairs,
                total_bytes: sum.bytes,
                ..pb::RawChecksumResponse::default()
            },
            Err(failed) => {
                let told = told(failed, request.context.as_ref())?;
                pb::RawChecksumResponse {
                    region_error: told.region_error,
                    error: told.text,
                    ..pb::RawChecksumResponse::default()
                }
            }
        };
        Ok(response)
    }
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
