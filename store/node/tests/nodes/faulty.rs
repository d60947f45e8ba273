//! The operating system's files, whose syncs fail on demand.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tinykv_env::{DirEntry, DirLock, Env, File, FileHandle, OsEnv};

#[derive(Debug, Default)]
pub(crate) struct FaultyEnv {
    syncs_fail: Arc<AtomicBool>,
}

impl FaultyEnv {
    pub(crate) fn fail_syncs(&self) {
        self.syncs_fail.store(true, Ordering::SeqCst);
    }

    fn wrap(&self, file: FileHandle) -> FileHandle {
        Arc::new(FaultyFile {
            file,
            syncs_fail: Arc::clone(&self.syncs_fail),
        })
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: FileHandle,
    syncs_fail: Arc<AtomicBool>,
}

impl File for FaultyFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(buf, offset)
    }

    /// The marker of a failed sync is best effort and gets through here.
    fn sync_data(&self) -> io::Result<()> {
        let is_marker = self.path().ends_with("FSYNC-FAILED");
        match self.syncs_fail.load(Ordering::SeqCst) && !is_marker {
            true => Err(io::Error::other(format!(
                "{}: broken",
                self.path().display()
            ))),
            false => self.file.sync_data(),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Env for FaultyEnv {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsEnv.create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<FileHandle> {
        OsEnv.create(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<FileHandle> {
        OsEnv.open(path).map(|file| self.wrap(file))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsEnv.remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsEnv.rename(from, to)
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        OsEnv.hard_link(original, link)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        OsEnv.list_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsEnv.exists(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsEnv.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsEnv.sync_dir(path)
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        OsEnv.lock_dir(path)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        OsEnv.available_space(path)
    }

    fn now(&self) -> Duration {
        OsEnv.now()
    }

    fn wall_clock(&self) -> Duration {
        OsEnv.wall_clock()
    }

    fn random_u64(&self) -> u64 {
        OsEnv.random_u64()
    }
}
