//! Waiting for the end of a process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, ExitStatus};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until a process has ended by itself.
pub(super) async fn end_of(child: &mut Child) -> io::Result<ExitStatus> {
    // SAFETY: the call makes a descriptor, or fails.
    let code = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let code = libc::c_int::try_from(code).map_err(io::Error::other)?;
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for nobody else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(code) };
    // SAFETY: the descriptor is owned by what is registered, and stays open as long as that.
    let ending = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
        .map_err(io::Error::from)?;
    // It becomes readable when the process has ended.
    let _ended = ending.readable().await?;
    child.wait()
}
