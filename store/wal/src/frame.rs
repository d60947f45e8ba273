//! A frame: the unit that is written, and that is there after a crash or not.
//!
//! ```text
//!  0  crc32c of the log's id and of everything from 4 on     32  end of the frame before this one
//!  4  magic                                                  40  durable_upto: the watermark
//!  8  format version, 10 zero                                48  oldest segment in use
//! 12  bytes of payload                                       52  segment files in the directory
//! 16  own position: segment and offset                       56  damage known and recorded up to
//! 24  own number, one more than the frame before             64  payload: records
//! ```
//!
//! Frames start at multiples of [`FRAME_ALIGN`]; the first after a sync starts a page of its own
//! ([`SYNC_ALIGN`]), so that no torn write can touch what was synced. A recycled file is full of
//! frames of its former lives: segment and offset under the checksum tell them apart. The log's
//! id is not in the frame, so no value that a client stores can pass for one.
//!
//! Everything a header claims about the past was durable, or decided by a recovery, *before* the
//! frame was written. So any frame that survives a crash tells the truth, whether or not its
//! neighbours survived.

use crate::Position;

/// Frames start at multiples of this.
pub(crate) const FRAME_ALIGN: u32 = 64;
/// Bytes before the payload.
pub(crate) const FRAME_HEADER: u32 = 64;
/// The first frame after a sync starts at a multiple of this: what disks write as a whole.
pub(crate) const SYNC_ALIGN: u32 = 4096;
/// The newest format this version reads, and the one it writes.
pub(crate) const FORMAT_VERSION: u16 = 1;

const MAGIC: u32 = 0x4c57_4b54;

/// What stands before the payload of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Where the frame stands.
    pub(crate) position: Position,
    /// One more than the frame before; the first frame of a log has 1.
    pub(crate) number: u64,
    /// Where the frame before ended. Whatever stands between is no part of the log: it was torn
    /// and cut off by a recovery.
    pub(crate) continues: Position,
    /// The end of the last frame known fsynced when this one was written (D5).
    pub(crate) durable_upto: Position,
    /// Segments below are dead.
    pub(crate) oldest: u32,
    /// Segment files that existed: more than are found means that one was lost.
    pub(crate) files: u32,
    /// Damage below this was found by an earlier start, and the groups it hit are marked.
    pub(crate) damage_known: Position,
    /// Bytes behind the header.
    pub(crate) payload_len: u32,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// Not a frame of this log at this place.
    Absent,
    /// A frame with a format that this version does not know.
    Newer(u16),
}

impl FrameHeader {
    /// The position behind the frame, aligned.
    pub(crate) fn end(&self) -> Position {
        let bytes = align(FRAME_HEADER + self.payload_len, FRAME_ALIGN);
        Position(self.position.0 + u64::from(bytes))
    }

    /// Fills the first bytes of `frame`, which holds the payload already.
    pub(crate) fn seal(&self, log_id: u64, frame: &mut [u8]) {
        assert_eq!(
            frame.len(),
            (FRAME_HEADER + self.payload_len) as usize,
            "the frame at {} has another payload than its header says",
            self.position
        );
        assert!(
            self.continues <= self.position && self.durable_upto <= self.position,
            "the frame at {} speaks of the future",
            self.position
        );
        frame[4..8].copy_from_slice(&MAGIC.to_le_bytes());
        frame[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        frame[10..12].fill(0);
        frame[12..16].copy_from_slice(&self.payload_len.to_le_bytes());
        frame[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        frame[24..32].copy_from_slice(&self.number.to_le_bytes());
        frame[32..40].copy_from_slice(&self.continues.0.to_le_bytes());
        frame[40..48].copy_from_slice(&self.durable_upto.0.to_le_bytes());
        frame[48..52].copy_from_slice(&self.oldest.to_le_bytes());
        frame[52..56].copy_from_slice(&self.files.to_le_bytes());
        frame[56..64].copy_from_slice(&self.damage_known.0.to_le_bytes());
        let crc = checksum(log_id, &frame[4..]);
        frame[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads and verifies the frame that begins at `offset` of a segment file's contents.
    pub(crate) fn open(log_id: u64, contents: &[u8], offset: u32) -> Result<FrameHeader, NoFrame> {
        let bytes = contents.get(offset as usize..).ok_or(NoFrame::Absent)?;
        if !looks_like_frame(bytes) {
            return Err(NoFrame::Absent);
        }
        let header = FrameHeader {
            position: Position(u64_at(bytes, 16)?),
            number: u64_at(bytes, 24)?,
            continues: Position(u64_at(bytes, 32)?),
            durable_upto: Position(u64_at(bytes, 40)?),
            oldest: u32_at(bytes, 48)?,
            files: u32_at(bytes, 52)?,
            damage_known: Position(u64_at(bytes, 56)?),
            payload_len: u32_at(bytes, 12)?,
        };
        if header.position.offset() != offset {
            return Err(NoFrame::Absent);
        }
        let len = (FRAME_HEADER as usize).checked_add(header.payload_len as usize);
        let frame = len
            .and_then(|len| bytes.get(4..len))
            .ok_or(NoFrame::Absent)?;
        if checksum(log_id, frame) != u32_at(bytes, 0)? {
            return Err(NoFrame::Absent);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version > FORMAT_VERSION {
            return Err(NoFrame::Newer(version));
        }
        let truthful = header.number > 0
            && header.position.segment() >= header.oldest.max(1)
            && header.continues <= header.position
            && header.durable_upto <= header.position;
        if truthful {
            Ok(header)
        } else {
            Err(NoFrame::Absent)
        }
    }
}

/// Whether the bytes begin like a frame of some log; nothing is verified.
pub(crate) fn looks_like_frame(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(&MAGIC.to_le_bytes()[..])
}

/// The checksum of frames and records: it covers the log's id, which no client can know.
pub(crate) fn checksum(log_id: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_id.to_le_bytes()), bytes)
}

/// The next multiple of `to`, a power of two.
pub(crate) fn align(offset: u32, to: u32) -> u32 {
    debug_assert!(to.is_power_of_two());
    (offset + to - 1) & !(to - 1)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, NoFrame> {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map(u64::from_le_bytes)
        .ok_or(NoFrame::Absent)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, NoFrame> {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or(NoFrame::Absent)
}
