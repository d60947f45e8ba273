//! A state machine with somebody who watches: what each command answered is told to the observer,
//! so that R4 can be checked by the effect of entries and not by their place alone.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ObservationKind, ReadError, Reader, Refusal, Region,
    RegionState, StateMachine,
};

/// The production machine inside.
#[derive(Debug)]
pub(super) struct Watched<S>(pub(super) S);

impl<S: StateMachine<Reply: Debug>> StateMachine for Watched<S> {
    type Reply = S::Reply;

    fn ranges(region: &Region) -> Vec<KeyRange> {
        S::ranges(region)
    }

    fn state_key(group: GroupId) -> Bytes {
        S::state_key(group)
    }

    fn check(region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal> {
        S::check(region, command)
    }

    fn wanted(command: &Bytes) -> Vec<Bytes> {
        S::wanted(command)
    }

    fn may_join(border: &[u8]) -> bool {
        S::may_join(border)
    }

    fn join(target: &Bytes, source: &Bytes) -> Bytes {
        S::join(target, source)
    }

    fn restore(&mut self, state: &RegionState, reader: &dyn Reader) -> Result<(), ReadError> {
        self.0.restore(state, reader)
    }

    fn apply(
        &mut self,
        region: &Arc<Region>,
        entry: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<S::Reply, NeedsKeys> {
        assert!(
            S::check(region, command).is_ok(),
            "K6: entry {entry} is applied to a region that does not hold its keys: {region:?}"
        );
        let reply = self.0.apply(region, entry, command, context)?;
        let said = format!("{reply:?} to {command:?}");
        context.observe(Bytes::from(said), ObservationKind::Put);
        Ok(reply)
    }
}
