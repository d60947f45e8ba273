//! The updates that are decided when they are applied, from a message's fields to their outcome.

use std::time::Duration;

use bytes::Bytes;
use tinykv_proto::store as pb;

use super::{Calls, Failed};
use crate::command::{Condition, Conflict, Expiry, NewExpiry, Reply};
use crate::limits::Refused;
use crate::raw::plan;

impl Calls {
    pub(super) async fn increment(
        &self,
        request: &pb::RawIncrementRequest,
        deadline: Duration,
    ) -> Result<Result<i64, Conflict>, Failed> {
        let context = request.context.as_ref();
        let plan = |space| plan::increment(space, &request.key, request.delta);
        match self.change(context, &request.cf, deadline, plan).await? {
            Reply::Sum(sum) => Ok(Ok(sum)),
            Reply::Conflict(conflict) => Ok(Err(conflict)),
            _ => unreachable!("an increment is answered by the sum or a conflict"),
        }
    }

    pub(super) async fn append(
        &self,
        request: &pb::RawAppendRequest,
        deadline: Duration,
    ) -> Result<Result<u64, Conflict>, Failed> {
        let context = request.context.as_ref();
        let plan = |space| plan::append(space, &request.key, &request.value);
        match self.change(context, &request.cf, deadline, plan).await? {
            Reply::Length(length) => Ok(Ok(length)),
            Reply::Conflict(conflict) => Ok(Err(conflict)),
            _ => unreachable!("an append is answered by the length or a conflict"),
        }
    }

    pub(super) async fn put_if(
        &self,
        request: &pb::RawPutIfRequest,
        deadline: Duration,
    ) -> Result<bool, Failed> {
        let context = request.context.as_ref();
        let condition = condition(request.condition)?;
        let expiry = match (request.keep_expiry, request.ttl_ms) {
            (false, ttl_ms) => NewExpiry::After { ttl_ms },
            (true, 0) => NewExpiry::Kept,
            (true, ttl_ms) => return Err(Refused::TtlAndKept(ttl_ms).into()),
        };
        let plan = |space| plan::put_if(space, &request.key, &request.value, condition, expiry);
        match self.change(context, &request.cf, deadline, plan).await? {
            Reply::Stored(stored) => Ok(stored),
            _ => unreachable!("a conditional put is answered by whether it took effect"),
        }
    }

    pub(super) async fn remove(
        &self,
        request: &pb::RawRemoveRequest,
        deadline: Duration,
    ) -> Result<u64, Failed> {
        let context = request.context.as_ref();
        let keys = request.keys.iter().map(Bytes::as_ref);
        let plan = |space| plan::remove(space, keys);
        match self.change(context, &request.cf, deadline, plan).await? {
            Reply::Removed(removed) => Ok(removed),
            // No keys, so nothing was proposed.
            Reply::Done => Ok(0),
            _ => unreachable!("a removal is answered by a count"),
        }
    }

    pub(super) async fn expire(
        &self,
        request: &pb::RawExpireRequest,
        deadline: Duration,
    ) -> Result<Expiry, Failed> {
        let context = request.context.as_ref();
        let plan = |space| plan::expire(space, &request.key, request.ttl_ms);
        match self.change(context, &request.cf, deadline, plan).await? {
            Reply::Expiry(expiry) => Ok(expiry),
            _ => unreachable!("a new expiry is answered by what it replaced"),
        }
    }
}

fn condition(number: i32) -> Result<Condition, Refused> {
    match pb::Condition::try_from(number) {
        Ok(pb::Condition::Always) => Ok(Condition::Always),
        Ok(pb::Condition::IfAbsent) => Ok(Condition::IfAbsent),
        Ok(pb::Condition::IfPresent) => Ok(Condition::IfPresent),
        Err(_) => Err(Refused::Condition(number)),
    }
}
