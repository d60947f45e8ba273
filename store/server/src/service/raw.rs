//! The raw calls, from a message's fields to what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_proto::kvrpcpb as pb;
use tinykv_replica::Region;

use super::read::First;
use super::{Calls, Failed, convert, load};
use crate::checks::{RegionError, Target};
use crate::command::{NewExpiry, Operation, Reply, Swap};
use crate::limits::{self, Refused};
use crate::raw::plan;
use crate::raw::ranges::{Checksum, Each, Range};
use crate::raw::read::{Order, Scan, Scanned, Values};
use crate::space::Space;
use crate::value::{PlacementTime, StoredValue};

/// What every request says beside what it asks for.
struct Asked {
    target: Target,
    space: Space,
    deadline: Duration,
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
        let (inside, asked) = (key.clone(), key.clone());
        self.read(
            &target,
            deadline,
            First::Memory,
            move |region| inside_region(space, region, [&inside]),
            move |view| Ok(view.get(space, &key)?.map(|value| (value, view.now))),
            |found, traffic| {
                let value = found.as_ref().map(|(value, _)| &value.payload);
                load::on_get(traffic, space, &asked, value);
            },
        )
        .await
    }

    pub(super) async fn batch_get(
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
            |found, traffic| load::on_batch_get(traffic, space, &request.keys, found),
        )
        .await
    }

    pub(super) async fn scan(
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
        let order = order(request.reverse);
        let Range { lower, upper } = range(&request.start_key, &request.end_key, order);
        let keys_max = (request.limit as usize).min(limits::SCAN_KEYS_MAX);
        let bytes_max = (request.bytes_max > 0).then_some(request.bytes_max as usize);
        let values = values(request.key_only);
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
            |found, traffic| load::on_scan(traffic, space, &found.pairs),
        )
        .await
    }

    pub(super) async fn batch_scan(
        &self,
        request: &pb::RawBatchScanRequest,
        deadline: Duration,
    ) -> Result<Vec<(Bytes, Bytes)>, Failed> {
        let Asked {
            target,
            space,
            deadline,
        } = asked(request.context.as_ref(), &request.cf, deadline)?;
        let order = order(request.reverse);
        let ranges = ranges(space, &request.ranges, order)?;
        let each = Each {
            order,
            keys_max: (request.each_limit as usize).min(limits::SCAN_KEYS_MAX),
            values: values(request.key_only),
        };
        self.read(
            &target,
            deadline,
            First::Disk,
            |_| Ok(()),
            move |view| view.batch_scan(space, &ranges, each),
            |found, traffic| load::on_scan(traffic, space, found),
        )
        .await
    }

    pub(super) async fn checksum(
        &self,
        request: &pb::RawChecksumRequest,
        deadline: Duration,
    ) -> Result<Checksum, Failed> {
        let Asked {
            target,
            space,
            deadline,
        } = asked(request.context.as_ref(), "", deadline)?;
        if request.algorithm != pb::ChecksumAlgorithm::Crc64Xor as i32 {
            return Err(Refused::ChecksumAlgorithm(request.algorithm).into());
        }
        let ranges = ranges(space, &request.ranges, Order::Forward)?;
        let asked = ranges.clone();
        self.read(
            &target,
            deadline,
            First::Disk,
            |_| Ok(()),
            move |view| view.checksum(space, &ranges),
            |sum, traffic| load::on_sum(traffic, space, &asked, sum.pairs, sum.bytes),
        )
        .await
    }

    /// Plans a write and carries it out.
    pub(super) async fn change(
        &self,
        context: Option<&pb::Context>,
        column_family: &str,
        deadline: Duration,
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
                PlacementTime(0) => return Err(time_unknown()),
                now => now,
            },
        };
        match self.write(&target, operation, now, deadline).await? {
            Reply::Unreadable(error) => Err(Failed::Broken(error.to_string())),
            reply => Ok(reply),
        }
    }

    /// How long a key lives from now on, in milliseconds, at least 1. `Some(None)`: for ever.
    pub(super) async fn time_to_live(
        &self,
        context: Option<&pb::Context>,
        column_family: &str,
        key: Bytes,
        deadline: Duration,
    ) -> Result<Option<Option<u64>>, Failed> {
        let found = self.get(context, column_family, key, deadline).await?;
        let Some((value, now)) = found else {
            return Ok(None);
        };
        match (value.expires_at, now) {
            (None, _) => Ok(Some(None)),
            (Some(_), PlacementTime(0)) => Err(time_unknown()),
            (Some(at), now) => Ok(Some(Some(at.0.saturating_sub(now.0).max(1)))),
        }
    }

    pub(super) async fn compare_and_swap(
        &self,
        request: &pb::RawCasRequest,
        deadline: Duration,
    ) -> Result<(bool, Option<Bytes>), Failed> {
        let expected = (!request.previous_not_exist).then_some(request.previous_value.as_ref());
        let ttl_ms = limits::ttl_ms(request.ttl)?;
        let new = (!request.delete).then_some((request.value.as_ref(), ttl_ms));
        let reply = self
            .change(request.context.as_ref(), &request.cf, deadline, |space| {
                plan::compare_and_swap(space, &request.key, expected, new)
            })
            .await?;
        match reply {
            Reply::Swapped {
                succeeded,
                previous,
            } => Ok((succeeded, previous)),
            _ => unreachable!("a compare-and-swap is answered by its outcome"),
        }
    }
}

fn order(reverse: bool) -> Order {
    match reverse {
        false => Order::Forward,
        true => Order::Reverse,
    }
}

fn values(key_only: bool) -> Values {
    match key_only {
        false => Values::Included,
        true => Values::LeftOut,
    }
}

/// In reverse the start is the upper bound, exclusive, and the end the lower one, inclusive.
fn range(start: &Bytes, end: &Bytes, order: Order) -> Range {
    let (lower, upper) = match order {
        Order::Forward => (start, end),
        Order::Reverse => (end, start),
    };
    Range {
        lower: lower.clone(),
        upper: upper.clone(),
    }
}

fn ranges(space: Space, asked: &[pb::KeyRange], order: Order) -> Result<Vec<Range>, Refused> {
    if asked.len() > limits::RANGES_MAX {
        return Err(Refused::TooManyRanges(asked.len()));
    }
    let checked = asked.iter().map(|asked| {
        space.check_bound(&asked.start_key)?;
        space.check_bound(&asked.end_key)?;
        Ok(range(&asked.start_key, &asked.end_key, order))
    });
    checked.collect()
}

fn time_unknown() -> Failed {
    Failed::Region(RegionError::Busy {
        reason: "placement's time, by which values expire, is not known yet",
        wait: Duration::from_millis(500),
    })
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

fn needs_time(operation: &Operation) -> NeedsTime {
    let expires = match operation {
        Operation::Put(write) => write.ttl_ms > 0,
        Operation::BatchPut(writes) => writes.iter().any(|write| write.ttl_ms > 0),
        Operation::CompareAndSwap {
            swap: Swap::Put { ttl_ms, .. },
            ..
        }
        | Operation::Expire { ttl_ms, .. }
        | Operation::PutIf {
            expiry: NewExpiry::After { ttl_ms },
            ..
        } => *ttl_ms > 0,
        _ => false,
    };
    let reads = match operation {
        Operation::CompareAndSwap { .. }
        | Operation::Increment { .. }
        | Operation::Append { .. }
        | Operation::PutIf { .. }
        | Operation::Remove { .. }
        | Operation::Expire { .. } => true,
        Operation::AdvanceTime
        | Operation::Put(_)
        | Operation::Delete { .. }
        | Operation::BatchPut(_)
        | Operation::BatchDelete { .. }
        | Operation::DeleteRange { .. } => false,
    };
    match (expires, reads) {
        (true, _) => NeedsTime::Always,
        (false, true) => NeedsTime::IfKnown,
        (false, false) => NeedsTime::Never,
    }
}

fn inside_region<'a>(
    space: Space,
    region: &Arc<Region>,
    keys: impl IntoIterator<Item = &'a Bytes>,
) -> Result<(), RegionError> {
    match keys.into_iter().find(|key| !space.contains(region, key)) {
        None => Ok(()),
        Some(key) => Err(RegionError::KeyNotInRegion {
            key: key.clone(),
            region: Arc::clone(region),
        }),
    }
}
