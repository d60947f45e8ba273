//! The one writer of the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tinykv_env::Env;
use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{GroupId, LogIndex};

use crate::codec::{self, RECORD_HEADER};
use crate::frame::{FRAME_ALIGN, FRAME_HEADER, FrameHeader, SYNC_ALIGN, align};
use crate::index::{Index, SegmentUse};
use crate::parts::{Part, check_batch, encode_batch};
use crate::segment::{self, Pool, PrepareError, Segment};
use crate::stored::{GroupState, Stored};
use crate::{Batch, Position, Record, Recovered, WalError, WalOptions, WalReader, recover};

/// The writing half of the log: one owner, the WAL thread of a store or whoever leads the group
/// commit of a standalone engine.
#[derive(Debug)]
pub struct Wal {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) dir: PathBuf,
    pub(crate) options: WalOptions,
    pub(crate) log_id: u64,
    /// Shared with the readers; locked for look-ups and entries, never over I/O.
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) pool: Pool,
    /// The segment written to; none only while opening.
    pub(crate) current: Option<Arc<Segment>>,
    pub(crate) end: End,
    /// Everything before this is durable.
    pub(crate) durable: Position,
    /// Segments written to since their last sync, oldest first.
    pub(crate) dirty: Vec<Arc<Segment>>,
    /// The oldest segment in use, as frames say from now on.
    pub(crate) oldest: u32,
    /// Damage below this is on record.
    pub(crate) damage_known: Position,
    /// The end of the last frame that says something.
    pub(crate) last_record: Position,
    /// The highest watermark that stands in a durable frame.
    pub(crate) covered: Position,
    /// Whether anything was appended since the last maintenance.
    pub(crate) busy: bool,
    /// Segments that are dead but may still be read from.
    pub(crate) retired: Vec<Arc<Segment>>,
    /// The error after which nothing is promised any more.
    failed: Option<Arc<io::Error>>,
    /// Frames are assembled here.
    buffer: Vec<u8>,
}

/// Where the next frame goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// In the current segment.
    pub(crate) offset: u32,
    /// Where the last frame ended.
    pub(crate) continues: Position,
    /// The number of the last frame.
    pub(crate) number: u64,
}

/// What [`Wal::maintain`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Segments that ceased to be in use.
    pub recycled: u32,
    /// Groups whose entries hold the oldest segment of a log over its target, and the index up
    /// to which they would have to be cut: flush, then truncate them.
    pub pinned: Vec<(GroupId, LogIndex)>,
    /// Groups whose old entries could not be read when they were to be copied forward: damage
    /// that appeared while running. Their peers are to be replaced (D6).
    pub unreadable: Vec<GroupId>,
    /// The spare segments could not be reserved: the disk is (nearly) full (D8).
    pub low_on_space: bool,
}

/// Extent of the log as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStatus {
    /// Segments in use.
    pub segments_used: u32,
    /// Segment files on disk, used or ready.
    pub files: u32,
    /// Bytes of one segment file.
    pub segment_bytes: u32,
    /// The end of the log.
    pub end: Position,
    /// Everything before this is durable.
    pub durable: Position,
}

/// Segments that ordinary batches leave free, so that what makes room finds some.
const RESERVED: u32 = 2;

/// Who asks for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A batch that holds something new: it is what the limit is for.
    Ordinary,
    /// What makes room, and the segment that every opening begins. Refusing these could leave a
    /// full log full for ever, so only the disk limits them; each is far smaller than a segment.
    Upkeep,
}

impl Wal {
    /// Opens or creates the log in `dir` and recovers it. Whatever was torn at the end is cut
    /// off; what is recovered is synced before this returns.
    ///
    /// The caller holds the lock of the data directory.
    pub fn open(
        env: Arc<dyn Env>,
        dir: &Path,
        options: WalOptions,
    ) -> Result<(Wal, Recovered), WalError> {
        recover::open(env, dir, options)
    }

    /// Whether there is a log in `dir`.
    pub fn exists(env: &dyn Env, dir: &Path) -> Result<bool, WalError> {
        Ok(env.exists(dir)? && segment::list(env, dir)?.has_identity)
    }

    /// Writes a batch behind the log's end and returns the end. In the operating system's cache
    /// when it returns; durable when [`Wal::sync`] has returned a position at or behind it.
    ///
    /// # Errors
    /// `TooLarge`, `Full` and `DiskFull` leave everything as it was. `Failed` is final.
    ///
    /// # Panics
    /// When a record is impossible after those before it (entries that leave a gap, a record of
    /// a group that is not there): the caller is wrong about its own log.
    pub fn append(&mut self, batch: &Batch) -> Result<Position, WalError> {
        self.usable()?;
        let makes_room = |record: &Record| {
            matches!(
                record,
                Record::Truncated { .. }
                    | Record::Tombstone { .. }
                    | Record::ForgetTombstone { .. }
            )
        };
        let purpose = if batch.records.iter().all(makes_room) {
            Purpose::Upkeep
        } else {
            Purpose::Ordinary
        };
        let payload_max = WalOptions::payload_max(self.options.segment_bytes);
        let checked = check_batch(&self.index.lock(), batch);
        let parts = encode_batch(self.log_id, batch, checked, payload_max)?;
        if parts.is_empty() {
            return Ok(self.end.continues);
        }
        self.busy = true;
        self.write_parts(&parts, purpose)
    }

    /// Makes everything appended durable and returns the end of the log.
    ///
    /// An error is final: every later call returns it again (D4).
    pub fn sync(&mut self) -> Result<Position, WalError> {
        self.usable()?;
        if self.dirty.is_empty() {
            return Ok(self.durable);
        }
        for segment in std::mem::take(&mut self.dirty) {
            if !planted(Mutant::LogUnsynced) {
                segment.file.sync_data().map_err(|e| self.fail(e))?;
            }
        }
        // What the last frame of this sync says about the one before is durable now.
        self.covered = self.durable;
        self.durable = self.end.continues;
        self.index.lock().durable = self.durable;
        self.end.offset = align(self.end.offset, SYNC_ALIGN);
        Ok(self.durable)
    }

    /// Puts on record, durably, that acknowledged data of these groups may be lost: every later
    /// start finds them [`crate::RecoveredGroup::damaged`] (D6), also those of which the log has
    /// nothing. For damage that only the owner can see; what the log finds itself, it records itself.
    pub fn mark_damaged(&mut self, groups: &[GroupId]) -> Result<(), WalError> {
        self.usable()?;
        let records: Vec<Stored> = {
            let index = self.index.lock();
            let damaged = |id: &GroupId| {
                let known = index.groups.get(id).map(|log| log.state.clone());
                let state = GroupState {
                    damaged: true,
                    ..known.unwrap_or_default()
                };
                Stored::Carried { group: *id, state }
            };
            groups.iter().map(damaged).collect()
        };
        self.write_parts(&self.encode_own(&records), Purpose::Upkeep)?;
        self.sync()?;
        Ok(())
    }

    /// A reader of entries; clone it freely.
    pub fn reader(&self) -> WalReader {
        WalReader::new(self.log_id, self.index.clone())
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Whether damage below a watermark was found at this or any earlier start. It may have taken
    /// the only record of a group, so that nobody here knows that it ever lived (D6).
    pub fn was_damaged(&self) -> bool {
        self.damage_known > Position::default()
    }

    /// Largest encoded record, in bytes. An entry's record is its payload and at most 96 bytes.
    pub fn record_bytes_max(&self) -> usize {
        WalOptions::payload_max(self.options.segment_bytes)
    }

    /// The extent of the log.
    pub fn status(&self) -> WalStatus {
        WalStatus {
            segments_used: self.index.lock().segments.len() as u32,
            files: self.pool.files(),
            segment_bytes: self.options.segment_bytes,
            end: self.end.continues,
            durable: self.durable,
        }
    }

    /// Whether the writer refuses everything because a write or sync failed.
    pub fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(crate) fn new(
        env: Arc<dyn Env>,
        dir: &Path,
        options: WalOptions,
        log_id: u64,
        pool: Pool,
    ) -> Wal {
        Wal {
            env,
            dir: dir.to_owned(),
            options,
            log_id,
            index: Arc::default(),
            pool,
            current: None,
            end: End::default(),
            durable: Position::default(),
            dirty: Vec::new(),
            oldest: 1,
            damage_known: Position::default(),
            last_record: Position::default(),
            covered: Position::default(),
            busy: false,
            retired: Vec::new(),
            failed: None,
            buffer: Vec::new(),
        }
    }

    /// Begins writing in segment `number`, with records of the log's own, and syncs them.
    pub(crate) fn begin(&mut self, number: u32, records: Vec<Stored>) -> Result<(), WalError> {
        self.make_ready(1, Purpose::Upkeep)?;
        self.enter_segment(number);
        let parts = self.encode_own(&records);
        self.write_parts(&parts, Purpose::Upkeep)?;
        self.sync()?;
        Ok(())
    }

    /// Encodes records of the log's own.
    pub(crate) fn encode_own(&self, records: &[Stored]) -> Vec<Part> {
        let encode = |stored: &Stored| {
            let mut bytes = Vec::new();
            codec::encode(self.log_id, &mut bytes, stored);
            Part {
                bytes,
                stored: stored.clone(),
            }
        };
        records.iter().map(encode).collect()
    }

    /// Writes parts in order: one frame if they fit a segment, else as few as possible.
    pub(crate) fn write_parts(
        &mut self,
        parts: &[Part],
        purpose: Purpose,
    ) -> Result<Position, WalError> {
        let plan = self.plan(parts);
        let segments = plan.iter().filter(|frame| frame.new_segment).count();
        self.make_ready(segments as u32, purpose)?;
        let mut rest = parts;
        for frame in plan {
            if frame.new_segment {
                let number = self.current.as_ref().map_or(0, |current| current.number);
                self.enter_segment(number + 1);
            }
            let (now, later) = rest.split_at(frame.parts);
            self.write_frame(now)?;
            rest = later;
        }
        assert!(rest.is_empty(), "{} parts were not written", rest.len());
        if !parts.is_empty() {
            self.last_record = self.end.continues;
        }
        Ok(self.end.continues)
    }

    /// Writes one frame at the end of the current segment, where it fits.
    pub(crate) fn write_frame(&mut self, parts: &[Part]) -> Result<(), WalError> {
        self.usable()?;
        let segment = self.current.clone().expect("a log is opened in a segment");
        let position = Position::new(segment.number, self.end.offset);
        self.buffer.clear();
        self.buffer.resize(FRAME_HEADER as usize, 0);
        let mut starts = Vec::with_capacity(parts.len());
        for part in parts {
            starts.push(Position(position.0 + self.buffer.len() as u64));
            self.buffer.extend_from_slice(&part.bytes);
        }
        let header = FrameHeader {
            position,
            number: self.end.number + 1,
            continues: self.end.continues,
            durable_upto: self.durable,
            oldest: self.oldest,
            files: self.pool.files(),
            damage_known: self.damage_known,
            payload_len: self.buffer.len() as u32 - FRAME_HEADER,
        };
        let end = header.end();
        assert!(
            end.segment() == segment.number && end.offset() <= segment.len,
            "a frame at {position} ends at {end}, behind its segment of {} bytes",
            segment.len
        );
        let mut frame = std::mem::take(&mut self.buffer);
        header.seal(self.log_id, &mut frame);
        let written = segment.file.write_at(&frame, u64::from(self.end.offset));
        self.buffer = frame;
        written.map_err(|e| self.fail_write(e))?;
        if !self
            .dirty
            .iter()
            .any(|dirty| dirty.number == segment.number)
        {
            self.dirty.push(segment);
        }
        self.end = End {
            offset: end.offset(),
            continues: end,
            number: header.number,
        };
        let mut index = self.index.lock();
        for (part, at) in parts.iter().zip(starts) {
            index.apply(&part.stored, at, part.bytes.len() as u32);
        }
        index.written = end;
        Ok(())
    }

    /// Which frames hold how many parts, and where a new segment begins.
    fn plan(&self, parts: &[Part]) -> Vec<PlannedFrame> {
        let payload_max = WalOptions::payload_max(self.options.segment_bytes);
        let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
        let current = self.current.as_ref().map_or(0, |current| current.len);
        let mut room = (current.saturating_sub(self.end.offset + FRAME_HEADER)) as usize;
        if total <= payload_max {
            return vec![PlannedFrame {
                new_segment: total > room || self.end.offset + FRAME_HEADER > current,
                parts: parts.len(),
            }];
        }
        let mut plan = Vec::new();
        let mut frame = PlannedFrame {
            new_segment: false,
            parts: 0,
        };
        for part in parts {
            let bytes = part.bytes.len();
            if bytes > room {
                if frame.parts > 0 {
                    plan.push(frame);
                }
                frame = PlannedFrame {
                    new_segment: true,
                    parts: 0,
                };
                room = payload_max;
            }
            frame.parts += 1;
            room -= bytes;
        }
        plan.push(frame);
        plan
    }

    fn enter_segment(&mut self, number: u32) {
        let segment = self.pool.take(number);
        self.index.lock().segments.insert(
            number,
            SegmentUse {
                segment: segment.clone(),
                groups: std::collections::BTreeSet::new(),
            },
        );
        self.current = Some(segment);
        self.end.offset = 0;
    }

    /// Makes sure that `segments` files can be entered, for this purpose.
    pub(crate) fn make_ready(&mut self, segments: u32, purpose: Purpose) -> Result<(), WalError> {
        if segments == 0 {
            return Ok(());
        }
        self.free_retired();
        let creatable = self.options.segments_max.saturating_sub(self.pool.files());
        let possible = self.pool.spare() as u32 + creatable;
        if possible < segments + RESERVED && purpose == Purpose::Ordinary {
            return Err(WalError::Full {
                segments_max: self.options.segments_max,
            });
        }
        while (self.pool.ready() as u32) < segments {
            self.prepare_spare()?;
        }
        Ok(())
    }

    /// One step of preparing a spare file.
    pub(crate) fn prepare_spare(&mut self) -> Result<(), WalError> {
        match self.pool.prepare() {
            Ok(_) => Ok(()),
            Err(PrepareError::Sync(e)) => Err(self.fail(e)),
            Err(PrepareError::Space(e)) if e.kind() == io::ErrorKind::StorageFull => {
                Err(WalError::DiskFull(Arc::new(e)))
            }
            Err(PrepareError::Space(e)) => Err(WalError::from(e)),
        }
    }

    /// Dead segments that nobody reads become spare files.
    pub(crate) fn free_retired(&mut self) {
        for segment in std::mem::take(&mut self.retired) {
            match Arc::try_unwrap(segment) {
                Ok(segment) => {
                    let whole = segment.len == self.options.segment_bytes;
                    let filled = if whole { segment.len } else { 0 };
                    self.pool.give(segment.file, filled);
                }
                Err(read) => self.retired.push(read),
            }
        }
    }

    pub(crate) fn usable(&self) -> Result<(), WalError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(WalError::Failed(error.clone())),
        }
    }

    /// After a failed sync nothing is promised any more, now or by the next start.
    pub(crate) fn fail(&mut self, error: io::Error) -> WalError {
        // Best effort: where an fsync fails, this is likely to fail as well.
        let _ = segment::leave_marker(&*self.env, &self.dir);
        self.fail_write(error)
    }

    /// After a failed write the end of the log is unknown. What was synced is still good.
    fn fail_write(&mut self, error: io::Error) -> WalError {
        let error = Arc::new(error);
        self.failed = Some(error.clone());
        WalError::Failed(error)
    }
}

/// A frame to be written.
#[derive(Clone, Copy, Debug)]
struct PlannedFrame {
    /// Whether it begins the next segment.
    new_segment: bool,
    /// How many parts it takes.
    parts: usize,
}

const _: () =
    assert!(FRAME_HEADER.is_multiple_of(FRAME_ALIGN) && RECORD_HEADER < FRAME_HEADER as usize);
