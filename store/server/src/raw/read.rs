//! Answers of a snapshot to raw reads.
//!
//! Everything here works on one snapshot of one region. Whoever calls has made sure that the
//! snapshot may be read (lease or ReadIndex) and knows the region it was checked against; the
//! range is clamped to that region here.
//!
//! Expiry. A value is gone once the *region's* time, read from the same snapshot, has reached its
//! expiry. A value that has expired by the store's own knowledge of placement's time but not yet
//! by the region's is [`Unanswered::TimeBehind`]: the region's time is moved by a command first,
//! so that no later reader elsewhere, with a slower clock, sees the value again.

use bytes::Bytes;
use tinykv_lsm::{Cached, LsmError, Snapshot};
use tinykv_replica::{ReadError, Region, RegionState};

use crate::limits::ANSWER_BYTES_MAX;
use crate::machine::RegionTime;
use crate::space::{self, Space};
use crate::value::{PlacementTime, StoredValue, ValueError};

/// Bytes one pair of an answer takes beside its key and value, about.
const PAIR_OVERHEAD: usize = 16;

/// Keys a count looks at before it answers and lets the asker continue.
const COUNT_KEYS_MAX: u64 = 1_000_000;

/// Why a snapshot gives no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// A value has expired by what this store knows, not yet by the region's time.
    #[error("the region's time is behind {0}")]
    TimeBehind(PlacementTime),
    /// A block has to be read from disk; ask again where that is allowed.
    #[error("not in memory")]
    NotCached,
    /// The process goes down.
    #[error("the store is being shut down")]
    GoingDown,
    /// The answer would exceed [`ANSWER_BYTES_MAX`].
    #[error("the answer would take more than {ANSWER_BYTES_MAX} bytes; ask for fewer keys")]
    TooLong,
    /// A stored value makes no sense.
    #[error("a stored value is damaged: {0}")]
    Value(#[from] ValueError),
    /// The region's own record makes no sense.
    #[error("{0}")]
    State(#[from] ReadError),
    /// The engine could not read.
    #[error("{0}")]
    Engine(#[from] LsmError),
}

/// Whether disk may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Memory only; [`Unanswered::NotCached`] where that is not enough.
    Memory,
    /// As far as needed.
    Disk,
}

/// A snapshot of a region, to be read.
#[derive(Debug)]
pub struct View<'a> {
    /// The engine at one moment.
    pub snapshot: &'a Snapshot,
    /// The region it may be read for.
    pub region: &'a Region,
    /// Placement's time as this store knows it.
    pub now: PlacementTime,
    /// Whether disk may be read.
    pub depth: Depth,
}

/// What a scan is to do.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Lowest key, inclusive; empty: from the region's first.
    pub lower: &'a [u8],
    /// Highest key, exclusive; empty: to the region's last.
    pub upper: &'a [u8],
    /// From the highest key down.
    pub order: Order,
    /// Most pairs in the answer.
    pub keys_max: usize,
    /// Leave out the values.
    pub values: Values,
    /// Cut the answer after about so many bytes; `None`: the asker cannot continue, so never cut.
    pub bytes_max: Option<usize>,
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Reverse,
}

/// Whether a scan answers values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Keys and values.
    Included,
    /// Keys alone; the values are empty.
    LeftOut,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Keys as the user knows them, with their values, in the order of the scan.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// If the answer was cut by bytes: where to go on. Forward the next key to be read, in
    /// reverse the new exclusive upper bound.
    pub resume: Option<Bytes>,
}

/// What a count found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Live keys seen.
    pub count: u64,
    /// The first key not looked at, if there were too many for one answer.
    pub resume: Option<Bytes>,
}

impl View<'_> {
    /// The value of one key, with its expiry.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<StoredValue>, Unanswered> {
        match self.lookup(&space.engine_key(key))? {
            None => Ok(None),
            Some(stored) => self.live(&stored, &mut None),
        }
    }

    /// The values of those keys that have one, in the order asked.
    pub fn batch_get(
        &self,
        space: Space,
        keys: &[Bytes],
    ) -> Result<Vec<(Bytes, Bytes)>, Unanswered> {
        let mut time = None;
        let mut found = Vec::new();
        let mut bytes = 0;
        for key in keys {
            let Some(stored) = self.lookup(&space.engine_key(key))? else {
                continue;
            };
            if let Some(value) = self.live(&stored, &mut time)? {
                bytes += key.len() + value.payload.len() + PAIR_OVERHEAD;
                if bytes > ANSWER_BYTES_MAX {
                    return Err(Unanswered::TooLong);
                }
                found.push((key.clone(), value.payload));
            }
        }
        Ok(found)
    }

    /// The live keys of a range, clamped to the region.
    pub fn scan(&self, space: Space, scan: &Scan<'_>) -> Result<Scanned, Unanswered> {
        let mut scanned = Scanned::default();
        self.scan_into(space, scan, &mut scanned, &mut 0)?;
        Ok(scanned)
    }

    /// Adds the live keys of a range to what was found already, in `bytes` bytes.
    pub(super) fn scan_into(
        &self,
        space: Space,
        scan: &Scan<'_>,
        scanned: &mut Scanned,
        bytes: &mut usize,
    ) -> Result<(), Unanswered> {
        let before = scanned.pairs.len();
        self.visit(space, scan.lower, scan.upper, scan.order, |key, value| {
            if scanned.pairs.len() - before == scan.keys_max {
                return Step::Stop;
            }
            let value = match scan.values {
                Values::Included => value.payload,
                Values::LeftOut => Bytes::new(),
            };
            *bytes += key.len() + value.len() + PAIR_OVERHEAD;
            let cut = scan.bytes_max.is_some_and(|bytes_max| *bytes > bytes_max);
            if cut && !scanned.pairs.is_empty() {
                scanned.resume = match scan.order {
                    Order::Forward => Some(Bytes::copy_from_slice(key)),
                    Order::Reverse => scanned.pairs.last().map(|(last, _)| last.clone()),
                };
                return Step::Stop;
            }
            if *bytes > ANSWER_BYTES_MAX && !scanned.pairs.is_empty() {
                return Step::TooLong;
            }
            scanned.pairs.push((Bytes::copy_from_slice(key), value));
            Step::Continue
        })
    }

    /// The number of live keys of a range, clamped to the region.
    pub fn count(&self, space: Space, lower: &[u8], upper: &[u8]) -> Result<Counted, Unanswered> {
        let mut counted = Counted::default();
        self.visit(space, lower, upper, Order::Forward, |key, _| {
            if counted.count == COUNT_KEYS_MAX {
                counted.resume = Some(Bytes::copy_from_slice(key));
                return Step::Stop;
            }
            counted.count += 1;
            Step::Continue
        })?;
        Ok(counted)
    }

    /// Calls `see` with each live key (as the user knows it) of a range until it has enough.
    pub(super) fn visit(
        &self,
        space: Space,
        lower: &[u8],
        upper: &[u8],
        order: Order,
        mut see: impl FnMut(&[u8], StoredValue) -> Step,
    ) -> Result<(), Unanswered> {
        let Some(range) = space.clamp(self.region, lower, upper) else {
            return Ok(());
        };
        if self.depth == Depth::Memory {
            return Err(Unanswered::NotCached);
        }
        let mut time = None;
        let mut iter = self.snapshot.iter(&range.start, &range.end)?;
        loop {
            let more = match order {
                Order::Forward => iter.next()?,
                Order::Reverse => iter.prev()?,
            };
            if !more {
                return Ok(());
            }
            let Some(value) = self.live(&iter.value(), &mut time)? else {
                continue;
            };
            match see(space.user_key(iter.key()), value) {
                Step::Continue => {}
                Step::Stop => return Ok(()),
                Step::TooLong => return Err(Unanswered::TooLong),
            }
        }
    }

    fn lookup(&self, engine_key: &[u8]) -> Result<Option<Bytes>, Unanswered> {
        match self.depth {
            Depth::Disk => Ok(self.snapshot.get(engine_key)?),
            Depth::Memory => match self.snapshot.get_cached(engine_key)? {
                Cached::Found(value) => Ok(Some(value)),
                Cached::Missing => Ok(None),
                Cached::NeedsRead => Err(Unanswered::NotCached),
            },
        }
    }

    /// A stored value, unless it is gone. `region_time` keeps the region's time once it was read.
    fn live(
        &self,
        stored: &Bytes,
        region_time: &mut Option<PlacementTime>,
    ) -> Result<Option<StoredValue>, Unanswered> {
        let value = StoredValue::decode(stored)?;
        if value.expires_at.is_none() {
            return Ok(Some(value));
        }
        let time = match *region_time {
            Some(time) => time,
            None => *region_time.insert(self.region_time()?),
        };
        if value.expired_at(time) {
            return Ok(None);
        }
        match value.expired_at(self.now) {
            true => Err(Unanswered::TimeBehind(self.now)),
            false => Ok(Some(value)),
        }
    }

    /// The region's time in the snapshot.
    pub fn region_time(&self) -> Result<PlacementTime, Unanswered> {
        let Some(state) = self.lookup(&space::region_state_key(self.region.id))? else {
            return Ok(PlacementTime(0));
        };
        let state = RegionState::decode(&state).map_err(|error| ReadError(error.to_string()))?;
        Ok(RegionTime::decode(&state.machine)?.0)
    }
}

/// What to do after a key was seen.
pub(super) enum Step {
    /// Go on.
    Continue,
    /// That was enough.
    Stop,
    /// The answer would be too long.
    TooLong,
}

#[cfg(test)]
mod tests;
