//! A machine in memory: a disk that forgets what was not synced, a clock that only the simulator
//! moves, and random numbers from a seed.
//!
//! # How a test uses it
//!
//! Run a trace once and read [`SimEnv::io_count`]; then run it again for every `n` up to there
//! with [`SimEnv::crash_at`]`(n)`: the `n`-th I/O and all after it fail. [`SimEnv::crash`] then
//! turns the volatile state into what the disk would hold after power loss, in one of the ways
//! of [`CrashMode`], makes every open file of before unusable, and lets the next life begin.
//! [`SimEnv::duplicate`] copies the machine, so that one run can be crashed in all modes.
//!
//! The I/O at which a crash happens may have reached the disk or not: a write is in the volatile
//! cache (and survives or not as the mode says), a sync has not happened.

mod disk;
mod pages;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{DirEntry, DirLock, Env, File, FileHandle, Prng};

use disk::{Disk, Inode, error};

/// What a crash does to data and names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// The process dies, the machine does not: nothing is lost now, and what was not synced can
    /// still be lost in a later crash.
    KeepAll,
    /// Power loss at its plainest: all that was not synced is gone.
    DropUnsynced,
    /// Each page written since its file's sync survives by chance, in no order; a prefix of the
    /// directory changes survives.
    KeepRandomPages,
    /// As above, sector by sector: a page may be half old, half new.
    TearSectors,
    /// As above, and sectors that were being written may hold garbage.
    CorruptSectors,
    /// All data survives, no unsynced directory entry does.
    LoseDirectoryEntries,
}

impl CrashMode {
    /// Every mode, for tests that enumerate them.
    pub const ALL: [CrashMode; 6] = [
        CrashMode::KeepAll,
        CrashMode::DropUnsynced,
        CrashMode::KeepRandomPages,
        CrashMode::TearSectors,
        CrashMode::CorruptSectors,
        CrashMode::LoseDirectoryEntries,
    ];
}

/// A simulated machine. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct SimEnv {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Clone, Debug)]
struct Machine {
    disk: Disk,
    random: Prng,
    now: Duration,
    wall_clock: Duration,
    /// I/O operations that changed something, so far.
    io_count: u64,
    /// The I/O at which the machine stops.
    crash_at: Option<u64>,
    crashed: bool,
    /// Successful or failed calls of `sync_data` and `sync_dir`, so far.
    sync_count: u64,
    /// The sync that fails with an I/O error.
    fail_sync_at: Option<u64>,
    /// Counts lives; files opened in an earlier one are unusable.
    life: u64,
    /// Directories locked in this life.
    locked: Vec<PathBuf>,
}

impl SimEnv {
    /// A machine with an empty disk; everything random about it follows from the seed.
    pub fn new(seed: u64) -> SimEnv {
        SimEnv {
            machine: Arc::new(Mutex::new(Machine {
                disk: Disk::default(),
                random: Prng::new(seed),
                now: Duration::ZERO,
                wall_clock: Duration::from_secs(1_700_000_000),
                io_count: 0,
                crash_at: None,
                crashed: false,
                sync_count: 0,
                fail_sync_at: None,
                life: 0,
                locked: Vec::new(),
            })),
        }
    }

    /// The machine as what everything above takes.
    pub fn shared(&self) -> Arc<dyn Env> {
        Arc::new(self.clone())
    }

    /// An independent machine in the same state. Files opened on this one stay this one's.
    pub fn duplicate(&self) -> SimEnv {
        let mut machine = self.machine.lock().clone();
        machine.locked.clear();
        SimEnv {
            machine: Arc::new(Mutex::new(machine)),
        }
    }

    /// I/O operations so far that could change the disk.
    pub fn io_count(&self) -> u64 {
        self.machine.lock().io_count
    }

    /// Stops the machine at the `n`-th I/O, counted from its creation as [`Self::io_count`] is.
    pub fn crash_at(&self, n: u64) {
        self.machine.lock().crash_at = Some(n);
    }

    /// Whether a crash point was reached: all I/O fails until [`Self::crash`].
    pub fn is_stopped(&self) -> bool {
        self.machine.lock().crashed
    }

    /// Crashes now and restarts the machine with what the mode leaves on the disk. The clocks go
    /// on; locks are gone; files opened before fail for ever.
    pub fn crash(&self, mode: CrashMode) {
        let mut machine = self.machine.lock();
        let mut random = machine.random.fork();
        machine.disk.crash(mode, &mut random);
        machine.crashed = false;
        machine.crash_at = None;
        machine.fail_sync_at = None;
        machine.life += 1;
        machine.locked.clear();
    }

    /// Syncs so far, of files and directories.
    pub fn sync_count(&self) -> u64 {
        self.machine.lock().sync_count
    }

    /// Lets the `n`-th sync, counted as [`Self::sync_count`] is, fail with an I/O error. What it
    /// covered is lost for good, whatever later syncs say.
    pub fn fail_sync_at(&self, n: u64) {
        self.machine.lock().fail_sync_at = Some(n);
    }

    /// Limits the bytes of file contents that fit (`None`: no limit). Beyond: `StorageFull`.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.machine.lock().disk.capacity = capacity;
    }

    /// Moves the monotonic and the wall clock.
    pub fn advance(&self, by: Duration) {
        let mut machine = self.machine.lock();
        machine.now += by;
        machine.wall_clock += by;
    }

    /// Sets the wall clock, backwards too.
    pub fn set_wall_clock(&self, to: Duration) {
        self.machine.lock().wall_clock = to;
    }

    /// Inverts the bits of `mask` in one byte of a file: silent damage.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let inode = machine.disk.find_file(path)?;
        machine.disk.file_mut(inode, path)?.flip(offset, mask);
        Ok(())
    }

    fn read<T>(&self, path: &Path, f: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        let machine = self.machine.lock();
        machine.check(path)?;
        f(&machine.disk)
    }

    fn change<T>(&self, path: &Path, f: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.machine.lock().change(path, f)
    }
}

impl Machine {
    fn check(&self, path: &Path) -> io::Result<()> {
        if self.crashed {
            return Err(error(
                io::ErrorKind::Other,
                path,
                "the simulated machine has crashed",
            ));
        }
        Ok(())
    }

    /// Counts an I/O; at the crash point it still reaches the volatile cache, but nobody hears.
    fn change<T>(
        &mut self,
        path: &Path,
        f: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check(path)?;
        self.io_count += 1;
        let result = f(&mut self.disk);
        self.stop_at_crash_point();
        self.check(path)?;
        result
    }

    /// Counts a sync; at the crash point it has not happened.
    fn sync(
        &mut self,
        path: &Path,
        sync: impl FnOnce(&mut Disk) -> io::Result<()>,
        fail: impl FnOnce(&mut Disk) -> io::Result<()>,
    ) -> io::Result<()> {
        self.check(path)?;
        self.io_count += 1;
        self.sync_count += 1;
        self.stop_at_crash_point();
        self.check(path)?;
        if self.fail_sync_at == Some(self.sync_count) {
            fail(&mut self.disk)?;
            return Err(error(
                io::ErrorKind::Other,
                path,
                "simulated I/O error in sync",
            ));
        }
        sync(&mut self.disk)
    }

    fn stop_at_crash_point(&mut self) {
        if self.crash_at.is_some_and(|n| self.io_count >= n) {
            self.crashed = true;
        }
    }
}

impl Env for SimEnv {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(path, |disk| disk.create_dir_all(path))
    }

    fn create(&self, path: &Path) -> io::Result<FileHandle> {
        let mut machine = self.machine.lock();
        let inode = machine.change(path, |disk| disk.create(path))?;
        Ok(self.handle(machine.life, inode, path))
    }

    fn open(&self, path: &Path) -> io::Result<FileHandle> {
        let machine = self.machine.lock();
        machine.check(path)?;
        let inode = machine.disk.find_file(path)?;
        Ok(self.handle(machine.life, inode, path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(path, |disk| disk.remove(path, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(from, |disk| disk.rename(from, to))
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        self.change(link, |disk| disk.hard_link(original, link))
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.read(path, |disk| disk.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.read(path, |disk| match disk.find(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(path, |disk| disk.remove(path, true))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.machine
            .lock()
            .sync(path, |disk| disk.sync_dir(path), |_| Ok(()))
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut machine = self.machine.lock();
        machine.check(path)?;
        machine.disk.find(path)?;
        if machine.locked.iter().any(|locked| locked == path) {
            return Err(error(io::ErrorKind::WouldBlock, path, "in use"));
        }
        machine.locked.push(path.to_owned());
        let life = machine.life;
        Ok(Box::new(SimDirLock {
            env: self.clone(),
            life,
            path: path.to_owned(),
        }))
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.read(path, |disk| Ok(disk.available()))
    }

    fn now(&self) -> Duration {
        self.machine.lock().now
    }

    fn wall_clock(&self) -> Duration {
        self.machine.lock().wall_clock
    }

    fn random_u64(&self) -> u64 {
        self.machine.lock().random.next_u64()
    }
}

impl SimEnv {
    fn handle(&self, life: u64, inode: Inode, path: &Path) -> FileHandle {
        Arc::new(SimFile {
            env: self.clone(),
            life,
            inode,
            path: path.to_owned(),
        })
    }
}

#[derive(Debug)]
struct SimFile {
    env: SimEnv,
    life: u64,
    inode: Inode,
    path: PathBuf,
}

impl SimFile {
    fn machine(&self) -> io::Result<parking_lot::MutexGuard<'_, Machine>> {
        let machine = self.env.machine.lock();
        if machine.life != self.life {
            return Err(error(
                io::ErrorKind::Other,
                &self.path,
                "was opened before a crash",
            ));
        }
        machine.check(&self.path)?;
        Ok(machine)
    }
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self
            .machine()?
            .disk
            .file(self.inode, &self.path)?
            .read(buf, offset))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buf, offset)? < buf.len() {
            return Err(error(
                io::ErrorKind::UnexpectedEof,
                &self.path,
                "ends before",
            ));
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.machine()?.change(&self.path, |disk| {
            let growth = disk.file(self.inode, &self.path)?.growth(offset, buf.len());
            if growth > disk.available() {
                return Err(error(
                    io::ErrorKind::StorageFull,
                    &self.path,
                    "no space left",
                ));
            }
            disk.file_mut(self.inode, &self.path)?.write(buf, offset);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.machine()?.sync(
            &self.path,
            |disk| {
                disk.file_mut(self.inode, &self.path)
                    .map(|file| file.sync())
            },
            |disk| {
                disk.file_mut(self.inode, &self.path)
                    .map(|file| file.fail_sync())
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.machine()?.disk.file(self.inode, &self.path)?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine()?.change(&self.path, |disk| {
            disk.file_mut(self.inode, &self.path)?.set_len(len);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimDirLock {
    env: SimEnv,
    life: u64,
    path: PathBuf,
}

impl DirLock for SimDirLock {}

impl Drop for SimDirLock {
    fn drop(&mut self) {
        let mut machine = self.env.machine.lock();
        if machine.life == self.life {
            machine.locked.retain(|locked| *locked != self.path);
        }
    }
}
