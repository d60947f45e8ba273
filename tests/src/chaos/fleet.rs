//! The cluster under test: three placement members and five stores, each in a place of its own.

use std::path::Path;

use tempfile::TempDir;
use tinykv_env::Prng;
use tinykv_proto::placement::OverviewResponse;

use crate::cluster::health::{leading_member, overview, store_of};
use crate::cluster::{Cluster, Node, Planned, Site};

use super::disk::{Disk, Kind};
use super::network::{Network, is_alive, prefix};

/// Placement members.
pub(super) const PLACEMENTS: usize = 3;
/// Stores.
pub(super) const STORES: usize = 5;

/// What a nemesis asks of the places.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    /// File systems of their own for stores and placement members, in turn of these kinds.
    pub(super) disks: Vec<Kind>,
    /// A library that shows processes another time of day, and reads from a file which.
    pub(super) faketime: Option<String>,
}

/// The processes and what surrounds them. They end before it goes.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) cluster: Cluster,
    /// By place; empty if the processes share the machine's disk.
    pub(super) disks: Vec<Disk>,
    dir: TempDir,
    _faketime: Option<Faketime>,
}

impl Fleet {
    /// Plans and starts all processes.
    pub(super) fn start(
        binary: &Path,
        network: &Network,
        wants: &Wants,
        random: &mut Prng,
    ) -> Result<Fleet, String> {
        let failed = |error: std::io::Error| error.to_string();
        let dir = tempfile::Builder::new()
            .prefix(&prefix())
            .tempdir()
            .map_err(failed)?;
        let mut disks = Vec::new();
        let mut planned = Vec::new();
        for node in 0..PLACEMENTS + STORES {
            let mut site = Site {
                namespace: Some(network.namespace_file(node)),
                ..Site::default()
            };
            if !wants.disks.is_empty() {
                let kind = wants.disks[node % wants.disks.len()];
                let disk = Disk::new(dir.path(), &format!("disk-{node}"), kind)?;
                site.data_dir = Some(disk.data_dir());
                disks.push(disk);
            }
            if let Some(library) = &wants.faketime {
                site.clock_ahead = Some(random.below(100_000));
                site.environment = faketime(library, &Fleet::clock_file(dir.path(), node));
                std::fs::write(Fleet::clock_file(dir.path(), node), "+0").map_err(failed)?;
            }
            let port = if node < PLACEMENTS { 2379 } else { 20160 };
            planned.push(Planned {
                address: format!("{}:{port}", Network::ip(node)),
                resp: None,
                site,
            });
        }
        let stores = planned.split_off(PLACEMENTS);
        let mut cluster = Cluster::at(binary, dir.path(), planned, stores).map_err(failed)?;
        cluster.start_all().map_err(failed)?;
        Ok(Fleet {
            cluster,
            disks,
            dir,
            _faketime: wants.faketime.as_ref().map(|_| Faketime),
        })
    }

    /// The place of a process.
    pub(super) fn place(node: Node) -> usize {
        match node {
            Node::Placement(number) => number,
            Node::Store(number) => PLACEMENTS + number,
        }
    }

    /// The process in a place.
    pub(super) fn node(place: usize) -> Node {
        match place.checked_sub(PLACEMENTS) {
            None => Node::Placement(place),
            Some(number) => Node::Store(number),
        }
    }

    /// The cluster as placement sees it; fails if it cannot be seen.
    pub(super) async fn look(&self) -> Result<OverviewResponse, String> {
        let seen = overview(&self.cluster.placements()).await;
        seen.ok_or_else(|| "placement does not answer".to_owned())
    }

    /// A process to strike: now and then the leader of placement, often the leader of a region,
    /// else any.
    pub(super) async fn target(&self, random: &mut Prng) -> Node {
        let any = Fleet::node(random.below((PLACEMENTS + STORES) as u64) as usize);
        let dice = random.below(10);
        match self.look().await {
            Ok(whole) if dice < 3 => leading_member(&self.cluster, &whole).unwrap_or(any),
            Ok(whole) if dice < 7 => self.leader_of_a_region(&whole, random).unwrap_or(any),
            _ => any,
        }
    }

    /// The store that leads some region.
    pub(super) fn leader_of_a_region(
        &self,
        whole: &OverviewResponse,
        random: &mut Prng,
    ) -> Option<Node> {
        let leader = random.pick(&whole.regions)?.leader.as_ref()?;
        store_of(&self.cluster, whole, leader.store_id)
    }

    /// What tells a process how late it is by the wall clock.
    pub(super) fn set_clock(&self, place: usize, seconds_ahead: i64) -> Result<(), String> {
        let file = Fleet::clock_file(self.dir.path(), place);
        // Renamed into place: a process never reads half of it.
        let new = file.with_extension("new");
        std::fs::write(&new, format!("{seconds_ahead:+}"))
            .and_then(|()| std::fs::rename(&new, &file))
            .map_err(|error| error.to_string())
    }

    fn clock_file(dir: &Path, place: usize) -> std::path::PathBuf {
        dir.join(format!("clock-{place}"))
    }
}

/// What lets a process see the time of day that a file tells.
fn faketime(library: &str, file: &Path) -> Vec<(String, String)> {
    [
        ("LD_PRELOAD", library.to_owned()),
        (
            "FAKETIME_TIMESTAMP_FILE",
            file.to_string_lossy().into_owned(),
        ),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        // Monotonic clocks are those of the process's time namespace.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The library was at work. Dropping this removes what it left in shared memory on behalf of
/// processes that were killed.
#[derive(Debug)]
struct Faketime;

impl Drop for Faketime {
    fn drop(&mut self) {
        let left = std::fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .flatten();
        for entry in left {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix("faketime_shm_")
                .or_else(|| name.strip_prefix("sem.faketime_sem_"))
                .and_then(|id| id.parse().ok());
            if owner.is_some_and(|owner| !is_alive(owner)) {
                // What cannot be removed now will be by the next run.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
