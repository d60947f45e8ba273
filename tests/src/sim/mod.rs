//! The simulator: whole clusters of production code, one thread, virtual time, one seed.
//!
//! A seed draws everything: the weather of the network, the speed of the clocks, the sizes of
//! memtables and log segments, which kinds of faults occur, and what clients ask for. Stores run
//! the production `Shard`, `Engine` and state machine over [`tinykv_env::SimEnv`]; only threads,
//! sockets and gRPC are left out, and clusters of real processes cover those.
//!
//! A run has two phases. In the safety phase everything may fail, and after each event the
//! invariants hold. Then all is mended, and within bounded time every region accepts a write,
//! every key can be read, and all replicas of a region are equal. At the end the histories of the
//! clients go through the linearizability checker.
//!
//! The same seed gives the same trace on every machine: nothing here reads a clock or draws a
//! number but from the seed, and no order depends on addresses or hashes.

mod client;
mod faults;
mod invariants;
mod machine;
mod network;
mod reader;
mod report;
mod schedule;
mod shell;
mod trace;
mod world;

use std::time::Duration;

pub use network::{Address, Network, Weather};
pub use report::Report;
pub use schedule::Schedule;
pub use trace::Trace;

/// How much work a seed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Six simulated seconds of faults: thousands of seeds fit into a test run.
    #[default]
    Quick,
    /// Thirty simulated seconds of faults, more clients.
    Long,
}

impl Profile {
    /// As typed on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Quick => "quick",
            Profile::Long => "long",
        }
    }

    fn safety_phase(self) -> Duration {
        match self {
            Profile::Quick => Duration::from_secs(6),
            Profile::Long => Duration::from_secs(30),
        }
    }

    fn clients(self) -> u64 {
        match self {
            Profile::Quick => 5,
            Profile::Long => 8,
        }
    }
}

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// What must never happen and did.
    pub violation: Option<String>,
    /// Every line of the trace, if asked for.
    pub trace: Option<String>,
}

/// Runs one seed. A failed assertion of the code under test is a violation, too.
pub fn run(seed: u64, profile: Profile, keep_trace: bool) -> Outcome {
    let world = std::panic::AssertUnwindSafe(|| world::World::new(seed, profile, keep_trace).run());
    std::panic::catch_unwind(world).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without text");
        Outcome {
            report: Report {
                seeds: 1,
                ..Report::default()
            },
            violation: Some(format!("assertion: {text}")),
            trace: None,
        }
    })
}

/// From so many seeds on a batch is judged as a whole.
pub const BATCH_MIN: u64 = 100;

/// Paths that a batch must have taken, and faults that must have fired, or it proves little.
const MUST_HIT: [&str; 12] = [
    "leader_elected",
    "read_in_lease",
    "read_index",
    "flush",
    "compaction",
    "log_segment_recycled",
    "snapshot_sent",
    "snapshot_installed",
    "peer_removed",
    "apply_parked_for_a_value",
    "crashed_inside_an_io",
    "entries_fetched_from_the_log",
];
const MUST_FIRE: [&str; 9] = [
    "partition",
    "heal",
    "crash",
    "crash_at_io",
    "pause",
    "slow_disk",
    "power_loss",
    "transfer_leader",
    "move_peer",
];

/// Whether a batch was real work: every probe hit, every fault fired, enough operations.
///
/// # Errors
/// One sentence that names what was missing.
pub fn judge_batch(total: &Report) -> Result<(), String> {
    let missing: Vec<&str> = MUST_HIT
        .into_iter()
        .filter(|probe| !total.probes.contains_key(probe))
        .chain(
            MUST_FIRE
                .into_iter()
                .filter(|fault| !total.faults.contains_key(fault)),
        )
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} seeds never met: {}",
            total.seeds,
            missing.join(", ")
        ));
    }
    let per_second = total.succeeded as f64 / total.simulated.as_secs_f64().max(1.0);
    if per_second < 10.0 {
        return Err(format!(
            "only {per_second:.1} operations succeeded per simulated second"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
