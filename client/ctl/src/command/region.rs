//! `region list | show | find | hot`, and the orders of [`operate`].

use clap::Subcommand;
use tinykv_keys::Bounds;

use crate::output::{self, Output};
use crate::status::{Region, overview_with_regions};
use crate::text;

use super::{Failure, Global, operate, scatter};

#[derive(Debug, Subcommand)]
pub(crate) enum RegionCommand {
    /// Regions in key order
    List(List),
    /// One region by its id
    Show {
        /// The region
        id: u64,
    },
    /// Regions by what is read and written lately, the most first
    Hot(Hot),
    /// The region that holds a key
    Find {
        /// The key, as `--format` says
        key: String,
    },
    /// Split a region at keys, or in the middle
    Split(operate::Split),
    /// Merge a region into one beside it
    Merge(operate::Merge),
    /// Let another peer of a region lead it
    TransferLeader(operate::TransferLeader),
    /// Let a region have one more peer: a learner that catches up and becomes a voter
    AddPeer(operate::OnePeer),
    /// Let a region have one peer less; if that leads, another does first
    RemovePeer(operate::OnePeer),
    /// Move a peer of a region from one store to another
    Move(operate::Move),
    /// Spread regions evenly over the stores, their peers and their leaders
    Scatter(scatter::Scatter),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// First key, as `--format` says
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// End key, not included
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Only regions with a peer on this store
    #[arg(long, value_name = "ID")]
    store: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Bytes count, and each key as much as 256 bytes. Stores tell what they served every ten seconds or \
sooner; what is shown is an average over about half a minute.")]
pub(crate) struct Hot {
    /// By what is read alone
    #[arg(long, conflicts_with = "write")]
    read: bool,
    /// By what is written alone
    #[arg(long)]
    write: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

impl RegionCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            RegionCommand::List(list) => list.run(global).await,
            RegionCommand::Show { id } => {
                let regions = overview_with_regions(&global.link()).await?.region_list;
                let region = regions
                    .iter()
                    .find(|region| region.id == id)
                    .ok_or_else(|| {
                        Failure::Refused(format!("there is no region {id}; see `region list`"))
                    })?;
                show(global.output(), region);
                Ok(())
            }
            RegionCommand::Find { key } => {
                let key = global.key(&key)?;
                let regions = overview_with_regions(&global.link()).await?.region_list;
                let region = regions
                    .iter()
                    .find(|region| contains(region, &key))
                    .ok_or_else(|| Failure::Refused("no region holds this key yet".to_owned()))?;
                show(global.output(), region);
                Ok(())
            }
            RegionCommand::Hot(hot) => hot.run(global).await,
            RegionCommand::Split(split) => split.run(global).await,
            RegionCommand::Merge(merge) => merge.run(global).await,
            RegionCommand::TransferLeader(transfer) => transfer.run(global).await,
            RegionCommand::AddPeer(add) => add.add(global).await,
            RegionCommand::RemovePeer(remove) => remove.remove(global).await,
            RegionCommand::Move(moved) => moved.run(global).await,
            RegionCommand::Scatter(scatter) => scatter.run(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let parse = |key: Option<String>| -> Result<Option<Vec<u8>>, Failure> {
            key.map(|key| global.format.parse(&key))
                .transpose()
                .map_err(Failure::Refused)
        };
        let (from, to) = (parse(self.from)?, parse(self.to)?);
        let mut regions = overview_with_regions(&global.link()).await?.region_list;
        regions.retain(|region| {
            from.as_ref().is_none_or(|from| ends_after(region, from))
                && to.as_ref().is_none_or(|to| starts_before(region, to))
                && self
                    .store
                    .is_none_or(|store| region.peers.iter().any(|peer| peer.store_id == store))
        });
        regions.truncate(self.limit.unwrap_or(usize::MAX));
        print(global.output(), &regions);
        Ok(())
    }
}

/// What serving a key costs beside its bytes, as bytes; placement weighs likewise.
const KEY_COST: u64 = 256;

impl Hot {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut regions = overview_with_regions(&global.link()).await?.region_list;
        regions.retain(|region| self.load(region) > 0);
        regions.sort_by_key(|region| (std::cmp::Reverse(self.load(region)), region.id));
        regions.truncate(self.limit);
        let header = [
            "region",
            "from",
            "to",
            "stores",
            "read/s",
            "keys/s",
            "written/s",
            "keys/s",
        ];
        output::list(global.output(), &regions, &header, |region| {
            vec![
                region.id.to_string(),
                bound(&region.start_key),
                bound(&region.end_key),
                region.peers_line(),
                output::size(region.read_bytes_per_s),
                region.read_keys_per_s.to_string(),
                output::size(region.written_bytes_per_s),
                region.written_keys_per_s.to_string(),
            ]
        });
        Ok(())
    }

    fn load(&self, region: &Region) -> u64 {
        let load = |bytes: u64, keys: u64| bytes.saturating_add(keys.saturating_mul(KEY_COST));
        let read = load(region.read_bytes_per_s, region.read_keys_per_s);
        let written = load(region.written_bytes_per_s, region.written_keys_per_s);
        match (self.read, self.write) {
            (true, _) => read,
            (_, true) => written,
            _ => read.saturating_add(written),
        }
    }
}

fn contains(region: &Region, key: &[u8]) -> bool {
    Bounds::new(&region.start, &region.end).contains_raw(key)
}

fn ends_after(region: &Region, key: &[u8]) -> bool {
    region.end.is_empty() || key < region.end.as_ref()
}

fn starts_before(region: &Region, key: &[u8]) -> bool {
    region.start.as_ref() < key
}

fn print(output: Output, regions: &[Region]) {
    let header = [
        "region", "from", "to", "stores", "epoch", "size", "keys", "state",
    ];
    output::list(output, regions, &header, |region| {
        vec![
            region.id.to_string(),
            bound(&region.start_key),
            bound(&region.end_key),
            region.peers_line(),
            format!("{}.{}", region.epoch.version, region.epoch.conf_ver),
            output::size(region.approximate_size),
            region.approximate_keys.to_string(),
            state(region),
        ]
    });
}

fn show(output: Output, region: &Region) {
    match output {
        Output::Json => output::json(region),
        Output::Table => print(output, std::slice::from_ref(region)),
    }
}

fn bound(key: &str) -> String {
    if key.is_empty() {
        "-".to_owned()
    } else {
        text::shortened(key)
    }
}

fn state(region: &Region) -> String {
    match (&region.leader, region.complete) {
        (None, _) => "no leader".to_owned(),
        (Some(_), false) => "incomplete".to_owned(),
        (Some(_), true) => "ok".to_owned(),
    }
}
