//! Chaos: a cluster of real processes in network namespaces, struck by one nemesis after the other
//! while clients work, and the history of what they saw put to the linearizability checker.
//!
//! Three placement members and five stores run in a namespace each, on a bridge; the clients stand
//! at the bridge. A nemesis strikes again and again; then everything is healed, all regions must
//! take writes again within bounded time, every key is read once more, the cluster must become
//! whole, and the history must be linearizable. A run in which little succeeded, or in which the
//! nemesis did not show that it fired, is failed: it would have shown nothing.
//!
//! What a run makes (namespaces, mounts, processes, files) it removes, also after a panic or a
//! signal; what a killed one left behind, the next removes. What the machine lacks is skipped, and
//! said so.

mod disk;
mod filter;
mod fleet;
mod judge;
mod load;
mod nemesis;
mod network;
mod tool;
mod topology;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tinykv_env::Prng;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use judge::Report;
pub use nemesis::Nemesis;

use crate::checker::{self, Action};
use crate::cluster::draw::Drawing;
use crate::cluster::health::wait_until_whole;
use crate::cluster::operator::split;
use filter::Filter;
use fleet::{Fleet, PLACEMENTS, STORES};
use load::{DISK_FULL, History, Load, PARTS, borders, client_of, probe_key};
use nemesis::{Fired, Scene};
use network::Network;
use topology::Topology;

/// How long the cluster may take to become whole, before and after.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// How long a split at the beginning may take.
const SPLIT_LIMIT: Duration = Duration::from_secs(60);
/// How often timestamps and ids are drawn.
const DRAW_PAUSE: Duration = Duration::from_millis(50);

/// A nemesis that has not shown itself in its time strikes on for as long again and so much longer.
const FIRE_LIMIT: Duration = Duration::from_secs(60);
/// A timestamp so far ahead of the wall clock shows that a clock had jumped.
const AHEAD_MS_MIN: u64 = 30_000;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What strikes, in turn.
    pub nemeses: Vec<Nemesis>,
    /// How long all of them strike, in equal shares.
    pub time: Duration,
    /// What is drawn is drawn from this.
    pub seed: u64,
    /// Where histories and logs are kept; none: nowhere.
    pub keep: Option<PathBuf>,
    /// After the last strike every region must take a write within this time.
    pub recovery_limit: Duration,
    /// No strike that can choose lasts longer.
    pub patience: Duration,
    /// The whole run is over by then, or has failed.
    pub limit: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// The machine does not allow it, and why.
    Skipped(String),
    /// Somebody stopped it.
    Interrupted,
    /// All nemeses were survived; those in the second list could not strike on this machine.
    Done(Vec<Report>, Vec<(Nemesis, String)>),
}

/// Runs chaos. `binary` plays every role. `on_report` hears of each nemesis as it is survived.
///
/// The calling thread stays in the network of the run, which has no way out.
///
/// # Errors
/// What was not as promised, with the logs.
pub fn run(
    binary: &Path,
    options: &Options,
    on_report: impl FnMut(&Report) -> Result<(), String>,
) -> Result<End, String> {
    network::remove_leftovers();
    disk::remove_leftovers();
    if let Some(reason) = tool::no_chaos_because() {
        return Ok(End::Skipped(reason));
    }
    let Some(filter) = Filter::of_this_machine() else {
        let reason = "neither `nft` nor `iptables` is installed (Debian: nftables)";
        return Ok(End::Skipped(reason.to_owned()));
    };
    let mut network = Network::new(PLACEMENTS + STORES, filter)?;
    // Clients work on a thread of their own, which the commands of the nemesis do not hold up.
    // It is made here, inside the network.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let failed = |error: std::io::Error| error.to_string();
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::select! {
            done = all(binary, options, &mut network, on_report) => done,
            () = sleep(options.limit) => Err(format!("not done within {:?}", options.limit)),
            _ = terminate.recv() => Ok(End::Interrupted),
            _ = interrupt.recv() => Ok(End::Interrupted),
        }
    })
}

async fn all(
    binary: &Path,
    options: &Options,
    network: &mut Network,
    mut on_report: impl FnMut(&Report) -> Result<(), String>,
) -> Result<End, String> {
    let lack = |nemesis: &Nemesis| nemesis.lacks().map(|lack| (*nemesis, lack));
    let skipped: Vec<(Nemesis, String)> = options.nemeses.iter().filter_map(lack).collect();
    let able = options
        .nemeses
        .iter()
        .filter(|nemesis| nemesis.lacks().is_none());
    let able: Vec<Nemesis> = able.copied().collect();
    let share = options.time / able.len().max(1) as u32;
    let mut random = Prng::new(options.seed);
    let mut reports = Vec::new();
    for nemesis in able {
        let mut random = random.fork();
        let mut fleet = Fleet::start(binary, network, &nemesis.wants(), &mut random)?;
        let history = History::new();
        let mut run = Run {
            options,
            nemesis,
            network,
            fleet: &mut fleet,
            history: &history,
            random,
            fired: Fired::new(),
        };
        let done = run.through(share).await;
        keep(options, nemesis, &fleet, &history)?;
        let name = nemesis.name();
        let report = done.map_err(|p| format!("{name}: {p}\n{}", fleet.cluster.logs()))?;
        on_report(&report)?;
        reports.push(report);
    }
    Ok(End::Done(reports, skipped))
}

/// Copies the history and the logs.
fn keep(
    options: &Options,
    nemesis: Nemesis,
    fleet: &Fleet,
    history: &History,
) -> Result<(), String> {
    let Some(dir) = &options.keep else {
        return Ok(());
    };
    let dir = dir.join(nemesis.name());
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(&dir)?;
        let text = checker::print(&history.operations());
        std::fs::write(dir.join("history.jsonl"), text)?;
        for entry in std::fs::read_dir(fleet.cluster.log_dir())? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                std::fs::copy(&path, dir.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| format!("{}: {error}", dir.display()))
}

/// One nemesis at work.
struct Run<'a> {
    options: &'a Options,
    nemesis: Nemesis,
    network: &'a mut Network,
    fleet: &'a mut Fleet,
    history: &'a Arc<History>,
    random: Prng,
    fired: Fired,
}

impl Run<'_> {
    async fn through(&mut self, time: Duration) -> Result<Report, String> {
        let placements = self.fleet.cluster.placements();
        wait_until_whole(&placements, STORES, WHOLE_LIMIT).await?;
        let borders = borders();
        let at: Vec<&str> = borders.iter().map(String::as_str).collect();
        split(&placements, &at, SPLIT_LIMIT).await?;
        wait_until_whole(&placements, STORES, WHOLE_LIMIT).await?;

        let drawing = Drawing::start(&placements, DRAW_PAUSE);
        let load = Load::start(&placements, self.history, &mut self.random);
        let topology = Topology::start(&placements, self.history, self.random.fork());
        let begin = Instant::now();
        self.strike_for(time, &drawing).await?;
        let struck = begin.elapsed();

        let recovery = self.recover(&placements).await?;
        let changes = topology.stop().await?;
        load.stop(&placements).await?;
        let whole = wait_until_whole(&placements, STORES, WHOLE_LIMIT).await?;
        let drawn = drawing.stop().await?;
        self.note_derived(drawn.ahead_ms_max);
        judge::judge(judge::Evidence {
            nemesis: self.nemesis,
            struck,
            recovery,
            changes,
            regions: whole.regions_total,
            drawn,
            fired: std::mem::take(&mut self.fired),
            refusals: self.history.refusals(),
            operations: self.history.operations(),
        })
    }

    /// Strikes for so long, and on until all has fired that must, within limits.
    async fn strike_for(&mut self, time: Duration, drawing: &Drawing) -> Result<(), String> {
        let end = Instant::now() + time;
        let late = end + time + FIRE_LIMIT;
        while Instant::now() < end || (Instant::now() < late && !self.has_fired()) {
            // Between two strikes there is weather to work in: a schedule, no wait for a condition.
            let pause = Duration::from_millis(self.random.between(300, 2_500));
            sleep(pause.min(self.options.patience)).await;
            let mut scene = Scene {
                fleet: self.fleet,
                network: self.network,
                random: &mut self.random,
                fired: &mut self.fired,
                history: self.history,
                patience: self.options.patience,
            };
            self.nemesis.strike(&mut scene).await?;
            self.note_derived(drawing.ahead_ms_max());
            for node in self.fleet.cluster.nodes() {
                let ended = self.fleet.cluster.ended(node);
                if let Some(status) = ended.map_err(|error| error.to_string())? {
                    return Err(format!("{node:?} ended by itself: {status}"));
                }
            }
        }
        Ok(())
    }

    /// What fired as others saw it.
    fn note_derived(&mut self, ahead_ms_max: u64) {
        if ahead_ms_max > AHEAD_MS_MIN {
            self.fired.insert("timestamps_ahead", ahead_ms_max);
        }
        if let Some(full) = self.history.refusals().get(DISK_FULL) {
            self.fired.insert(DISK_FULL, *full);
        }
    }

    fn has_fired(&self) -> bool {
        let must = self.nemesis.must_fire();
        must.iter().all(|what| self.fired.contains_key(what))
    }

    /// How long it takes until every part takes a write.
    async fn recover(&self, placements: &[String]) -> Result<Duration, String> {
        let begin = Instant::now();
        let client = client_of(placements, self.options.recovery_limit);
        let mut writes = JoinSet::new();
        for part in 0..PARTS {
            let (client, history) = (client.clone(), Arc::clone(self.history));
            writes.spawn(async move {
                let key = probe_key(part);
                let action = Action::Put(format!("after-{part}"));
                let outcome = history.call(&client, 1_000 + part, &key, action).await;
                (key, outcome)
            });
        }
        while let Some(written) = writes.join_next().await {
            let (key, outcome) = written.map_err(|error| error.to_string())?;
            if outcome != checker::Outcome::Done {
                let limit = self.options.recovery_limit;
                return Err(format!("{key} took no write within {limit:?}: {outcome:?}"));
            }
        }
        Ok(begin.elapsed())
    }
}
