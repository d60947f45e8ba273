//! Dead peers of a shard: what keeps them from coming back.

use std::sync::Arc;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::GroupId;
use tinykv_wal::Record;

use crate::effects::Destroy;
use crate::machine::StateMachine;
use crate::record::TombstoneRecord;
use crate::run::Run;

/// A dead peer. Kept until placement says that nobody can ask for it any more.
#[derive(Debug)]
pub(crate) struct Grave {
    pub(crate) record: TombstoneRecord,
    pub(crate) stage: Stage,
}

/// How far the burial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Found by a restart: the parent here has not applied the split again in which the dead peer
    /// was born. Its keys are the parent's until then.
    AwaitingSplit,
    /// The tombstone is being made durable.
    Recording,
    /// The shell drops the data.
    Dropping,
    /// Nothing is left; a younger peer of the group may be born.
    Closed,
}

impl Grave {
    /// A grave whose tombstone is being recorded in this run.
    pub(crate) fn dug(record: TombstoneRecord) -> Grave {
        Grave {
            record,
            stage: Stage::Recording,
        }
    }

    /// A grave that a restart found.
    pub(crate) fn recovered<S: StateMachine>(
        group: GroupId,
        record: TombstoneRecord,
        awaits_split: bool,
        run: &mut Run<'_, S::Reply>,
    ) -> Grave {
        let mut grave = Grave::dug(record);
        if awaits_split && grave.record.leftover.is_some() {
            grave.stage = Stage::AwaitingSplit;
        } else if grave.record.leftover.is_some() {
            grave.on_recorded::<S>(group, run);
        } else {
            grave.stage = Stage::Closed;
        }
        grave
    }

    /// The tombstone is durable: the data may go.
    pub(crate) fn on_recorded<S: StateMachine>(
        &mut self,
        group: GroupId,
        run: &mut Run<'_, S::Reply>,
    ) {
        if self.stage != Stage::Recording {
            return;
        }
        self.stage = Stage::Dropping;
        let region = self.record.leftover.clone().map(Arc::new);
        // What is another region's now stays.
        let is_own = self.record.merged_into.is_none() || planted(Mutant::MergedDataDropped);
        let own = region.iter().filter(|_| is_own);
        let drop = own.flat_map(|region| S::ranges(region));
        run.effects.destroys.push(Destroy {
            group,
            peer: self.record.peer.id,
            drop: drop.collect(),
            region,
        });
    }

    /// The data is gone: the range may be used again, and the record says so.
    pub(crate) fn on_dropped<R>(&mut self, group: GroupId, run: &mut Run<'_, R>) {
        if self.stage != Stage::Dropping {
            return;
        }
        self.stage = Stage::Closed;
        self.record.leftover = None;
        run.record(Record::Tombstone {
            group,
            payload: self.record.encode(),
        });
    }
}
