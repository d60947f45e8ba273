//! The programs of the operating system that chaos is made with, and what is missing of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program to its end; its output.
///
/// # Errors
/// It cannot be started, or ends badly; what it said.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    run_with_input(program, arguments, "")
}

/// The same, with something to read.
pub(super) fn run_with_input(
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String, String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let failed = |error: std::io::Error| format!("{}: {error}", shown());
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing says by its exit code how it went.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{} ended with {}: {}",
            shown(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Where a program is, as a shell would find it.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// The library that shows a process another time of day.
pub(super) fn faketime() -> Option<PathBuf> {
    let roots = ["/usr/lib", "/usr/local/lib", "/usr/lib64"].map(Path::new);
    let below = roots
        .iter()
        .flat_map(|root| std::fs::read_dir(root).into_iter().flatten().flatten())
        .map(|entry| entry.path());
    roots
        .iter()
        .map(|root| root.to_path_buf())
        .chain(below)
        .map(|dir| dir.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
}

/// Why there can be no chaos on this machine at all; `None`: there can.
pub(super) fn no_chaos_because() -> Option<String> {
    // SAFETY: asks the kernel for a number.
    if unsafe { libc::geteuid() } != 0 {
        return Some("network namespaces need root".to_owned());
    }
    if find("ip").is_none() {
        return Some("`ip` is not installed (Debian: iproute2)".to_owned());
    }
    let probe = format!("{}probe", super::network::prefix());
    if let Err(problem) = run("ip", &["netns", "add", &probe]) {
        return Some(format!("no network namespace can be made: {problem}"));
    }
    let veth = run("ip", &["-n", &probe, "link", "add", "v0", "type", "veth"]);
    let bridge = run("ip", &["-n", &probe, "link", "add", "b0", "type", "bridge"]);
    // A leftover is removed by the next run.
    let _ = run("ip", &["netns", "del", &probe]);
    veth.and(bridge)
        .err()
        .map(|problem| format!("no virtual network can be made: {problem}"))
}
