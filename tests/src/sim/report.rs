//! What a run was: enough to see that it was a real one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Figures of one run, or of many added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Runs.
    pub seeds: u64,
    /// Virtual time.
    #[serde(serialize_with = "seconds")]
    pub simulated: Duration,
    /// Events handed out by the loop.
    pub events: u64,
    /// Operations that began.
    pub operations: u64,
    /// Of those, the ones whose effect or result a client was told.
    pub succeeded: u64,
    /// Of those, the ones whose fate stayed open.
    pub unknown: u64,
    /// Faults that really fired, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rare paths that were taken, by name.
    pub probes: BTreeMap<&'static str, u64>,
    /// Hash of the trace (of the traces, folded).
    pub trace_hash: u64,
}

impl Report {
    /// Counts a fault.
    pub fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Counts a rare path.
    pub fn probe(&mut self, name: &'static str) {
        *self.probes.entry(name).or_default() += 1;
    }

    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Report) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.events += other.events;
        self.operations += other.operations;
        self.succeeded += other.succeeded;
        self.unknown += other.unknown;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &other.probes {
            *self.probes.entry(name).or_default() += count;
        }
        self.trace_hash = self.trace_hash.rotate_left(7) ^ other.trace_hash;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |map: &BTreeMap<&'static str, u64>| -> String {
            map.iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        writeln!(
            f,
            "{} seeds, {:.0} simulated seconds, {} events",
            self.seeds,
            self.simulated.as_secs_f64(),
            self.events
        )?;
        writeln!(
            f,
            "operations: {} begun, {} succeeded, {} unknown",
            self.operations, self.succeeded, self.unknown
        )?;
        writeln!(f, "faults: {}", list(&self.faults))?;
        write!(f, "probes: {}", list(&self.probes))
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}
