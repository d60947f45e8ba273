//! The child processes: started, watched, stopped. None outlives the playground.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::layout::Planned;

/// How long a process may take to hand its leaders away and close its files.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A process of the playground.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) planned: Planned,
    pub(crate) id: u32,
    child: Child,
    ended: bool,
}

impl Process {
    /// Starts this binary again in the planned role. Its output goes to its log.
    ///
    /// The child has a process group of its own, so that a Ctrl-C reaches the playground alone,
    /// which then stops the children in order; and the kernel ends it should the playground die
    /// in a way that leaves it no time to.
    ///
    /// # Errors
    /// One sentence for the user.
    pub(crate) fn start(planned: Planned) -> Result<Process, String> {
        let describe = |error: std::io::Error| format!("{}: {error}", planned.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&planned.log)
            .map_err(|error| format!("{}: {error}", planned.log.display()))?;
        let mut command = Command::new(std::env::current_exe().map_err(describe)?);
        command
            .args(&planned.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(describe)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| {
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().map_err(describe)?;
        let id = child
            .id()
            .ok_or_else(|| format!("{}: ended at once", planned.name))?;
        Ok(Process {
            planned,
            id,
            child,
            ended: false,
        })
    }

    /// How it ended, if it has since the last call.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended {
            return None;
        }
        // An error means there is no such child any more, which cannot be before it was waited for.
        let status = self.child.try_wait().ok().flatten()?;
        self.ended = true;
        Some(status)
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.ended
    }

    /// Asks it to stop; [`Self::stopped`] waits for it.
    pub(crate) fn ask_to_stop(&self) {
        if self.is_running() {
            // SAFETY: the child was not waited for, so its id cannot name another process yet.
            unsafe { libc::kill(self.id as libc::pid_t, libc::SIGTERM) };
        }
    }

    /// Waits until it is gone, killing it when it takes too long.
    ///
    /// Returns whether it stopped by itself.
    pub(crate) async fn stopped(&mut self) -> bool {
        if self.ended {
            return true;
        }
        let in_time = tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .is_ok();
        if !in_time {
            // It fails only for a process that is gone already.
            let _ = self.child.kill().await;
        }
        self.ended = true;
        in_time
    }
}

/// "exited with code 3" or "was killed by signal 9".
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The exit code of a process whose data directory may not take part.
const STORAGE: i32 = 3;

/// What to do about it.
pub(crate) fn what_next(status: ExitStatus, command_line: &str) -> String {
    match status.code() {
        Some(STORAGE) => {
            "its data directory takes no part any more: the store was drained, the member \
                          removed, or the directory is damaged or another cluster's; its log says \
                          which"
                .to_owned()
        }
        _ => format!("start it again with:\n  {command_line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_return_is_not_started_again() {
        // The exit code is in the second byte of a wait status, a signal in the first.
        let next = |raw| what_next(ExitStatus::from_raw(raw), "tinykv-ctl role-store");
        assert!(next(3 << 8).contains("takes no part any more"));
        for raw in [0, 9, 74 << 8] {
            assert_eq!(next(raw), "start it again with:\n  tinykv-ctl role-store");
        }
    }
}
