//! Groups whose birth record damage took: who their peers are, if anything still says it.
//!
//! Damage of the log may take any record (D6). Of a group that lost the one that says who it is, the
//! log still has terms, votes or entries, marked as damaged, and one of two things follows:
//!
//! * *The engine has its region's state, and in it this store's peer.* Then that is who it is: a
//!   damaged peer like any other, which takes no part and is reported, replaced and buried.
//! * *Nothing says who it is.* Then it can be reported to nobody, and what is left is of no use: it is
//!   buried without a name, so that it keeps neither log nor keys. The tombstone names the peer that
//!   the grave here named before, or peer 0, which there never is. Whoever calls the lost peer back
//!   meets `shard/calling.rs`.
//!
//! Of a group of which only the engine is left the shell hands in an empty log, marked as damaged.

use tinykv_raft::PeerId;
use tinykv_wal::Record;

use super::{RecoveredReplica, Shard};
use crate::grave::Grave;
use crate::machine::StateMachine;
use crate::merge::MergePhase;
use crate::record::{BirthRecord, TombstoneRecord};
use crate::region::{Peer, Region};
use crate::replica::stored_state;
use crate::run::{Awaiting, Durable, Run};

impl<S: StateMachine> Shard<S> {
    /// Who a group's peer is, by the engine's state of its region.
    pub(super) fn identify(
        &self,
        found: &RecoveredReplica,
        run: &Run<'_, S::Reply>,
    ) -> Option<BirthRecord> {
        let region = stored_region::<S>(found, run)?;
        let peer = region.peer_on(self.config.store)?;
        Some(BirthRecord {
            peer,
            epoch: region.epoch,
            start: region.start,
            state: None,
            parent: None,
            may_have_lived: true,
        })
    }

    /// Buries what nobody can be told of.
    pub(super) fn bury_nameless(&mut self, found: &RecoveredReplica, run: &mut Run<'_, S::Reply>) {
        let group = found.group;
        let nobody = Peer::learner(PeerId(0), self.config.store);
        let elder = self.graves.remove(&group).map(|grave| grave.record);
        let elder = elder.unwrap_or(TombstoneRecord {
            peer: nobody,
            leftover: None,
            parent: None,
            merged_into: None,
        });
        let stored = stored_state::<S>(found, run).ok().flatten();
        let merged_into = match stored.as_ref().map(|state| &state.merges.phase) {
            Some(MergePhase::Merged { into }) => Some(into.clone()),
            Some(MergePhase::Apart | MergePhase::Frozen(_)) => None,
            None => elder.merged_into,
        };
        let record = TombstoneRecord {
            leftover: stored.map(|state| state.region).or(elder.leftover),
            merged_into,
            ..elder
        };
        let is_own = record.merged_into.is_none();
        let left = record.leftover.as_ref().filter(|_| is_own);
        let left = left.map(Region::range);
        self.territory.hold(left.map(|range| (group, range)));
        run.record(Record::Tombstone {
            group,
            payload: record.encode(),
        });
        run.awaiting.push(Awaiting {
            group,
            peer: record.peer.id,
            what: Durable::Tombstone,
        });
        self.graves.insert(group, Grave::dug(record));
    }
}

fn stored_region<S: StateMachine>(
    found: &RecoveredReplica,
    run: &Run<'_, S::Reply>,
) -> Option<Region> {
    // What cannot be read tells nothing; the next peer's snapshot replaces it.
    let state = stored_state::<S>(found, run).ok().flatten()?;
    Some(state.region)
}
