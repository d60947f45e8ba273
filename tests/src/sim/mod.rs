//! The simulator: whole clusters of production code, one thread, virtual time, one seed.
//!
//! A seed draws everything: the weather of the network, the speed of the clocks, the sizes of
//! memtables and log segments, which kinds of faults occur, and what clients ask for. Stores run
//! the production `Shard`, `Engine` and state machine over [`tinykv_env::SimEnv`]; only threads,
//! sockets and gRPC are left out, and clusters of real processes cover those.
//!
//! In three seeds of five there is a placement group, of one member or of three: production state
//! machine, coordinator, operators, ids and timestamps, each member on a machine of its own that
//! fails like those of the stores. There stores report and obey, clients find regions by routes,
//! and whoever moves leaders and peers or splits regions does so by wishes. Its members come and go: one is
//! added, its process asks whom it joins, registers and is called into life; one is removed, founders and
//! leaders too, and its process finds out by itself. In the other seeds the
//! world does all that itself, more ruthlessly than any operator, and clients know by themselves
//! who holds what.
//!
//! Clients run the cores of `tinykv-client`, and stores answer them in the messages of the wire.
//! What clients want comes from one of two generators that share nothing.
//!
//! A run has two phases. In the safety phase everything may fail, and after each event the
//! invariants hold. Then all is mended, and within bounded time every key accepts a write and can
//! be read and scanned, the newest regions tile the key space, placement knows them as they are,
//! all replicas of a region are equal, and nobody is left who is no member. At the end the
//! histories of the clients go through the linearizability checker, key by key, and what scans saw
//! of each region must have been there at one instant.
//!
//! The same seed gives the same trace on every machine: nothing here reads a clock or draws a
//! number but from the seed, and no order depends on addresses or hashes.
//!
//! # What travels how
//!
//! | from, to | as |
//! | --- | --- |
//! | peers | the bytes of the production transport, sealed, behind its hello; opened by its checks |
//! | snapshots | message and region state as those bytes; the data as pairs, because its files are made of the streaming shell, which cluster tests of real processes cover |
//! | clients and stores | the encoded requests and replies of the wire protocol; commands encoded once, as in the log |
//! | stores' heartbeats, to each other and to placement; whatever else is asked of placement, its answers and orders | encoded and decoded, made and read by the production conversions |
//!
//! Between peers messages are also garbled: a bit turns over, bytes are missing under a good seal,
//! the hello is of another cluster or of a start long gone. All of that is refused and counted.
//!
//! # Invariants
//!
//! Checked after each event that can break them; `I` is `invariants`, `D` is `invariants/durable`,
//! `L` is `invariants/rounds`: what a leader may rest on its voters.
//!
//! | id | where |
//! | --- | --- |
//! | R1 | `I::on_leader` |
//! | R2 | `D::on_entries`: whatever a sync covers, on any store |
//! | R3 | `I::on_election`: who comes to lead has what anybody has applied |
//! | R4 | `I::on_applied`, by place and by effect; replicas are compared at the end |
//! | R5 | `I::on_progress` within a life; `D::on_hard_state`, `D::on_vote`, `D::on_recovered` over restarts |
//! | R6 | `I::on_commit` when a leader counts, `D::check_acknowledged` when it applies; joint: both halves |
//! | R7 | `I::on_commit` |
//! | R8 | `D::check_election`: elected by voters of the configuration in force; one change at a time: the core asserts |
//! | R9 | R4, and the tree asserts that an applied index never falls |
//! | R10 | `I::on_read`: it covers what was committed anywhere, is applied, of the own term, and rests on a round begun since |
//! | C1 | the checker, over all operations |
//! | C2 | `L::on_lease`: counted from the round that was echoed; `L::on_send`: whom an echo binds does not vote |
//! | R11 | liveness after healing |
//! | R12 | `I::on_send`: who hands over has no lease |
//! | M1 | `I::on_region`, `check_routes`, the tiling at the end |
//! | M2 | `I::on_region`; at apply K6 in `watched` |
//! | M3 | `I::on_lease`, in true time, sleeping groups too |
//! | M4 | M1, R4 and the comparison at the end; `L::on_lease`: not renewed in a split |
//! | M5 | M1, R4 and the comparison at the end; M3: a target that has taken in its source covers its keys |
//! | M6 | a crash inside the installing of a snapshot; R4, `D::on_recovered`, the comparison at the end |
//! | M7 | `I::on_region`, `I::on_leader`, `I::on_progress`, ghosts at the end |
//! | M8, M9, M10 | `invariants/placement` |
//! | M11 | liveness, with leaders that fail as they enter or leave a joint configuration |
//! | M12 | `letter` |
//! | C4 | the checker |
//! | D1 | `D::on_send`: an acknowledgement or a vote is durable before it leaves |
//! | D3, L1 | `D::on_recovered` |
//! | D4 | `World::settle`: a process whose sync failed has ended |
//! | D5, D6 | `Host::recover`: a crash is no damage, damage is seen; `D::on_recovered`: what was cut off stays so; `D::on_send`: the damaged promise nothing, nor do peers that the damage took |
//! | D8 | liveness after space has come back; writes refused meanwhile took no effect, says the checker |
//! | D9 | `placement::desk`: whoever leads may register; `world::members`: who was not removed goes on, who was removed ends |
//! | K1 | the checker: what was refused never shows |
//! | K4 | `host/work`: what comes after its deadline is refused at once; the checker |
//! | K2 | `client::fates` |
//! | K6 | `watched` |
//!
//! # Map
//!
//! `setup` is what a seed is run with, `minimize` makes a failing one smaller. `world` is the run
//! itself, with its faults; `host` is a machine with a process on it, `store` and
//! `placement` are the two kinds of processes, `client` is a client, `workload` what clients want; `invariants` is what must hold,
//! `judge` whether a batch was real work.

mod client;
mod faults;
mod happening;
mod host;
mod invariants;
mod judge;
mod letter;
mod minimize;
mod network;
mod placement;
mod process;
mod report;
mod schedule;
mod setup;
mod store;
mod trace;
mod watched;
mod workload;
mod world;

pub use judge::{BATCH_MIN, judge_batch};
pub use minimize::{Smallest, minimize};
pub use network::{Address, Cut, Network, Weather};
pub use report::Report;
pub use schedule::Schedule;
pub use setup::{Profile, Setup};
pub use trace::Trace;

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub report: Report,
    /// What must never happen and did.
    pub violation: Option<String>,
    /// Every line of the trace, if asked for.
    pub trace: Option<String>,
    /// Faults that came, whether or not there was anything to strike.
    pub struck: u64,
}

/// Runs one seed with all that it draws.
pub fn run(seed: u64, profile: Profile, keep_trace: bool) -> Outcome {
    run_with(seed, &Setup::new(profile), keep_trace)
}

/// Runs one seed. A failed assertion of the code under test is a violation, too.
pub fn run_with(seed: u64, setup: &Setup, keep_trace: bool) -> Outcome {
    let mut world = world::World::new(seed, setup, keep_trace);
    let life = std::panic::AssertUnwindSafe(|| world.run());
    let violation = std::panic::catch_unwind(life).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without text");
        Some(format!("assertion: {text}"))
    });
    world.into_outcome(violation)
}

#[cfg(test)]
mod tests;
