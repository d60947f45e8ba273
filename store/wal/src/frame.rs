//! Frames.
pub(crate) const FRAME_HEADER: u32 = 64;
pub(crate) const SYNC_ALIGN: u32 = 4096;
