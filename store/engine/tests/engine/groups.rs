//! Several groups over one log and one tree, as a store drives them: entries, applying, flushes,
//! truncation, snapshots, deaths. Crash at every I/O; after each the tree must hold a prefix of
//! the order of applying, for all groups at once (invariants 1 to 6, 8 and 9).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tinykv_engine::{Engine, EngineError, ErrorKind, Recovery};
use tinykv_env::{CrashMode, Env, Prng, SimEnv};
use tinykv_lsm::{Ingest, OriginId, SstWriter, WriteBatch};
use tinykv_raft::{Entry, EntryId, GroupId, HardState, LogIndex, Payload, Term};
use tinykv_wal::{Batch, Record, Wal};

use crate::ledger::append_if_asked;
use crate::{DIR, cases, machine, tiny_options};

type Data = BTreeMap<Bytes, Bytes>;

/// A group as it should be.
#[derive(Clone, Debug, Default)]
struct ModelGroup {
    /// What the data is at each index from birth (or the last snapshot) on.
    states: BTreeMap<u64, Data>,
    /// The last entry appended.
    last: u64,
    /// The last entry known durable.
    durable: u64,
    /// The last entry applied.
    applied: u64,
    /// What log and tree must hold at least after a crash: the last snapshot known installed, or
    /// the birth.
    snapshot: u64,
    /// Snapshots whose installation began; after a crash the last ones may or may not be there.
    installing: BTreeMap<u64, Data>,
    /// Whether its death may have been recorded.
    dying: bool,
}

/// What drives the engine in the place of a store.
struct Life {
    env: SimEnv,
    random: Prng,
    open: Option<(Engine, Wal)>,
    groups: BTreeMap<u64, ModelGroup>,
    /// The applied indexes of all groups after each write to the tree.
    order: Vec<BTreeMap<u64, u64>>,
    crash_at: Option<u64>,
    next_file: u64,
    truncations: u32,
    installs: u32,
}

const TERM: Term = Term(1);

impl Life {
    fn new(seed: u64) -> Life {
        Life {
            env: machine(seed),
            random: Prng::new(seed),
            open: None,
            groups: BTreeMap::new(),
            order: vec![BTreeMap::new()],
            crash_at: None,
            next_file: 0,
            truncations: 0,
            installs: 0,
        }
    }

    fn after_crash(&self, mode: CrashMode) -> Life {
        let env = self.env.duplicate();
        env.crash(mode);
        Life {
            env,
            random: self.random.clone(),
            open: None,
            groups: self.groups.clone(),
            order: self.order.clone(),
            crash_at: None,
            next_file: self.next_file + 100,
            truncations: 0,
            installs: 0,
        }
    }

    /// Steps of a seeded life, until they are done or the machine stops.
    fn live(&mut self, steps: u32) {
        let mut result = if self.open.is_none() {
            self.recover()
        } else {
            Ok(())
        };
        for _ in 0..steps {
            if result.is_err() {
                break;
            }
            result = self.step();
        }
        if let Err(error) = result {
            assert!(self.env.is_stopped(), "the machine runs, but: {error}");
        }
    }

    fn step(&mut self) -> Result<(), EngineError> {
        // The third group is slow: it pins the log.
        let id = if self.random.chance(12) {
            3
        } else {
            self.random.between(1, 2)
        };
        if !self.groups.contains_key(&id) {
            return self.give_birth(id);
        }
        match self.random.below(40) {
            0..=15 => self.append(id),
            16..=21 => self.sync(),
            22..=29 => self.apply(id),
            30..=32 => self.run_jobs(),
            33..=35 => self.maintain(),
            36 => self.truncate(id),
            37 => self.install(id),
            38 => self.die(id),
            _ => self.restart(),
        }
    }

    fn give_birth(&mut self, id: u64) -> Result<(), EngineError> {
        let group = ModelGroup {
            states: BTreeMap::from([(0, Data::new())]),
            ..ModelGroup::default()
        };
        self.groups.insert(id, group);
        self.log(Record::Birth {
            group: GroupId(id),
            birth: Bytes::from(format!("group {id}")),
            hard_state: HardState::default(),
            truncated: EntryId::default(),
        })?;
        self.sync()
    }

    fn append(&mut self, id: u64) -> Result<(), EngineError> {
        let group = self.groups.get_mut(&id).expect("alive");
        let mut entries = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            let mut state = group.states[&group.last].clone();
            let key = key_of(id, self.random.below(12));
            let value = Bytes::from(vec![
                self.random.below(256) as u8;
                self.random.below(400) as usize
            ]);
            let command = if value.len() < 60 {
                state.remove(&key);
                Bytes::new()
            } else {
                state.insert(key.clone(), value.clone());
                value
            };
            group.last += 1;
            group.states.insert(group.last, state);
            let mut payload = key.to_vec();
            payload.extend_from_slice(&command);
            entries.push(Entry {
                id: id_of(group.last),
                payload: Payload::Command(Bytes::from(payload)),
            });
        }
        self.log(Record::Entries {
            group: GroupId(id),
            entries,
        })
    }

    fn log(&mut self, record: Record) -> Result<(), EngineError> {
        let (engine, wal) = self.open.as_mut().expect("open");
        let batch = Batch::from(vec![record]);
        for _ in 0..20 {
            match wal.append(&batch).map_err(EngineError::from) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Retry && !self.env.is_stopped() => {
                    engine.maintain(wal)?;
                    while let Some(job) = engine.plan() {
                        job.run()?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        panic!("no upkeep makes room in the log: {:?}", wal.status());
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        let (_, wal) = self.open.as_mut().expect("open");
        wal.sync()?;
        for group in self.groups.values_mut() {
            group.durable = group.last;
        }
        Ok(())
    }

    /// Applies durable entries, read back from the log.
    fn apply(&mut self, id: u64) -> Result<(), EngineError> {
        let group = &self.groups[&id];
        if group.applied == group.durable {
            return Ok(());
        }
        let upto = self.random.between(group.applied + 1, group.durable);
        self.apply_upto(id, upto)
    }

    fn apply_upto(&mut self, id: u64, upto: u64) -> Result<(), EngineError> {
        let (engine, _) = self.open.as_ref().expect("open");
        let group = self.groups.get_mut(&id).expect("alive");
        while group.applied < upto {
            let next = LogIndex(group.applied + 1);
            let entries = engine
                .log_reader()
                .entries(GroupId(id), next, LogIndex(upto), 1000)?;
            let mut batch = WriteBatch::new();
            for entry in &entries {
                let Payload::Command(command) = &entry.payload else {
                    panic!("{:?} was never written", entry.payload);
                };
                let key = command.slice(..KEY_BYTES);
                if command.len() > KEY_BYTES {
                    batch.put(key, command.slice(KEY_BYTES..));
                } else {
                    batch.delete(key);
                }
                group.applied = entry.id.index.0;
            }
            batch.applied(OriginId(id), group.applied);
            let mut applied = self.order.last().expect("never empty").clone();
            applied.insert(id, group.applied);
            self.order.push(applied);
            engine.write(&batch)?;
        }
        Ok(())
    }

    fn run_jobs(&mut self) -> Result<(), EngineError> {
        let (engine, _) = self.open.as_ref().expect("open");
        if self.random.chance(2) {
            engine.lsm().rotate()?;
        }
        while let Some(job) = engine.plan() {
            assert!(!job.needs_log_sync(), "only durable entries were applied");
            job.run()?;
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), EngineError> {
        let (engine, wal) = self.open.as_mut().expect("open");
        let upkeep = engine.maintain(wal)?;
        assert_eq!(upkeep.unreadable, vec![]);
        self.truncations += upkeep.truncated.len() as u32;
        if upkeep.asked_for_flush {
            return self.run_jobs();
        }
        Ok(())
    }

    /// As a replica does whose followers are all far enough.
    fn truncate(&mut self, id: u64) -> Result<(), EngineError> {
        let (engine, _) = self.open.as_ref().expect("open");
        let flushed = engine.flushed(GroupId(id));
        let extent = engine.log_reader().extent(GroupId(id)).expect("alive");
        if flushed > extent.truncated.index {
            let upto = id_of(flushed.0);
            let group = GroupId(id);
            self.log(Record::Truncated { group, upto })?;
        }
        Ok(())
    }

    /// A snapshot far ahead of the log arrives and is installed.
    fn install(&mut self, id: u64) -> Result<(), EngineError> {
        let (engine, _) = self.open.as_ref().expect("open");
        let file = PathBuf::from(format!("data/snapshot-{}", self.next_file));
        self.next_file += 1;
        let env: Arc<dyn Env> = self.env.shared();
        let mut writer = SstWriter::create(&env, &file, engine.lsm().options())?;
        let mut data = Data::new();
        for number in 0..12 {
            if self.random.chance(2) {
                let value = Bytes::from(vec![number as u8 + 1; self.random.below(300) as usize]);
                writer.add(&key_of(id, number), &value)?;
                data.insert(key_of(id, number), value);
            }
        }
        let written = writer.finish()?.is_some();
        let group = self.groups.get_mut(&id).expect("alive");
        let index = group.last + self.random.between(1, 5);
        group.installing.insert(index, data.clone());
        let snapshot = id_of(index);
        let name = if written {
            file.display().to_string()
        } else {
            String::new()
        };
        let payload = Bytes::from(name);
        let group = GroupId(id);
        self.log(Record::Installing {
            group,
            snapshot,
            payload: payload.clone(),
        })?;
        self.sync()?;
        self.finish_install(id, snapshot, &payload)
    }

    /// The rest of an installation, the first time or after a crash.
    fn finish_install(
        &mut self,
        id: u64,
        snapshot: EntryId,
        payload: &Bytes,
    ) -> Result<(), EngineError> {
        let (engine, _) = self.open.as_ref().expect("open");
        let index = snapshot.index.0;
        let files = match std::str::from_utf8(payload).expect("a path") {
            "" => Vec::new(),
            path => vec![PathBuf::from(path)],
        };
        let ingest = Ingest {
            drop: vec![(key_of(id, 0), key_of(id + 1, 0))],
            files,
            applied: Some((OriginId(id), index)),
        };
        if engine.flushed(GroupId(id)).0 < index {
            let mut applied = self.order.last().expect("never empty").clone();
            applied.insert(id, index);
            self.order.push(applied);
        }
        engine.install(GroupId(id), snapshot, &ingest)?;
        let group = self.groups.get_mut(&id).expect("alive");
        if group.snapshot < index {
            let installing = std::mem::take(&mut group.installing);
            let data = installing[&index].clone();
            *group = ModelGroup {
                states: BTreeMap::from([(index, data)]),
                last: index,
                durable: index,
                applied: index,
                snapshot: index,
                installing,
                dying: false,
            };
        }
        self.installs += 1;
        self.log(Record::Installed {
            group: GroupId(id),
            snapshot,
            payload: payload.clone(),
        })
    }

    fn die(&mut self, id: u64) -> Result<(), EngineError> {
        self.groups.get_mut(&id).expect("alive").dying = true;
        self.log(Record::Tombstone {
            group: GroupId(id),
            payload: Bytes::from_static(b"dead"),
        })?;
        self.sync()?;
        self.bury(id)
    }

    /// Drops what a dead group left; its id may be used again only after that is durable.
    fn bury(&mut self, id: u64) -> Result<(), EngineError> {
        let (engine, _) = self.open.as_ref().expect("open");
        let mut batch = WriteBatch::new();
        batch
            .delete_range(key_of(id, 0), key_of(id + 1, 0))
            .forget(OriginId(id));
        let mut applied = self.order.last().expect("never empty").clone();
        applied.remove(&id);
        self.order.push(applied);
        engine.write(&batch)?;
        engine.lsm().flush()?;
        self.groups.remove(&id);
        self.log(Record::ForgetTombstone { group: GroupId(id) })?;
        self.sync()
    }

    fn restart(&mut self) -> Result<(), EngineError> {
        self.open = None;
        let mode = *self.random.pick(&CrashMode::ALL).expect("some modes");
        self.env.crash(mode);
        if let Some(n) = self.crash_at {
            self.env.crash_at(n);
        }
        self.recover()
    }

    fn recover(&mut self) -> Result<(), EngineError> {
        let (engine, recovery) = Engine::open(self.env.shared(), Path::new(DIR), tiny_options())?;
        assert_eq!(recovery.damaged, vec![], "a crash is no damage");
        self.check_prefix(&engine, &recovery);
        let Recovery {
            writer,
            groups,
            tombstones,
            ..
        } = recovery;
        self.open = Some((engine, writer));
        let ids: Vec<u64> = self.groups.keys().copied().collect();
        for id in ids {
            let group = &self.groups[&id];
            match groups.get(&GroupId(id)) {
                None if tombstones.contains_key(&GroupId(id)) => {
                    assert!(group.dying, "group {id} is dead and nobody killed it");
                    self.bury(id)?;
                }
                None => {
                    let unborn = group.durable == 0 && group.applied == 0 && group.last == 0;
                    assert!(unborn || group.dying, "group {id} is gone");
                    self.groups.remove(&id);
                }
                Some(found) => self.adopt(id, found)?,
            }
        }
        let orphan = groups.keys().find(|id| !self.groups.contains_key(&id.0));
        assert_eq!(orphan, None, "a group came back from the dead");
        self.check_data();
        Ok(())
    }

    /// Takes over what a restart found of a group, and replays it.
    fn adopt(&mut self, id: u64, found: &tinykv_engine::GroupRecovery) -> Result<(), EngineError> {
        let group = self.groups.get_mut(&id).expect("alive");
        group.dying = false;
        let last = found.log.last.index.0;
        let mut applied = found.applied.0;
        match &found.log.installing {
            Some((snapshot, payload)) => {
                let known = group.installing.contains_key(&snapshot.index.0);
                assert!(
                    known,
                    "group {id} installs {snapshot}, of which nobody knows"
                );
                group.installing.split_off(&(snapshot.index.0 + 1));
                self.finish_install(id, *snapshot, payload)?;
                applied = applied.max(snapshot.index.0);
            }
            // It never became durable; its index may be used by another entry.
            // What never became durable leaves its index to other entries.
            None => {
                group.installing.split_off(&(group.snapshot + 1));
            }
        }
        let group = self.groups.get_mut(&id).expect("alive");
        assert!(
            (group.durable..=group.last).contains(&last) && last >= group.snapshot,
            "group {id}: the log ends at {last}; {} was durable, {} appended",
            group.durable,
            group.last
        );
        (group.last, group.durable, group.applied) = (last, last, applied);
        group.states.split_off(&(last + 1));
        self.apply_upto(id, last)
    }

    /// The durable tree is the result of a prefix of all writes, and none older than what was
    /// told to be flushed.
    fn check_prefix(&mut self, engine: &Engine, recovery: &Recovery) {
        let found: BTreeMap<u64, u64> = engine
            .lsm()
            .flushed()
            .into_iter()
            .map(|(origin, index)| (origin.0, index))
            .collect();
        // An installation is durable at once, ahead of memtables that do not touch its range.
        let installed = |id: u64, index: &u64| {
            let group = self.groups.get(&id);
            group.is_some_and(|group| group.installing.contains_key(index))
        };
        let matches = |applied: &BTreeMap<u64, u64>| {
            (1..=3).all(|id| {
                let found = found.get(&id);
                found == applied.get(&id) || found.is_some_and(|index| installed(id, index))
            })
        };
        let Some(at) = self.order.iter().rposition(matches) else {
            panic!(
                "applied indexes {found:?} never stood together: {:?}",
                self.order
            );
        };
        self.order.truncate(at);
        self.order.push(found);
        for (id, group) in &self.groups {
            let Some(recovered) = recovery.groups.get(&GroupId(*id)) else {
                continue;
            };
            let applied = recovered.applied.0;
            let installed = group.installing.get(&applied);
            let expected = installed.unwrap_or_else(|| &group.states[&applied]);
            assert_eq!(&data_of(engine, *id), expected, "group {id} at {applied}");
        }
    }

    fn check_data(&self) {
        let (engine, _) = self.open.as_ref().expect("open");
        for (id, group) in &self.groups {
            assert_eq!(
                data_of(engine, *id),
                group.states[&group.applied],
                "group {id}"
            );
        }
        for id in (1..=3).filter(|id| !self.groups.contains_key(id)) {
            assert_eq!(
                data_of(engine, id),
                Data::new(),
                "group {id} left something"
            );
        }
    }
}

/// Bytes of every key.
const KEY_BYTES: usize = 5;

fn key_of(group: u64, number: u64) -> Bytes {
    Bytes::from(format!("{group}/{number:03}"))
}

fn id_of(index: u64) -> EntryId {
    EntryId {
        term: TERM,
        index: LogIndex(index),
    }
}

fn data_of(engine: &Engine, group: u64) -> Data {
    let snapshot = engine.lsm().snapshot();
    let mut iter = snapshot
        .iter(&key_of(group, 0), &key_of(group + 1, 0))
        .expect("iterate");
    let mut data = Data::new();
    while iter.next().expect("iterate") {
        data.insert(Bytes::copy_from_slice(iter.key()), iter.value());
    }
    data
}

const STEPS: u32 = 70;

#[test]
fn crash_at_every_io_in_every_mode() {
    let mut recoveries = 0u64;
    for seed in 0..cases(4) {
        let mut whole = Life::new(seed);
        whole.live(STEPS);
        for crash_at in 1..=whole.env.io_count() {
            let mut life = Life::new(seed);
            life.crash_at = Some(crash_at);
            life.env.crash_at(crash_at);
            life.live(STEPS);
            assert!(life.env.is_stopped(), "seed {seed}: {crash_at}");
            for mode in CrashMode::ALL {
                life.after_crash(mode).live(0);
                recoveries += 1;
            }
        }
    }
    println!("{recoveries} recoveries");
    assert!(recoveries >= 3_000, "only {recoveries} recoveries");
    let figures = json!({ "traces": cases(4), "recoveries": recoveries, "violations": 0 });
    append_if_asked("engine_crash", &figures).expect("ledger");
}

#[test]
fn long_lives_with_random_crashes() {
    let (mut truncations, mut installs) = (0, 0);
    for seed in 1000..1000 + cases(15) {
        let mut life = Life::new(seed);
        life.live(500);
        truncations += life.truncations;
        installs += life.installs;
    }
    println!("{truncations} truncations by upkeep, {installs} installations");
    assert!(truncations >= 20, "only {truncations} truncations");
    assert!(installs >= 20, "only {installs} installations");
}
