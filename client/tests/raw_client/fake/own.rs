//! The fake's stores: the calls that TiKV's protocol lacks.

use bytes::Bytes;
use tinykv_keys::VALUE_BYTES_MAX;
use tinykv_proto::errorpb;
use tinykv_proto::store::store_server::Store;
use tinykv_proto::store::{self as pb, Condition, Conflict};
use tonic::{Request, Response, Status};

use super::tikv::{Node, Trouble, fields, range};
use super::{Region, World};

#[tonic::async_trait]
impl Store for Node {
    /// Counts three keys at a time, so that askers have to go on.
    async fn raw_count(
        &self,
        request: Request<pb::RawCountRequest>,
    ) -> Result<Response<pb::RawCountResponse>, Status> {
        let it = request.get_ref();
        let served = self
            .serve_all(
                "count",
                &request,
                it.context.as_ref(),
                &[],
                |world, region| {
                    let there: Vec<_> = range(&world.data, region, &it.start_key, &it.end_key)
                        .map(|(key, _)| key.clone())
                        .collect();
                    let resume_key = there.get(3).cloned().unwrap_or_default();
                    (there.len().min(3) as u64, resume_key)
                },
            )
            .await?;
        let (counted, region_error, error) = fields(served);
        let (count, resume_key) = counted.unwrap_or_default();
        Ok(Response::new(pb::RawCountResponse {
            region_error,
            error,
            count,
            resume_key,
        }))
    }

    async fn raw_increment(
        &self,
        request: Request<pb::RawIncrementRequest>,
    ) -> Result<Response<pb::RawIncrementResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, _: &Region| {
            let stored = world.data.get(&it.key).cloned().unwrap_or(Bytes::from("0"));
            let number = str::from_utf8(&stored)
                .ok()
                .and_then(|text| text.parse().ok());
            let number: i64 = number.ok_or(Conflict::NotAnInteger)?;
            let sum = number.checked_add(it.delta).ok_or(Conflict::Overflow)?;
            world
                .data
                .insert(it.key.clone(), Bytes::from(sum.to_string()));
            Ok(sum)
        };
        let served = self
            .serve_all("increment", &request, it.context.as_ref(), &[&it.key], work)
            .await?;
        let (done, conflict, region_error, error) = decided(served);
        Ok(Response::new(pb::RawIncrementResponse {
            region_error,
            error,
            conflict,
            value: done.unwrap_or_default(),
        }))
    }

    async fn raw_append(
        &self,
        request: Request<pb::RawAppendRequest>,
    ) -> Result<Response<pb::RawAppendResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, _: &Region| {
            let stored = world.data.get(&it.key).cloned().unwrap_or_default();
            if stored.len() + it.value.len() > VALUE_BYTES_MAX {
                return Err(Conflict::TooLong);
            }
            let longer = [stored, it.value.clone()].concat();
            let length = longer.len() as u64;
            world.data.insert(it.key.clone(), Bytes::from(longer));
            Ok(length)
        };
        let served = self
            .serve_all("append", &request, it.context.as_ref(), &[&it.key], work)
            .await?;
        let (done, conflict, region_error, error) = decided(served);
        Ok(Response::new(pb::RawAppendResponse {
            region_error,
            error,
            conflict,
            length: done.unwrap_or_default(),
        }))
    }

    async fn raw_put_if(
        &self,
        request: Request<pb::RawPutIfRequest>,
    ) -> Result<Response<pb::RawPutIfResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, _: &Region| {
            let exists = world.data.contains_key(&it.key);
            let holds = match it.condition() {
                Condition::Always => true,
                Condition::IfAbsent => !exists,
                Condition::IfPresent => exists,
            };
            if holds {
                world.data.insert(it.key.clone(), it.value.clone());
                if !it.keep_expiry {
                    world.expire(&it.key, it.ttl_ms);
                }
            }
            holds
        };
        let served = self
            .serve_all("put_if", &request, it.context.as_ref(), &[&it.key], work)
            .await?;
        let (done, region_error, error) = fields(served);
        Ok(Response::new(pb::RawPutIfResponse {
            region_error,
            error,
            succeed: done.unwrap_or_default(),
        }))
    }

    async fn raw_remove(
        &self,
        request: Request<pb::RawRemoveRequest>,
    ) -> Result<Response<pb::RawRemoveResponse>, Status> {
        let it = request.get_ref();
        let keys: Vec<_> = it.keys.iter().collect();
        let work = |world: &mut World, _: &Region| {
            let removed = keys.iter().filter_map(|key| world.data.remove(*key));
            removed.count() as u64
        };
        let served = self
            .serve_all("remove", &request, it.context.as_ref(), &keys, work)
            .await?;
        let (done, region_error, error) = fields(served);
        Ok(Response::new(pb::RawRemoveResponse {
            region_error,
            error,
            removed: done.unwrap_or_default(),
        }))
    }

    async fn raw_expire(
        &self,
        request: Request<pb::RawExpireRequest>,
    ) -> Result<Response<pb::RawExpireResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, _: &Region| {
            let exists = world.data.contains_key(&it.key);
            let had_expiry = world.ttls.contains_key(&it.key);
            if exists {
                world.expire(&it.key, it.ttl_ms);
            }
            (!exists, had_expiry)
        };
        let served = self
            .serve_all("expire", &request, it.context.as_ref(), &[&it.key], work)
            .await?;
        let (done, region_error, error) = fields(served);
        let (not_found, had_expiry) = done.unwrap_or_default();
        Ok(Response::new(pb::RawExpireResponse {
            region_error,
            error,
            not_found,
            had_expiry,
        }))
    }

    async fn raw_get_expiry(
        &self,
        request: Request<pb::RawGetExpiryRequest>,
    ) -> Result<Response<pb::RawGetExpiryResponse>, Status> {
        let it = request.get_ref();
        let work = |world: &mut World, _: &Region| {
            let exists = world.data.contains_key(&it.key);
            (!exists, world.ttls.get(&it.key).copied())
        };
        let served = self
            .serve_all(
                "get_expiry",
                &request,
                it.context.as_ref(),
                &[&it.key],
                work,
            )
            .await?;
        let (done, region_error, error) = fields(served);
        let (not_found, ttl_ms) = done.unwrap_or_default();
        Ok(Response::new(pb::RawGetExpiryResponse {
            region_error,
            error,
            not_found,
            ttl_ms,
        }))
    }
}

/// What a decided update puts into its answer: the result, the conflict, and any trouble.
fn decided<T>(
    served: Result<Result<T, Conflict>, Trouble>,
) -> (Option<T>, i32, Option<errorpb::Error>, String) {
    let (done, region_error, error) = fields(served);
    match done {
        Some(Err(conflict)) => (None, conflict.into(), region_error, "conflict".to_owned()),
        Some(Ok(done)) => (Some(done), 0, region_error, error),
        None => (None, 0, region_error, error),
    }
}
