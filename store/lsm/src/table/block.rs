//! Blocks of sorted entries with prefix compression.
//!
//! An entry is `shared`, `unshared`, `value length` (varints), the unshared part of the key, the
//! value. Every so many entries a *restart* carries its whole key; the offsets of the restarts (u32
//! each) and their count (u32) end the block. The shared prefix never reaches into the eight bytes
//! of the trailer, so whoever reads may rewrite the trailer in place.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Malformed, Reader, put_varint};
use crate::key::{self, TRAILER_BYTES};

/// Collects entries in rising order.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    /// Entries since the last restart.
    since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn new(restart_interval: usize) -> BlockBuilder {
        BlockBuilder {
            bytes: Vec::new(),
            restarts: Vec::new(),
            restart_interval,
            since_restart: 0,
            last_key: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// The size it would have now.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    pub(crate) fn add(&mut self, internal: &[u8], value: &[u8]) {
        let restart = self.restarts.is_empty() || self.since_restart >= self.restart_interval;
        let shared = if restart {
            self.restarts.push(self.bytes.len() as u32);
            self.since_restart = 0;
            0
        } else {
            shared_prefix(key::user(&self.last_key), key::user(internal))
        };
        self.since_restart += 1;
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (internal.len() - shared) as u64);
        put_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(&internal[shared..]);
        self.bytes.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(internal);
    }

    /// The block; the builder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut block = std::mem::take(&mut self.bytes);
        for restart in &self.restarts {
            block.extend_from_slice(&restart.to_le_bytes());
        }
        block.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.restarts.clear();
        self.since_restart = 0;
        self.last_key.clear();
        block
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A block whose frame has been checked; its entries are checked as they are read.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Bytes,
    /// Where the entries end and the restarts begin.
    entries_end: usize,
    restart_count: usize,
}

impl Block {
    pub(crate) fn parse(bytes: Bytes) -> Result<Block, Malformed> {
        let tail = bytes.last_chunk::<4>().ok_or(Malformed("too short"))?;
        let restart_count = u32::from_le_bytes(*tail) as usize;
        let restarts = restart_count
            .checked_mul(4)
            .and_then(|len| len.checked_add(4))
            .ok_or(Malformed("too many restarts"))?;
        let entries_end = bytes
            .len()
            .checked_sub(restarts)
            .ok_or(Malformed("too many restarts"))?;
        if restart_count == 0 {
            return Err(Malformed("no entries"));
        }
        Ok(Block {
            bytes,
            entries_end,
            restart_count,
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    fn restart(&self, index: usize) -> Result<usize, Malformed> {
        let at = self.entries_end + 4 * index;
        let offset = Reader::new(self.bytes.get(at..).unwrap_or(&[])).u32()? as usize;
        if offset >= self.entries_end {
            return Err(Malformed("a restart points behind the entries"));
        }
        Ok(offset)
    }

    fn entry(&self, offset: usize) -> Result<Entry, Malformed> {
        let bytes = self
            .bytes
            .get(offset..self.entries_end)
            .ok_or(Malformed("an entry begins behind the entries"))?;
        let mut reader = Reader::new(bytes);
        let shared = reader.length()?;
        let unshared = reader.length()?;
        let value_len = reader.length()?;
        let key_start = self.entries_end - reader.remaining();
        reader.take(unshared)?;
        let value_start = self.entries_end - reader.remaining();
        reader.take(value_len)?;
        let end = self.entries_end - reader.remaining();
        Ok(Entry {
            shared,
            key: key_start..value_start,
            value: value_start..end,
        })
    }

    /// The whole key of a restart.
    fn restart_key(&self, index: usize) -> Result<&[u8], Malformed> {
        let entry = self.entry(self.restart(index)?)?;
        if entry.shared != 0 || entry.key.len() < TRAILER_BYTES {
            return Err(Malformed("a restart without its whole key"));
        }
        Ok(&self.bytes[entry.key])
    }
}

/// Where an entry's parts stand.
struct Entry {
    shared: usize,
    key: Range<usize>,
    value: Range<usize>,
}

/// Walks a block in both directions.
#[derive(Debug)]
pub(crate) struct BlockIter {
    block: Arc<Block>,
    /// What to show instead of the sequence found (tables taken in from outside).
    sequence: Option<u64>,
    /// Where the current entry begins; the end of the entries when on none.
    offset: usize,
    key: Vec<u8>,
    value: Range<usize>,
}

impl BlockIter {
    /// Stands on no entry.
    pub(crate) fn new(block: Arc<Block>, sequence: Option<u64>) -> BlockIter {
        BlockIter {
            offset: block.entries_end,
            block,
            sequence,
            key: Vec::new(),
            value: 0..0,
        }
    }

    pub(crate) fn valid(&self) -> bool {
        self.offset < self.block.entries_end
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn value(&self) -> Bytes {
        self.block.bytes.slice(self.value.clone())
    }

    pub(crate) fn value_slice(&self) -> &[u8] {
        self.block.bytes.get(self.value.clone()).unwrap_or(&[])
    }

    pub(crate) fn first(&mut self) -> Result<(), Malformed> {
        self.go_to_restart(0)
    }

    pub(crate) fn last(&mut self) -> Result<(), Malformed> {
        self.go_to_restart(self.block.restart_count - 1)?;
        while self.value.end < self.block.entries_end {
            self.load(self.value.end)?;
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<(), Malformed> {
        if !self.valid() {
            return Ok(());
        }
        if self.value.end >= self.block.entries_end {
            self.offset = self.block.entries_end;
            return Ok(());
        }
        self.load(self.value.end)
    }

    pub(crate) fn prev(&mut self) -> Result<(), Malformed> {
        let current = self.offset;
        if !self.valid() {
            return Ok(());
        }
        let restart =
            self.last_restart_where(|block, index| Ok(block.restart(index)? < current))?;
        let Some(restart) = restart else {
            self.offset = self.block.entries_end;
            return Ok(());
        };
        self.go_to_restart(restart)?;
        while self.value.end < current {
            self.load(self.value.end)?;
        }
        if self.value.end != current {
            return Err(Malformed("restarts and entries disagree"));
        }
        Ok(())
    }

    /// Goes to the first entry at or after `target`, in the order of what the block holds.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<(), Malformed> {
        let restart = self.last_restart_where(|block, index| {
            Ok(key::compare(block.restart_key(index)?, target) == Ordering::Less)
        })?;
        self.go_to_restart(restart.unwrap_or(0))?;
        while self.valid() && self.compare_stored(target) == Ordering::Less {
            self.next()?;
        }
        Ok(())
    }

    /// Compares with the key as stored: a shown sequence stands for 0.
    fn compare_stored(&self, target: &[u8]) -> Ordering {
        if self.sequence.is_none() {
            return key::compare(&self.key, target);
        }
        let (_, kind) = key::split_trailer(&self.key).unwrap_or((0, 0));
        let stored = (!u64::from(kind)).to_be_bytes();
        let target_trailer = &target[target.len().saturating_sub(TRAILER_BYTES)..];
        key::user(&self.key)
            .cmp(key::user(target))
            .then_with(|| stored.as_slice().cmp(target_trailer))
    }

    /// The last restart for which `below` holds; it must hold for a prefix of them.
    fn last_restart_where(
        &self,
        below: impl Fn(&Block, usize) -> Result<bool, Malformed>,
    ) -> Result<Option<usize>, Malformed> {
        let (mut low, mut high) = (0, self.block.restart_count);
        while low < high {
            let middle = low + (high - low) / 2;
            if below(&self.block, middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    fn go_to_restart(&mut self, index: usize) -> Result<(), Malformed> {
        self.key.clear();
        let offset = self.block.restart(index)?;
        self.load(offset)
    }

    fn load(&mut self, offset: usize) -> Result<(), Malformed> {
        let entry = self.block.entry(offset)?;
        if entry.shared > self.key.len().saturating_sub(TRAILER_BYTES)
            || entry.key.len() < TRAILER_BYTES
        {
            return Err(Malformed("a key does not fit to the one before it"));
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(&self.block.bytes[entry.key]);
        if let Some(sequence) = self.sequence {
            let (_, kind) = key::split_trailer(&self.key).unwrap_or((0, 0));
            let kind = key::Kind::from_byte(kind).ok_or(Malformed("an unknown kind of entry"))?;
            self.key.truncate(self.key.len() - TRAILER_BYTES);
            self.key.extend_from_slice(&key::trailer(sequence, kind));
        }
        self.offset = offset;
        self.value = entry.value;
        Ok(())
    }
}
