//! What happened in a run, line by line: hashed always, kept only when somebody wants to read it.

use std::fmt;
use std::time::Duration;

/// The trace of one run. Two runs of one seed must give the same [`Trace::hash`].
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    text: Option<String>,
}

impl Trace {
    /// An empty trace; with `keep` its lines can be read afterwards.
    pub fn new(keep: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            text: keep.then(String::new),
        }
    }

    /// Adds a line.
    pub fn line(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        self.lines += 1;
        let mut hasher = Fnv(self.hash);
        // Writing to the hasher and to a string cannot fail.
        let _ = fmt::write(&mut hasher, format_args!("{}us {what}\n", now.as_micros()));
        self.hash = hasher.0;
        if let Some(text) = &mut self.text {
            let _ = fmt::write(text, format_args!("{:>12.6} {what}\n", now.as_secs_f64()));
        }
    }

    /// Adds a line for whoever reads the trace; it is not part of the hash.
    pub fn detail(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            let _ = fmt::write(text, format_args!("{:>12.6}   {what}\n", now.as_secs_f64()));
        }
    }

    /// FNV-1a over all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// All lines, if they were kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
