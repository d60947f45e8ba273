//! The smallest state machine worth replicating: `key=value` sets a key and answers what it had.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ObservationKind, ReadError, Reader, Refusal, Region,
    RegionState, StateMachine,
};

/// Keeps nothing in memory.
pub(crate) struct Map;

impl StateMachine for Map {
    type Reply = Option<Bytes>;

    fn ranges(region: &Region) -> Vec<KeyRange> {
        vec![KeyRange {
            start: engine_key(&region.start),
            end: match region.end.is_empty() {
                true => Bytes::from_static(b"s"),
                false => engine_key(&region.end),
            },
        }]
    }

    fn state_key(group: GroupId) -> Bytes {
        Bytes::from(format!("m{:020}", group.0))
    }

    fn check(region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal> {
        let Some(split) = command.iter().position(|byte| *byte == b'=') else {
            return Err(Refusal::Malformed {
                problem: "there is no =",
            });
        };
        let key = command.slice(..split);
        match region.contains(&key) {
            true => Ok(()),
            false => Err(Refusal::KeyNotInRegion {
                key,
                region: Arc::clone(region),
            }),
        }
    }

    fn restore(&mut self, _state: &RegionState, _reader: &dyn Reader) -> Result<(), ReadError> {
        Ok(())
    }

    fn apply(
        &mut self,
        _region: &Arc<Region>,
        _entry: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<Option<Bytes>, NeedsKeys> {
        let split = command.iter().position(|byte| *byte == b'=');
        let (key, value) = command.split_at(split.expect("it was checked"));
        let key = engine_key(key);
        let before = context.get(&key)?;
        context.observe(key.clone(), ObservationKind::Put);
        context.put(key, Bytes::copy_from_slice(&value[1..]));
        Ok(before)
    }
}

/// Where a key lies in the engine.
pub(crate) fn engine_key(key: &[u8]) -> Bytes {
    Bytes::from([b"r", key].concat())
}

/// The routing key of a key that a group was founded with, whoever has it now.
pub(crate) fn routing_key(founded: u64, key: &str) -> Bytes {
    Bytes::from(format!("g{founded}/{key}"))
}
