//! What a process costs, as the kernel counts it.

use std::io;
use std::time::Duration;

/// What a process has used so far, and holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor, its own and the kernel's on its behalf.
    pub cpu: Duration,
    /// Bytes of memory that are resident.
    pub resident_bytes: u64,
}

/// Clock ticks a second in what `/proc` tells, on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

impl Usage {
    /// Looks at a running process.
    ///
    /// # Errors
    /// It does not run, or `/proc` is not as `proc(5)` has it.
    pub fn of(process_id: u32) -> io::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{process_id}/status"))?;
        let usage = cpu(&stat).zip(resident(&status));
        let (cpu, resident_bytes) =
            usage.ok_or_else(|| io::Error::other("/proc is not as proc(5) has it"))?;
        Ok(Usage {
            cpu,
            resident_bytes,
        })
    }
}

/// Fields 14 and 15. The second may contain anything, but ends with the last parenthesis.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * 1_000 / TICKS_PER_SECOND,
    ))
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Usage, cpu, resident};

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 3 4 20 0 1 0 5 6 7";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (x) S 1"), None);
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(resident(status), Some(2 << 20));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).expect("this process runs");
        assert!(usage.resident_bytes > 1 << 20);
    }
}
