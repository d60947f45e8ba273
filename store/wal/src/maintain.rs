//! Upkeep of the log: dead segments become spare files, what keeps an old segment alive is copied
//! forward, space is reserved ahead, and an idle log says what it knows to be durable.
//!
//! Order is everything here (invariant 9). What a segment held is dead because of records that
//! may not be synced yet, or lives on in copies that are not. So: write the copies, sync, only
//! then write a frame that calls the segment dead, sync that, and only then let the file be
//! written over.

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{GroupId, LogIndex};

use crate::index::{GroupLog, Index};
use crate::parts::{Part, encode_entries};
use crate::reader::read_record;
use crate::stored::Stored;
use crate::writer::Purpose;
use crate::{Upkeep, Wal, WalError};

/// Segments emptied by copying in one call, so that a call stays short.
const COPIED_PER_CALL: u32 = 2;

/// A segment is copied forward when no more than this part of it is entries that live: the rest
/// is better cut by their groups.
const COPY_PART: u64 = 4;

impl Wal {
    /// Recycles segments, copies forward what keeps old ones alive, reserves space ahead and,
    /// when nothing was appended since the last call, syncs and leaves a watermark. To be called
    /// after truncations, and every 100 ms or so.
    pub fn maintain(&mut self) -> Result<Upkeep, WalError> {
        self.usable()?;
        let mut upkeep = Upkeep::default();
        if !self.busy {
            self.leave_watermark(&mut upkeep)?;
        }
        self.busy = false;
        self.free_retired();
        self.retire(&mut upkeep)?;
        let wanted = self.options.segments_spare as usize;
        let may_create = self.pool.files() < self.options.segments_max;
        if self.pool.ready() < wanted && (may_create || self.pool.spare() > self.pool.ready()) {
            let prepared = self.prepare_spare();
            tolerate(prepared, &mut upkeep)?;
        }
        Ok(upkeep)
    }

    /// Syncs, and writes a frame whose watermark covers everything that was said (D5).
    fn leave_watermark(&mut self, upkeep: &mut Upkeep) -> Result<(), WalError> {
        self.sync()?;
        if self.covered < self.last_record {
            let written = self.write_parts(&[], Purpose::Upkeep).map(|_| ());
            tolerate(written, upkeep)?;
            self.sync()?;
        }
        Ok(())
    }

    fn retire(&mut self, upkeep: &mut Upkeep) -> Result<(), WalError> {
        let numbers: Vec<u32> = self.index.lock().segments.keys().copied().collect();
        let mut oldest = self.oldest;
        let mut copied = 0;
        for (i, pair) in numbers.windows(2).enumerate() {
            let [number, next] = [pair[0], pair[1]];
            let crowded = numbers.len() - i > self.options.segments_target as usize;
            let mut alive = Alive::of(&self.index.lock(), number, crowded);
            alive.anything &= !planted(Mutant::RecycledBeforeCopied) || !alive.pins.is_empty();
            if alive.anything {
                if !crowded {
                    break;
                }
                if alive.entry_bytes > self.copied_bytes_max(number, numbers.len()) {
                    upkeep.pinned = alive.pins;
                    break;
                }
                if copied == COPIED_PER_CALL {
                    break;
                }
                // A copy counts as durable, so what it is taken from must be.
                self.sync()?;
                if !self.copy_forward(number, &alive, upkeep)? {
                    break;
                }
                copied += 1;
            }
            oldest = next;
        }
        if oldest > self.oldest {
            self.declare_dead(oldest, upkeep)?;
        }
        Ok(())
    }

    /// Bytes of living entries up to which a segment is copied forward.
    ///
    /// A group that cannot commit cannot be cut either. Before it fills the log for all others
    /// its entries are copied whatever they take, as long as most of the log behind is dead: else
    /// the copying would never end.
    fn copied_bytes_max(&self, number: u32, used: usize) -> u64 {
        let index = self.index.lock();
        let len = u64::from(index.segments[&number].segment.len);
        let urgent = (self.options.segments_target + self.options.segments_max) / 2;
        if used > urgent as usize && index.entry_bytes() <= used as u64 * len / 2 {
            len
        } else {
            len / COPY_PART
        }
    }

    /// Everything below `oldest` is dead or copied: make that durable, say so, let go.
    fn declare_dead(&mut self, oldest: u32, upkeep: &mut Upkeep) -> Result<(), WalError> {
        self.sync()?;
        let before = std::mem::replace(&mut self.oldest, oldest);
        if let Err(error) = self.write_parts(&[], Purpose::Upkeep) {
            self.oldest = before;
            return tolerate(Err(error), upkeep);
        }
        self.sync()?;
        let mut index = self.index.lock();
        let alive = index.segments.split_off(&oldest);
        let dead = std::mem::replace(&mut index.segments, alive);
        drop(index);
        upkeep.recycled += dead.len() as u32;
        let dead = dead.into_values().map(|used| used.segment);
        self.retired.extend(dead);
        self.free_retired();
        Ok(())
    }

    /// Appends copies of all that lives in a segment. False: it could not be done, now or ever.
    fn copy_forward(
        &mut self,
        number: u32,
        alive: &Alive,
        upkeep: &mut Upkeep,
    ) -> Result<bool, WalError> {
        let mut parts = self.encode_own(&alive.states);
        for (group, _) in &alive.pins {
            match self.copies_of(*group, number) {
                Some(copies) => parts.extend(copies),
                None => upkeep.unreadable.push(*group),
            }
        }
        if !upkeep.unreadable.is_empty() {
            return Ok(false);
        }
        let written = self.write_parts(&parts, Purpose::Upkeep);
        let done = written.is_ok();
        tolerate(written.map(|_| ()), upkeep)?;
        Ok(done)
    }

    /// The living entries of a group in a segment, encoded anew. `None`: they cannot be read.
    fn copies_of(&self, group: GroupId, number: u32) -> Option<Vec<Part>> {
        let (segment, runs) = {
            let index = self.index.lock();
            let segment = index.segments.get(&number)?.segment.clone();
            let runs: Vec<_> = index.groups.get(&group)?.runs_in(number).copied().collect();
            (segment, runs)
        };
        let mut parts = Vec::new();
        for run in runs {
            let mut entries = read_record(self.log_id, &segment, group, &run).ok()?;
            entries.retain(|entry| {
                run.span.first <= entry.id.index && entry.id.index <= run.span.last
            });
            let payload_max = self.record_bytes_max();
            encode_entries(self.log_id, group, &entries, true, payload_max, &mut parts);
        }
        Some(parts)
    }
}

/// What keeps a segment in use.
#[derive(Debug, Default)]
struct Alive {
    anything: bool,
    /// States and tombstones, ready to be carried forward.
    states: Vec<Stored>,
    /// Groups with entries here, and the last index of those.
    pins: Vec<(GroupId, LogIndex)>,
    /// Bytes of the records that hold these entries.
    entry_bytes: u64,
}

impl Alive {
    /// Looks through a segment; no further than the first living thing unless `all` is wanted.
    fn of(index: &Index, number: u32, all: bool) -> Alive {
        let mut alive = Alive::default();
        let Some(segment) = index.segments.get(&number) else {
            return alive;
        };
        for id in &segment.groups {
            if let Some(tombstone) = index.tombstones.get(id)
                && tombstone.at == number
            {
                alive.anything = true;
                alive.states.push(Stored::Tombstone {
                    group: *id,
                    payload: tombstone.payload.clone(),
                    carried: true,
                });
            }
            if let Some(log) = index.groups.get(id) {
                alive.add(*id, log, number);
            }
            if alive.anything && !all {
                break;
            }
        }
        alive
    }

    fn add(&mut self, group: GroupId, log: &GroupLog, number: u32) {
        if log.state_at == number {
            self.anything = true;
            self.states.push(Stored::Carried {
                group,
                state: log.state.clone(),
            });
        }
        let mut last = None;
        for run in log.runs_in(number) {
            last = last.max(Some(run.span.last));
            self.entry_bytes += u64::from(run.len);
        }
        if let Some(last) = last {
            self.anything = true;
            self.pins.push((group, last));
        }
    }
}

/// A lack of space is reported, not an error of the upkeep.
fn tolerate(result: Result<(), WalError>, upkeep: &mut Upkeep) -> Result<(), WalError> {
    match result {
        Err(WalError::DiskFull(_)) => {
            upkeep.low_on_space = true;
            Ok(())
        }
        other => other,
    }
}
