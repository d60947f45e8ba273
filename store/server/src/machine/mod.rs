//! The state machine of a region: what commands do to its data.
//!
//! Everything is decided here, when a committed command is applied, from what all replicas share:
//! the stored values, the command, and the region's time. The region's time
//! ([`RegionTime`]) is the one piece of state beside the data. It moves up to the time a command
//! carries, and only when a decision rests on it (a value that may expire is read or written), so
//! that regions without expiring values never rewrite it.

mod update;

use std::sync::Arc;

use bytes::Bytes;
use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ReadError, Reader, Refusal, Region, RegionState,
    StateMachine,
};

use crate::command::{Command, Operation, Reply, Swap, Write};
use crate::space;
use crate::value::{PlacementTime, StoredValue, ValueError};

/// The latest of placement's time that a region's decisions rest on. Replicated with the region,
/// never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionTime(pub PlacementTime);

impl RegionTime {
    const FORMAT: u8 = 1;

    /// Reads what the machine keeps in a region's state: nothing until it first needed the time.
    pub fn decode(machine: &[u8]) -> Result<RegionTime, ReadError> {
        match machine {
            [] => Ok(RegionTime::default()),
            [RegionTime::FORMAT, time @ ..] if time.len() == 8 => {
                let time = time.first_chunk().expect("the length was checked");
                Ok(RegionTime(PlacementTime(u64::from_le_bytes(*time))))
            }
            _ => Err(ReadError(
                "the replicated time of the region is malformed".to_owned(),
            )),
        }
    }

    pub(crate) fn encode(self) -> Bytes {
        let mut out = [RegionTime::FORMAT; 9];
        out[1..].copy_from_slice(&self.0.0.to_le_bytes());
        Bytes::copy_from_slice(&out)
    }
}

/// Applies raw commands. Keeps nothing: all state is in the LSM and in the region's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawMachine;

impl StateMachine for RawMachine {
    type Reply = Reply;

    fn state_key(group: GroupId) -> Bytes {
        Bytes::copy_from_slice(&space::region_state_key(group))
    }

    fn ranges(region: &Region) -> Vec<KeyRange> {
        space::ranges(region)
    }

    fn check(region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal> {
        let command = Command::decode(command).map_err(|_| Refusal::Malformed {
            problem: "the bytes are no command of this version",
        })?;
        let outside = |key: &Bytes| Refusal::KeyNotInRegion {
            key: space::shown(key),
            region: Arc::clone(region),
        };
        let inside = |key: &Bytes| match space::contains(region, key) {
            true => Ok(()),
            false => Err(outside(key)),
        };
        let plain = |stored: &Bytes| match StoredValue::is_plain(stored) {
            true => Ok(()),
            false => Err(Refusal::Malformed {
                problem: "a value is not in its stored form without expiry",
            }),
        };
        let fine = |write: &Write| inside(&write.key).and_then(|()| plain(&write.stored));
        match &command.operation {
            Operation::AdvanceTime => Ok(()),
            Operation::Put(write) => fine(write),
            Operation::Delete { key } => inside(key),
            Operation::CompareAndSwap { key, swap, .. } => match swap {
                Swap::Put { stored, .. } => inside(key).and_then(|()| plain(stored)),
                Swap::Delete => inside(key),
            },
            Operation::BatchPut(writes) => writes.iter().try_for_each(fine),
            Operation::BatchDelete { keys } | Operation::Remove { keys } => {
                keys.iter().try_for_each(inside)
            }
            Operation::Increment { key, .. }
            | Operation::Append { key, .. }
            | Operation::Expire { key, .. } => inside(key),
            Operation::PutIf { key, stored, .. } => inside(key).and_then(|()| plain(stored)),
            Operation::DeleteRange { start, end } => match start < end {
                false => Err(Refusal::Malformed {
                    problem: "the range ends where or before it starts",
                }),
                true if space::encloses(region, start, end) => Ok(()),
                true => Err(outside(start)),
            },
        }
    }

    fn wanted(command: &Bytes) -> Vec<Bytes> {
        match Command::decode(command).map(|command| command.operation) {
            Ok(
                Operation::CompareAndSwap { key, .. }
                | Operation::Increment { key, .. }
                | Operation::Append { key, .. }
                | Operation::PutIf { key, .. }
                | Operation::Expire { key, .. },
            ) => vec![key],
            Ok(Operation::Remove { keys }) => keys,
            _ => Vec::new(),
        }
    }

    fn may_join(border: &[u8]) -> bool {
        !tinykv_keys::is_bootstrap_edge(border)
    }

    /// Values that have expired by the region's time may have left the disk here or not.
    fn is_content(state: &RegionState, key: &[u8], value: &Bytes) -> bool {
        let Some(expires_at) = StoredValue::expiry_of(value).filter(|_| space::is_raw(key)) else {
            return true;
        };
        RegionTime::decode(&state.machine).is_ok_and(|RegionTime(time)| expires_at > time)
    }

    /// The later of both times: no decision of either region is taken back. What cannot be read stays
    /// to be found.
    fn join(target: &Bytes, source: &Bytes) -> Bytes {
        match (RegionTime::decode(target), RegionTime::decode(source)) {
            (Ok(of_target), Ok(of_source)) if of_source > of_target => source.clone(),
            (Ok(_), Err(_)) => source.clone(),
            _ => target.clone(),
        }
    }

    fn restore(&mut self, state: &RegionState, _reader: &dyn Reader) -> Result<(), ReadError> {
        RegionTime::decode(&state.machine).map(|_| ())
    }

    fn apply(
        &mut self,
        _region: &Arc<Region>,
        _entry: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<Reply, NeedsKeys> {
        let Command { now, operation } =
            Command::decode(command).expect("the driver asks `check` before `apply`");
        match operation {
            Operation::AdvanceTime => {
                advance(now, context);
            }
            Operation::Put(write) => put(write, now, context),
            Operation::Delete { key } => context.delete(key),
            Operation::BatchPut(writes) => {
                let skipped = usize::from(planted(Mutant::BatchTorn));
                for write in writes.into_iter().skip(skipped) {
                    put(write, now, context);
                }
            }
            Operation::BatchDelete { keys } => {
                for key in keys {
                    context.delete(key);
                }
            }
            Operation::DeleteRange { start, end } => {
                context.delete_range(KeyRange { start, end });
            }
            Operation::CompareAndSwap {
                key,
                expected,
                swap,
            } => return compare_and_swap(key, expected, swap, now, context),
            Operation::Increment { key, delta } => {
                return update::increment(key, delta, now, context);
            }
            Operation::Append { key, suffix } => {
                return update::append(key, &suffix, now, context);
            }
            Operation::PutIf {
                key,
                stored,
                condition,
                expiry,
            } => {
                let put = update::Put {
                    key,
                    stored,
                    condition,
                    expiry,
                };
                return update::put_if(put, now, context);
            }
            Operation::Remove { keys } => return update::remove(keys, now, context),
            Operation::Expire { key, ttl_ms } => {
                return update::expire(key, ttl_ms, now, context);
            }
        }
        Ok(Reply::Done)
    }
}

/// Moves the region's time up to what the command carries, because a decision needs it.
fn advance(now: PlacementTime, context: &mut ApplyContext<'_>) -> PlacementTime {
    let reached = RegionTime::decode(context.machine()).expect("restored and written by us");
    if reached.0 < now {
        context.set_machine(RegionTime(now).encode());
    }
    reached.0.max(now)
}

fn put(write: Write, now: PlacementTime, context: &mut ApplyContext<'_>) {
    let stored = match write.ttl_ms {
        0 => write.stored,
        ttl_ms => {
            let expires_at = advance(now, context).plus_ms(ttl_ms);
            let payload = write.stored.slice(StoredValue::PLAIN_HEADER_LEN..);
            StoredValue {
                expires_at: Some(expires_at),
                payload,
            }
            .encode()
        }
    };
    context.put(write.key, stored);
}

fn compare_and_swap(
    key: Bytes,
    expected: Option<Bytes>,
    swap: Swap,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Reply, NeedsKeys> {
    let stored = context.get(&key)?;
    let previous = match live(stored, now, context) {
        Ok(previous) => previous.map(|value| value.payload),
        Err(error) => return Ok(Reply::Unreadable(error)),
    };
    let succeeded = previous == expected;
    if succeeded {
        match swap {
            Swap::Put { stored, ttl_ms } => {
                let write = Write {
                    key,
                    stored,
                    ttl_ms,
                };
                put(write, now, context);
            }
            Swap::Delete => context.delete(key),
        }
    }
    Ok(Reply::Swapped {
        succeeded,
        previous,
    })
}

/// A stored value, unless it has expired by now.
fn live(
    stored: Option<Bytes>,
    now: PlacementTime,
    context: &mut ApplyContext<'_>,
) -> Result<Option<StoredValue>, ValueError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    let value = StoredValue::decode(&stored)?;
    if value.expires_at.is_none() {
        return Ok(Some(value));
    }
    let time = advance(now, context);
    Ok((!value.expired_at(time)).then_some(value))
}

#[cfg(test)]
mod tests;
