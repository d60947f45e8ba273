//! How large the log may be.

use crate::WalError;
use crate::frame::{FRAME_HEADER, SYNC_ALIGN};

/// Sizes and limits of the log. All bytes are reserved on disk ahead of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Bytes of a segment file; a multiple of 4096 and at least 16 KiB. One record (one entry,
    /// one payload) must fit: [`crate::Wal::record_bytes_max`]. It takes effect for new files.
    pub segment_bytes: u32,
    /// From this many segments in use on, [`crate::Wal::maintain`] copies forward what keeps the
    /// oldest one alive, and names the groups whose entries are too many for that.
    pub segments_target: u32,
    /// Never more files than this for new data. When all but two are in use, `append` answers
    /// [`WalError::Full`] until something is truncated; truncations, tombstones, upkeep and
    /// openings may still begin a segment.
    pub segments_max: u32,
    /// Files kept ready for use ahead of need, so that a full disk shows before a write needs
    /// the space: [`crate::Wal::append`] answers [`WalError::DiskFull`] with nothing written.
    pub segments_spare: u32,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions {
            segment_bytes: 16 << 20,
            segments_target: 16,
            segments_max: 64,
            segments_spare: 1,
        }
    }
}

impl WalOptions {
    /// Refuses options that contradict each other, with one sentence.
    pub fn validate(&self) -> Result<(), WalError> {
        let refuse = |sentence: String| Err(WalError::InvalidOptions(sentence));
        if !self.segment_bytes.is_multiple_of(SYNC_ALIGN)
            || self.segment_bytes < 4 * SYNC_ALIGN
            || self.segment_bytes > 1 << 30
        {
            return refuse(format!(
                "segment_bytes is {}, but must be a multiple of {SYNC_ALIGN} from 16 KiB to 1 GiB",
                self.segment_bytes
            ));
        }
        if self.segments_target < 2 {
            return refuse("segments_target must be at least 2".to_owned());
        }
        if self.segments_max < self.segments_target + 2 + self.segments_spare {
            return refuse(format!(
                "segments_max is {}, but must exceed segments_target ({}) and segments_spare ({}) \
                 together by 2",
                self.segments_max, self.segments_target, self.segments_spare
            ));
        }
        Ok(())
    }

    /// The largest payload of a frame in a segment of this size.
    pub(crate) fn payload_max(segment_bytes: u32) -> usize {
        (segment_bytes - FRAME_HEADER) as usize
    }
}
