//! The naive log: everything in memory, nothing lost, nothing moved.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_env::Prng;
use tinykv_raft::{Entry, EntryId, GroupId, HardState, LogIndex, Payload, PeerId, Term};
use tinykv_wal::{Batch, Record, Recovered, RecoveredGroup, WalReader};

/// What the log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, ModelGroup>,
    pub(crate) tombstones: BTreeMap<GroupId, Bytes>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelGroup {
    birth: Bytes,
    hard_state: HardState,
    pub(crate) truncated: EntryId,
    pub(crate) entries: BTreeMap<LogIndex, Entry>,
    installing: Option<(EntryId, Bytes)>,
    installed: Option<(EntryId, Bytes)>,
}

impl ModelGroup {
    pub(crate) fn last(&self) -> EntryId {
        let last = self.entries.values().next_back();
        last.map_or(self.truncated, |entry| entry.id)
    }

    fn cut(&mut self, upto: EntryId) {
        let term = self.entries.get(&upto.index).map(|entry| entry.id.term);
        if term == Some(upto.term) {
            self.entries = self.entries.split_off(&upto.index.next());
        } else if upto != self.truncated {
            self.entries.clear();
        }
        self.truncated = upto;
    }
}

impl Model {
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for record in &batch.records {
            self.apply_record(record.clone());
        }
    }

    fn apply_record(&mut self, record: Record) {
        let id = record.group();
        match record {
            Record::Birth {
                birth,
                hard_state,
                truncated,
                ..
            } => {
                let group = ModelGroup {
                    birth,
                    hard_state,
                    truncated,
                    ..ModelGroup::default()
                };
                self.groups.insert(id, group);
            }
            Record::Tombstone { payload, .. } => {
                self.groups.remove(&id);
                self.tombstones.insert(id, payload);
            }
            Record::ForgetTombstone { .. } => {
                self.tombstones.remove(&id);
            }
            other => {
                let group = self.groups.get_mut(&id).expect("a living group");
                match other {
                    Record::Entries { entries, .. } => {
                        group.entries.split_off(&entries[0].id.index);
                        group
                            .entries
                            .extend(entries.into_iter().map(|e| (e.id.index, e)));
                    }
                    Record::HardState { hard_state, .. } => group.hard_state = hard_state,
                    Record::Truncated { upto, .. } => group.cut(upto),
                    Record::Installing {
                        snapshot, payload, ..
                    } => {
                        group.cut(snapshot);
                        group.installing = Some((snapshot, payload));
                    }
                    Record::Installed {
                        snapshot, payload, ..
                    } => {
                        group.installing = None;
                        group.installed = Some((snapshot, payload));
                    }
                    _ => unreachable!("handled above"),
                }
            }
        }
    }

    /// What a restart found, read back entry by entry.
    pub(crate) fn of(recovered: &Recovered, reader: &WalReader) -> Model {
        let groups = recovered
            .groups
            .iter()
            .map(|(id, group)| (*id, group_of(*id, group, reader)))
            .collect();
        Model {
            groups,
            tombstones: recovered.tombstones.clone(),
        }
    }

    /// A batch that is possible now.
    pub(crate) fn random_batch(&self, random: &mut Prng, payload_max: u64) -> Batch {
        let mut after = self.clone();
        let mut batch = Batch::default();
        for _ in 0..random.between(1, 4) {
            // The fourth group is slow: it keeps old segments alive.
            let id = if random.chance(16) {
                4
            } else {
                random.between(1, 3)
            };
            let record = after.random_record(GroupId(id), random, payload_max);
            after.apply_record(record.clone());
            batch.push(record);
        }
        batch
    }

    /// A batch after which nothing of any log is needed.
    pub(crate) fn truncate_all(&self) -> Batch {
        let truncated = |(id, group): (&GroupId, &ModelGroup)| Record::Truncated {
            group: *id,
            upto: group.last(),
        };
        Batch::from(self.groups.iter().map(truncated).collect::<Vec<_>>())
    }

    fn random_record(&self, id: GroupId, random: &mut Prng, payload_max: u64) -> Record {
        let Some(group) = self.groups.get(&id) else {
            if self.tombstones.contains_key(&id) && random.chance(2) {
                return Record::ForgetTombstone { group: id };
            }
            return Record::Birth {
                group: id,
                birth: random_bytes(random, 40),
                hard_state: random_hard_state(random, Term(0)),
                truncated: random_id(random, EntryId::default()),
            };
        };
        let last = group.last();
        match random.below(20) {
            0 => Record::Tombstone {
                group: id,
                payload: random_bytes(random, 30),
            },
            1 if group.installing.is_none() => Record::Installing {
                group: id,
                snapshot: random_id(random, last),
                payload: random_bytes(random, 200),
            },
            1..=3 if group.installing.is_some() => Record::Installed {
                group: id,
                snapshot: group.truncated,
                payload: random_bytes(random, 50),
            },
            2..=4 => Record::HardState {
                group: id,
                hard_state: random_hard_state(random, group.hard_state.term),
            },
            5..=7 => {
                let upto = random.between(group.truncated.index.0, last.index.0);
                let entry = group.entries.get(&LogIndex(upto));
                Record::Truncated {
                    group: id,
                    upto: entry.map_or(group.truncated, |entry| entry.id),
                }
            }
            kind => {
                let overwrite = kind == 8 && !group.entries.is_empty();
                let (first, term) = if overwrite {
                    let first = random.between(group.truncated.index.0 + 1, last.index.0);
                    (first, last.term.0 + 1)
                } else {
                    (last.index.0 + 1, last.term.0.max(1) + u64::from(kind == 9))
                };
                let count = random.between(1, 5);
                let entry = |index| Entry {
                    id: EntryId {
                        term: Term(term),
                        index: LogIndex(index),
                    },
                    payload: random_payload(random, payload_max),
                };
                Record::Entries {
                    group: id,
                    entries: (first..first + count).map(entry).collect(),
                }
            }
        }
    }
}

fn group_of(id: GroupId, group: &RecoveredGroup, reader: &WalReader) -> ModelGroup {
    let mut entries = BTreeMap::new();
    let mut next = group.truncated.index.next();
    while next <= group.last.index {
        let found = reader
            .entries(id, next, group.last.index, 1000)
            .expect("recovered entries are readable");
        for entry in found {
            assert_eq!(entry.id.index, next, "group {id}: entries in order");
            assert_eq!(reader.term(id, next), Some(entry.id.term), "group {id}");
            let start = group.terms.iter().rev().find(|start| start.first <= next);
            assert_eq!(start.map(|start| start.term), Some(entry.id.term));
            entries.insert(next, entry);
            next = next.next();
        }
    }
    assert_eq!(reader.durable_index(id), Some(group.last.index));
    ModelGroup {
        birth: group.birth.clone(),
        hard_state: group.hard_state,
        truncated: group.truncated,
        entries,
        installing: group.installing.clone(),
        installed: group.installed.clone(),
    }
}

fn random_payload(random: &mut Prng, payload_max: u64) -> Payload {
    match random.below(10) {
        0 => Payload::Empty,
        1 => Payload::Membership(tinykv_raft::MembershipChange {
            steps: vec![tinykv_raft::MembershipStep::AddVoter(PeerId(
                random.below(9),
            ))],
            context: random_bytes(random, 20),
        }),
        _ => Payload::Command(random_bytes(random, payload_max)),
    }
}

fn random_bytes(random: &mut Prng, len_max: u64) -> Bytes {
    let mut bytes = vec![0; random.between(0, len_max) as usize];
    random.fill(&mut bytes);
    Bytes::from(bytes)
}

fn random_hard_state(random: &mut Prng, term: Term) -> HardState {
    HardState {
        term: Term(term.0 + random.below(3)),
        vote: random.chance(2).then(|| PeerId(random.between(1, 5))),
        commit: LogIndex(random.below(100)),
    }
}

fn random_id(random: &mut Prng, at_least: EntryId) -> EntryId {
    EntryId {
        term: Term(at_least.term.0.max(1) + random.below(2)),
        index: LogIndex(at_least.index.0 + random.below(4)),
    }
}
