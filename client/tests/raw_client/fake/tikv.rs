//! The fake's stores.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tinykv_proto::kvrpcpb::{self, KvPair};
use tinykv_proto::tikvpb::tikv_server::Tikv;
use tinykv_proto::tikvpb::{BatchCommandsRequest, BatchCommandsResponse};
use tinykv_proto::{errorpb, metapb};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::stream::{self, ByStream};
use super::{Fault, Region, Seen, World};

/// One store.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) world: Arc<Mutex<World>>,
}

pub(super) type Data = BTreeMap<Bytes, Bytes>;

/// What kept a request from being served, or from being answered.
pub(super) enum Trouble {
    Region(Box<errorpb::Error>),
    Text(&'static str),
}

impl Node {
    /// Serves one request: truthfully, or as the next fault says.
    async fn serve<M, T>(
        &self,
        call: &'static str,
        request: &Request<M>,
        context: Option<&kvrpcpb::Context>,
        keys: &[&Bytes],
        work: impl FnOnce(&mut Data, &Region) -> T,
    ) -> Result<Result<T, Trouble>, Status> {
        let work = |world: &mut World, region: &Region| work(&mut world.data, region);
        self.serve_all(call, request, context, keys, work).await
    }

    /// The same for work on more than keys and values.
    pub(super) async fn serve_all<M, T>(
        &self,
        call: &'static str,
        request: &Request<M>,
        context: Option<&kvrpcpb::Context>,
        keys: &[&Bytes],
        work: impl FnOnce(&mut World, &Region) -> T,
    ) -> Result<Result<T, Trouble>, Status> {
        let context = context.cloned().unwrap_or_default();
        let timeout = request.metadata().get("grpc-timeout");
        let seen = Seen {
            store: self.id,
            call,
            timeout: timeout.and_then(|it| it.to_str().ok()).map(str::to_owned),
            is_retry: context.is_retry_request,
            by_stream: request.extensions().get::<ByStream>().is_some(),
        };
        let hangs = {
            let mut world = self.world.lock().expect("no panic");
            world.seen.push(seen);
            world.came.notify_waiters();
            let fault = world.faults.entry(self.id).or_default().pop_front();
            if let Some(trouble) = self.refuse(&world, &context, fault.as_ref())? {
                return Ok(Err(trouble));
            }
            let region = match self.check(&world, &context, keys) {
                Ok(region) => region,
                Err(error) => return Ok(Err(Trouble::Region(error))),
            };
            let done = work(&mut world, &region);
            match fault {
                Some(Fault::Hang) => true,
                Some(Fault::Undetermined) => {
                    return Ok(Err(region_error(|error| {
                        let message = "stepped down".to_owned();
                        error.undetermined_result = Some(errorpb::UndeterminedResult { message });
                    })));
                }
                _ => return Ok(Ok(done)),
            }
        };
        assert!(hangs, "all others have returned");
        pending().await
    }

    /// What a fault says without serving the request.
    fn refuse(
        &self,
        world: &World,
        context: &kvrpcpb::Context,
        fault: Option<&Fault>,
    ) -> Result<Option<Trouble>, Status> {
        Ok(match fault {
            Some(Fault::NotLeader(leader)) => {
                let known = world
                    .regions
                    .iter()
                    .find(|region| region.id == context.region_id);
                let leader = leader.and_then(|store| Some(known?.peer(store)));
                Some(not_leader(context.region_id, leader))
            }
            Some(Fault::Busy(backoff_ms)) => Some(region_error(|error| {
                error.server_is_busy = Some(errorpb::ServerIsBusy {
                    reason: "injected".to_owned(),
                    backoff_ms: *backoff_ms,
                    ..Default::default()
                });
            })),
            Some(Fault::DiskFull) => Some(region_error(|error| {
                error.disk_full = Some(errorpb::DiskFull {
                    store_id: vec![self.id],
                    reason: "full".to_owned(),
                });
            })),
            Some(Fault::Refuse(text)) => Some(Trouble::Text(text)),
            Some(Fault::Status(code)) => return Err(Status::new(*code, "injected")),
            Some(Fault::Undetermined | Fault::Hang) | None => None,
        })
    }

    /// What a store checks.
    fn check(
        &self,
        world: &World,
        context: &kvrpcpb::Context,
        keys: &[&Bytes],
    ) -> Result<Region, Box<errorpb::Error>> {
        let error = |set: &dyn Fn(&mut errorpb::Error)| {
            let mut error = errorpb::Error::default();
            set(&mut error);
            Box::new(error)
        };
        let asked = context.peer.as_ref().map_or(0, |peer| peer.store_id);
        if asked != self.id {
            return Err(error(&|error| {
                error.store_not_match = Some(errorpb::StoreNotMatch {
                    request_store_id: asked,
                    actual_store_id: self.id,
                });
            }));
        }
        let found = world
            .regions
            .iter()
            .find(|region| region.id == context.region_id);
        let Some(region) = found else {
            return Err(error(&|error| {
                error.region_not_found = Some(errorpb::RegionNotFound {
                    region_id: context.region_id,
                });
            }));
        };
        if region.leader != self.id {
            let leader = (region.leader != 0).then(|| region.peer(region.leader));
            return Err(error(&|error| {
                error.not_leader = Some(errorpb::NotLeader {
                    region_id: region.id,
                    leader,
                });
            }));
        }
        if context.region_epoch.as_ref().map(|epoch| epoch.version) != Some(region.version) {
            let current_regions: Vec<metapb::Region> =
                world.regions.iter().map(Region::to_proto).collect();
            return Err(error(&|error| {
                error.epoch_not_match = Some(errorpb::EpochNotMatch {
                    current_regions: current_regions.clone(),
                });
            }));
        }
        if let Some(key) = keys.iter().find(|key| !region.contains(key)) {
            return Err(error(&|error| {
                error.key_not_in_region = Some(errorpb::KeyNotInRegion {
                    key: (*key).clone(),
                    region_id: region.id,
                    ..Default::default()
                });
            }));
        }
        Ok(region.clone())
    }
}

fn region_error(set: impl FnOnce(&mut errorpb::Error)) -> Trouble {
    let mut error = errorpb::Error::default();
    set(&mut error);
    Trouble::Region(Box::new(error))
}

fn not_leader(region_id: u64, leader: Option<metapb::Peer>) -> Trouble {
    region_error(|error| error.not_leader = Some(errorpb::NotLeader { region_id, leader }))
}

/// Trouble as the two fields most responses have for it.
pub(super) fn fields<T>(served: Result<T, Trouble>) -> (Option<T>, Option<errorpb::Error>, String) {
    match served {
        Ok(done) => (Some(done), None, String::new()),
        Err(Trouble::Region(error)) => (None, Some(*error), String::new()),
        Err(Trouble::Text(text)) => (None, None, text.to_owned()),
    }
}

fn pair(key: &Bytes, value: &Bytes) -> KvPair {
    KvPair {
        error: None,
        key: key.clone(),
        value: value.clone(),
    }
}

/// A refusal in a response of pairs.
fn told_in_pairs(text: String, pairs: Vec<KvPair>) -> Vec<KvPair> {
    if text.is_empty() {
        return pairs;
    }
    let error = Some(kvrpcpb::KeyError {
        abort: text,
        ..Default::default()
    });
    vec![KvPair {
        error,
        ..Default::default()
    }]
}

/// The pairs of a range within a region.
pub(super) fn range<'a>(
    data: &'a Data,
    region: &'a Region,
    lower: &'a Bytes,
    upper: &'a Bytes,
) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Bytes)> {
    data.iter().filter(move |(key, _)| {
        region.contains(key) && *key >= lower && (upper.is_empty() || *key < upper)
    })
}

#[tonic::async_trait]
impl Tikv for Node {
    async fn raw_get(
        &self,
        request: Request<kvrpcpb::RawGetRequest>,
    ) -> Result<Response<kvrpcpb::RawGetResponse>, Status> {
        let it = request.get_ref();
        let served = self
            .serve(
                "get",
                &request,
                it.context.as_ref(),
                &[&it.key],
                |data, _| data.get(&it.key).cloned(),
            )
            .await?;
        let (value, region_error, error) = fields(served);
        let value = value.flatten();
        let not_found = value.is_none() && region_error.is_none() && error.is_empty();
        Ok(Response::new(kvrpcpb::RawGetResponse {
            region_error,
            error,
            value: value.unwrap_or_default(),
            not_found,
        }))
    }

    async fn raw_batch_get(
        &self,
        request: Request<kvrpcpb::RawBatchGetRequest>,
    ) -> Result<Response<kvrpcpb::RawBatchGetResponse>, Status> {
        let it = request.get_ref();
        let keys: Vec<_> = it.keys.iter().collect();
        let served = self
            .serve(
                "batch_get",
                &request,
                it.context.as_ref(),
                &keys,
                |data, _| {
                    keys.iter()
                        .filter_map(|key| Some(pair(key, data.get(*key)?)))
                        .collect()
                },
            )
            .await?;
        let (pairs, region_error, text) = fields::<Vec<_>>(served);
        let pairs = told_in_pairs(text, pairs.unwrap_or_default());
        Ok(Response::new(kvrpcpb::RawBatchGetResponse {
            region_error,
            pairs,
        }))
    }

    async fn raw_put(
        &self,
        request: Request<kvrpcpb::RawPutRequest>,
    ) -> Result<Response<kvrpcpb::RawPutResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, _: &Region| {
            world.data.insert(it.key.clone(), it.value.clone());
            world.expire(&it.key, it.ttl * 1_000);
        };
        let served = self
            .serve_all("put", &request, it.context.as_ref(), &[&it.key], work)
            .await?;
        let (_, region_error, error) = fields(served);
        Ok(Response::new(kvrpcpb::RawPutResponse {
            region_error,
            error,
        }))
    }

    async fn raw_batch_put(
        &self,
        request: Request<kvrpcpb::RawBatchPutRequest>,
    ) -> Result<Response<kvrpcpb::RawBatchPutResponse>, Status> {
        let it = request.get_ref();
        let keys: Vec<_> = it.pairs.iter().map(|pair| &pair.key).collect();
        let work = |world: &mut World, _: &Region| {
            for pair in &it.pairs {
                world.data.insert(pair.key.clone(), pair.value.clone());
                world.expire(&pair.key, it.ttl * 1_000);
            }
        };
        let served = self
            .serve_all("batch_put", &request, it.context.as_ref(), &keys, work)
            .await?;
        let (_, region_error, error) = fields(served);
        Ok(Response::new(kvrpcpb::RawBatchPutResponse {
            region_error,
            error,
        }))
    }

    async fn raw_delete(
        &self,
        request: Request<kvrpcpb::RawDeleteRequest>,
    ) -> Result<Response<kvrpcpb::RawDeleteResponse>, Status> {
        let it = request.get_ref();
        let served = self
            .serve(
                "delete",
                &request,
                it.context.as_ref(),
                &[&it.key],
                |data, _| {
                    data.remove(&it.key);
                },
            )
            .await?;
        let (_, region_error, error) = fields(served);
        Ok(Response::new(kvrpcpb::RawDeleteResponse {
            region_error,
            error,
        }))
    }

    async fn raw_batch_delete(
        &self,
        request: Request<kvrpcpb::RawBatchDeleteRequest>,
    ) -> Result<Response<kvrpcpb::RawBatchDeleteResponse>, Status> {
        let it = request.get_ref();
        let keys: Vec<_> = it.keys.iter().collect();
        let served = self
            .serve(
                "batch_delete",
                &request,
                it.context.as_ref(),
                &keys,
                |data, _| {
                    data.retain(|key, _| !keys.contains(&key));
                },
            )
            .await?;
        let (_, region_error, error) = fields(served);
        Ok(Response::new(kvrpcpb::RawBatchDeleteResponse {
            region_error,
            error,
        }))
    }

    /// Cuts pages by bytes as stores do.
    async fn raw_scan(
        &self,
        request: Request<kvrpcpb::RawScanRequest>,
    ) -> Result<Response<kvrpcpb::RawScanResponse>, Status> {
        let it = request.get_ref();
        let served = self
            .serve(
                "scan",
                &request,
                it.context.as_ref(),
                &[],
                |data, region| {
                    let (lower, upper) = if it.reverse {
                        (&it.end_key, &it.start_key)
                    } else {
                        (&it.start_key, &it.end_key)
                    };
                    let mut there: Vec<_> = range(data, region, lower, upper).collect();
                    if it.reverse {
                        there.reverse();
                    }
                    let mut bytes = 0;
                    let (mut kvs, mut resume_key) = (Vec::new(), Bytes::new());
                    for (key, value) in there.into_iter().take(it.limit as usize) {
                        if it.bytes_max > 0 && bytes > it.bytes_max as usize {
                            // Forward: the first key still to come. Reverse: the last one seen.
                            let last = kvs
                                .last()
                                .map_or(Bytes::new(), |it: &KvPair| it.key.clone());
                            resume_key = if it.reverse { last } else { key.clone() };
                            break;
                        }
                        let value = if it.key_only {
                            Bytes::new()
                        } else {
                            value.clone()
                        };
                        bytes += key.len() + value.len();
                        kvs.push(pair(key, &value));
                    }
                    (kvs, resume_key)
                },
            )
            .await?;
        let (page, region_error, text) = fields(served);
        let (kvs, resume_key) = page.unwrap_or_default();
        let kvs = told_in_pairs(text, kvs);
        Ok(Response::new(kvrpcpb::RawScanResponse {
            region_error,
            kvs,
            resume_key,
        }))
    }

    async fn raw_delete_range(
        &self,
        request: Request<kvrpcpb::RawDeleteRangeRequest>,
    ) -> Result<Response<kvrpcpb::RawDeleteRangeResponse>, Status> {
        let it = request.get_ref();
        let served = self
            .serve(
                "delete_range",
                &request,
                it.context.as_ref(),
                &[&it.start_key],
                |data, region| {
                    let gone: Vec<_> = range(data, region, &it.start_key, &it.end_key)
                        .map(|(key, _)| key.clone())
                        .collect();
                    data.retain(|key, _| !gone.contains(key));
                },
            )
            .await?;
        let (_, region_error, error) = fields(served);
        Ok(Response::new(kvrpcpb::RawDeleteRangeResponse {
            region_error,
            error,
        }))
    }

    /// Sums bytes instead of a real checksum; clients only combine them.
    async fn raw_checksum(
        &self,
        request: Request<kvrpcpb::RawChecksumRequest>,
    ) -> Result<Response<kvrpcpb::RawChecksumResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, region: &Region| {
            let mut sum = (0, 0, 0);
            for asked in &it.ranges {
                for (key, value) in range(&world.data, region, &asked.start_key, &asked.end_key) {
                    let bytes = key.iter().chain(value);
                    sum.0 ^=
                        bytes.fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(*byte));
                    sum.1 += 1;
                    sum.2 += (key.len() + value.len()) as u64;
                }
            }
            sum
        };
        let served = self
            .serve_all("checksum", &request, it.context.as_ref(), &[], work)
            .await?;
        let (done, region_error, error) = fields(served);
        let (checksum, total_kvs, total_bytes) = done.unwrap_or_default();
        Ok(Response::new(kvrpcpb::RawChecksumResponse {
            region_error,
            error,
            checksum,
            total_kvs,
            total_bytes,
        }))
    }

    async fn raw_compare_and_swap(
        &self,
        request: Request<kvrpcpb::RawCasRequest>,
    ) -> Result<Response<kvrpcpb::RawCasResponse>, Status> {
        let it = request.get_ref();
        let served = self
            .serve(
                "cas",
                &request,
                it.context.as_ref(),
                &[&it.key],
                |data, _| {
                    let previous = data.get(&it.key).cloned();
                    let expected = (!it.previous_not_exist).then(|| it.previous_value.clone());
                    let swaps = previous == expected;
                    if swaps {
                        data.insert(it.key.clone(), it.value.clone());
                    }
                    (swaps, previous)
                },
            )
            .await?;
        let (swapped, region_error, error) = fields(served);
        let (succeed, previous) = swapped.unwrap_or_default();
        Ok(Response::new(kvrpcpb::RawCasResponse {
            region_error,
            error,
            succeed,
            previous_not_exist: previous.is_none(),
            previous_value: previous.unwrap_or_default(),
        }))
    }

    async fn batch_commands(
        &self,
        request: Request<Streaming<BatchCommandsRequest>>,
    ) -> Result<Response<BoxStream<BatchCommandsResponse>>, Status> {
        {
            let mut world = self.world.lock().expect("no panic");
            world.streams += 1;
            world.came.notify_waiters();
            if !world.knows_streams {
                return Err(Status::unimplemented("no streams"));
            }
        }
        Ok(Response::new(stream::answers(
            self.clone(),
            request.into_inner(),
        )))
    }
}
