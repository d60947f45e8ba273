//! The smallest state machine worth replicating: `key=value` sets a key and answers what it had.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ReadError, Reader, Refusal, Region, RegionState,
    StateMachine,
};

/// Keeps nothing in memory.
pub(crate) struct Map;

impl StateMachine for Map {
    type Reply = Option<Bytes>;

    fn ranges(region: &Region) -> Vec<KeyRange> {
        vec![KeyRange {
            start: Bytes::from(format!("r{:020}/", region.id.0)),
            end: Bytes::from(format!("r{:020}0", region.id.0)),
        }]
    }

    fn state_key(group: GroupId) -> Bytes {
        Bytes::from(format!("m{:020}", group.0))
    }

    fn check(_region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal> {
        match command.contains(&b'=') {
            true => Ok(()),
            false => Err(Refusal::Malformed {
                problem: "there is no =",
            }),
        }
    }

    fn restore(&mut self, _state: &RegionState, _reader: &dyn Reader) -> Result<(), ReadError> {
        Ok(())
    }

    fn apply(
        &mut self,
        region: &Arc<Region>,
        _entry: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<Option<Bytes>, NeedsKeys> {
        let split = command.iter().position(|byte| *byte == b'=');
        let (key, value) = command.split_at(split.expect("it was checked"));
        let key = engine_key(region.id, key);
        let before = context.get(&key)?;
        context.put(key, Bytes::copy_from_slice(&value[1..]));
        Ok(before)
    }
}

/// Where a key of a group lies in the engine.
pub(crate) fn engine_key(group: GroupId, key: &[u8]) -> Bytes {
    let mut out = format!("r{:020}/", group.0).into_bytes();
    out.extend_from_slice(key);
    Bytes::from(out)
}
