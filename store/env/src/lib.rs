//! Files, clock and randomness behind traits, so that everything above can be crashed on purpose.
//!
//! Two environments exist. [`OsEnv`] is the operating system. [`SimEnv`] is a disk, a clock and a
//! random source in memory, owned by the simulator: it forgets on a crash what was not synced,
//! data and directory entries alike, in the ways real disks do.
//!
//! # Contract
//!
//! * A write is visible to every later read of the process at once; it is *durable* only after
//!   [`File::sync_data`] (contents and length) returned `Ok`.
//! * A created, renamed, linked or removed name is durable only after [`Env::sync_dir`] of its
//!   directory returned `Ok` (D2 of the contract in the README).
//! * An error of a sync is final for the process (D4): what it covered may be lost even if a
//!   later sync succeeds. Nothing here retries.
//! * Every error keeps its [`std::io::ErrorKind`] and names the path.
//! * `now` is monotonic, counts suspension and has an arbitrary origin; it is a [`Duration`]
//!   because the pure cores may not know `Instant`.

mod os;
mod random;
mod sim;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use os::OsEnv;
pub use random::Prng;
pub use sim::{CrashMode, SimEnv};

/// The outside world as far as storage and time go.
pub trait Env: Send + Sync + Debug {
    /// Creates a directory and its parents; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a new file for reading and writing; `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<FileHandle>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<FileHandle>;

    /// Removes a name. The contents go with the last open handle.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, replacing what stands at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name; `AlreadyExists` if the name is taken.
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()>;

    /// Files and directories directly inside `path`, sorted by name.
    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Whether a name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of a directory (a file named `LOCK` in it); `WouldBlock` while
    /// anybody else holds it. Dropping the result, or the end of the process, releases it.
    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;

    /// Bytes that can still be written to the file system that holds `path`.
    fn available_space(&self, path: &Path) -> io::Result<u64>;

    /// Monotonic time, suspension included, since an arbitrary origin.
    fn now(&self) -> Duration;

    /// Wall-clock time since the Unix epoch. Never used for anything that must be safe (C3).
    fn wall_clock(&self) -> Duration;

    /// A number nobody can guess (`OsEnv`) or everybody can repeat (`SimEnv`).
    fn random_u64(&self) -> u64;
}

/// An open file. Shared by all who read it; the last handle closes it.
pub type FileHandle = Arc<dyn File>;

/// Reads and writes at positions; there is no cursor.
#[expect(
    clippy::len_without_is_empty,
    reason = "the length of a file is fallible"
)]
pub trait File: Send + Sync + Debug {
    /// The path it was opened under, for messages.
    fn path(&self) -> &Path;

    /// Reads up to `buf.len()` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads exactly `buf.len()` bytes; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, extending the file as needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes contents and length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without its directory.
    pub name: String,
    /// The length of a file in bytes; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Held as long as a process works in a directory.
pub trait DirLock: Send + Sync + Debug {}
