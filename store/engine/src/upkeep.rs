//! Keeping the log short: what may be cut, and whose flush has to come first (invariant 3).

use tinykv_raft::{EntryId, GroupId};
use tinykv_wal::{Batch, Record, Wal};

use crate::{Engine, EngineError};

/// What a round of upkeep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Logs that were cut because they held the oldest segment of a log over its target. Their
    /// replicas should know (a follower further behind now needs a snapshot).
    pub truncated: Vec<(GroupId, EntryId)>,
    /// Segments that became free.
    pub recycled: u32,
    /// Groups whose log turned out to be unreadable: to be replaced (D6).
    pub unreadable: Vec<GroupId>,
    /// Whether the tree was asked for a flush, so that more can be cut soon.
    pub asked_for_flush: bool,
    /// No space could be reserved ahead for the log (D8).
    pub low_on_space: bool,
}

impl Engine {
    /// Upkeep of the log, by its owner, every 100 ms or so and when `append` says `Full`:
    /// recycles segments, and where groups hold the oldest one of a log over its target, cuts
    /// them to what the tree has flushed or asks the tree for a flush.
    pub fn maintain(&self, log: &mut Wal) -> Result<Upkeep, EngineError> {
        let found = log.maintain()?;
        let mut upkeep = Upkeep {
            recycled: found.recycled,
            unreadable: found.unreadable,
            low_on_space: found.low_on_space,
            ..Upkeep::default()
        };
        let reader = self.log_reader();
        let mut batch = Batch::default();
        let mut waiting = Vec::new();
        for (group, wanted) in found.pinned {
            let flushed = self.flushed(group);
            let index = flushed.min(wanted);
            let known = reader.extent(group).zip(reader.term(group, index));
            match known {
                Some((extent, term)) if index > extent.truncated.index => {
                    let upto = EntryId { term, index };
                    batch.push(Record::Truncated { group, upto });
                    upkeep.truncated.push((group, upto));
                }
                _ => {}
            }
            if flushed < wanted && self.applied(group) > flushed {
                waiting.push(group);
            }
        }
        if !batch.is_empty() {
            log.append(&batch)?;
            upkeep.recycled += log.maintain()?.recycled;
        }
        upkeep.asked_for_flush = self.ask_for_flush(&waiting)?;
        Ok(upkeep)
    }
}
