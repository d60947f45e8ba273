//! Ports that nobody else uses.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range of ports for outgoing connections (32768 and up by default on Linux), above
/// the defaults of this project and of others.
const FIRST: u32 = 21_000;
const LAST: u32 = 32_000;

/// How many ports this process has tried.
static TRIED: AtomicU32 = AtomicU32::new(0);

/// Ports that were free a moment ago and that no other call of this process returns.
///
/// # Errors
/// Every port of the range is taken.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let span = LAST - FIRST;
    // Processes that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(97) % span;
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        if tried >= span {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "no free port is left",
            ));
        }
        let port = (FIRST + (begin + tried) % span) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::free_ports;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let mut seen = BTreeSet::new();
        for port in free_ports(5)
            .expect("ports")
            .into_iter()
            .chain(free_ports(5).expect("ports"))
        {
            assert!(seen.insert(port));
            std::net::TcpListener::bind(("127.0.0.1", port)).expect("free");
        }
    }
}
