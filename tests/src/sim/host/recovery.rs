//! A process starts on what its disk holds, as `store/node` does it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tinykv_engine::{Engine, EngineError, GroupRecovery, Recovery};
use tinykv_node::transport::Roster;
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{
    Effects, Factory, InstallRecord, NeighbourConfig, Neighbours, RecoveredReplica,
    RecoveredTombstone, Shard, StateMachine,
};
use tinykv_wal::{Batch, Damage, Record};

use super::super::happening::Context;
use super::super::invariants::Found;
use super::reader::LsmReader;
use super::{Host, Hurt, Running};

/// Log entries handed to a replica when it starts.
const TAIL_BYTES_MAX: usize = 256 << 10;

impl<S: StateMachine> Host<S> {
    /// The effects of recovery are still to be carried out.
    pub(super) fn recover(
        &mut self,
        context: &mut Context,
        now: Duration,
        factory: Factory<S>,
    ) -> Result<Effects<S::Reply>, EngineError> {
        let dir = Path::new("data");
        self.failing_sync = None;
        let (engine, recovery) = Engine::open(self.env.shared(), dir, self.options.clone())?;
        let Recovery {
            mut writer,
            mut groups,
            tombstones,
            damaged,
            torn_frames,
            ..
        } = recovery;
        if torn_frames > 0 {
            context.report.probe("frames_cut_off");
        }
        self.check_damage(&groups, &damaged);
        if self.hurt == Some(Hurt::FailedSync) {
            // As the process does it when it finds its mark.
            let hit: Vec<GroupId> = groups.keys().copied().collect();
            writer.mark_damaged(&hit)?;
            for found in groups.values_mut() {
                found.log.damaged = true;
            }
        }
        self.check_recovered(context, &groups, &tombstones);
        let log = engine.log_reader();
        let (mut replicas, mut installed) = (Vec::new(), Batch::default());
        for (group, found) in groups {
            let mut recovered = RecoveredReplica {
                group,
                tail: Vec::new(),
                applied: found.applied,
                log: found.log,
            };
            self.finish_install(&engine, group, &mut recovered, &mut installed)?;
            let (first, last) = (
                recovered.log.truncated.index.next(),
                recovered.log.last.index,
            );
            if first <= last {
                recovered.tail = log
                    .entries(group, first, last, TAIL_BYTES_MAX)
                    .map_err(|e| EngineError::InvalidOptions(e.to_string()))?;
                if recovered
                    .tail
                    .last()
                    .is_some_and(|entry| entry.id != recovered.log.last)
                {
                    recovered.tail.clear();
                }
            }
            replicas.push(recovered);
        }
        let tombstones = tombstones
            .into_iter()
            .map(|(group, payload)| RecoveredTombstone { group, payload })
            .collect();
        if !installed.is_empty() {
            writer.append(&installed)?;
            writer.sync()?;
        }
        let lsm = engine.lsm().clone();
        self.config.log_was_damaged = writer.was_damaged();
        let (shard, effects) = Shard::recover(
            self.config.clone(),
            factory,
            replicas,
            tombstones,
            &LsmReader::new(&lsm),
            now,
        )
        .unwrap_or_else(|error| panic!("store {} does not recover: {error}", self.id));
        self.running = Some(Running {
            engine,
            wal: writer,
            shard,
            inbox: Vec::new(),
            run_scheduled: false,
            next_waiter: self.life << 32,
            wal_queue: Vec::new(),
            wal_syncing: None,
            is_upkeep_due: false,
            noticed_at: Duration::ZERO,
            regions: BTreeMap::new(),
            leases: BTreeMap::new(),
            read_in_lease: BTreeSet::new(),
            leads: BTreeMap::new(),
            outcomes: Vec::new(),
            news: Vec::new(),
            next_snapshot: self.life << 32,
            flush_wanted: false,
            log_is_stuck: false,
            roster: Roster::default(),
            neighbours: Neighbours::new(self.life, NeighbourConfig::default()),
        });
        Ok(effects)
    }

    /// What is damaged is seen, and nothing else is called so.
    fn check_damage(&self, groups: &BTreeMap<GroupId, GroupRecovery>, damaged: &[Damage]) {
        match self.hurt {
            Some(Hurt::DamagedLog) => assert!(
                groups.values().all(|found| found.log.damaged),
                "D6: damage below the watermark is not seen: {groups:?}"
            ),
            Some(Hurt::FailedSync | Hurt::CrashedAtFailedSync) => {}
            None => assert!(
                damaged.is_empty(),
                "D5: a crash looks like damage: {damaged:?}"
            ),
        }
    }

    /// Nothing that was durable is gone (D3, R5).
    fn check_recovered(
        &self,
        context: &mut Context,
        groups: &BTreeMap<GroupId, GroupRecovery>,
        tombstones: &BTreeMap<GroupId, Bytes>,
    ) {
        let living = groups.iter().map(|(group, found)| (*group, &found.log));
        let found = Found {
            groups: living.collect(),
            dead: tombstones.keys().copied().collect(),
            is_damaged: self.hurt == Some(Hurt::DamagedLog),
        };
        let applied = |group| {
            groups
                .get(&group)
                .map_or(LogIndex(0), |found| found.applied)
        };
        let invariants = &mut context.invariants;
        let checked = invariants.on_recovered(self.id, &found, applied);
        checked.unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Does an installation again that a crash interrupted.
    fn finish_install(
        &self,
        engine: &Engine,
        group: GroupId,
        recovered: &mut RecoveredReplica,
        installed: &mut Batch,
    ) -> Result<(), EngineError> {
        let Some((snapshot, payload)) = recovered.log.installing.take() else {
            return Ok(());
        };
        let record = InstallRecord::decode(&payload).expect("written by the shard");
        let ingest = self.ingest(group, snapshot.index, &record)?;
        engine.install(group, snapshot, &ingest)?;
        recovered.applied = engine.applied(group);
        recovered.log.installed = Some((snapshot, payload.clone()));
        installed.push(Record::Installed {
            group,
            snapshot,
            payload,
        });
        Ok(())
    }
}
