//! A shard after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{Entry, GroupId, LogIndex, PeerId};
use tinykv_wal::RecoveredGroup;

use super::splitting::split_floors;
use super::{Factory, Shard};
use crate::codec::FormatError;
use crate::config::ShardConfig;
use crate::effects::Effects;
use crate::grave::Grave;
use crate::machine::{Reader, StateMachine};
use crate::record::{BirthRecord, SplitPoint, TombstoneRecord};
use crate::region::Region;
use crate::replica::Replica;
use crate::run::Run;
use crate::territory::Territory;

/// What a restart found of one group: the log's part of it and the LSM's.
#[derive(Clone, Debug)]
pub struct RecoveredReplica {
    /// The group.
    pub group: GroupId,
    /// What the log knows. An installation that was under way has been done again.
    pub log: RecoveredGroup,
    /// The newest entries, ending at `log.last`, as many as were worth reading; may be empty.
    pub tail: Vec<Entry>,
    /// The LSM's applied index; 0 if it has none.
    pub applied: LogIndex,
}

/// What a restart found of a dead peer.
#[derive(Clone, Debug)]
pub struct RecoveredTombstone {
    /// The group.
    pub group: GroupId,
    /// Payload of the tombstone record.
    pub payload: Bytes,
}

/// A restart found a record of life or death that another build must have written. (A group that is
/// damaged is reported in [`Effects::damaged`] and takes no part.)
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group {group}: {error}")]
pub struct RecoverError {
    /// The group.
    pub group: GroupId,
    /// What is wrong.
    pub error: FormatError,
}

impl<S: StateMachine> Shard<S> {
    /// A shard with the groups that a restart found. The effects say which regions are in service,
    /// what has to be written again, and what dead peers left to be dropped; they are carried out
    /// before the first run.
    ///
    /// A tombstone of a group that is alive again belongs to an earlier peer; it is given, too.
    pub fn recover(
        config: ShardConfig,
        factory: Factory<S>,
        groups: Vec<RecoveredReplica>,
        tombstones: Vec<RecoveredTombstone>,
        reader: &dyn Reader,
        now: Duration,
    ) -> Result<(Shard<S>, Effects<S::Reply>), RecoverError> {
        let shard = Shard::new(config, factory);
        shard.recovered(groups, tombstones, reader, now)
    }

    /// [`Shard::recover`] for one of several shards of a store, which share a territory. None of
    /// them may run before all are recovered. A group whose birth ([`BirthRecord::parent`]) or
    /// tombstone names a parent that lives here and has not applied that split goes to the parent's
    /// shard.
    pub fn recover_in(
        territory: Arc<Territory>,
        config: ShardConfig,
        factory: Factory<S>,
        found: (Vec<RecoveredReplica>, Vec<RecoveredTombstone>),
        reader: &dyn Reader,
        now: Duration,
    ) -> Result<(Shard<S>, Effects<S::Reply>), RecoverError> {
        let mut shard = Shard::new(config, factory);
        shard.territory = territory;
        shard.recovered(found.0, found.1, reader, now)
    }

    fn recovered(
        self,
        groups: Vec<RecoveredReplica>,
        tombstones: Vec<RecoveredTombstone>,
        reader: &dyn Reader,
        now: Duration,
    ) -> Result<(Shard<S>, Effects<S::Reply>), RecoverError> {
        let mut shard = self;
        shard.now = now;
        let config = shard.config.clone();
        let mut run = Run::new(now, &config, reader);
        let (mut births, mut nameless) = (BTreeMap::new(), Vec::new());
        for found in &groups {
            let group = found.group;
            let birth = match found.log.birth.is_empty() {
                true => shard.identify(found, &run),
                false => {
                    let decoded = BirthRecord::decode(&found.log.birth);
                    Some(decoded.map_err(|error| RecoverError { group, error })?)
                }
            };
            match birth {
                Some(birth) => drop(births.insert(group, birth)),
                None => nameless.push(found),
            }
        }
        let peers: BTreeMap<GroupId, PeerId> = births
            .iter()
            .map(|(group, birth)| (*group, birth.peer.id))
            .collect();
        let applied: BTreeMap<GroupId, LogIndex> = groups
            .iter()
            .map(|found| (found.group, found.applied))
            .collect();
        let is_ahead = |point: &SplitPoint| {
            let lags = applied
                .get(&point.group)
                .is_some_and(|applied| *applied < point.index);
            lags && peers.get(&point.group) == Some(&point.peer)
        };
        for found in tombstones {
            if planted(Mutant::TombstonesForgotten) {
                continue;
            }
            let group = found.group;
            let record = TombstoneRecord::decode(&found.payload)
                .map_err(|error| RecoverError { group, error })?;
            let awaits_split = record.parent.as_ref().is_some_and(is_ahead);
            let is_own = record.merged_into.is_none();
            let left = record.leftover.as_ref().filter(|_| is_own);
            let left = left.map(Region::range);
            shard.territory.hold(left.map(|range| (group, range)));
            if awaits_split {
                shard.graves_awaiting.insert(group);
            }
            let grave = Grave::recovered::<S>(group, record, awaits_split, &mut run);
            shard.graves.insert(group, grave);
        }
        for found in nameless {
            shard.bury_nameless(found, &mut run);
        }
        let waiting = groups.iter().filter(|found| found.applied == LogIndex(0));
        let points = waiting.filter_map(|found| births.get(&found.group)?.parent);
        let floors = split_floors(points.filter(is_ahead));
        for found in groups {
            let group = found.group;
            let Some(birth) = births.remove(&group) else {
                continue;
            };
            let parent = birth.parent;
            let waits_in_vain =
                found.applied == LogIndex(0) && parent.is_some_and(|point| !is_ahead(&point));
            let floor = floors.get(&group).copied().unwrap_or_default();
            let machine = (shard.factory)(group);
            let mut replica = Replica::recover(found, birth, floor, machine, &mut run);
            if let Some(parent) = parent {
                shard.adopt(parent.group, group);
                if waits_in_vain {
                    replica.orphan(parent.group, &mut run);
                }
            }
            shard.replicas.insert(group, replica);
            shard.touched.insert(group);
        }
        let effects = shard.finish(run);
        Ok((shard, effects))
    }
}
