//! A state machine for tests of what surrounds state machines: it owns the keys from `r` to `s`
//! and does nothing.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ReadError, Reader, Refusal, Region, RegionState,
    StateMachine,
};

pub(crate) struct Inert;

impl StateMachine for Inert {
    type Reply = ();

    fn ranges(_region: &Region) -> Vec<KeyRange> {
        vec![KeyRange {
            start: Bytes::from_static(b"r"),
            end: Bytes::from_static(b"s"),
        }]
    }

    fn state_key(group: GroupId) -> Bytes {
        Bytes::from(format!("m{:020}", group.0))
    }

    fn check(_region: &Arc<Region>, _command: &Bytes) -> Result<(), Refusal> {
        Ok(())
    }

    fn restore(&mut self, _state: &RegionState, _reader: &dyn Reader) -> Result<(), ReadError> {
        Ok(())
    }

    fn apply(
        &mut self,
        _region: &Arc<Region>,
        _entry: EntryId,
        _command: &Bytes,
        _context: &mut ApplyContext<'_>,
    ) -> Result<(), NeedsKeys> {
        Ok(())
    }
}
