//! `playground`: a whole cluster on this machine with one command.
//!
//! Each role is a child process of its own, this very binary under a hidden subcommand, so that a
//! user can `kill -9` one and see what happens. The playground prints what runs where, waits until
//! every region has its replicas, prints lines to copy, reports processes that end, and stops all
//! of them when it is told to. Data is kept with `--tag` or `--data-dir` and removed otherwise.

mod banner;
mod directory;
mod layout;
mod process;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use directory::Directory;
use layout::{Planned, Role};
use process::Process;

use crate::command::Failure;
use crate::placement::Link;
use crate::status::{Overview, overview_with_probes};

/// How often children are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a cluster may take until every region has its replicas.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one look at the cluster may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Flags of `playground`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlaygroundArgs {
    /// Stores to start
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) stores: u16,
    /// Placement members to start: 1 or 3
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) placements: u16,
    /// Keep the data in ~/.tinykv/NAME and find it again next time
    #[arg(long, value_name = "NAME", conflicts_with = "data_dir")]
    pub(crate) tag: Option<String>,
    /// Keep the data in DIR and find it again next time
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Added to every port
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,
}

/// Runs a cluster until it is told to stop.
pub(crate) async fn run(args: PlaygroundArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let directory = Directory::of(&args).map_err(Failure::Refused)?;
    let planned = layout::plan(&args, directory.path()).map_err(Failure::Refused)?;
    check_addresses(&planned).map_err(Failure::Refused)?;
    println!(
        "data: {}{}",
        directory.path().display(),
        match directory.is_kept() {
            true => " (kept)",
            false => " (removed at the end; keep it with --tag NAME or --data-dir DIR)",
        }
    );
    let mut processes = Vec::new();
    let result = live(&args, &planned, &mut processes, &mut signals).await;
    stop(&mut processes).await;
    if result.is_err() && !directory.is_kept() {
        show_logs(&processes);
    }
    result
}

async fn live(
    args: &PlaygroundArgs,
    planned: &[Planned],
    processes: &mut Vec<Process>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    for planned in planned {
        let process = Process::start(planned.clone()).map_err(Failure::Refused)?;
        let resp = match &planned.resp_address {
            Some(address) => format!(", redis-cli at {address}"),
            None => String::new(),
        };
        println!(
            "{:<12} process {:<8} {}{resp}",
            planned.name, process.id, planned.address
        );
        processes.push(process);
    }
    let members: Vec<String> = planned
        .iter()
        .filter(|planned| planned.role == Role::Placement)
        .map(|planned| planned.address.clone())
        .collect();
    tokio::select! {
        ready = wait_until_ready(&members, usize::from(args.stores)) => ready?,
        ended = first_end(processes) => return Err(ended),
        () = signals.next() => return Ok(()),
    }
    print!("{}", banner::banner(planned, processes, args.port_offset));
    let mut watch = interval(WATCH_INTERVAL);
    watch.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = watch.tick() => report_ends(processes),
            () = signals.next() => return Ok(()),
        }
        if !processes.iter().any(Process::is_running) {
            return Err(Failure::Refused("every process has ended".to_owned()));
        }
    }
}

/// Refuses before anything is started, so that no half of a cluster is left behind.
fn check_addresses(planned: &[Planned]) -> Result<(), String> {
    for planned in planned {
        for address in std::iter::once(&planned.address).chain(&planned.resp_address) {
            TcpListener::bind(address).map_err(|error| {
                format!(
                    "{address}: {error} for {}; give --port-offset N to move every port",
                    planned.name
                )
            })?;
        }
    }
    Ok(())
}

async fn wait_until_ready(members: &[String], stores: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let link = Link::new(members, ASK_TIMEOUT);
    let mut watch = interval(WATCH_INTERVAL);
    let mut last = String::from("no placement member answered");
    loop {
        if timeout_at(deadline, watch.tick()).await.is_err() {
            return Err(Failure::Unreachable(format!(
                "the cluster was not ready within {} s: {last}",
                READY_TIMEOUT.as_secs()
            )));
        }
        match timeout_at(deadline, overview_with_probes(&link)).await {
            Ok(Ok(overview)) if is_ready(&overview, stores) => return Ok(()),
            Ok(Ok(overview)) => last = overview.one_line(),
            Ok(Err(failure)) => last = failure.to_string(),
            Err(_) => {}
        }
    }
}

fn is_ready(overview: &Overview, stores: usize) -> bool {
    overview.stores_up() >= stores && overview.is_healthy()
}

async fn first_end(processes: &mut [Process]) -> Failure {
    let mut watch = interval(WATCH_INTERVAL);
    loop {
        watch.tick().await;
        for process in processes.iter_mut() {
            if let Some(status) = process.has_ended() {
                return Failure::Refused(format!(
                    "{} {} while the cluster started; its log ends with:\n{}",
                    process.planned.name,
                    process::describe(status),
                    last_lines(process)
                ));
            }
        }
    }
}

fn report_ends(processes: &mut [Process]) {
    for process in processes {
        if let Some(status) = process.has_ended() {
            println!(
                "{} (process {}) {}; {}",
                process.planned.name,
                process.id,
                process::describe(status),
                process::what_next(status, &banner::command_line(&process.planned))
            );
        }
    }
}

/// Stores first, while placement can still take notice; then the placements.
async fn stop(processes: &mut [Process]) {
    for role in [Role::Store, Role::Placement] {
        let mut of_role: Vec<_> = processes
            .iter_mut()
            .filter(|process| process.planned.role == role)
            .collect();
        for process in &of_role {
            process.ask_to_stop();
        }
        for process in &mut of_role {
            if !process.stopped().await {
                println!(
                    "{} did not stop in time and was killed",
                    process.planned.name
                );
            }
        }
    }
}

fn show_logs(processes: &[Process]) {
    for process in processes {
        eprintln!(
            "--- the log of {} ends with:\n{}",
            process.planned.name,
            last_lines(process)
        );
    }
}

fn last_lines(process: &Process) -> String {
    let log = std::fs::read_to_string(&process.planned.log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Ctrl-C, SIGTERM and a closed terminal mean the same.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Refused(format!("signal handler: {error}")))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
