//! What clients ask for, as commands of the production state machine; what it holds, as answers:
//! the messages that the real store makes.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_client::range::PAGE_BYTES;
use tinykv_proto::kvrpcpb::{self, KvPair};
use tinykv_proto::store;
use tinykv_replica::{Command, Region, RegionEpoch};
use tinykv_store::checks::RegionError;
use tinykv_store::command::{self, Operation, Reply};
use tinykv_store::limits::{self, Refused};
use tinykv_store::raw::plan::{self, Pair};
use tinykv_store::raw::read::{Depth, Order, Scan, Unanswered, Values, View};
use tinykv_store::space::Space;
use tinykv_store::value::PlacementTime;

use super::super::client::{Asked, Told};
use super::super::host::Trouble;
use super::Store;

/// The space of all keys here.
pub(super) const SPACE: Space = Space::Plain;

impl Store {
    /// Reads what a client asked for from a snapshot taken now.
    pub(super) fn read(
        &self,
        region: &Arc<Region>,
        asked: &Asked,
    ) -> Result<Result<Told, RegionError>, Trouble> {
        let Some(running) = &self.host.running else {
            let region = region.id;
            return Ok(Err(RegionError::RegionNotFound { region }));
        };
        if let Some(key) = stray(region, asked) {
            let region = Arc::clone(region);
            return Ok(Err(RegionError::KeyNotInRegion { key, region }));
        }
        let snapshot = running.engine.lsm().snapshot();
        let view = View {
            snapshot: &snapshot,
            region,
            now: PlacementTime(0),
            depth: Depth::Disk,
        };
        let told = answer(&view, asked).map_err(|error| self.host.trouble(&error))?;
        Ok(Ok(told))
    }
}

/// A key that the region does not contain.
fn stray(region: &Arc<Region>, asked: &Asked) -> Option<Bytes> {
    let keys = match asked {
        Asked::Get(request) => std::slice::from_ref(&request.key),
        Asked::BatchGet(request) => &request.keys[..],
        _ => &[],
    };
    let stray = keys.iter().find(|key| !SPACE.contains(region, key));
    stray.cloned()
}

fn answer(view: &View<'_>, asked: &Asked) -> Result<Told, Unanswered> {
    Ok(match asked {
        Asked::Get(request) => {
            let found = view.get(SPACE, &request.key)?;
            Told::Get(kvrpcpb::RawGetResponse {
                not_found: found.is_none(),
                value: found.map(|stored| stored.payload).unwrap_or_default(),
                ..Default::default()
            })
        }
        Asked::BatchGet(request) => Told::BatchGet(kvrpcpb::RawBatchGetResponse {
            region_error: None,
            pairs: pairs(view.batch_get(SPACE, &request.keys)?),
        }),
        Asked::Scan(request) => {
            let (order, lower, upper) = match request.reverse {
                false => (Order::Forward, &request.start_key, &request.end_key),
                true => (Order::Reverse, &request.end_key, &request.start_key),
            };
            let scan = Scan {
                lower,
                upper,
                order,
                keys_max: (request.limit as usize).min(limits::SCAN_KEYS_MAX),
                values: Values::Included,
                bytes_max: Some(request.bytes_max.min(PAGE_BYTES) as usize),
            };
            let scanned = view.scan(SPACE, &scan)?;
            Told::Scan(kvrpcpb::RawScanResponse {
                region_error: None,
                kvs: pairs(scanned.pairs),
                resume_key: scanned.resume.unwrap_or_default(),
            })
        }
        other => panic!("{other:?} is no read"),
    })
}

fn pairs(found: Vec<(Bytes, Bytes)>) -> Vec<KvPair> {
    let pair = |(key, value)| KvPair {
        error: None,
        key,
        value,
    };
    found.into_iter().map(pair).collect()
}

/// The operation of a write; reads have none.
pub(super) fn plan(asked: &Asked) -> Result<Operation, Refused> {
    match asked {
        Asked::Put(request) => {
            let pair = Pair {
                key: &request.key,
                value: &request.value,
                ttl_ms: limits::ttl_ms(request.ttl)?,
            };
            plan::put(SPACE, pair)
        }
        Asked::BatchPut(request) => {
            let pair = |pair: &'_ KvPair| (pair.key.clone(), pair.value.clone());
            let pairs: Vec<(Bytes, Bytes)> = request.pairs.iter().map(pair).collect();
            let pairs = pairs.iter().map(|(key, value)| Pair {
                key,
                value,
                ttl_ms: 0,
            });
            plan::batch_put(SPACE, pairs)
        }
        Asked::Delete(request) => plan::delete(SPACE, &request.key),
        Asked::DeleteRange(request) => {
            plan::delete_range(SPACE, &request.start_key, &request.end_key)
        }
        Asked::Swap(request) => {
            let expected = (!request.previous_not_exist).then_some(&request.previous_value[..]);
            plan::compare_and_swap(SPACE, &request.key, expected, Some((&request.value, 0)))
        }
        Asked::Append(request) => plan::append(SPACE, &request.key, &request.value),
        Asked::Increment(request) => plan::increment(SPACE, &request.key, request.delta),
        Asked::Get(_) | Asked::BatchGet(_) | Asked::Scan(_) => Ok(Operation::AdvanceTime),
    }
}

pub(super) fn command_of(epoch: RegionEpoch, operation: Operation) -> Command {
    let command = command::Command {
        now: PlacementTime(0),
        operation,
    };
    Command::build(epoch, command.encoded_len(), |out| command.encode_into(out))
}

/// The answer to a write that was applied.
pub(super) fn applied(asked: &Asked, reply: Reply) -> Told {
    match (asked, reply) {
        (Asked::Put(_), Reply::Done) => Told::Put(Default::default()),
        (Asked::BatchPut(_), Reply::Done) => Told::BatchPut(Default::default()),
        (Asked::Delete(_), Reply::Done) => Told::Delete(Default::default()),
        (Asked::DeleteRange(_), Reply::Done) => Told::DeleteRange(Default::default()),
        (
            Asked::Swap(_),
            Reply::Swapped {
                succeeded,
                previous,
            },
        ) => Told::Swap(kvrpcpb::RawCasResponse {
            succeed: succeeded,
            previous_not_exist: previous.is_none(),
            previous_value: previous.unwrap_or_default(),
            ..Default::default()
        }),
        (Asked::Append(_), Reply::Length(length)) => Told::Append(store::RawAppendResponse {
            length,
            ..Default::default()
        }),
        (Asked::Increment(_), Reply::Sum(value)) => Told::Increment(store::RawIncrementResponse {
            value,
            ..Default::default()
        }),
        (asked, reply) => panic!("{asked:?} is answered by {reply:?}"),
    }
}
