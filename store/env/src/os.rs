//! The operating system (Linux): positioned reads and writes, `fdatasync`, `flock`.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{DirEntry, DirLock, Env, File, FileHandle};

/// The real world. Stateless, so any number of copies is the same one.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEnv;

impl OsEnv {
    /// The environment as what everything above takes.
    pub fn shared() -> Arc<dyn Env> {
        Arc::new(OsEnv)
    }
}

impl Env for OsEnv {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).map_err(|e| at(path, &e))
    }

    fn create(&self, path: &Path) -> io::Result<FileHandle> {
        open(
            path,
            OpenOptions::new().read(true).write(true).create_new(true),
        )
    }

    fn open(&self, path: &Path) -> io::Result<FileHandle> {
        open(path, OpenOptions::new().read(true).write(true))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|e| at(path, &e))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|e| at(from, &e))
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        fs::hard_link(original, link).map_err(|e| at(link, &e))
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| at(path, &e))? {
            let entry = entry.map_err(|e| at(path, &e))?;
            let metadata = entry.metadata().map_err(|e| at(&entry.path(), &e))?;
            let is_dir = metadata.is_dir();
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                len: if is_dir { 0 } else { metadata.len() },
                is_dir,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(|e| at(path, &e))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path).map_err(|e| at(path, &e))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| at(path, &e))
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let path = path.join("LOCK");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| at(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsDirLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{}: in use", path.display()),
            )),
            Err(fs::TryLockError::Error(e)) => Err(at(&path, &e)),
        }
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let name = std::ffi::CString::new(path.as_os_str().as_bytes())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `name` is NUL-terminated and `stat` is writable memory of the right type.
        let code = unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) };
        if code != 0 {
            return Err(at(path, &io::Error::last_os_error()));
        }
        // SAFETY: statvfs returned 0, so it filled the structure.
        let stat = unsafe { stat.assume_init() };
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn now(&self) -> Duration {
        clock(libc::CLOCK_BOOTTIME)
    }

    fn wall_clock(&self) -> Duration {
        clock(libc::CLOCK_REALTIME)
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            // SAFETY: the pointer and length describe a live, writable slice.
            let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            // Requests of up to 256 bytes are only ever cut short by a signal (getrandom(2)).
            filled += usize::try_from(n).unwrap_or(0);
        }
        u64::from_le_bytes(bytes)
    }
}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    path: PathBuf,
}

impl File for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self
                .file
                .read_at(&mut buf[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(at(&self.path, &e)),
            }
        }
        Ok(filled)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|e| at(&self.path, &e))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file
            .write_all_at(buf, offset)
            .map_err(|e| at(&self.path, &e))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| at(&self.path, &e))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|e| at(&self.path, &e))?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|e| at(&self.path, &e))
    }
}

/// `flock` goes with the open file; the `LOCK` file itself stays.
#[derive(Debug)]
struct OsDirLock {
    _file: fs::File,
}

impl DirLock for OsDirLock {}

fn open(path: &Path, options: &OpenOptions) -> io::Result<FileHandle> {
    let file = options.open(path).map_err(|e| at(path, &e))?;
    Ok(Arc::new(OsFile {
        file,
        path: path.to_owned(),
    }))
}

/// The same error, naming the path; the kind is what callers decide by.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable; both clocks exist on every supported Linux.
    let code = unsafe { libc::clock_gettime(id, &mut time) };
    assert_eq!(code, 0, "clock_gettime({id}) failed");
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
