//! What is written at once: all of it becomes visible together and survives a crash together.

use bytes::Bytes;

use crate::{LsmError, key};

/// Whose applied index is advanced: a Raft group, or the one local log of a standalone engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u64);

/// One change of a batch. Later ones of a batch win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The key has this value from now on.
    Put {
        /// The key.
        key: Bytes,
        /// Its value; may be empty.
        value: Bytes,
    },
    /// The key has no value from now on.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// No key in `start..end` has a value from now on.
    DeleteRange {
        /// The first key that goes.
        start: Bytes,
        /// The first key after it that stays; never empty.
        end: Bytes,
    },
}

impl Operation {
    /// Bytes of its keys and value.
    pub(crate) fn bytes(&self) -> u64 {
        let len = match self {
            Operation::Put { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
            Operation::DeleteRange { start, end } => start.len() + end.len(),
        };
        len as u64
    }
}

/// How a batch moves the applied index of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppliedChange {
    /// Everything of the origin up to this index is in this batch or an earlier one.
    Advance(u64),
    /// The origin is gone (its group was destroyed here); its index is no longer kept.
    Forget,
}

/// Operations and applied indexes that take effect in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    operations: Vec<Operation>,
    applied: Vec<(OriginId, AppliedChange)>,
    /// Bytes of all keys and values.
    bytes: u64,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Sets a key. The allocations behind key and value stay alive as long as the memtable, so
    /// neither should be a small slice of something large.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut WriteBatch {
        let (key, value) = (key.into(), value.into());
        self.bytes += (key.len() + value.len()) as u64;
        self.operations.push(Operation::Put { key, value });
        self
    }

    /// Removes a key; one that is not there is fine.
    pub fn delete(&mut self, key: impl Into<Bytes>) -> &mut WriteBatch {
        let key = key.into();
        self.bytes += key.len() as u64;
        self.operations.push(Operation::Delete { key });
        self
    }

    /// Removes every key in `start..end`, at a cost that does not depend on how many there are.
    /// Nothing happens when `start >= end`; there is no way to say "to the end of all keys".
    pub fn delete_range(
        &mut self,
        start: impl Into<Bytes>,
        end: impl Into<Bytes>,
    ) -> &mut WriteBatch {
        let (start, end) = (start.into(), end.into());
        if start < end {
            self.bytes += (start.len() + end.len()) as u64;
            self.operations.push(Operation::DeleteRange { start, end });
        }
        self
    }

    /// Advances the applied index of an origin. It must not be below the one reached.
    pub fn applied(&mut self, origin: OriginId, index: u64) -> &mut WriteBatch {
        self.applied.push((origin, AppliedChange::Advance(index)));
        self
    }

    /// Forgets the applied index of an origin that is destroyed with this batch.
    pub fn forget(&mut self, origin: OriginId) -> &mut WriteBatch {
        self.applied.push((origin, AppliedChange::Forget));
        self
    }

    /// Adds everything of `other` behind what is here.
    pub fn append(&mut self, other: WriteBatch) {
        self.operations.extend(other.operations);
        self.applied.extend(other.applied);
        self.bytes += other.bytes;
    }

    /// Empties the batch, keeping its allocations.
    pub fn clear(&mut self) {
        self.operations.clear();
        self.applied.clear();
        self.bytes = 0;
    }

    /// Whether it changes nothing, no applied index either.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.applied.is_empty()
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Bytes of all keys and values in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The operations, oldest first.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The moves of applied indexes, oldest first.
    pub fn applied_changes(&self) -> &[(OriginId, AppliedChange)] {
        &self.applied
    }

    /// Refuses what the format cannot hold. [`Lsm::write`](crate::Lsm::write) does so itself; a
    /// caller with a log asks before the batch goes into the log.
    ///
    /// # Errors
    /// `InvalidInput` for a key over 1 MiB or a value over 1 GiB.
    pub fn validate(&self) -> Result<(), LsmError> {
        for operation in &self.operations {
            match operation {
                Operation::Put { key, value } => key::check_lengths(key.len(), value.len())?,
                Operation::Delete { key } => key::check_lengths(key.len(), 0)?,
                Operation::DeleteRange { start, end } => {
                    key::check_lengths(start.len().max(end.len()), 0)?;
                }
            }
        }
        Ok(())
    }
}
