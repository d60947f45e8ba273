//! What apply reads and writes: the batch of the run laid over the shell's view.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_lsm::WriteBatch;
use tinykv_mutants::{Mutant, planted};

use crate::machine::{
    ApplyContext, KeyRange, Lookup, NeedsKeys, Observation, ObservationKind, Staged, Write,
};

/// What one group wrote in this run, readable by key.
#[derive(Default)]
pub(crate) struct Overlay {
    points: BTreeMap<Bytes, Option<Bytes>>,
    deleted: Vec<KeyRange>,
}

impl Overlay {
    /// What the run knows about a key: `None` if nothing, `Some(None)` if it was removed.
    fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(value) = self.points.get(key) {
            return Some(value.clone());
        }
        self.deleted
            .iter()
            .any(|range| range.contains(key))
            .then_some(None)
    }

    /// Moves the writes of one command into the overlay and the batch.
    pub(crate) fn commit(&mut self, writes: Vec<Write>, batch: &mut WriteBatch) {
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    batch.put(key.clone(), value.clone());
                    self.points.insert(key, Some(value));
                }
                Write::Delete(key) => {
                    batch.delete(key.clone());
                    self.points.insert(key, None);
                }
                Write::DeleteRange(range) => {
                    batch.delete_range(range.start.clone(), range.end.clone());
                    let covered: Vec<Bytes> = self
                        .points
                        .range(range.start.clone()..range.end.clone())
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in covered {
                        self.points.remove(&key);
                    }
                    self.deleted.push(range);
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.points.clear();
        self.deleted.clear();
    }
}

impl KeyRange {
    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && key < self.end.as_ref()
    }
}

impl ApplyContext<'_> {
    /// The value of an engine key as of this command.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, NeedsKeys> {
        if let Some(value) = self.staged.get(key) {
            return Ok(value);
        }
        if let Some(value) = self.overlay.get(key)
            && !planted(Mutant::DecidedOnOldState)
        {
            return Ok(value);
        }
        if let Some(value) = self.fetched.get(key) {
            return Ok(value.clone());
        }
        match self.reader.get(key) {
            Lookup::Found(value) => Ok(Some(value)),
            Lookup::Missing => Ok(None),
            Lookup::NotCached => Err(NeedsKeys(vec![Bytes::copy_from_slice(key)])),
        }
    }

    /// The values of several engine keys; what is missing is asked for in one go.
    pub fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, NeedsKeys> {
        let mut values = Vec::with_capacity(keys.len());
        let mut needed = Vec::new();
        for key in keys {
            match self.get(key) {
                Ok(value) => values.push(value),
                Err(NeedsKeys(keys)) => needed.extend(keys),
            }
        }
        if needed.is_empty() {
            Ok(values)
        } else {
            Err(NeedsKeys(needed))
        }
    }

    /// Sets an engine key.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.staged.writes.push(Write::Put(key, value));
    }

    /// Removes an engine key.
    pub fn delete(&mut self, key: Bytes) {
        self.staged.writes.push(Write::Delete(key));
    }

    /// Removes all engine keys of a range; an empty or inverted range is nothing.
    pub fn delete_range(&mut self, range: KeyRange) {
        if range.start < range.end {
            self.staged.writes.push(Write::DeleteRange(range));
        }
    }

    /// What the machine keeps in the region's state.
    pub fn machine(&self) -> &Bytes {
        self.staged.machine.as_ref().unwrap_or(&self.state.machine)
    }

    /// Replaces what the machine keeps in the region's state; written with the data.
    pub fn set_machine(&mut self, machine: Bytes) {
        self.staged.machine = Some(machine);
    }

    /// Tells the observer what happened to a key.
    pub fn observe(&mut self, key: Bytes, kind: ObservationKind) {
        self.staged.observed.push(Observation { key, kind });
    }
}

impl Staged {
    fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.writes.iter().rev().find_map(|write| match write {
            Write::Put(at, value) if at.as_ref() == key => Some(Some(value.clone())),
            Write::Delete(at) if at.as_ref() == key => Some(None),
            Write::DeleteRange(range) if range.contains(key) => Some(None),
            _ => None,
        })
    }
}
