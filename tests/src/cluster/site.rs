//! Where a process of a cluster runs and what surrounds it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Where a process runs. The default is this machine as it is.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Its data directory; none: beside those of the others.
    pub data_dir: Option<PathBuf>,
    /// The file that stands for its network namespace; none: the caller's.
    pub namespace: Option<PathBuf>,
    /// Variables added to its environment.
    pub environment: Vec<(String, String)>,
    /// Seconds by which its monotonic clocks are ahead, in a time namespace of its own; none: the
    /// caller's clocks.
    pub clock_ahead: Option<u64>,
}

impl Site {
    /// Lets the command begin there. Should the calling thread die, the process does, too.
    pub(crate) fn prepare(&self, command: &mut Command) -> io::Result<()> {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let namespace = self.namespace.as_ref().map(File::open).transpose()?;
        let offsets = self.clock_ahead.map(offsets);
        // SAFETY: between fork and exec only system calls are made, on memory that was allocated
        // before the fork.
        unsafe {
            command.pre_exec(move || {
                succeeded(libc::prctl(
                    libc::PR_SET_PDEATHSIG,
                    libc::SIGKILL as libc::c_ulong,
                ))?;
                if let Some(namespace) = &namespace {
                    succeeded(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET))?;
                }
                if let Some(offsets) = &offsets {
                    // The namespace is entered by the exec that follows (Linux 6.3 and later).
                    succeeded(libc::unshare(libc::CLONE_NEWTIME))?;
                    File::options()
                        .write(true)
                        .open("/proc/self/timens_offsets")?
                        .write_all(offsets.as_bytes())?;
                }
                Ok(())
            });
        }
        Ok(())
    }
}

fn offsets(seconds: u64) -> String {
    format!("monotonic {seconds} 0\nboottime {seconds} 0\n")
}

fn succeeded(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
