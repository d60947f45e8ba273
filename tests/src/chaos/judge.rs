//! What a run has shown, and whether it has shown enough.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::checker::{self, Operation, Outcome};
use crate::cluster::draw::Drawn;

use super::nemesis::{Fired, Nemesis};
use super::topology::Changes;

/// How many operations a second must have succeeded, failed ones and faults and all.
const SUCCEEDED_PER_SECOND_MIN: u64 = 20;

/// Everything that became known.
pub(super) struct Evidence {
    pub(super) nemesis: Nemesis,
    pub(super) struck: Duration,
    pub(super) recovery: Duration,
    pub(super) changes: Changes,
    pub(super) regions: u64,
    pub(super) drawn: Drawn,
    pub(super) fired: Fired,
    pub(super) refusals: BTreeMap<&'static str, u64>,
    pub(super) operations: Vec<Operation>,
}

/// One nemesis that was survived.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub nemesis: String,
    /// How long it struck.
    pub seconds: u64,
    /// What fired, and how often.
    pub fired: BTreeMap<&'static str, u64>,
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Operations that certainly had no effect.
    pub refused: u64,
    /// Why they were refused.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Operations whose fate is unknown.
    pub undetermined: u64,
    /// Registers, lists and counters, each of them linearizable.
    pub keys: usize,
    /// The longest time without any success.
    pub longest_gap_ms: u64,
    /// From the last strike until every part of the key space took a write.
    pub recovery_ms: u64,
    /// Regions at the end.
    pub regions: u64,
    /// What was done to regions.
    changes: Changes,
    /// Timestamps and ids, none of them repeated.
    drawn: Drawn,
    /// What the checker said.
    pub verdict: &'static str,
}

/// Judges a run.
///
/// # Errors
/// The history is not linearizable, or the run has not shown enough.
pub(super) fn judge(evidence: Evidence) -> Result<Report, String> {
    let operations = evidence.operations.as_slice();
    let checked = checker::check(operations).map_err(|violation| violation.to_string())?;
    let count = |outcome: Outcome| operations.iter().filter(|o| o.outcome == outcome).count();
    let report = Report {
        nemesis: evidence.nemesis.name(),
        seconds: evidence.struck.as_secs(),
        fired: evidence.fired,
        succeeded: checked.succeeded as u64,
        refused: count(Outcome::DefinitelyNot) as u64,
        refusals: evidence.refusals,
        undetermined: checked.unknown as u64,
        keys: checked.keys,
        longest_gap_ms: longest_gap(operations).as_millis() as u64,
        recovery_ms: evidence.recovery.as_millis() as u64,
        regions: evidence.regions,
        changes: evidence.changes,
        drawn: evidence.drawn,
        verdict: "linearizable",
    };
    let needed = report.seconds * SUCCEEDED_PER_SECOND_MIN;
    if report.succeeded < needed {
        return Err(format!(
            "only {} operations succeeded, {needed} are needed to show anything\n{report}",
            report.succeeded
        ));
    }
    for what in evidence.nemesis.must_fire() {
        if report.fired.get(what).copied().unwrap_or(0) == 0 {
            return Err(format!(
                "`{what}` never happened, so nothing was shown\n{report}"
            ));
        }
    }
    Ok(report)
}

/// The longest time from one success to the next.
fn longest_gap(operations: &[Operation]) -> Duration {
    let succeeded = operations.iter().filter(|operation| operation.succeeded());
    let mut ends: Vec<u64> = succeeded.map(|operation| operation.end).collect();
    ends.sort_unstable();
    let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_nanos(gaps.max().unwrap_or(0))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} s; {} operations succeeded, {} refused {:?}, {} undetermined; {} keys in {} \
             regions: {}",
            self.nemesis,
            self.seconds,
            self.succeeded,
            self.refused,
            self.refusals,
            self.undetermined,
            self.keys,
            self.regions,
            self.verdict
        )?;
        writeln!(
            f,
            "  longest gap without a success {} ms; all writable {} ms after the last strike; {:?}",
            self.longest_gap_ms, self.recovery_ms, self.changes
        )?;
        write!(f, "  fired: {:?}; {:?}", self.fired, self.drawn)
    }
}
