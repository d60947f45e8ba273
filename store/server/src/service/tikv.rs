//! `tikvpb.Tikv`: TiKV's raw calls.

use std::time::Duration;

use bytes::Bytes;
use tinykv_node::server::DECODE_BYTES_MAX;
use tinykv_proto::kvrpcpb as pb;
use tinykv_proto::tikvpb::tikv_server::{Tikv, TikvServer};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::read::First;
use super::{Calls, Failed, Told, convert, deadline};
use crate::checks::{RegionError, Target};
use crate::command::{Operation, Reply};
use crate::limits::{self, Refused};
use crate::raw::plan::{self, Pair};
use crate::raw::read::{Order, Scan, Scanned, Values};
use crate::space::Space;
use crate::value::{PlacementTime, StoredValue};

pub(super) fn server(calls: Calls) -> TikvServer<Calls> {
    TikvServer::new(calls)
        .max_decoding_message_size(DECODE_BYTES_MAX)
        .max_encoding_message_size(limits::ANSWER_BYTES_MAX * 2)
        .accept_compressed(CompressionEncoding::Gzip)
}

/// What every request says beside what it asks for.
struct Asked {
    target: Target,
    space: Space,
    deadline: Duration,
}

/// Takes the message out and notes until when it is waited for.
fn open<T>(
    calls: &Calls,
    request: Request<T>,
    context: fn(&T) -> Option<&pb::Context>,
) -> (T, Duration) {
    let execution_ms =
        context(request.get_ref()).map_or(0, |context| context.max_execution_duration_ms);
    let patience = deadline::patience(request.metadata(), execution_ms);
    (request.into_inner(), calls.deadline(patience))
}

fn asked(
    context: Option<&pb::Context>,
    column_family: &str,
    deadline: Duration,
) -> Result<Asked, Refused> {
    limits::check_column_family(column_family)?;
    Ok(Asked {
        target: convert::target(context),
        space: convert::space(context)?,
        deadline,
    })
}

/// How an asker of this request sees bounds, also when the request is refused.
fn told(failed: Failed, context: Option<&pb::Context>) -> Result<Told, Status> {
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

impl Calls {
    pub(super) async fn get(
        &self,
        context: Option<&pb::Context>,
        column_family: &str,
        key: Bytes,
        deadline: Duration,
    ) -> Result<Option<(StoredValue, PlacementTime)>, Failed> {
        let Asked {
            target,
            space,
            deadline,
        } = asked(context, column_family, deadline)?;
        space.check_key(&key)?;
        let inside = key.clone();
        self.read(
            &target,
            deadline,
            First::Memory,
            move |region| inside_region(space, region, [&inside]),
            move |view| Ok(view.get(space, &key)?.map(|value| (value, view.now))),
        )
        .await
    }

    async fn batch_get(
        &self,
        request: &pb::RawBatchGetRequest,
        deadline: Duration,
    ) -> Result<Vec<(Bytes, Bytes)>, Failed> {
        let Asked {
            target,
            space,
            deadline,
        } = asked(request.context.as_ref(), &request.cf, deadline)?;
        for key in &request.keys {
            space.check_key(key)?;
        }
        let inside = request.keys.clone();
        let keys = request.keys.clone();
        self.read(
            &target,
            deadline,
            First::Memory,
            move |region| inside_region(space, region, &inside),
            move |view| view.batch_get(space, &keys),
        )
        .await
    }

    async fn scan(
        &self,
        request: &pb::RawScanRequest,
        deadline: Duration,
    ) -> Result<Scanned, Failed> {
        let Asked {
            target,
            space,
            deadline,
        } = asked(request.context.as_ref(), &request.cf, deadline)?;
        space.check_bound(&request.start_key)?;
        space.check_bound(&request.end_key)?;
        let (start, end) = (request.start_key.clone(), request.end_key.clone());
        let (lower, upper, order) = match request.reverse {
            false => (start, end, Order::Forward),
            true => (end, start, Order::Reverse),
        };
        let keys_max = (request.limit as usize).min(limits::SCAN_KEYS_MAX);
        let bytes_max = (request.bytes_max > 0).then_some(request.bytes_max as usize);
        let values = match request.key_only {
            false => Values::Included,
            true => Values::LeftOut,
        };
        self.read(
            &target,
            deadline,
            First::Disk,
            |_| Ok(()),
            move |view| {
                let scan = Scan {
                    lower: &lower,
                    upper: &upper,
                    order,
                    keys_max,
                    values,
                    bytes_max,
                };
                view.scan(space, &scan)
            },
        )
        .await
    }

    /// Plans a write and carries it out.
    async fn change(
        &self,
        context: Option<&pb::Context>,
        column_family: &str,
        deadline: Duration,
        needs_time: impl FnOnce(&Operation) -> NeedsTime,
        plan: impl FnOnce(Space) -> Result<Operation, Refused>,
    ) -> Result<Reply, Failed> {
        let Asked {
            target,
            space,
            deadline,
        } = asked(context, column_family, deadline)?;
        let operation = plan(space)?;
        if operation.is_nothing() {
            return Ok(Reply::Done);
        }
        let now = match needs_time(&operation) {
            NeedsTime::Never => PlacementTime(0),
            NeedsTime::IfKnown => self.time(),
            NeedsTime::Always => match self.time() {
                PlacementTime(0) => {
                    return Err(Failed::Region(RegionError::Busy {
                        reason: "placement's time, by which values expire, is not known yet",
                        wait: Duration::from_millis(500),
                    }));
                }
                now => now,
            },
        };
        self.write(&target, operation, now, deadline).await
    }

    async fn compare_and_swap(
        &self,
        request: &pb::RawCasRequest,
        deadline: Duration,
    ) -> Result<(bool, Option<Bytes>), Failed> {
        let expected = (!request.previous_not_exist).then_some(request.previous_value.as_ref());
        let ttl_ms = limits::ttl_ms(request.ttl)?;
        let new = (!request.delete).then_some((request.value.as_ref(), ttl_ms));
        let time = match ttl_ms {
            0 => NeedsTime::IfKnown,
            _ => NeedsTime::Always,
        };
        let reply = self
            .change(
                request.context.as_ref(),
                &request.cf,
                deadline,
                |_| time,
                |space| plan::compare_and_swap(space, &request.key, expected, new),
            )
            .await?;
        match reply {
            Reply::Swapped {
                succeeded,
                previous,
            } => Ok((succeeded, previous)),
            Reply::Unreadable(error) => Err(Failed::Broken(error.to_string())),
            Reply::Done => unreachable!("a compare-and-swap is answered by its outcome"),
        }
    }
}

/// Whether a command carries placement's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NeedsTime {
    /// Nothing in it depends on time.
    Never,
    /// A value it reads may have expired.
    IfKnown,
    /// It stores a value that will expire.
    Always,
}

fn by_ttl(operation: &Operation) -> NeedsTime {
    let expires = match operation {
        Operation::Put(write) => write.ttl_ms > 0,
        Operation::BatchPut(writes) => writes.iter().any(|write| write.ttl_ms > 0),
        _ => false,
    };
    match expires {
        true => NeedsTime::Always,
        false => NeedsTime::Never,
    }
}

fn never(_: &Operation) -> NeedsTime {
    NeedsTime::Never
}

fn inside_region<'a>(
    space: Space,
    region: &std::sync::Arc<tinykv_replica::Region>,
    keys: impl IntoIterator<Item = &'a Bytes>,
) -> Result<(), RegionError> {
    match keys.into_iter().find(|key| !space.contains(region, key)) {
        None => Ok(()),
        Some(key) => Err(RegionError::KeyNotInRegion {
            key: key.clone(),
            region: std::sync::Arc::clone(region),
        }),
    }
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
        let response = match self.get(context, &request.cf, request.key, deadline).await {
            Ok(Some((value, now))) => pb::RawGetKeyTtlResponse {
                ttl: value
                    .expires_at
                    .map_or(0, |at| at.0.saturating_sub(now.0).div_ceil(1000)),
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
        let done = self
            .change(context, &request.cf, deadline, by_ttl, plan)
            .await;
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
        let done = self
            .change(context, &request.cf, deadline, by_ttl, plan)
            .await;
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
        let done = self
            .change(context, &request.cf, deadline, never, plan)
            .await;
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
        let done = self
            .change(context, &request.cf, deadline, never, plan)
            .await;
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
        let done = self
            .change(context, &request.cf, deadline, never, plan)
            .await;
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
