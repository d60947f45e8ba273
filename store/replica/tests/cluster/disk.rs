//! A log and an engine in memory that lose on a crash what real ones may lose.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tinykv_lsm::{AppliedChange, Operation, OriginId, WriteBatch};
use tinykv_raft::{Entry, EntryId, GroupId, HardState, LogIndex, TermStart};
use tinykv_replica::{
    InstallRecord, KeyRange, Lookup, PeerMessage, PersistToken, ReadError, Reader,
    RecoveredReplica, RecoveredTombstone, Region, StateMachine,
};
use tinykv_wal::{Batch, Record, RecoveredGroup};

use crate::lists::Lists;
use crate::random::Random;

/// One group's part of the log.
#[derive(Clone, Debug, Default)]
struct GroupLog {
    birth: Bytes,
    hard_state: HardState,
    truncated: EntryId,
    entries: BTreeMap<LogIndex, Entry>,
    installing: Option<(EntryId, Bytes)>,
}

impl GroupLog {
    fn cut(&mut self, upto: EntryId) {
        if upto.index <= self.truncated.index {
            return;
        }
        let matches = self
            .entries
            .get(&upto.index)
            .is_some_and(|entry| entry.id == upto);
        if matches || upto == self.truncated {
            self.entries = self.entries.split_off(&upto.index.next());
        } else {
            self.entries.clear();
        }
        self.truncated = upto;
    }

    fn last(&self) -> EntryId {
        self.entries
            .values()
            .next_back()
            .map_or(self.truncated, |entry| entry.id)
    }
}

/// What a log contains.
#[derive(Clone, Debug, Default)]
struct Contents {
    groups: BTreeMap<GroupId, GroupLog>,
    tombstones: BTreeMap<GroupId, Bytes>,
}

impl Contents {
    fn apply(&mut self, record: &Record) {
        let group = record.group();
        if let Record::Birth {
            birth,
            hard_state,
            truncated,
            ..
        } = record
        {
            let log = GroupLog {
                birth: birth.clone(),
                hard_state: *hard_state,
                truncated: *truncated,
                ..GroupLog::default()
            };
            let before = self.groups.insert(group, log);
            assert!(before.is_none(), "{group} is born twice");
            return;
        }
        if let Record::Tombstone { payload, .. } = record {
            self.groups.remove(&group);
            self.tombstones.insert(group, payload.clone());
            return;
        }
        if let Record::ForgetTombstone { .. } = record {
            self.tombstones.remove(&group);
            return;
        }
        let log = self
            .groups
            .get_mut(&group)
            .expect("records are of living groups");
        match record {
            Record::Entries { entries, .. } => {
                let first = entries[0].id.index;
                assert!(
                    first <= log.last().index.next(),
                    "a gap before {first} of {group}"
                );
                assert!(first > log.truncated.index, "{first} of {group} was cut");
                log.entries.split_off(&first);
                log.entries
                    .extend(entries.iter().map(|entry| (entry.id.index, entry.clone())));
            }
            Record::HardState { hard_state, .. } => {
                assert!(
                    hard_state.term >= log.hard_state.term,
                    "terms never regress (R5)"
                );
                if hard_state.term == log.hard_state.term && log.hard_state.vote.is_some() {
                    assert_eq!(hard_state.vote, log.hard_state.vote, "one vote a term (R5)");
                }
                log.hard_state = *hard_state;
            }
            Record::Truncated { upto, .. } => log.cut(*upto),
            Record::Installing {
                snapshot, payload, ..
            } => {
                log.cut(*snapshot);
                log.installing = Some((*snapshot, payload.clone()));
            }
            Record::Installed { .. } => log.installing = None,
            Record::Birth { .. } | Record::Tombstone { .. } | Record::ForgetTombstone { .. } => {}
        }
    }
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    pub(crate) messages: Vec<PeerMessage>,
    pub(crate) token: PersistToken,
    pub(crate) durable_at: u64,
}

/// The log: what was appended, and what of it would survive.
#[derive(Debug, Default)]
pub(crate) struct Wal {
    current: Contents,
    durable: Contents,
    pub(crate) pending: VecDeque<Pending>,
}

impl Wal {
    pub(crate) fn append(&mut self, pending: Pending) {
        for record in &pending.batch.records {
            self.current.apply(record);
        }
        self.pending.push_back(pending);
    }

    /// The next batch whose sync has ended.
    pub(crate) fn synced(&mut self, now: u64) -> Option<Pending> {
        if self.pending.front()?.durable_at > now {
            return None;
        }
        let pending = self.pending.pop_front()?;
        for record in &pending.batch.records {
            self.durable.apply(record);
        }
        Some(pending)
    }

    /// Power is gone: some of what was under way may have reached the disk.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let survivors = random.below(self.pending.len() as u64 + 1);
        for pending in self.pending.drain(..).take(survivors as usize) {
            for record in &pending.batch.records {
                self.durable.apply(record);
            }
        }
        self.current = self.durable.clone();
    }

    pub(crate) fn read(
        &self,
        group: GroupId,
        from: LogIndex,
        upto: LogIndex,
        bytes_max: usize,
    ) -> Vec<Entry> {
        let Some(log) = self.current.groups.get(&group) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        if from <= log.truncated.index {
            return entries;
        }
        for entry in log.entries.range(from..=upto).map(|(_, entry)| entry) {
            bytes += entry.size();
            if !entries.is_empty() && bytes > bytes_max {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// Cuts a log for its own reasons, as the engine may, up to what is flushed.
    pub(crate) fn cut(&mut self, group: GroupId, flushed: LogIndex) -> Option<EntryId> {
        let entry = self.durable.groups.get(&group)?.entries.get(&flushed)?.id;
        let current = self.current.groups.get(&group)?;
        if current.entries.get(&flushed).map(|entry| entry.id) != Some(entry) {
            return None;
        }
        for contents in [&mut self.current, &mut self.durable] {
            contents.apply(&Record::Truncated { group, upto: entry });
        }
        Some(entry)
    }

    /// Whether an entry would survive (the engine's sixth invariant).
    pub(crate) fn is_durable(&self, group: GroupId, index: LogIndex) -> bool {
        match self.durable.groups.get(&group) {
            Some(log) => index <= log.truncated.index || log.entries.contains_key(&index),
            // Only of the dead the engine may know more than the log.
            None => self.durable.tombstones.contains_key(&group),
        }
    }
}

/// The engine: a sorted map whose durable part is a prefix of what was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) data: BTreeMap<Bytes, Bytes>,
    pub(crate) applied: BTreeMap<GroupId, LogIndex>,
}

impl Image {
    fn write(&mut self, batch: &WriteBatch) {
        for operation in batch.operations() {
            match operation {
                Operation::Put { key, value } => {
                    self.data.insert(key.clone(), value.clone());
                }
                Operation::Delete { key } => {
                    self.data.remove(key);
                }
                Operation::DeleteRange { start, end } => self.drop_range(start, end),
            }
        }
        for (OriginId(origin), change) in batch.applied_changes() {
            let group = GroupId(*origin);
            match change {
                AppliedChange::Advance(index) => {
                    let old = self.applied.insert(group, LogIndex(*index));
                    assert!(
                        old.is_none_or(|old| old.0 <= *index),
                        "applied goes back in {group}"
                    );
                }
                AppliedChange::Forget => {
                    self.applied.remove(&group);
                }
            }
        }
    }

    fn drop_range(&mut self, start: &Bytes, end: &Bytes) {
        let keys: Vec<Bytes> = self
            .data
            .range(start.clone()..end.clone())
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.data.remove(&key);
        }
    }

    pub(crate) fn copy(&self, ranges: &[KeyRange]) -> Vec<(Bytes, Bytes)> {
        let pairs = |range: &KeyRange| {
            let pairs = self.data.range(range.start.clone()..range.end.clone());
            pairs
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        ranges.iter().flat_map(pairs).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Lsm {
    pub(crate) current: Image,
    durable: Image,
}

impl Lsm {
    pub(crate) fn write(&mut self, batch: &WriteBatch) {
        self.current.write(batch);
    }

    pub(crate) fn flush(&mut self, wal: &Wal) -> BTreeMap<GroupId, LogIndex> {
        for (group, index) in &self.current.applied {
            assert!(
                wal.is_durable(*group, *index),
                "{group} is flushed beyond its durable log"
            );
        }
        self.durable = self.current.clone();
        self.durable.applied.clone()
    }

    pub(crate) fn crash(&mut self) {
        self.current = self.durable.clone();
    }

    /// Of what was written only this group's part is durable, as no engine would have it.
    pub(crate) fn keep_only(&mut self, group: GroupId, region: &Region) {
        let data = self.current.copy(&Lists::ranges(region));
        self.durable.data.extend(data);
        let key = Lists::state_key(group);
        let state = self.current.data[&key].clone();
        self.durable.data.insert(key, state);
        let applied = self.current.applied[&group];
        self.durable.applied.insert(group, applied);
    }

    /// One version edit: ranges dropped, pairs added, the applied index moved; durable at once.
    pub(crate) fn ingest(
        &mut self,
        wal: &Wal,
        drop: &[KeyRange],
        pairs: &[(Bytes, Bytes)],
        group: GroupId,
        applied: Option<LogIndex>,
    ) {
        for range in drop {
            self.current.drop_range(&range.start, &range.end);
        }
        self.current.data.extend(pairs.iter().cloned());
        match applied {
            Some(index) => self.current.applied.insert(group, index),
            None => self.current.applied.remove(&group),
        };
        self.flush(wal);
    }
}

/// What the shard sees of the engine. Part of it is not in memory.
pub(crate) struct View<'a> {
    pub(crate) image: &'a Image,
    pub(crate) random: RefCell<Random>,
    /// One read in so many has to go to disk; 0 for none.
    pub(crate) miss_one_in: u64,
}

impl Reader for View<'_> {
    fn get(&self, key: &[u8]) -> Lookup {
        if self.random.borrow_mut().chance(self.miss_one_in) {
            return Lookup::NotCached;
        }
        self.image
            .data
            .get(key)
            .map_or(Lookup::Missing, |value| Lookup::Found(value.clone()))
    }

    fn load(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.image.data.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        Ok(self.image.copy(std::slice::from_ref(range)))
    }
}

/// What a restart hands to the shard. `files` are the received snapshots.
pub(crate) fn recover(
    wal: &mut Wal,
    lsm: &mut Lsm,
    files: &BTreeMap<u64, Vec<(Bytes, Bytes)>>,
    tail_max: usize,
) -> (Vec<RecoveredReplica>, Vec<RecoveredTombstone>) {
    let ids: Vec<GroupId> = wal.current.groups.keys().copied().collect();
    for group in ids {
        redo_install(wal, lsm, files, group);
    }
    let groups = wal.current.groups.iter().map(|(group, log)| {
        let entries: Vec<Entry> = log.entries.values().cloned().collect();
        RecoveredReplica {
            group: *group,
            log: RecoveredGroup {
                birth: log.birth.clone(),
                hard_state: log.hard_state,
                truncated: log.truncated,
                terms: term_starts(&entries),
                last: log.last(),
                ..RecoveredGroup::default()
            },
            tail: entries[entries.len() - tail_max.min(entries.len())..].to_vec(),
            applied: lsm.current.applied.get(group).copied().unwrap_or_default(),
        }
    });
    let tombstones = wal
        .current
        .tombstones
        .iter()
        .map(|(group, payload)| RecoveredTombstone {
            group: *group,
            payload: payload.clone(),
        });
    (groups.collect(), tombstones.collect())
}

fn redo_install(
    wal: &mut Wal,
    lsm: &mut Lsm,
    files: &BTreeMap<u64, Vec<(Bytes, Bytes)>>,
    group: GroupId,
) {
    let Some((snapshot, payload)) = wal.current.groups[&group].installing.clone() else {
        return;
    };
    let record = InstallRecord::decode(&payload).expect("written by the shard");
    let applied = lsm.current.applied.get(&group).copied().unwrap_or_default();
    if applied < snapshot.index {
        let drop: Vec<KeyRange> = record.dropped().flat_map(Lists::ranges).collect();
        let mut pairs = files[&record.handle.0].clone();
        pairs.push((Lists::state_key(group), record.after.encode()));
        lsm.ingest(wal, &drop, &pairs, group, Some(snapshot.index));
    }
    for contents in [&mut wal.current, &mut wal.durable] {
        contents.apply(&Record::Installed {
            group,
            snapshot,
            payload: payload.clone(),
        });
    }
}

fn term_starts(entries: &[Entry]) -> Vec<TermStart> {
    let mut starts: Vec<TermStart> = Vec::new();
    for entry in entries {
        if starts
            .last()
            .is_none_or(|start| start.term != entry.id.term)
        {
            starts.push(TermStart {
                term: entry.id.term,
                first: entry.id.index,
            });
        }
    }
    starts
}
