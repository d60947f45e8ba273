//! Small file systems of the run's own, in files: they lose power and fill up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tinykv_env::OsEnv;

use super::network::{is_alive, owner};
use super::tool::{find, run};

/// Both ext4 and xfs know this call: from now on nothing reaches the disk, as if power was cut.
/// `_IOR('X', 125, u32)`.
const SHUT_DOWN: libc::c_ulong = 0x8004_587d;

/// Not even what the file system's own journal has yet to write.
const WITHOUT_JOURNAL: u32 = 2;

/// How large a file system is. Logs are reserved ahead and writes are refused below 128 MiB of
/// free space, so it must be a few times that.
const SIZE: u64 = 640 << 20;

/// Below this many bytes a disk is as good as full.
const SMALL: u64 = 4_096;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ext4.
    Ext4,
    /// xfs.
    Xfs,
}

impl Kind {
    fn maker(self) -> &'static str {
        match self {
            Kind::Ext4 => "mkfs.ext4",
            Kind::Xfs => "mkfs.xfs",
        }
    }

    /// What is missing to make one.
    pub(super) fn lacks(self) -> Option<String> {
        let package = match self {
            Kind::Ext4 => "e2fsprogs",
            Kind::Xfs => "xfsprogs",
        };
        match find(self.maker()) {
            Some(_) => None,
            None => Some(format!(
                "`{}` is not installed (Debian: {package})",
                self.maker()
            )),
        }
    }
}

/// A mounted file system. Dropping it unmounts and removes it.
#[derive(Debug)]
pub(super) struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes one below a directory and mounts it.
    pub(super) fn new(dir: &Path, name: &str, kind: Kind) -> Result<Disk, String> {
        let mut disk = Disk {
            image: dir.join(format!("{name}.image")),
            mount: dir.join(name),
            mounted: false,
        };
        let failed = |error: io::Error| error.to_string();
        let image = File::create(&disk.image).map_err(failed)?;
        image.set_len(SIZE).map_err(failed)?;
        std::fs::create_dir(&disk.mount).map_err(failed)?;
        run(kind.maker(), &["-q", &disk.image.to_string_lossy()])?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where data lies on it.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Mounts it again.
    pub(super) fn mount(&mut self) -> Result<(), String> {
        let (image, mount) = (self.image.to_string_lossy(), self.mount.to_string_lossy());
        run("mount", &["-o", "loop", &image, &mount])?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it; nobody may use it.
    pub(super) fn unmount(&mut self) -> Result<(), String> {
        run("umount", &[&self.mount.to_string_lossy()])?;
        self.mounted = false;
        Ok(())
    }

    /// From now on nothing is written.
    pub(super) fn cut_power(&self) -> Result<(), String> {
        let dir = File::open(&self.mount).map_err(|error| error.to_string())?;
        // SAFETY: the call reads one number, which outlives it.
        match unsafe { libc::ioctl(dir.as_raw_fd(), SHUT_DOWN, &WITHOUT_JOURNAL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().to_string()),
        }
    }

    /// Fills it until so many bytes are free; 0: none at all.
    pub(super) fn fill(&self, leave: u64) -> Result<(), String> {
        let failed = |error: io::Error| format!("filling the disk: {error}");
        let mut ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .map_err(failed)?;
        // First in large pieces that need not be written, then byte by byte up to the brim.
        let (mut end, mut piece) = (0, SIZE);
        while piece >= SMALL {
            let more = piece.min(self.free()?.saturating_sub(leave)) & !(SMALL - 1);
            // SAFETY: the descriptor is open.
            let done = more > 0
                && unsafe { libc::fallocate(ballast.as_raw_fd(), 0, end as i64, more as i64) } == 0;
            match done {
                true => end += more,
                false => piece /= 2,
            }
        }
        if leave > 0 {
            return Ok(());
        }
        loop {
            match ballast.write_all(&[0xaa; SMALL as usize]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Frees what [`Disk::fill`] took.
    pub(super) fn empty(&self) -> Result<(), String> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    /// Bytes that are free.
    fn free(&self) -> Result<u64, String> {
        let free = OsEnv::shared().available_space(&self.mount);
        free.map_err(|error| error.to_string())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // It vanishes once its last user ends; the next run removes what is left.
            let _ = run("umount", &["-l", &self.mount.to_string_lossy()]);
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Unmounts and removes what is left of runs that were killed.
pub(super) fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_none_or(is_alive) {
            continue;
        }
        println!("removing {name} of a run that was killed");
        let dir = entry.path().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if mount.starts_with(&dir) {
                // What cannot be removed now will be seen by the next run.
                let _ = run("umount", &["-l", mount]);
            }
        }
        let _ = std::fs::remove_dir_all(entry.path());
    }
}
