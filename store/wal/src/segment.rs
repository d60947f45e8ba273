//! The files of the log: how they are named, made, kept ready and used again.
//!
//! A segment file is filled with zeros once and never changes its size, so that an `fdatasync`
//! has no metadata to commit. When its segment is dead it waits, as it is, for its next life.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tinykv_env::{Env, FileHandle};
use tinykv_mutants::{Mutant, planted};

use crate::WalError;
use crate::frame::{FORMAT_VERSION, checksum, looks_like_frame};

/// A file in the role of one segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Never used twice; the first is 1.
    pub(crate) number: u32,
    /// The file that plays it.
    pub(crate) file: FileHandle,
    /// Bytes of the file.
    pub(crate) len: u32,
}

/// A file that plays no segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) file: FileHandle,
    /// Bytes from the start known to be allocated; ready when this is the size of a segment.
    pub(crate) filled: u32,
}

/// All files of the directory that play no segment, and the making of new ones.
#[derive(Debug)]
pub(crate) struct Pool {
    env: Arc<dyn Env>,
    dir: PathBuf,
    segment_bytes: u32,
    /// Files in the directory, in whatever role.
    files: u32,
    /// The highest number in a file's name.
    name_max: u32,
    /// Ready ones last.
    spare: Vec<Spare>,
}

/// Bytes of zeros written (and synced) in one step of filling.
const FILL_BYTES: u32 = 4 << 20;
const IDENTITY: &str = "FORMAT";
const IDENTITY_NEW: &str = "FORMAT.new";
const MARKER: &str = "FSYNC_FAILED";
const SUFFIX: &str = ".wal";

impl Pool {
    /// A pool of a directory that holds these segment files; those that play no segment are
    /// given to it later.
    pub(crate) fn new(
        env: Arc<dyn Env>,
        dir: &Path,
        segment_bytes: u32,
        files: &[(u32, PathBuf)],
    ) -> Pool {
        Pool {
            env,
            dir: dir.to_owned(),
            segment_bytes,
            files: files.len() as u32,
            name_max: files.last().map_or(0, |(number, _)| *number),
            spare: Vec::new(),
        }
    }

    /// Files in the directory, in whatever role.
    pub(crate) fn files(&self) -> u32 {
        self.files
    }

    /// Spare files that can be used at once.
    pub(crate) fn ready(&self) -> usize {
        let ready = |spare: &&Spare| spare.filled == self.segment_bytes;
        self.spare.iter().filter(ready).count()
    }

    /// Spare files, ready or not.
    pub(crate) fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Takes a file that plays no segment any more.
    pub(crate) fn give(&mut self, file: FileHandle, filled: u32) {
        self.spare.push(Spare { file, filled });
        self.spare.sort_by_key(|spare| spare.filled);
    }

    /// A ready file in the role of segment `number`.
    pub(crate) fn take(&mut self, number: u32) -> Arc<Segment> {
        let spare = self.spare.pop().expect("the caller made sure of a spare");
        assert_eq!(
            spare.filled, self.segment_bytes,
            "an unready file cannot become segment {number}"
        );
        Arc::new(Segment {
            number,
            file: spare.file,
            len: self.segment_bytes,
        })
    }

    /// Takes one step towards one more ready file; creates one if all are ready. True when a
    /// file became ready.
    pub(crate) fn prepare(&mut self) -> Result<bool, PrepareError> {
        let unready = |spare: &Spare| spare.filled < self.segment_bytes;
        let at = match self.spare.iter().position(unready) {
            Some(at) => at,
            None => {
                self.create()?;
                0
            }
        };
        let spare = &mut self.spare[at];
        if spare.filled == 0 {
            // Also a new file: one that grows as it is filled gets as much again reserved beyond
            // its end by xfs, and keeps that when the power fails.
            let set = spare.file.set_len(u64::from(self.segment_bytes));
            set.map_err(PrepareError::Space)?;
        }
        let step = FILL_BYTES.min(self.segment_bytes - spare.filled);
        let zeros = vec![0; step as usize];
        let written = spare.file.write_at(&zeros, u64::from(spare.filled));
        written.map_err(PrepareError::Space)?;
        spare.file.sync_data().map_err(PrepareError::Sync)?;
        spare.filled += step;
        let ready = spare.filled == self.segment_bytes;
        self.spare.sort_by_key(|spare| spare.filled);
        Ok(ready)
    }

    fn create(&mut self) -> Result<(), PrepareError> {
        let path = self.dir.join(file_name(self.name_max + 1));
        let file = self.env.create(&path).map_err(PrepareError::Space)?;
        self.name_max += 1;
        self.files += 1;
        if !planted(Mutant::LogDirectoryUnsynced) {
            self.env.sync_dir(&self.dir).map_err(PrepareError::Sync)?;
        }
        self.spare.insert(0, Spare { file, filled: 0 });
        Ok(())
    }
}

/// Why no file could be made ready.
#[derive(Debug)]
pub(crate) enum PrepareError {
    /// Creating or writing failed; it may be tried again.
    Space(io::Error),
    /// A sync failed, which is final like every failed sync.
    Sync(io::Error),
}

/// What stands in a log's directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Segment files by their numbers, ascending.
    pub(crate) files: Vec<(u32, PathBuf)>,
    /// Whether the identity file is there.
    pub(crate) has_identity: bool,
    /// Whether an earlier life left the marker of a failed fsync (D4).
    pub(crate) has_marker: bool,
}

/// Looks through the directory. Names that are not the log's are left alone.
pub(crate) fn list(env: &dyn Env, dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in env.list_dir(dir)? {
        match entry.name.as_str() {
            IDENTITY => listing.has_identity = true,
            MARKER => listing.has_marker = true,
            name => {
                let number = name.strip_suffix(SUFFIX).and_then(|n| n.parse().ok());
                if let Some(number) = number {
                    listing.files.push((number, dir.join(name)));
                }
            }
        }
    }
    listing.files.sort();
    Ok(listing)
}

/// Writes the log's identity: from here on the directory is a log.
pub(crate) fn write_identity(env: &dyn Env, dir: &Path, log_id: u64) -> io::Result<()> {
    let new = dir.join(IDENTITY_NEW);
    if env.exists(&new)? {
        env.remove_file(&new)?;
    }
    let mut bytes = b"tinykv log".to_vec();
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&log_id.to_le_bytes());
    let crc = checksum(0, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let file = env.create(&new)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    env.rename(&new, &dir.join(IDENTITY))?;
    env.sync_dir(dir)
}

/// Reads the log's id.
pub(crate) fn read_identity(env: &dyn Env, dir: &Path) -> Result<u64, WalError> {
    const LEN: usize = 24;
    let path = dir.join(IDENTITY);
    let unusable = |what| WalError::Unusable {
        path: path.clone(),
        what,
    };
    let mut bytes = [0; LEN];
    let file = env.open(&path)?;
    if file.read_at(&mut bytes, 0)? < LEN {
        return Err(unusable("it is too short"));
    }
    let (body, crc) = bytes.split_at(LEN - 4);
    if checksum(0, body).to_le_bytes() != *crc {
        return Err(unusable("its checksum does not hold"));
    }
    if !body.starts_with(b"tinykv log") {
        return Err(unusable("it belongs to something else"));
    }
    let version = u16::from_le_bytes([body[10], body[11]]);
    if version > FORMAT_VERSION {
        return Err(WalError::NewerFormat {
            path,
            found: version,
            supported: FORMAT_VERSION,
        });
    }
    let id = body[12..20].try_into().expect("eight bytes");
    Ok(u64::from_le_bytes(id))
}

/// Removes what a creation that crashed left behind. Refuses when it looks like a log that has
/// lost its identity.
pub(crate) fn remove_debris(env: &dyn Env, dir: &Path, listing: &Listing) -> Result<(), WalError> {
    const PROBE: u32 = 4096;
    for (_, path) in &listing.files {
        let file = env.open(path)?;
        let len = file.len()?;
        let mut bytes = [0; 8];
        // A creation writes nothing but one frame at the start of a file.
        for offset in (u64::from(PROBE)..len).step_by(PROBE as usize) {
            if file.read_at(&mut bytes, offset)? == bytes.len() && looks_like_frame(&bytes) {
                return Err(WalError::Unusable {
                    path: dir.to_owned(),
                    what: "it holds log segments, but the log's identity is missing",
                });
            }
        }
    }
    for (_, path) in &listing.files {
        env.remove_file(path)?;
    }
    if listing.has_marker {
        env.remove_file(&dir.join(MARKER))?;
    }
    Ok(())
}

/// Leaves a mark that an fsync failed here, as well as that works now (D4).
pub(crate) fn leave_marker(env: &dyn Env, dir: &Path) -> io::Result<()> {
    let path = dir.join(MARKER);
    if !env.exists(&path)? {
        env.create(&path)?.sync_data()?;
    }
    env.sync_dir(dir)
}

/// Removes the mark, once every group it concerns is known damaged.
pub(crate) fn remove_marker(env: &dyn Env, dir: &Path) -> io::Result<()> {
    env.remove_file(&dir.join(MARKER))?;
    env.sync_dir(dir)
}

/// The path of the marker, for messages.
pub(crate) fn marker_path(dir: &Path) -> PathBuf {
    dir.join(MARKER)
}

fn file_name(number: u32) -> String {
    format!("{number:06}{SUFFIX}")
}
