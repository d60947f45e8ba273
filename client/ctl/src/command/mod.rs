//! The command line: what can be typed, and where it goes.

mod check;
mod config;
mod data;
mod drain;
mod evict;
mod export;
mod failure;
mod import;
mod label;
mod lifetime;
mod member;
mod membership;
mod operate;
mod operator;
mod progress;
mod record;
mod region;
mod scatter;
mod status;
mod store;
mod update;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, Subcommand};

pub(crate) use failure::Failure;

use crate::output::Output;
use crate::placement::Link;
use crate::playground::{self, PlaygroundArgs};
use crate::text::Format;

/// How long a call may take when nothing is said.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Operate a TinyKV cluster: put and get data, look at regions and stores, try it all out.
#[derive(Debug, Parser)]
#[command(
    name = "tinykv-ctl",
    version = tinykv_store::VERSION,
    after_help = "Exit codes: 0 done; 1 refused, not found or wrong usage; 2 unreachable.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Placement members, host:port, separated by commas
    #[arg(
        short = 'u',
        long = "placement",
        value_name = "ADDRESSES",
        env = "TINYKV_PLACEMENT",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        global = true
    )]
    pub(crate) placement: Vec<String>,
    /// Table or JSON; by default a table on a terminal and JSON in a pipe
    #[arg(short, long, value_enum, global = true)]
    output: Option<Output>,
    /// How keys are typed and keys and values printed
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: Format,
    /// Seconds after which a call is given up [default: 10; with --wait: as long as it takes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, global = true)]
    pub(crate) timeout: Option<Duration>,
}

impl Global {
    pub(crate) fn output(&self) -> Output {
        Output::or_by_terminal(self.output)
    }

    /// How long a call may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.timeout.unwrap_or(CALL_TIMEOUT)
    }

    /// The link to the placement driver.
    pub(crate) fn link(&self) -> Link {
        Link::new(&self.placement, self.call_timeout())
    }

    /// Reads a key as it was typed.
    pub(crate) fn key(&self, text: &str) -> Result<Bytes, Failure> {
        let key = self.format.parse(text).map_err(Failure::Refused)?;
        Ok(Bytes::from(key))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole cluster on this machine
    Playground(PlaygroundArgs),
    /// The cluster on one screen; exit code 1 when something is wrong
    Status,
    /// Write a key
    Put(data::Put),
    /// Read keys
    Get(data::Get),
    /// Remove keys
    #[command(visible_alias = "delete")]
    Del(data::Del),
    /// Print keys and values in order
    Scan(data::Scan),
    /// Count keys
    Count(data::Count),
    /// A checksum over keys and values
    Checksum(data::Checksum),
    /// Write a key if it holds what you expect
    Cas(data::Cas),
    /// Add to a number
    Incr(update::Incr),
    /// Add to the end of a value
    Append(update::Append),
    /// How many seconds a key still lives
    Ttl(lifetime::Ttl),
    /// Let a key expire
    Expire(lifetime::Expire),
    /// Let a key live for ever
    Persist(lifetime::Persist),
    /// Write records from a file or standard input: TSV or JSON lines
    Import(import::Import),
    /// Print records in key order as import reads them
    Export(export::Export),
    /// Regions: ranges of keys and where they live
    #[command(subcommand)]
    Region(region::RegionCommand),
    /// Whether all replicas of regions hold the same
    Check(check::Check),
    /// What is being done to regions
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Members of the placement driver
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Stores
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Settings of the cluster
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

impl Cli {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let global = &self.global;
        match self.command {
            Command::Playground(args) => playground::run(args).await,
            Command::Status => status::run(global).await,
            Command::Put(put) => put.run(global).await,
            Command::Get(get) => get.run(global).await,
            Command::Del(del) => del.run(global).await,
            Command::Scan(scan) => scan.run(global).await,
            Command::Count(count) => count.run(global).await,
            Command::Checksum(checksum) => checksum.run(global).await,
            Command::Cas(cas) => cas.run(global).await,
            Command::Incr(incr) => incr.run(global).await,
            Command::Append(append) => append.run(global).await,
            Command::Ttl(ttl) => ttl.run(global).await,
            Command::Expire(expire) => expire.run(global).await,
            Command::Persist(persist) => persist.run(global).await,
            Command::Import(import) => import.run(global).await,
            Command::Export(export) => export.run(global).await,
            Command::Region(region) => region.run(global).await,
            Command::Check(check) => check.run(global).await,
            Command::Operator(operator) => operator.run(global).await,
            Command::Member(member) => member.run(global).await,
            Command::Store(store) => store.run(global).await,
            Command::Config(config) => config.run(global).await,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give seconds, like 10 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        _ => Err("give seconds, like 10 or 0.5".to_owned()),
    }
}
