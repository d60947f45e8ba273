//! A network of the run's own: a namespace for the clients, one for each process, and a bridge.
//!
//! Nothing of it touches the machine's own network. Names carry the id of the run's process, so
//! that a later run can tell a leftover from a run that is at work.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::filter::Filter;
use super::tool::run;

/// What all names of all runs begin with.
const PREFIX: &str = "tinykv-chaos-";

/// Where `ip` keeps the files that stand for namespaces.
const NAMESPACES: &str = "/run/netns";

/// The place of the clients, where the bridge is.
pub(super) const CLIENTS: usize = 253;

/// What the names of this run begin with.
pub(super) fn prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// The process whose run made something with this name, if it is the name of one.
pub(super) fn owner(name: &str) -> Option<u32> {
    let (owner, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    owner.parse().ok()
}

/// Whether a process with this id runs.
pub(super) fn is_alive(id: u32) -> bool {
    Path::new("/proc").join(id.to_string()).exists()
}

/// Removes the namespaces of runs that were killed.
pub(super) fn remove_leftovers() {
    for entry in std::fs::read_dir(NAMESPACES)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|owner| !is_alive(owner)) {
            println!("removing the namespace {name} of a run that was killed");
            // What cannot be removed now will be seen by the next run.
            let _ = run("ip", &["netns", "del", &name]);
        }
    }
}

/// The network. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Network {
    filter: Filter,
    /// What its names begin with.
    name: String,
    /// How many namespaces of processes there are.
    nodes: usize,
    /// Which directed links are cut, as pairs of from and to.
    cut: Vec<(usize, usize)>,
}

impl Network {
    /// A network with as many places for processes; the calling thread, and those it makes from
    /// now on, are clients in it.
    pub(super) fn new(nodes: usize, filter: Filter) -> Result<Network, String> {
        let mut network = Network {
            filter,
            name: prefix(),
            nodes: 0,
            cut: Vec::new(),
        };
        let hub = network.hub();
        run("ip", &["netns", "add", &hub])?;
        run("ip", &["-n", &hub, "link", "set", "lo", "up"])?;
        run(
            "ip",
            &["-n", &hub, "link", "add", "bridge", "type", "bridge"],
        )?;
        run(
            "ip",
            &[
                "-n",
                &hub,
                "addr",
                "add",
                &format!("{}/24", Network::ip(CLIENTS)),
                "dev",
                "bridge",
            ],
        )?;
        run("ip", &["-n", &hub, "link", "set", "bridge", "up"])?;
        for node in 0..nodes {
            network.add(node)?;
        }
        network.enter()?;
        Ok(network)
    }

    fn add(&mut self, node: usize) -> Result<(), String> {
        let (hub, name, link) = (self.hub(), self.namespace(node), format!("v{node}"));
        run("ip", &["netns", "add", &name])?;
        self.nodes = node + 1;
        let ends = ["type", "veth", "peer", "name", "eth0", "netns", &name];
        run(
            "ip",
            &[&["-n", &hub, "link", "add", &link], &ends[..]].concat(),
        )?;
        run(
            "ip",
            &["-n", &hub, "link", "set", &link, "master", "bridge", "up"],
        )?;
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        let address = format!("{}/24", Network::ip(node));
        run("ip", &["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", &name, "link", "set", "eth0", "up"])?;
        self.filter.prepare(&name)
    }

    /// Takes the calling thread into the namespace of the clients.
    fn enter(&self) -> Result<(), String> {
        let path = Path::new(NAMESPACES).join(self.hub());
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // SAFETY: the descriptor is open; only this thread's network changes.
        match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().to_string()),
        }
    }

    /// The address of a place.
    pub(super) fn ip(node: usize) -> String {
        format!("10.77.0.{}", node + 1)
    }

    /// The file that stands for the namespace of a place.
    pub(super) fn namespace_file(&self, node: usize) -> PathBuf {
        Path::new(NAMESPACES).join(self.namespace(node))
    }

    /// Cuts directed links between places: what the first sends no longer reaches the second.
    pub(super) fn cut(&mut self, links: &[(usize, usize)]) -> Result<(), String> {
        for node in 0..self.nodes {
            let from: Vec<String> = links
                .iter()
                .filter(|(_, to)| *to == node)
                .map(|(from, _)| Network::ip(*from))
                .collect();
            if !from.is_empty() {
                self.filter.drop_from(&self.namespace(node), &from)?;
            }
        }
        self.cut.extend_from_slice(links);
        Ok(())
    }

    /// Joins everything again; how many packets were dropped.
    pub(super) fn heal(&mut self) -> Result<u64, String> {
        let mut dropped = 0;
        let cut = std::mem::take(&mut self.cut);
        for node in 0..self.nodes {
            if cut.iter().any(|(_, to)| *to == node) {
                dropped += self.filter.clear(&self.namespace(node))?;
            }
        }
        Ok(dropped)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}{node}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // What cannot be removed now is removed by the next run.
            let _ = run("ip", &["netns", "del", &self.namespace(node)]);
        }
        let _ = run("ip", &["netns", "del", &self.hub()]);
    }
}
