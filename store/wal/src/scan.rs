//! Which frames of a directory are the log: the torn tail told from damage (D5, D6).
//!
//! Every file is read to its end, past bad frames, because the watermark that convicts a missing
//! frame lies behind it. Then:
//!
//! 1. Segments below the highest `oldest` any frame names are dead.
//! 2. A frame between another's `continues` and that frame itself was cut off by a recovery.
//! 3. What is left must be numbered without gaps from the start of the oldest segment. At the
//!    first gap the watermark decides, the highest `durable_upto` of all frames: a gap at or above
//!    it is a torn tail, and the log ends there. A gap below it is damage of acknowledged data;
//!    the frames behind it still count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tinykv_env::{Env, FileHandle};
use tinykv_mutants::{Mutant, planted};

use crate::frame::{FORMAT_VERSION, FRAME_ALIGN, FrameHeader, NoFrame};
use crate::{Damage, Position, WalError};

/// A segment file and the segment it plays.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) path: PathBuf,
    pub(crate) file: FileHandle,
    /// Bytes of the file.
    pub(crate) len: u32,
    /// The segment of its newest frame; 0 when it holds none.
    pub(crate) segment: u32,
}

/// Everything found, before anything is decided.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// All segment files.
    pub(crate) files: Vec<Scanned>,
    /// Every valid frame in the order of the log, whatever became of it.
    frames: BTreeMap<Position, FrameHeader>,
}

/// The log.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// The frames that count, in order.
    pub(crate) frames: Vec<FrameHeader>,
    /// Where the log ends.
    pub(crate) end: Position,
    /// The oldest segment in use.
    pub(crate) oldest: u32,
    /// Acknowledged data that is gone and that no earlier start has recorded.
    pub(crate) damage: Vec<Damage>,
    /// Valid frames thrown away behind the end.
    pub(crate) torn: u64,
    /// Everything before this is known to have been fsynced in an earlier life.
    pub(crate) watermark: Position,
    /// Damage below this is on record.
    pub(crate) damage_known: Position,
    /// The highest segment number ever seen.
    pub(crate) segment_max: u32,
}

impl Scan {
    /// Reads all segment files.
    pub(crate) fn read(
        env: &dyn Env,
        log_id: u64,
        files: &[(u32, PathBuf)],
    ) -> Result<Scan, WalError> {
        let mut scan = Scan::default();
        for (_, path) in files {
            let file = env.open(path)?;
            let contents = contents(&file)?;
            let frames = frames_of(log_id, &contents, path)?;
            let segment = frames.iter().map(|frame| frame.position.segment()).max();
            scan.files.push(Scanned {
                path: path.clone(),
                file,
                len: contents.len() as u32,
                segment: segment.unwrap_or(0),
            });
            // Older ones are what earlier lives of the file left.
            let of_segment = |frame: &FrameHeader| Some(frame.position.segment()) == segment;
            for frame in frames.into_iter().filter(of_segment) {
                scan.frames.insert(frame.position, frame);
            }
        }
        Ok(scan)
    }

    /// Decides which frames are the log. `None`: there is not one frame.
    pub(crate) fn chain(&self, dir: &Path) -> Option<Chain> {
        let all = || self.frames.values();
        let mut chain = Chain {
            oldest: all().map(|frame| frame.oldest).max()?,
            watermark: all().map(|frame| frame.durable_upto).max()?,
            damage_known: all().map(|frame| frame.damage_known).max()?,
            segment_max: all().map(|frame| frame.position.segment()).max()?,
            ..Chain::default()
        };
        chain.end = Position::new(chain.oldest, 0);
        let candidates = self.without_cut_off(chain.oldest);
        let mut number = None;
        for frame in &candidates {
            let follows = match number {
                Some(number) => frame.number == number && frame.continues == chain.end,
                None => frame.position == chain.end,
            };
            if planted(Mutant::LogEndsAtWatermark) && frame.position >= chain.watermark {
                break;
            }
            if !follows {
                if chain.watermark <= chain.end {
                    break;
                }
                if chain.damage_known <= chain.end {
                    chain.damage.push(self.damage_at(dir, chain.end));
                }
            }
            number = Some(frame.number + 1);
            chain.end = frame.end();
            chain.frames.push(*frame);
        }
        chain.torn = (candidates.len() - chain.frames.len()) as u64;
        let files = chain.frames.last().map_or(0, |frame| frame.files) as usize;
        if files > self.files.len() && chain.damage_known < chain.end {
            chain.damage.push(Damage {
                path: dir.to_owned(),
                offset: 0,
                what: "a segment file is missing",
            });
        }
        Some(chain)
    }

    /// The frames from `oldest` on that no recovery has cut off, in order.
    fn without_cut_off(&self, oldest: u32) -> Vec<FrameHeader> {
        let mut frames = Vec::new();
        let mut limit = Position(u64::MAX);
        let first = Position::new(oldest, 0);
        for (position, frame) in self.frames.range(first..).rev() {
            if *position < limit || planted(Mutant::CutOffComesBack) {
                frames.push(*frame);
                limit = frame.continues;
            }
        }
        frames.reverse();
        frames
    }

    fn damage_at(&self, dir: &Path, at: Position) -> Damage {
        let file = self
            .files
            .iter()
            .find(|file| file.segment == at.segment())
            .map(|file| file.path.clone());
        Damage {
            offset: file.as_ref().map_or(0, |_| u64::from(at.offset())),
            path: file.unwrap_or_else(|| dir.to_owned()),
            what: "a log frame that was acknowledged cannot be read",
        }
    }
}

/// A whole segment file in memory.
pub(crate) fn contents(file: &FileHandle) -> Result<Vec<u8>, WalError> {
    const LEN_MAX: u64 = 1 << 30;
    let len = file.len()?;
    if len > LEN_MAX {
        return Err(WalError::Unusable {
            path: file.path().to_owned(),
            what: "it is larger than any segment",
        });
    }
    let mut contents = vec![0; len as usize];
    file.read_exact_at(&mut contents, 0)?;
    Ok(contents)
}

/// All frames of one file, of whatever life.
pub(crate) fn frames_of(
    log_id: u64,
    contents: &[u8],
    path: &Path,
) -> Result<Vec<FrameHeader>, WalError> {
    let mut frames = Vec::new();
    let mut offset = 0u32;
    while (offset as usize) < contents.len() {
        match FrameHeader::open(log_id, contents, offset) {
            Ok(frame) => {
                offset = frame.end().offset();
                frames.push(frame);
            }
            Err(NoFrame::Absent) => offset += FRAME_ALIGN,
            Err(NoFrame::Newer(found)) => {
                return Err(WalError::NewerFormat {
                    path: path.to_owned(),
                    found,
                    supported: FORMAT_VERSION,
                });
            }
        }
    }
    Ok(frames)
}

#[cfg(test)]
pub(crate) fn frames_in(log_id: u64, contents: &[u8]) -> Vec<FrameHeader> {
    frames_of(log_id, contents, Path::new("test")).expect("no newer format")
}
